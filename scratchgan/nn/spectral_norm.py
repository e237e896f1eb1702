"""Spectral normalisation: a layer's weight over its largest singular value (Miyato et al., arXiv 1802.05957).

Names and state follow `torch.nn.utils.spectral_norm` (not the newer parametrization): the parameter
`weight_orig` is learned, the buffers `weight_u` and `weight_v` are the running estimates of the singular
vectors, and `weight` is made anew before each forward.
"""
from __future__ import annotations

from scratchgan import backend
from scratchgan import functional as F
from scratchgan.backend import xp
from scratchgan.nn.conv import _ConvTranspose
from scratchgan.nn.module import PARAMETER, Module, overwrite
from scratchgan.tensor import Tensor


class SpectralNorm:
    """The hook that sets W = W_orig / sigma, sigma = u^T W_orig v, before a forward: the paper's Algorithm 1.

    u and v are constants to the gradient. In training mode `n_power_iterations` steps  v <- normalize(W^T u),
    u <- normalize(W v) move them first, where W is the weight with the axis `dim` in front and the others
    flattened.
    """

    def __init__(self, name: str, n_power_iterations: int, eps: float, dim: int):
        if n_power_iterations < 1:
            raise ValueError(f"spectral_norm: n_power_iterations is at least 1, not {n_power_iterations}")
        self.name, self.n_power_iterations, self.eps, self.dim = name, n_power_iterations, eps, dim

    def attach(self, module: Module) -> None:
        """Replace the parameter by `weight_orig` and draw u and v, from the stream "init"."""
        weight = getattr(module, self.name)
        matrix = self.matrix(weight)._array
        delattr(module, self.name)
        module.register_parameter(f"{self.name}_orig", weight)
        for suffix, size in zip("uv", matrix.shape):
            drawn = backend.default_streams()["init"].standard_normal(size)
            vector = xp(matrix).asarray(drawn.astype(matrix.dtype))
            module.register_buffer(f"{self.name}_{suffix}", Tensor(self.normalized(vector)))
        setattr(module, self.name, Tensor(weight._array))
        module.register_forward_pre_hook(self)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight with the axis `dim` first, flattened to two axes."""
        order = [self.dim, *(i for i in range(len(weight.shape)) if i != self.dim)]
        return F.reshape(F.permute(weight, order), (weight.shape[self.dim], -1))

    def normalized(self, vector):
        return vector / xp(vector).maximum((vector * vector).sum() ** 0.5, self.eps)

    def __call__(self, module: Module, args: tuple) -> None:
        weight = getattr(module, f"{self.name}_orig")
        buffers = getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")
        matrix = self.matrix(weight)
        u, v = (b._array for b in buffers)
        if module.training:
            for _ in range(self.n_power_iterations):
                v = self.normalized(matrix._array.T @ u)
                u = self.normalized(matrix._array @ v)
            for buffer, vector in zip(buffers, (u, v)):     # copies: the graph below keeps u and v
                overwrite(buffer, vector)
        sigma = F.sum(Tensor(u) * F.matmul(matrix, Tensor(v)))
        setattr(module, self.name, weight / sigma)


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Have `module` use its parameter `name` divided by its spectral norm; returns the module.

    `dim` is the axis of the outputs: 1 for transposed convolutions, 0 for everything else.
    """
    if module._kinds.get(name) != PARAMETER:
        raise ValueError(f"spectral_norm: {type(module).__name__} has no parameter {name!r}")
    if dim is None:
        dim = 1 if isinstance(module, _ConvTranspose) else 0
    SpectralNorm(name, n_power_iterations, eps, dim).attach(module)
    return module
