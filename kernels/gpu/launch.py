"""How arrays reach a Triton kernel: arguments, the current device and stream, tile configurations.

On a GPU CuPy arrays are handed over as they are, without a copy, and kernels run on CuPy's current stream, also
while that is captured into a CUDA graph. Where TRITON_INTERPRET=1 is set, NumPy arrays take Triton's interpreter.
Inside of `compiling(90)` nothing runs: every launch is compiled for a GPU that need not be there, and noted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.tools.tensor_descriptor import TensorDescriptor

from scratchgan.backend import module_of, on_gpu
from scratchgan.kernels import dispatch
from scratchgan.kernels.dispatch import NotCovered

TUNED = Path(__file__).with_name("tuned")  # NAME_OF_THE_GPU.json: {kernel: {key: {constant: value}}}

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # a b + c in one rounding; said since 3.10 will not assume it


class Case(NamedTuple):
    """A call that the static report compiles, the FLOPs that it needs, and the bytes that it must move."""

    call: Callable[[], object]
    flops: float
    bytes: float


@dataclass(frozen=True)
class Launch:
    """One launch that was compiled instead: the kernel, its grid, its constants, what Triton made of it."""

    name: str
    grid: tuple[int, ...]
    constants: dict[str, Any]
    compiled: Any


_noted: list[Launch] | None = None  # a list inside of `compiling`
_trial: dict[str, Any] = {}  # constants that `trying` imposes
_asked: dict[tuple[str, str], dict[str, Any]] | None = None  # a dict inside of `asked`


def launch(kernel, grid: tuple[int, ...], *arguments, **constants) -> None:
    """Run `kernel` on `grid`; arrays among the arguments are handed over by address, an empty grid is no launch."""
    if math.prod(grid) == 0:
        return
    handed = [Argument(a) if hasattr(a, "dtype") and hasattr(a, "shape") else a for a in arguments]
    if _noted is not None:
        compiled = kernel.warmup(*handed, grid=grid, **constants)
        _noted.append(Launch(kernel.__name__, grid, constants, compiled))
        return
    if not dispatch.interpreting():
        _use_cupy()
    kernel[grid](*handed, **constants)


class Argument:
    """An array as Triton wants it, a `data_ptr` and a `dtype`; the rest is what its interpreter asks of a tensor."""

    def __init__(self, array):
        self.array, self.dtype = array, array.dtype

    def data_ptr(self) -> int:
        return self.array.data.ptr if on_gpu(self.array) else self.array.ctypes.data

    def cpu(self) -> Argument:
        return self

    def untyped_storage(self) -> Argument:
        return self

    def new_empty(self, *_, **__) -> Argument:
        return Argument(self.array)

    def set_(self, storage: Argument, *_) -> None:
        self.array = storage.array

    def copy_(self, _) -> None:
        """The interpreter has written to the array itself."""

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)


def descriptor(array, block: tuple[int, ...]) -> TensorDescriptor:
    """`array`, contiguous along its last axis, for loads and stores of `block` by Hopper's copy engine.

    Raises NotCovered where its address or a stride is no multiple of 16 bytes, which the engine demands.
    """
    base = Argument(array)
    if base.data_ptr() % 16 or any(s % 16 for s in array.strides[:-1]) or array.strides[-1] != array.itemsize:
        raise NotCovered("addresses and strides must be multiples of 16 bytes")
    return TensorDescriptor(base, list(array.shape), list(base.stride()), list(block))


def accumulator(dtype) -> tl.dtype:
    """What sums of `dtype` are kept in: float32, or float64 for float64."""
    return tl.float64 if dtype.name == "float64" else tl.float32


def dot_precision() -> str:
    """How tl.dot multiplies float32: 'ieee', or 'tf32' where `dispatch.float32_matmul_precision` allows it."""
    return "ieee" if dispatch.float32_matmul_precision() == "highest" else "tf32"


# Configurations


def configuration(name: str, key: str, default: dict[str, Any]) -> dict[str, Any]:
    """The tile sizes and warps with which kernel `name` runs shapes like `key`: as tuned on this GPU, or `default`."""
    trial = {constant: value for constant, value in _trial.items() if constant in default}
    if _asked is not None:
        _asked[name, key] = default
    return {**default, **_tuned(_gpu()).get(name, {}).get(key, {}), **trial}


@contextlib.contextmanager
def trying(**constants) -> Iterator[None]:
    """Impose tile sizes on every launch inside of the block whose kernel knows them; for tuning."""
    global _trial
    before, _trial = _trial, constants
    try:
        yield
    finally:
        _trial = before


@contextlib.contextmanager
def asked() -> Iterator[dict[tuple[str, str], dict[str, Any]]]:
    """Yields a dict that gathers {(name, key): default} of the configurations asked for inside of the block."""
    global _asked
    before, _asked = _asked, {}
    try:
        yield _asked
    finally:
        _asked = before


def tuned_path() -> Path:
    """Where the configurations that were tuned on the present GPU are kept; none are for a GPU that is not there."""
    return TUNED / f"{_gpu()}.json"


@functools.cache
def _tuned(gpu: str) -> dict[str, dict[str, dict[str, Any]]]:
    path = TUNED / f"{gpu}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _gpu() -> str:
    return "none" if _noted is not None or dispatch.interpreting() else _gpu_name()


@functools.cache
def _gpu_name() -> str:
    cupy = module_of("cuda")
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    return re.sub(r"[^A-Za-z0-9]+", "_", name)


# Devices


class CupyDriver(nvidia.CudaDriver):
    """Triton's driver with the device and the stream that are current in CuPy; torch is not asked."""

    def __init__(self):
        self.utils, self.launcher_cls = nvidia.CudaUtils(), nvidia.CudaLauncher
        self.cuda = module_of("cuda").cuda

    def get_current_device(self) -> int:
        return self.cuda.runtime.getDevice()

    def set_current_device(self, device: int) -> None:
        self.cuda.runtime.setDevice(device)

    def get_current_stream(self, device: int) -> int:
        return self.cuda.get_current_stream(device).ptr

    def get_device_capability(self, device: int) -> tuple[int, int]:
        digits = self.cuda.Device(device).compute_capability
        return int(digits[:-1]), int(digits[-1])


def capability() -> int:
    """Ten times the compute capability of the current GPU; of a Hopper (90) for the interpreter, which knows all."""
    if _noted is not None:
        return triton.runtime.driver.active.get_current_target().arch
    if dispatch.interpreting():
        return 90
    return int(module_of("cuda").cuda.Device().compute_capability)


@functools.cache
def _use_cupy() -> None:
    triton.runtime.driver.set_active(CupyDriver())


class NamedTarget(nvidia.CudaDriver):
    """A driver that only names a GPU, so that `warmup` specialises and compiles exactly as a launch there would."""

    def __init__(self, capability: int):
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # Triton keeps what it has compiled by device: one for each target

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def compiling(capability: int = 90) -> Iterator[list[Launch]]:
    """Compile what is launched inside of the block for a GPU of compute capability `capability` / 10.

    Yields the list to which every launch is added. Arrays may be `numpy.empty`: nothing is read. Only where
    TRITON_INTERPRET was not set when the kernels were imported.
    """
    global _noted
    if dispatch.interpreting():
        raise RuntimeError("compiling: TRITON_INTERPRET is set, so there are no kernels to compile")
    driver, before = triton.runtime.driver, (_noted, triton.runtime.driver._active)
    _noted = []
    driver.set_active(NamedTarget(capability))
    try:
        yield _noted
    finally:
        _noted, driver._active = before  # reset_active would look for a device
