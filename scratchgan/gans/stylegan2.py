"""StyleGAN2: Karras, Laine, Aittala, Hellsten, Lehtinen and Aila 2020, "Analyzing and improving the image
quality of StyleGAN" (arXiv 1912.04958).

AdaIN, which left drop-like blobs in the pictures, becomes part of the convolution (section 2.2). The style s
= A(w) scales the weights' input channels, and what that does to the outputs' deviation is undone, on the
assumption of inputs of unit variance; equations (1) and (3), i over inputs, j over outputs, k over the
kernel:

    w'_ijk = s_i w_ijk,        w''_ijk = w'_ijk / sqrt(sum_i,k w'_ijk^2 + epsilon)

Section 4 replaces progressive growing: G adds up the pictures that all its sizes make (skip connections), D
is residual. Up- and downsampling filter with [1 3 3 1]. Section 3.2 asks of G that a step in W changes the
picture by the same amount a wherever it starts and wherever it leads, equation (4), with y ~ N(0, I) and a
the moving average of the lengths:

    E_w,y[(||J_w^T y||_2 - a)^2],        J_w^T y = grad_w (g(w) . y)

The game is the non-saturating one with the R1 penalty (Mescheder et al. 2018, arXiv 1801.04406):

    D descends  -E[log D(x)] - E[log(1 - D(G(z)))] + gamma / 2 E[||grad_x D(x)||^2]
    G descends  -E[log D(G(z))] + gamma_pl E[(||J_w^T y||_2 - a)^2]

Both penalties are lazy (section 3.1): every k-th update is followed by one with the penalty alone, k times as
large. As the optimiser now takes k + 1 steps where it took k, it has lr' = c lr and beta' = beta^c, c =
k / (k + 1) (appendix B).

As in the authors' code the gradient is taken in the w of each layer, the norm is the root of the layers' mean
of ||.||^2, and y is divided by the root of the number of pixels: with `path` = 2 that is gamma_pl = ln 2 /
(r^2 (ln r - ln 2)) of appendix B for r x r pixels. Path lengths are taken on half a minibatch.

Departures. Here a is a constant in the gradient; in the authors' code it moves with the lengths, by 1 %. It
begins as the mean length of the first minibatches, not at 0, from where it would take some thousand steps to
rise, while the penalty pulls lengths down to it. The gain of the rectifiers, sqrt(2), stands in the
factors of demodulation and in D's weights, where it costs no pass over the pixels, so biases and noise do not
have it. Style mixing draws for each image whether and where, the authors' code once for a minibatch. The
learning rate is ten times the paper's: with equalised weights of unit deviation and some thousand updates
instead of 800,000 it decides. At 1e-3 to 4e-3, whatever gamma, betas and the size of minibatches, G made one shape
of all latents (at 16 pixels FID stayed above 340 for five minutes); at 2e-2 digits of all classes come in that time.
Pictures pass through tanh (`tanh`), see `gans/stylegan.py`. `Config` says what is smaller than the paper's.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from scratchgan import functional as F
from scratchgan import nn, optim
from scratchgan.autograd import grad
from scratchgan.backend import Streams, use_streams, xp
from scratchgan.data import Spec
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, check_limits, drawn, logits, normal_plane, scalars
from scratchgan.gans.stylegan import BASE, GAIN, SLOPE, Mapping, StyleSampler, levels, r1_penalty, widths
from scratchgan.nets.equalised import EqualConv2d, EqualLinear, minibatch_std
from scratchgan.nn.module import overwrite
from scratchgan.nn.parameter import empty_parameter
from scratchgan.ops.modulated import modulated_conv, modulated_conv_up
from scratchgan.precision import factors
from scratchgan.recording import no_grad
from scratchgan.tape import fed
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "D descends": r"-\mathbb{E}_{x \sim p_{\text{data}}}[\log D(x)]"
                  r" - \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]"
                  r" + \frac{\gamma}{2} \; \mathbb{E}_{x \sim p_{\text{data}}}"
                  r"[\lVert \nabla_x D(x) \rVert_2^2]",
    "G descends": r"-\mathbb{E}_{z \sim p_z}[\log D(G(z))]"
                  r" + \gamma_{pl} \; \mathbb{E}_{w, y}[(\lVert J_w^T y \rVert_2 - a)^2]",
    "weights of output j": r"\tilde{w}_{ijk} = s_i w_{ijk}, \quad"
                           r" \hat{w}_j = \tilde{w}_j (\lVert \tilde{w}_j \rVert_2^2 + \epsilon)^{-1/2}",
}

FILTER = np.array([1, 3, 3, 1]) / 8     # along each axis


@dataclass(frozen=True)
class Config:
    """Hyperparameters; in brackets those of the paper's configuration F for 1024 pixels."""
    data: str = "mnist5k"
    size: int | None = 16                   # edge in pixels, a power of two; None: the data's own [1024]
    steps: int = 2800                       # updates of D and of G, lazy ones not counted
    batch_size: int = 16                    # [32]
    lr: float = 2e-2                        # Adam, for both players [2e-3]
    betas: tuple[float, float] = (0.0, 0.99)
    r1: float = 1.0                         # gamma [10]
    r1_every: int = 8                       # updates of D [16]
    path: float = 2.0                       # gamma_pl, see above
    path_every: int = 8                     # updates of G
    path_decay: float = 0.99                # of a
    latent: int = 64                        # size of z, of w and of the mapping network's layers [512]
    mapping_layers: int = 2                 # [8]
    mapping_lr: float = 0.1                 # the mapping network's learning rate is this many times lr [0.01]
    mean_decay: float = 0.995               # of the tracked mean of w
    mixing: float = 0.5                     # share of images with styles of two latents [0.9]
    g_width: int = 8                        # G's channels at full size, doubling with each halving ... [32]
    d_width: int = 16                       # D's [32]
    max_width: int = 64                     # ... up to these [512]
    tanh: bool = True                       # of what the last layer makes [False]
    ema_decay: float = 0.99                 # of the generator that samples are drawn from [0.9978]
    sample_every: int = 250

    def __post_init__(self) -> None:
        check_limits(self, r1=(0, math.inf), r1_every=(1, math.inf), path=(0, math.inf),
                     path_every=(1, math.inf), path_decay=(0, 1), latent=(1, math.inf),
                     mapping_layers=(1, math.inf), mapping_lr=(1e-9, math.inf), mean_decay=(0, 1),
                     mixing=(0, 1.0000001), g_width=(1, math.inf), d_width=(1, math.inf),
                     max_width=(1, math.inf), betas=(0, 1), ema_decay=(0, 1))


# Path lengths

def path_lengths(images: Tensor, w: Sequence[Tensor], y: Tensor) -> Tensor:
    """||J_w^T y|| of each image, (N,): the root of the mean over the w (N, latent) of all layers of the
    squared norm of grad (images . y). y ~ N(0, I) / sqrt(H W), like images; differentiable in G's weights."""
    slopes = grad((images * y).sum(), list(w), create_graph=True)
    squares = F.stack([(slope * slope).sum(dim=1) for slope in slopes], dim=0)
    return F.sqrt(squares.mean(dim=0))


def path_penalty(lengths: Tensor, a: Tensor | float) -> Tensor:
    """mean (length - a)^2."""
    return ((lengths - a) ** 2).mean()


# Convolutions

def upsampled(image: Tensor) -> Tensor:
    """Twice the size: zeros between the pixels, filtered."""
    return F.upfirdn2d(image, FILTER, up=2, padding=(2, 1, 2, 1), gain=4)


class Modulated(EqualConv2d):
    """The weights of a convolution, and the affine map A from w (N, latent) to the styles (N, in) that scale
    them for each image, equation (1).

    The scaled weights of the images never exist (`ops/modulated.py`): their inputs are scaled instead, one
    convolution serves all, and its outputs are scaled by the factors 1 / sqrt(...) of equation (3).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, latent: int):
        super().__init__(in_channels, out_channels, kernel_size, bias=False)
        self.affine = EqualLinear(latent, in_channels, bias_init=1.0)

    def factors(self, w: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """The weight, the styles of w, and what else takes part in the products, in their precision."""
        return factors(self.scaled_weight(), self.affine(w), *others)


class StyledConv(nn.Module):
    """A layer of g: a demodulated convolution, noise of a learned strength, a bias, a leaky rectifier. (N, in,
    H, W) -> (N, out, H, W), or twice that size with `up`: then the convolution is a transposed one of stride 2,
    and the filter smooths what it made."""

    def __init__(self, in_channels: int, out_channels: int, latent: int, *, up: bool = False):
        super().__init__()
        self.up = up
        self.conv = Modulated(in_channels, out_channels, 3, latent)
        self.strength = nn.init.zeros_(empty_parameter(()))
        self.bias = nn.init.zeros_(empty_parameter((out_channels,)))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        weight, style, x, noise = self.conv.factors(w, x, noise)
        if not self.up:
            return modulated_conv(x, weight, style, noise, self.strength, self.bias, padding=(1, 1),
                                  slope=SLOPE, gain=GAIN)
        y = F.upfirdn2d(modulated_conv_up(x, weight, style, gain=GAIN), FILTER, padding=1, gain=4)
        return F.leaky_relu(y + self.strength * noise + self.bias[:, None, None], SLOPE)


class ToRGB(nn.Module):
    """Features to a picture: a modulated 1x1 convolution and a bias."""

    def __init__(self, channels: int, colours: int, latent: int):
        super().__init__()
        self.conv = Modulated(channels, colours, 1, latent)
        self.bias = nn.init.zeros_(empty_parameter((colours,)))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        weight, style, x = self.conv.factors(w, x)
        return modulated_conv(x, weight, style, None, None, self.bias, padding=(0, 0), demodulate=False)


# Networks

class Synthesis(nn.Module):
    """g: w and noise -> images, the sum of those that every size makes (figure 7, "output skips").

    `above` and `layers` lead to each size from 8 x 8 on: the one doubles it, the other keeps it.
    """

    def __init__(self, colours: int, widths: Sequence[int], latent: int, tanh: bool):
        super().__init__()
        self.tanh = tanh
        self.constant = nn.init.normal_(empty_parameter((1, widths[0], BASE, BASE)))
        self.first = StyledConv(widths[0], widths[0], latent)
        self.up = nn.ModuleList(StyledConv(above, below, latent, up=True)
                                for above, below in pairwise(widths))
        self.layers = nn.ModuleList(StyledConv(below, below, latent) for below in widths[1:])
        self.to_rgb = nn.ModuleList(ToRGB(channels, colours, latent) for channels in widths)

    def forward(self, w: Sequence[Tensor], noise: Sequence[Tensor]) -> Tensor:
        """`w` (N, latent) of each layer, of which the last only makes a picture, as the second of each size
        does besides; `noise` (N or 1, 1, H, W) of all but the last."""
        x = self.first(self.constant.expand(len(w[0]), -1, -1, -1), w[0], noise[0])
        image = self.to_rgb[0](x, w[1])
        for i, (up, layer, to_rgb) in enumerate(zip(self.up, self.layers, list(self.to_rgb)[1:])):
            x = up(x, w[2 * i + 1], noise[2 * i + 1])
            x = layer(x, w[2 * i + 2], noise[2 * i + 2])
            image = upsampled(image) + to_rgb(x, w[2 * i + 3])
        return F.tanh(image) if self.tanh else image


class Generator(nn.Module):
    """f and g, and the mean of w over training."""

    def __init__(self, colours: int, widths: Sequence[int], config: Config):
        super().__init__()
        self.mapping = Mapping(config.latent, config.mapping_layers, config.mapping_lr)
        self.synthesis = Synthesis(colours, widths, config.latent, config.tanh)
        self.register_buffer("w_mean", Tensor(np.zeros(config.latent, np.float32)))


class DiscriminatorBlock(nn.Module):
    """Half the size: (N, above, H, W) -> (N, below, H / 2, W / 2), two convolutions beside a linear path.

    The sum of both is divided by sqrt(2), for the sake of its variance; that division and the rectifier's
    gain stand in the weights.
    """

    def __init__(self, above: int, below: int):
        super().__init__()
        self.conv = EqualConv2d(above, above, 3, gain=GAIN)
        self.down = EqualConv2d(above, below, 3)
        self.skip = EqualConv2d(above, below, 1, bias=False, gain=1 / GAIN)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.conv(x), SLOPE)
        y = F.upfirdn2d(y, FILTER, padding=2)
        y = F.conv2d(y, self.down.scaled_weight(), self.down.scaled_bias(), stride=2)
        return F.leaky_relu(y, SLOPE) + self.skip(F.upfirdn2d(x, FILTER, down=2, padding=1))


class Discriminator(nn.Module):
    """Images -> logits (N,): residual (figure 7), with the standard deviation over minibatches before the
    last convolution."""

    def __init__(self, colours: int, widths: Sequence[int]):
        super().__init__()
        first = widths[0]
        self.from_rgb = EqualConv2d(colours, widths[-1], 1, gain=GAIN)
        self.blocks = nn.ModuleList(DiscriminatorBlock(above, below)
                                    for above, below in pairwise(reversed(widths)))
        self.conv = EqualConv2d(first + 1, first, 3, gain=GAIN)
        self.dense = EqualLinear(first * BASE * BASE, first, gain=GAIN)
        self.out = EqualLinear(first, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.leaky_relu(self.from_rgb(image), SLOPE)
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(self.conv(minibatch_std(x)), SLOPE)
        x = F.leaky_relu(self.dense(x.reshape(len(x), -1)), SLOPE)
        return self.out(x).reshape(-1)


# Training

class Lazy:
    """What lazy regularisation carries from step to step: how many `steps` there were, the moving average
    `length` of path lengths, which is a, and the last `penalty` R1 that was computed. Both are Tensors of one
    number beside the array `like`, so that a step can be repeated without the host (`graph.py`)."""

    def __init__(self, like: Any):
        self.steps = 0
        self.length, self.penalty = (Tensor(xp(like).zeros((), np.float64)) for _ in range(2))

    def due(self, every: int) -> bool:
        """Whether this step is one of every so many."""
        return self.steps % every == 0

    def follow(self, length: Tensor, config: Config) -> Tensor:
        """a, once it has followed the mean length of minibatch number t by 1 - min(path_decay, t / (t + 9)).
        """
        def share() -> float:
            t = self.steps // config.path_every
            return 1 - min(config.path_decay, t / (t + 9))

        a = self.length._array
        overwrite(self.length, a + fed(share, a) * (length._array - a))
        return Tensor(self.length._array.astype(length.dtype))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "length": self.length, "penalty": self.penalty}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        overwrite(self.length, state["length"])
        overwrite(self.penalty, state["penalty"])


def lazy_adam(network: nn.Module, lr: float, betas: tuple[float, float], every: int) -> optim.Adam:
    """Adam with lr' = c lr and beta' = beta^c, c = k / (k + 1), for k = `every`."""
    c = every / (every + 1)
    return optim.Adam(network.parameters(), c * lr, tuple(beta**c for beta in betas))


class StyleGAN2(StyleSampler):
    """Both players, their optimisers, and training step by step. `streams` become the default ones, from
    which layers draw."""
    config_class = Config
    presets: ClassVar = {"digits": {"size": 8}, "points": {"size": None}}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        halvings = levels("stylegan2", spec.shape)
        self.layers = 2 * (halvings + 1)
        self.generator = Generator(spec.shape[0], widths(halvings, config.g_width, config.max_width), config)
        self.discriminator = Discriminator(spec.shape[0], widths(halvings, config.d_width, config.max_width))
        self.generator.to(device), self.discriminator.to(device)
        self.lazy = Lazy(next(self.generator.parameters())._array)
        self.optimizer_g = lazy_adam(self.generator, config.lr, config.betas, config.path_every)
        self.optimizer_d = lazy_adam(self.discriminator, config.lr, config.betas, config.r1_every)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One update of D, then one of G, each followed by its penalty where that is due. `penalty`, E[||grad
        D||^2], and `length`, a, are the last ones that were computed."""
        G, D, config = self.generator, self.discriminator, self.config
        x = drawn(lambda: self._begin(batches), D)
        with no_grad():
            fake = self.fake(len(x))
        real_logits, fake_logits = D(x), D(fake)
        loss_d = -value(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=list(D.parameters()))
        self.optimizer_d.step()
        if self.lazy.due(config.r1_every):
            x.requires_grad_()
            penalty = r1_penalty(D(x), x)
            self.update_lazily(self.optimizer_d, D, config.r1_every * config.r1 / 2 * penalty)
            overwrite(self.lazy.penalty, penalty._array)

        loss_g = non_saturating_loss(D(self.fake(len(x))))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        if self.lazy.due(config.path_every):
            lengths = self.lengths(max(1, len(x) // 2))
            penalty = path_penalty(lengths, self.lazy.follow(lengths.mean(), config))
            self.update_lazily(self.optimizer_g, G, config.path_every * config.path * penalty)
        self.ema.update()
        probabilities = F.sigmoid(real_logits).mean(), F.sigmoid(fake_logits).mean()
        return scalars(loss_d=loss_d, loss_g=loss_g, d_real=probabilities[0], d_fake=probabilities[1],
                       penalty=self.lazy.penalty, length=self.lazy.length)

    @property
    def course(self) -> tuple:
        """Whether R1 and the path length are due in the coming step."""
        after = self.lazy.steps + 1
        return after % self.config.r1_every == 0, after % self.config.path_every == 0

    def _begin(self, batches: Iterator) -> np.ndarray:
        """Count the step and take its images."""
        self.lazy.steps += 1
        return next(batches)[0]

    def update_lazily(self, optimizer: optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        """An update on a penalty alone. Weights that it does not depend on have the gradient 0, so that Adam
        counts the step for all of them."""
        optimizer.zero_grad(set_to_none=False)
        loss.backward(inputs=list(network.parameters()))
        optimizer.step()

    def fake(self, n: int) -> Tensor:
        """n images for training, with random noise in each layer and mixed styles."""
        return self.generator.synthesis(self.styles(n, self.layers), self.layer_noise(n))

    def lengths(self, n: int) -> Tensor:
        """Path lengths (n,) at new latents, in random directions y."""
        w = self.styles(n, self.layers)
        images = self.generator.synthesis(w, self.layer_noise(n))
        root = math.sqrt(math.prod(images.shape[2:]))
        y = drawn(lambda: self.streams["path"].standard_normal(images.shape) / root, self.generator)
        return path_lengths(images, w, y)

    def layer_noise(self, n: int) -> list[Tensor]:
        """Random noise for each layer."""
        return [normal_plane(self.streams["layers"], n, edge, self.generator) for edge in self.edges()]

    def edges(self) -> list[int]:
        """Of the pixels of each layer's noise."""
        return [BASE << (i + 1) // 2 for i in range(self.layers - 1)]

    def images(self, G: Generator, w: Tensor) -> Tensor:
        """Those of w (n, layers, latent), with noise from a constant seed."""
        stream = np.random.default_rng(0)
        noise = [normal_plane(stream, 1, edge, G) for edge in self.edges()]
        return G.synthesis(F.unbind(w, 1), noise)

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.discriminator, self.optimizer_d),
                "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """D's logits (N,) of host samples (N, *shape), in evaluation mode."""
        return logits(self.discriminator, x)

    def parts(self) -> dict[str, Any]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema,
                "lazy": self.lazy}
