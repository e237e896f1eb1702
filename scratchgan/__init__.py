"""scratchgan: generative adversarial networks from scratch, on an autograd of its own over NumPy and CuPy."""
from scratchgan import tensor as _engine  # noqa: F401  (loads the module before the function of the same name replaces it here)
