"""NumPy's BLAS, which in its wheels is OpenBLAS: on how many threads, with which kernels, and what is not for it.

OpenBLAS takes the widest instructions that a processor has, unless OPENBLAS_CORETYPE names other kernels. On AMD's
Zen 4, which carries out 512 bits in two turns of 256, those of 256 bits (OPENBLAS_CORETYPE=Haswell) are 5 to 12 %
faster in products of a network's size on one thread. On two threads they want more of the shared cache: a WGAN-GP
step took 0.95 of the time on a quiet machine, a convolution 1.03 on a busy one. So the choice is left to the user.
"""
from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

import numpy as np


def matmul(a, b, out=None):
    """a @ b of host arrays of at least two axes. A column times a row is a multiplication: over that NumPy's own matmul
    takes 3 to 15 times as long.
    """
    return (np.multiply if a.shape[-1] == 1 else np.matmul)(a, b, out=out)


def one_thread() -> bool:
    """Tell OpenBLAS to run one thread; False for another BLAS, which goes on as it is.

    Its threads spin for milliseconds after each product and take the processors from ours (a StyleGAN2 step on two
    threads: 1.3 to 2 times as long), and results would depend on how many there are.
    """
    set_threads = _openblas("set_num_threads")
    if set_threads is None:
        return False
    set_threads(1)
    return True


def kernels() -> str | None:
    """The processor for which OpenBLAS's kernels in use were written; None for another BLAS."""
    name = _openblas("get_corename")
    if name is None:
        return None
    name.restype = ctypes.c_char_p
    return name().decode()


def _openblas(name: str):
    """This function of the OpenBLAS that NumPy's wheel brought along, or None."""
    numpy = Path(find_spec("numpy").origin).parent
    for path in (p for folder in (numpy.parent / "numpy.libs", numpy / ".dylibs") for p in folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                if hasattr(library, f"{prefix}_{name}{suffix}"):
                    return getattr(library, f"{prefix}_{name}{suffix}")
    return None
