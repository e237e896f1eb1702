"""Which implementation of a kernel runs: the reference in NumPy or CuPy, or Triton's.

A kernel is a function whose first argument is an array. Its reference stands in `kernels/NAME.py` under the
decorator `@kernel`. Where there is a file `kernels/gpu/NAME.py`, the function of the same name in it is the Triton
implementation: the same arguments, the same result.

    auto     (the default) Triton for CuPy arrays, where Triton is installed and covers the case; else the reference
    ref      always the reference
    triton   always Triton; a UserError says why where it can't run

chosen by `SCRATCHGAN_IMPL`, or `with implementation("ref"):` for a while. Arrays in host memory take Triton's
interpreter where TRITON_INTERPRET=1 is set, which is how the tests check every kernel on machines without a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator

from scratchgan.backend import on_gpu, on_host
from scratchgan.errors import UserError

CHOICES = ("auto", "ref", "triton")
KERNELS: dict[str, Kernel] = {}  # by "file.function"

_choice: str | None = None  # None until it is first asked for
_float32 = "highest"
_capturable = False


class NotCovered(Exception):
    """Raised by a Triton implementation, before any launch, for what it leaves to the reference."""


class Kernel:
    """A function of arrays with its reference and, where there is one, its Triton implementation."""

    def __init__(self, reference: Callable, file: str):
        functools.update_wrapper(self, reference)
        self.reference, self.file = reference, file
        KERNELS[f"{file}.{reference.__name__}"] = self

    def __call__(self, *args, **kwargs):
        if pick(self, args[0]) == "ref":
            return self.reference(*args, **kwargs)
        try:
            return self.triton(*args, **kwargs)
        except NotCovered as reason:
            if chosen() == "triton":
                raise UserError(f"{self.file}.{self.__name__} in Triton: {reason}") from None
            return self.reference(*args, **kwargs)

    @functools.cached_property
    def has_triton(self) -> bool:
        """Whether there is a file for it in kernels/gpu."""
        return importlib.util.find_spec(f"scratchgan.kernels.gpu.{self.file}") is not None

    @functools.cached_property
    def triton(self) -> Callable:
        """The Triton implementation; importing it imports Triton."""
        return getattr(importlib.import_module(f"scratchgan.kernels.gpu.{self.file}"), self.__name__)

    def why_not(self, array) -> str | None:
        """Why Triton can't serve `array`, or None where it can."""
        if not self.has_triton:
            return "there is no Triton implementation"
        if not _installed():
            return "Triton is not installed: pip install 'scratchgan[gpu]'"
        if on_gpu(array):
            return None
        if on_host(array) and interpreting():
            of_bits = array.dtype.name == "bfloat16"
            return "Triton's interpreter multiplies bfloat16's bits as if they were integers" if of_bits else None
        return "the array is in host memory, and TRITON_INTERPRET=1 is not set"


def kernel(reference: Callable | None = None, *, file: str | None = None):
    """Decorator of a reference: calls go to what `pick` chooses; `file` in kernels/gpu, if of another name."""
    if reference is None:
        return functools.partial(kernel, file=file)
    return Kernel(reference, file or reference.__module__.rpartition(".")[2])


def pick(kernel: Kernel, array) -> str:
    """'ref' or 'triton': what `kernel` runs for `array`. Raises a UserError where Triton is demanded in vain."""
    choice = chosen()
    if choice == "ref" or (choice == "auto" and not on_gpu(array)):
        return "ref"
    reason = kernel.why_not(array)
    if reason and choice == "triton":
        raise UserError(f"{kernel.file}.{kernel.__name__}: SCRATCHGAN_IMPL=triton, but {reason}")
    return "ref" if reason else "triton"


def chosen() -> str:
    """'auto', 'ref' or 'triton'. Raises a UserError where SCRATCHGAN_IMPL is none of them."""
    global _choice
    if _choice is None:
        _choice = _checked(os.environ.get("SCRATCHGAN_IMPL", "auto"), "SCRATCHGAN_IMPL")
    return _choice


@contextlib.contextmanager
def implementation(choice: str) -> Iterator[None]:
    """Choose 'auto', 'ref' or 'triton' for the kernels called inside of the block."""
    global _choice
    before, _choice = _choice, _checked(choice, "implementation")
    try:
        yield
    finally:
        _choice = before


def set_float32_matmul_precision(precision: str) -> None:
    """How Triton's kernels multiply float32: 'highest' (exactly) or 'high' (TF32, 10 bits of mantissa, tensor cores)."""
    global _float32
    if precision not in ("highest", "high"):
        raise UserError(f"float32 matmul precision is {precision!r}: expected 'highest' or 'high'")
    _float32 = precision


@contextlib.contextmanager
def float32_matmul(precision: str) -> Iterator[None]:
    """`set_float32_matmul_precision` inside of the block."""
    before = _float32
    set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        set_float32_matmul_precision(before)


def float32_matmul_precision() -> str:
    """'highest' or 'high'; see `set_float32_matmul_precision`."""
    return _float32


@contextlib.contextmanager
def capturable() -> Iterator[None]:
    """Inside of the block work on a device does without libraries that refuse to be captured into a CUDA graph."""
    global _capturable
    before, _capturable = _capturable, True
    try:
        yield
    finally:
        _capturable = before


def must_be_capturable() -> bool:
    """Whether a `capturable` block is being run."""
    return _capturable


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter, on arrays in host memory."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _checked(choice: str, where: str) -> str:
    if choice not in CHOICES:
        raise UserError(f"{where} is {choice!r}: expected one of {', '.join(CHOICES)}")
    return choice


