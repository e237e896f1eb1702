"""Triton kernels against their references and PyTorch: in the interpreter here, on a GPU with `pytest -m gpu`."""
