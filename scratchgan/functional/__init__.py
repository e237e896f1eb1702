"""The public functions, under the names, argument order and argument forms of `torch` and `torch.nn.functional`.

Each takes Tensors, arrays, and numbers where PyTorch does, is differentiable to any order, and leaves no graph when no Tensor among
its arguments requires gradients.
"""
# ruff: noqa: F403
from scratchgan.functional.conv import *
from scratchgan.functional.elementwise import *
from scratchgan.functional.linalg import *
from scratchgan.functional.loss import *
from scratchgan.functional.norm import *
from scratchgan.functional.reduce import *
from scratchgan.functional.resample import *
from scratchgan.functional.shape import *
