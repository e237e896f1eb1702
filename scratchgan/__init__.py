"""scratchgan: generative adversarial networks from scratch, on an autograd of its own over NumPy and CuPy."""
from importlib import import_module
from pathlib import Path

_folder = Path(__file__).parent
if not (_folder / "kernels").exists():  # a source checkout: kernels/ lies beside this folder, not inside
    __path__.append(str(_folder.parent))

# The engine's module is loaded first: its name, scratchgan.tensor, then goes to the function `tensor`.
from scratchgan import tensor as _engine  # noqa: F401, I001
from scratchgan import functional, methods  # noqa: F401  (methods attaches Tensor's operators)
from scratchgan.autograd import grad
from scratchgan.backend import manual_seed
from scratchgan.creation import (arange, as_tensor, empty, eye, float16, float32, float64, from_numpy, full,
                                 full_like, int32, int64, linspace, ones, ones_like, rand, randint, randn,
                                 tensor, uint8, zeros, zeros_like)
from scratchgan.errors import UserError
from scratchgan.recording import enable_grad, is_grad_enabled, no_grad
from scratchgan.tensor import Tensor

__all__ = ["Tensor", "UserError", "arange", "as_tensor", "check", "data", "empty", "enable_grad", "eye",
           "float16", "float32", "float64", "from_numpy", "full", "full_like", "functional", "gans", "grad",
           "int32", "int64", "is_grad_enabled", "linspace", "manual_seed", "nn", "no_grad", "ones",
           "ones_like", "optim", "rand", "randint", "randn", "tensor", "uint8", "zeros", "zeros_like"]

_ON_DEMAND = {"check", "data", "gans", "nn", "optim"}


def __getattr__(name: str):
    """Import the larger parts when they are first asked for; `__version__` is that of the installed package."""
    if name in _ON_DEMAND:
        return import_module(f"scratchgan.{name}")
    if name == "__version__":
        return import_module("importlib.metadata").version("scratchgan")
    raise AttributeError(f"module 'scratchgan' has no attribute {name!r}")
