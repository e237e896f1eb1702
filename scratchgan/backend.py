"""Arrays and machines: which module an array belongs to, devices, worker threads, random streams.

The only file that imports cupy. An array is asked for its module (`xp(array)`), nothing converts silently between host and device.
"""
from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from queue import SimpleQueue

import numpy as np

from scratchgan import blas
from scratchgan.errors import UserError

_modules: dict[type, object] = {np.ndarray: np}
_devices: dict[str, object] = {"cpu": np}


def register(array_type: type, module, device: str | None = None) -> None:
    """Say that arrays of `array_type` are served by `module`, an object with NumPy's functions, and name the device they live on."""
    _modules[array_type] = module
    if device is not None:
        _devices[device] = module


def xp(array):
    """The array module that `array` belongs to: numpy for host arrays and plain numbers, cupy for device arrays."""
    module = _modules.get(type(array))
    if module is None and on_gpu(array):
        module = _cupy()
    return np if module is None else module


def on_host(array) -> bool:
    """Whether NumPy owns the array, so that code made for processor caches and threads may touch it."""
    return type(array) is np.ndarray


def on_gpu(array) -> bool:
    """Whether CuPy owns the array, so that a GPU's kernels may read it."""
    return type(array).__module__.partition(".")[0] == "cupy"


# Devices

def _cupy():
    try:
        import cupy
    except ImportError as error:
        raise UserError("device 'cuda' needs CuPy: pip install 'scratchgan[gpu]'") from error
    register(cupy.ndarray, cupy)
    return cupy


def module_of(device: str):
    """The array module of a device named 'cpu' or 'cuda'; a UserError where there is none."""
    if device in _devices:
        return _devices[device]
    if device != "cuda" and not device.startswith("cuda:"):
        raise UserError(f"device {device!r} is unknown: expected 'cpu' or 'cuda'")
    cupy = _cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise UserError(f"device {device!r}: CUDA does not start: {error}") from error
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        raise UserError(f"device {device!r}: this machine has {count} CUDA device(s)")
    cupy.cuda.Device(index).use()
    return cupy


def device_of(array) -> str:
    """'cpu', or 'cuda:0' and so on."""
    device = getattr(array, "device", "cpu")
    return f"cuda:{device.id}" if hasattr(device, "id") else str(device)


def to_host(array) -> np.ndarray:
    """The array in host memory; itself where it is there already."""
    return array if on_host(array) else array.get() if hasattr(array, "get") else np.asarray(array)


_kept: dict[tuple, object] = {}


def kept(array, like):
    """A host array that never changes, in the dtype and on the device of `like`, where it is copied once and stays: an op that
    brought it along every time could not be part of a CUDA graph.
    """
    array = np.asarray(array, dtype=like.dtype)
    if on_host(like):
        return array
    key = (device_of(like), array.dtype, array.shape, array.tobytes())
    if key not in _kept:
        _kept[key] = xp(like).asarray(array)
    return _kept[key]


# Worker threads. NumPy lets go of the interpreter lock inside its loops, so halves of a batch run side by side.

def _count_workers() -> int:
    named = os.environ.get("SCRATCHGAN_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(named) if named and named.isdigit() else cores, cores))


class _Job:
    """work(part) by another thread."""

    def __init__(self, work: Callable[[slice], None], part: slice):
        self.work, self.part, self.error, self.done = work, part, None, threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            _one_level(self.work, self.part)
        except BaseException as error:      # it is the caller's
            self.error = error
        self.work = None                    # what it refers to may be freed
        self.done.release()

    def wait(self) -> None:
        """Return when it is done; raise what it raised."""
        self.done.acquire()
        if self.error is not None:
            raise self.error


class _Helper:
    """A thread that does one job after another. `concurrent.futures` takes 50 us longer to hand one over and back, and a WGAN step
    hands over 150.
    """

    def __init__(self):
        self._jobs = SimpleQueue()
        threading.Thread(target=self._work, name="scratchgan", daemon=True).start()

    def start(self, work: Callable[[slice], None], part: slice) -> _Job:
        job = _Job(work, part)
        self._jobs.put(job)
        return job

    def _work(self) -> None:
        while True:
            self._jobs.get().run()


workers = _count_workers()
_shares_work = blas.one_thread() and workers > 1     # another BLAS may have threads of its own
_helpers: list[_Helper] = []        # the threads beside the caller's
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.clear)      # a forked process has none of them
_inside = threading.local()         # .parallel is set while this thread works on a slice


def parallel(n: int, work: Callable[[slice], None]) -> None:
    """Run `work` on slices that cover range(n), one per worker thread.

    A slice's result must not depend on where the others are cut. Handing over costs some 50 us: call it for work that takes longer.
    A call from inside of `work` runs in its own thread: the others are busy, and to wait for them would be to wait for itself.
    """
    if not _shares_work or n < 2 or getattr(_inside, "parallel", False):
        work(slice(0, n))
        return
    while len(_helpers) < workers - 1:
        _helpers.append(_Helper())
    cuts = [n * i // workers for i in range(workers + 1)]
    slices = [slice(a, b) for a, b in pairwise(cuts) if a < b]
    jobs = [helper.start(work, part) for helper, part in zip(_helpers, slices[1:])]
    try:
        _one_level(work, slices[0])
    finally:
        for job in jobs:
            job.wait()


def _one_level(work: Callable[[slice], None], part: slice) -> None:
    _inside.parallel = True
    try:
        work(part)
    finally:
        _inside.parallel = False


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next allocation instead of returning it to the system page by page.

    A training step allocates and frees the same large arrays over and over; without this the page faults cost more than the arithmetic
    (33 MB copied: 12 ms, against 6.5 ms into warm memory). Set SCRATCHGAN_MALLOC=system to leave the allocator alone.
    """
    if sys.platform.startswith("linux") and os.environ.get("SCRATCHGAN_MALLOC") != "system":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            m_trim_threshold, m_mmap_threshold = -1, -3
            mallopt(m_mmap_threshold, 1 << 30)
            mallopt(m_trim_threshold, (1 << 31) - 1)


keep_freed_memory()


# Random streams

class Streams:
    """Named, independent random generators that all follow from one seed: `streams["noise"].standard_normal(3)`.

    Drawing from one stream never moves another. The state of all of them is a dict of plain numbers that JSON can hold.
    """

    def __init__(self, seed: int = 0):
        if not 0 <= seed < 2**63:
            raise UserError(f"seed {seed} is out of range: expected 0 <= seed < 2**63")
        self.seed = seed
        self._streams: dict[str, np.random.Generator] = {}

    def __getitem__(self, name: str) -> np.random.Generator:
        if name not in self._streams:
            self._streams[name] = np.random.Generator(self._at_start(name))
        return self._streams[name]

    def _at_start(self, name: str) -> np.random.PCG64:
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        return np.random.PCG64(np.random.SeedSequence([self.seed, key]))

    def state_dict(self) -> dict:
        return {"seed": self.seed, "streams": {k: g.bit_generator.state for k, g in self._streams.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Go back to a saved state. Generators that were handed out stay the streams' own; one that had not begun begins anew."""
        self.seed = state["seed"]
        for name in self._streams.keys() | state["streams"].keys():
            saved = state["streams"].get(name)
            self[name].bit_generator.state = self._at_start(name).state if saved is None else saved


_default = Streams(0)


def default_streams() -> Streams:
    """The streams that layers draw from when none are given (initial weights, dropout masks)."""
    return _default


def manual_seed(seed: int) -> Streams:
    """Restart the default streams from `seed`; returns them."""
    return use_streams(Streams(seed))


def use_streams(streams: Streams) -> Streams:
    """Make `streams` the default ones, so that a run's checkpoint holds every state its layers draw from."""
    global _default
    _default = streams
    return streams
