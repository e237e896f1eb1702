"""Differentiable primitives, one room each: forward on arrays and VJPs side by side.

PyTorch's names, argument order and argument forms are in `scratchgan.functional`, which mirrors these files.
"""
