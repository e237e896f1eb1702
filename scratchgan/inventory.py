"""What there is: the GANs and their settings, the named data, the machine, its kernels."""
from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import platform

import numpy as np

from scratchgan import backend, blas, data, gans, kernels, metrics
from scratchgan.errors import UserError
from scratchgan.kernels import dispatch
from scratchgan.run import versions


def overview() -> list[str]:
    """Lines that name every GAN with its paper, every named data set with its shape, and every metric."""
    return ["GANs (scratchgan list GAN shows its settings)", *map(_gan_line, gans.names()), "",
            "Data (or the path of an IDX, CIFAR-10 or .npz file, or of a folder of images)",
            *map(_data_line, [*data.IMAGES, *data.POINTS]), "",
            "Metrics (scratchgan evaluate --metrics NAME,...)", *map(_metric_line, metrics.names())]


def settings_of(name: str) -> list[str]:
    """Lines with every setting of the GAN `name`, its type and default. Raises UserError for an unknown
    name."""
    fields = dataclasses.fields(gans.get(name).config_class)
    lines = [f"  {field.name:<20} {_shown(field.default):<16} {field.type}" for field in fields]
    return [_gan_line(gans.canonical(name)), *lines]


def _gan_line(name: str) -> str:
    """The name and the first paragraph of the GAN's file, which cites the paper."""
    paragraph = inspect.getdoc(inspect.getmodule(gans.get(name))).split("\n\n")[0]
    return f"  {name:<14} {' '.join(paragraph.split())}"


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _data_line(name: str) -> str:
    try:
        dataset = data.load(name)
    except UserError as error:
        return f"  {error}"
    spec = dataset.spec
    kind = "x".join(map(str, spec.shape)) + (" images" if len(spec.shape) == 3 else "-D points")
    classes = f", {spec.classes} classes" if spec.classes else ""
    return f"  {name:<14} {len(dataset)} {kind} in [{spec.low:g}, {spec.high:g}]{classes}"


def _metric_line(name: str) -> str:
    """The name and the first sentence of the metric's file, which says what it is and whose."""
    paragraph = inspect.getdoc(inspect.getmodule(metrics.get(name))).split("\n\n")[0]
    return f"  {name:<18} {' '.join(paragraph.split())}"


def machine() -> list[str]:
    """Lines on versions, processor, threads, BLAS and GPU, and which implementation each kernel takes."""
    facts = {**versions(), "system": f"{platform.system()} {platform.machine()}", "threads": backend.workers,
             "BLAS": _blas(), "GPU": _gpu()}
    return [*(f"{name:<12} {fact}" for name, fact in facts.items()), "", *_kernels()]


def _kernels() -> list[str]:
    """Each kernel with what `dispatch.pick` takes for the arrays of this machine."""
    for module in pkgutil.iter_modules(kernels.__path__):
        if not module.ispkg:
            importlib.import_module(f"{kernels.__name__}.{module.name}")
    try:
        array = backend.module_of("cuda").empty(0)
    except UserError:
        array = np.empty(0)
    lines = [f"Kernels (SCRATCHGAN_IMPL={dispatch.chosen()})"]
    for name, kernel in sorted(dispatch.KERNELS.items()):
        picked = dispatch.pick(kernel, array)
        elsewhere = ", triton for CuPy arrays" if picked == "ref" and kernel.has_triton else ""
        lines.append(f"  {name:<36} {picked}{elsewhere}")
    return lines


def _blas() -> str:
    build, written_for = np.show_config(mode="dicts")["Build Dependencies"]["blas"], blas.kernels()
    return f"{build['name']} {build['version']}" + (f", kernels for {written_for}" if written_for else "")


def _gpu() -> str:
    try:
        cupy = backend.module_of("cuda")
    except UserError as error:
        return f"none: {error}"
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return f"{properties['name'].decode()}, CuPy {cupy.__version__}"
