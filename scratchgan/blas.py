"""NumPy's BLAS, which in its wheels is OpenBLAS: which kernels it takes, and on how many threads.

OpenBLAS takes the widest instructions that a processor has. AMD's Zen 4 carries out those of 512 bits in two turns of
256, and there the kernels of 256 bits are faster: 5 to 12 % in products of a network's size, a WGAN-GP step in 0.95
of the time. Products of tiny matrices lose a tenth of a microsecond. OpenBLAS reads OPENBLAS_CORETYPE, which names
the kernels, when NumPy is first imported: scratchgan sets it if it comes before NumPy and nobody else has.
"""
from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path

VARIABLE, KERNELS_256_BITS = "OPENBLAS_CORETYPE", "Haswell"
ZEN_4 = {"vendor_id": "AuthenticAMD", "cpu family": "25"}      # and Zen 3, which has no AVX-512


def choose_kernels() -> None:
    """Name the kernels that are fastest on this processor, before NumPy is imported."""
    if "numpy" in sys.modules or VARIABLE in os.environ:
        return
    try:
        description = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return      # not Linux
    if is_zen_4(description):
        os.environ[VARIABLE] = KERNELS_256_BITS


def is_zen_4(description: str) -> bool:
    """Whether this text of /proc/cpuinfo begins with a processor of AMD's Zen 4."""
    pairs = (line.partition(":") for line in description.partition("\n\n")[0].splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    return ZEN_4.items() <= facts.items() and "avx512f" in facts.get("flags", "").split()


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
