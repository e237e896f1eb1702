"""StyleGAN: Karras, Laine and Aila 2019, "A style-based generator architecture for generative adversarial
networks" (arXiv 1812.04948).

A mapping network f turns z into w, which steers each layer of the synthesis network g by an affine map A into
styles y = (y_s, y_b), equation (1):

    AdaIN(x_i, y) = y_s,i (x_i - mu(x_i)) / sigma(x_i) + y_b,i,

mean and deviation over the pixels of feature map i of one image. g begins with a learned constant; each of
its layers adds Gaussian noise, one picture for all its channels, with a learned strength per channel. A share
of the images is made from two latents, one before and one after a random layer (section 3.1: style mixing).
Samples may be drawn nearer to the mean latent (appendix B: truncation): w' = w_mean + psi (w - w_mean).

Both networks grow (Karras et al. 2018, arXiv 1710.10196, "Progressive growing of GANs"; `nets/equalised.py`):
training begins with small pictures, and each doubling of their size is faded in. The game is the
non-saturating one with the R1 penalty (appendix C; Mescheder et al. 2018, arXiv 1801.04406, equation 9):

    D descends  -E[log D(x)] - E[log(1 - D(G(z)))] + gamma / 2 E[||grad_x D(x)||^2]
    G descends  -E[log D(G(z))]

Departures. The constant begins at N(0, 1), as in the authors' StyleGAN2, not at 1: AdaIN of a constant
picture is 0 / 0, and its bias has no gradient. Style mixing draws for each image whether and where, the
authors' code once for a minibatch. Adam's moments of a layer begin when the layer does, where the authors'
code forgets all moments at each change of size; the learning rate stays the same for all sizes. Minibatches
are twice as large for each halving of the pictures, as in the authors' code up to 64 pixels. By default layers
below 8 x 8 have no noise: where pictures are as small as a digit, noise of 4 x 4 could choose the digit in w's
place. Pictures pass through tanh (`tanh`), as the DCGAN's: most pixels of a digit are at one end of their range,
which G only nears without it, so that D tells samples by their greys. Networks are narrow, runs are short and the
learning rate is large (`gans/stylegan2.py` says why): `Config` has the paper's in brackets.
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
from scratchgan.backend import Streams, to_host, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, Sampler, check_limits, constant, drawn, evaluating, normal_plane, scalars
from scratchgan.nets.equalised import EqualConv2d, EqualLinear, minibatch_std, pixel_norm
from scratchgan.nn.module import overwrite
from scratchgan.nn.parameter import empty_parameter
from scratchgan.ops import adversarial
from scratchgan.ops.norm import normalize
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "D descends": r"-\mathbb{E}_{x \sim p_{\text{data}}}[\log D(x)]"
                  r" - \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]"
                  r" + \frac{\gamma}{2} \; \mathbb{E}_{x \sim p_{\text{data}}}[\lVert \nabla_x D(x) \rVert_2^2]",
    "G descends": r"-\mathbb{E}_{z \sim p_z}[\log D(G(z))]",
    "styles": r"\text{AdaIN}(x_i, y) = y_{s,i} \frac{x_i - \mu(x_i)}{\sigma(x_i)} + y_{b,i}",
}

SLOPE, GAIN = 0.2, math.sqrt(2)         # of the leaky rectifiers, and He's for rectifiers, as in the authors' code
BASE = 4                                # edge of the smallest pictures


@dataclass(frozen=True)
class Config:
    """Hyperparameters; in brackets those of the paper for 1024 pixels."""
    data: str = "mnist5k"
    size: int | None = 16                   # edge in pixels, a power of two; None: the data's own [1024]
    steps: int = 3500                       # updates of D and of G
    batch_size: int = 16                    # of full size, doubled for each halving [256 for 8 x 8 ... to 32]
    lr: float = 2e-2                        # Adam, for both players [1e-3 to 3e-3]; see stylegan2.py
    betas: tuple[float, float] = (0.0, 0.99)
    r1: float = 3.0                         # gamma [10]
    latent: int = 64                        # size of z, of w and of the mapping network's layers [512]
    mapping_layers: int = 2                 # [8]
    mapping_lr: float = 0.01                # the mapping network's learning rate is this many times lr
    mean_decay: float = 0.995               # of the tracked mean of w
    mixing: float = 0.9                     # share of images with styles of two latents
    width: int = 8                          # channels at full size, doubling with each halving ... [16]
    max_width: int = 64                     # ... up to these [512]
    noise_from: int = 8                     # edge in pixels from which on layers have noise [4]
    tanh: bool = True                       # of what the last layer makes [False]
    start: int = 8                          # edge of the first pictures, in pixels
    stable_images: int = 8000               # real images shown at one size [600,000] ...
    fade_images: int = 4000                 # ... and then while the next is faded in [600,000]
    ema_decay: float = 0.99                 # of the generator that samples are drawn from
    sample_every: int = 100

    def __post_init__(self) -> None:
        check_limits(self, r1=(0, math.inf), latent=(1, math.inf), mapping_layers=(1, math.inf),
                     mapping_lr=(1e-9, math.inf), mean_decay=(0, 1), width=(1, math.inf),
                     max_width=(1, math.inf), stable_images=(0, math.inf), fade_images=(0, math.inf),
                     betas=(0, 1), ema_decay=(0, 1))
        if not 0 <= self.mixing <= 1:
            raise UserError(f"mixing={self.mixing}: expected a number from 0 to 1")


# Losses

def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """E[||grad_x D(x)||^2], the norm over all axes of a sample, from logits (N,) of the images `real`, which
    require gradients. Differentiable in D's weights; D's loss holds gamma / 2 of it."""
    slope, = grad(real_logits.sum(), real, create_graph=True)
    return adversarial.r1_penalty(slope, gamma=2.0)


# Resampling

def blur(x: Tensor) -> Tensor:
    """[1 2 1] / 4 along both axes; zeros are read outside."""
    return F.upfirdn2d(x, np.array([0.25, 0.5, 0.25]), padding=1)


def doubled(x: Tensor) -> Tensor:
    """Each pixel of (N, C, H, W) as a square of four."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def halved(x: Tensor) -> Tensor:
    """Means of squares of four pixels."""
    return F.avg_pool2d(x, 2)


def lerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """(1 - t) a + t b."""
    return a + (b - a) * t


def faded(before: Tensor, x: Tensor, level: float, fade: Tensor | None) -> Tensor:
    """x faded in over what was there `before`, as far as the level is on its way to the next whole one."""
    return lerp(before, x, level % 1 if fade is None else fade)


class ConvUp(EqualConv2d):
    """blur(conv3x3(doubled(x))), without a bias: (N, in, H, W) -> (N, out, 2 H, 2 W).

    Doubling is folded into the convolution, which becomes a transposed one of stride 2 with the flipped
    kernel spread by [1 1]: 4 products for an output pixel instead of 9.
    """

    def forward(self, x: Tensor) -> Tensor:
        flipped = F.flip(self.scaled_weight().transpose(0, 1), (2, 3))
        kernel = F.upfirdn2d(flipped, np.ones(2), padding=1)
        return blur(F.conv_transpose2d(x, kernel, stride=2, padding=1))


class ConvDown(EqualConv2d):
    """halved(conv3x3(blur(x))) + bias: (N, in, H, W) -> (N, out, H / 2, W / 2).

    Halving is folded into the convolution, which has stride 2 and the kernel spread by [1 1] / 2.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.upfirdn2d(self.scaled_weight(), np.full(2, 0.5), padding=1)
        return F.conv2d(blur(x), kernel, self.scaled_bias(), stride=2, padding=1)


# Networks

def levels(name: str, shape: tuple[int, ...]) -> int:
    """How often images (C, H, W) are halved down to 4 x 4. Raises UserError for shapes that are not."""
    halvings = int(math.log2(shape[1] / BASE)) if len(shape) == 3 and shape[1] > BASE else 0
    if halvings < 1 or shape[1:] != (BASE << halvings,) * 2:
        raise UserError(f"{name}: data of shape {tuple(shape)}, expected square images (C, H, W) with an edge "
                        "of 8, 16, 32, 64 ... pixels")
    return halvings


def widths(halvings: int, width: int, most: int) -> list[int]:
    """Channels at 4 x 4, 8 x 8, ...: `width` at full size, twice as many with each halving, at most `most`."""
    return [min(width << i, most) for i in reversed(range(halvings + 1))]


class Mapping(nn.Module):
    """f: z (N, latent) -> w (N, latent), z normalised, each layer with a leaky rectifier."""

    def __init__(self, latent: int, layers: int, lr_multiplier: float):
        super().__init__()
        self.layers = nn.ModuleList(EqualLinear(latent, latent, gain=GAIN, lr_multiplier=lr_multiplier)
                                    for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        x = pixel_norm(z)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return x


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Equation (1): each feature map of x (N, C, H, W) with mean 0 and variance 1, times `scale`, plus
    `shift`, both (N, C)."""
    return normalize(x, scale[:, :, None, None], shift[:, :, None, None], axes=(2, 3), eps=1e-8)


class Styled(nn.Module):
    """What follows each convolution of g: noise of a learned strength per channel (none unless `noisy`), a
    bias, a leaky rectifier, AdaIN with the style A(w)."""

    def __init__(self, channels: int, latent: int, noisy: bool):
        super().__init__()
        self.register_parameter("strength", None)
        if noisy:
            self.strength = nn.init.zeros_(empty_parameter((channels, 1, 1, 1)))
        self.bias = nn.init.zeros_(empty_parameter((channels,)))
        self.scale = EqualLinear(latent, channels, bias_init=1.0)
        self.shift = EqualLinear(latent, channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """`noise` is (N or 1, 1, H, W)."""
        if noise is None:
            x = x + self.bias[:, None, None]
        else:
            x = x + F.conv2d(noise, self.strength, self.bias)
        return adain(F.leaky_relu(x, SLOPE), self.scale(w), self.shift(w))


class SynthesisBlock(nn.Module):
    """Two layers of g that double the size: (N, above, H, W) -> (N, below, 2 H, 2 W)."""

    def __init__(self, above: int, below: int, latent: int, noisy: bool):
        super().__init__()
        self.up = ConvUp(above, below, 3, bias=False, gain=GAIN)
        self.style0 = Styled(below, latent, noisy)
        self.conv = EqualConv2d(below, below, 3, bias=False, gain=GAIN)
        self.style1 = Styled(below, latent, noisy)

    def forward(self, x: Tensor, w: Sequence[Tensor], noise: Sequence[Tensor | None]) -> Tensor:
        x = self.style0(self.up(x), w[0], noise[0])
        return self.style1(self.conv(x), w[1], noise[1])


class Synthesis(nn.Module):
    """g: w, noise and a level -> images of 4 * 2**ceil(level) pixels; level 0 has 4 x 4.

    Between two whole levels the pictures of the larger one are faded in over those of the smaller one. In a step
    that is repeated with other levels between the same two (`tape.py`), `fade` is level % 1 as it was fed.
    """

    def __init__(self, colours: int, widths: Sequence[int], latent: int, noise_from: int, tanh: bool):
        super().__init__()
        self.noise_from, self.tanh = noise_from, tanh
        noisy = [BASE << i >= noise_from for i in range(len(widths))]
        self.constant = nn.init.normal_(empty_parameter((1, widths[0], BASE, BASE)))
        self.style0 = Styled(widths[0], latent, noisy[0])
        self.conv = EqualConv2d(widths[0], widths[0], 3, bias=False, gain=GAIN)
        self.style1 = Styled(widths[0], latent, noisy[0])
        self.blocks = nn.ModuleList(SynthesisBlock(above, below, latent, some)
                                    for (above, below), some in zip(pairwise(widths), noisy[1:]))
        self.to_rgb = nn.ModuleList(EqualConv2d(channels, colours, 1) for channels in widths)

    def noise(self, stream: np.random.Generator, n: int, layers: int) -> list[Tensor | None]:
        """Draws of N(0, 1) for the first layers, (n, 1, H, W) each; None for one without noise."""
        edges = [BASE << i // 2 for i in range(layers)]
        return [normal_plane(stream, n, edge, self) if edge >= self.noise_from else None for edge in edges]

    def forward(self, w: Sequence[Tensor], noise: Sequence[Tensor | None], level: float,
                fade: Tensor | None = None) -> Tensor:
        """`w` (N, latent) and what `noise` draws, for each layer, two for each level."""
        top = math.ceil(level)
        x = self.style0(self.constant.expand(len(w[0]), -1, -1, -1), w[0], noise[0])
        x = before = self.style1(self.conv(x), w[1], noise[1])
        for i, block in zip(range(top), self.blocks):
            before, x = x, block(x, w[2 * i + 2:2 * i + 4], noise[2 * i + 2:2 * i + 4])
        image = self.to_rgb[top](x)
        if level % 1:
            image = faded(doubled(self.to_rgb[top - 1](before)), image, level, fade)
        return F.tanh(image) if self.tanh else image


class Generator(nn.Module):
    """f and g, and the mean of w over training."""

    def __init__(self, colours: int, widths: Sequence[int], config: Config):
        super().__init__()
        self.mapping = Mapping(config.latent, config.mapping_layers, config.mapping_lr)
        self.synthesis = Synthesis(colours, widths, config.latent, config.noise_from, config.tanh)
        self.register_buffer("w_mean", Tensor(np.zeros(config.latent, np.float32)))


class DiscriminatorBlock(nn.Module):
    """Two layers that halve the size: (N, above, H, W) -> (N, below, H / 2, W / 2)."""

    def __init__(self, above: int, below: int):
        super().__init__()
        self.conv = EqualConv2d(above, above, 3, gain=GAIN)
        self.down = ConvDown(above, below, 3, gain=GAIN)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), SLOPE)
        return F.leaky_relu(self.down(x), SLOPE)


class Discriminator(nn.Module):
    """Images as g makes them at that level -> logits (N,): the mirror image of g, without styles and noise;
    the standard deviation over minibatches before the last convolution."""

    def __init__(self, colours: int, widths: Sequence[int]):
        super().__init__()
        first = widths[0]
        self.from_rgb = nn.ModuleList(EqualConv2d(colours, channels, 1, gain=GAIN) for channels in widths)
        self.blocks = nn.ModuleList(DiscriminatorBlock(above, below)
                                    for below, above in pairwise(widths))
        self.conv = EqualConv2d(first + 1, first, 3, gain=GAIN)
        self.dense = EqualLinear(first * BASE * BASE, first, gain=GAIN)
        self.out = EqualLinear(first, 1)

    def forward(self, image: Tensor, level: float, fade: Tensor | None = None) -> Tensor:
        """`fade` as in `Synthesis`."""
        top = math.ceil(level)
        x = self.features(image, top)
        if level % 1:
            x = faded(self.features(halved(image), top - 1), self.blocks[top - 1](x), level, fade)
            top -= 1
        for i in reversed(range(top)):
            x = self.blocks[i](x)
        x = F.leaky_relu(self.conv(minibatch_std(x)), SLOPE)
        x = F.leaky_relu(self.dense(x.reshape(len(x), -1)), SLOPE)
        return self.out(x).reshape(-1)

    def features(self, image: Tensor, level: int) -> Tensor:
        """Images of a whole level as the first features there."""
        return F.leaky_relu(self.from_rgb[level](image), SLOPE)


class Growth:
    """How far the networks have grown, a function of the number of real images that were shown.

    `level` is log2(edge / 4): it stays at a whole number for `stable` images and rises by one during the next
    `fade` images, from that of the first pictures up to that of the data.
    """

    def __init__(self, first: int, last: int, stable: int, fade: int):
        self.first, self.last, self.stable, self.fade, self.shown = first, last, stable, fade, 0

    @property
    def level(self) -> float:
        return self.after(0)

    def after(self, images: int) -> float:
        """The level when so many more images will have been shown."""
        if self.stable + self.fade == 0:
            return float(self.last)
        phase, since = divmod(self.shown + images, self.stable + self.fade)
        risen = max(since - self.stable, 0) / max(self.fade, 1)
        return float(min(self.first + phase + risen, self.last))

    @property
    def batches(self) -> int:
        """How many batches make a minibatch: one at full size, twice as many for each halving."""
        return 1 << self.last - math.ceil(self.level)

    def state_dict(self) -> dict[str, int]:
        return {"shown": self.shown}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.shown = int(state["shown"])


# Sampling

class StyleSampler(Sampler):
    """Sampling by way of w, which StyleGANs share: truncation, style mixing, interpolation in w.

    Latents and images are arrays on the host, but in `styles` and `images`. A w is (n, latent), or (n, layers,
    latent) with one for each layer of g. Noise of the layers is the same for all samples, drawn from a
    constant seed, so that one w always gives one picture.
    """
    layers: int                             # of g, which take one w each

    def images(self, G: nn.Module, w: Tensor) -> Tensor:
        """What the generator G makes of w (n, layers, latent), in evaluation mode, at the data's size."""
        raise NotImplementedError

    def styles(self, n: int, layers: int) -> tuple[Tensor, ...]:
        """w for each layer, (n, latent), for training; the mean of w follows the first half of them.

        With the probability `mixing` an image has the w of a second z from a random layer on, the second to
        the last.
        """
        G, stream = self.generator, self.streams["mixing"]
        w, other = F.chunk(G.mapping(self.noise(2 * n)), 2)
        overwrite(G.w_mean, lerp(w.detach().mean(dim=0), G.w_mean, self.config.mean_decay)._array)

        def before_crossover() -> np.ndarray:
            mixed, crossover = stream.random(n) < self.config.mixing, 1 + stream.integers(layers - 1, size=n)
            return np.arange(layers)[:, None, None] < np.where(mixed, crossover, layers)[:, None]

        first = drawn(before_crossover, G)                      # (layers, n, 1), 1 or 0
        return F.unbind(w * first + other * (1 - first), 0)

    def map(self, z: np.ndarray, averaged: bool = True, truncation: float = 1.0) -> np.ndarray:
        """w (n, latent) of z (n, latent), drawn towards their mean: w_mean + truncation (w - w_mean)."""
        with evaluating(self.ema.module if averaged else self.generator) as G:
            w = G.mapping(constant(z, G))
            return to_host(lerp(G.w_mean, w, truncation)._array)

    def synthesise(self, w: np.ndarray, averaged: bool = True) -> np.ndarray:
        """Images (n, *shape) in [-1, 1] of w (n, latent) or (n, layers, latent)."""
        w = w if w.ndim == 3 else np.repeat(w[:, None], self.layers, axis=1)
        with evaluating(self.ema.module if averaged else self.generator) as G:
            return np.clip(to_host(self.images(G, constant(w, G))._array), -1, 1)

    def generate(self, z: np.ndarray, given: Any = None, averaged: bool = True,
                 truncation: float = 1.0) -> np.ndarray:
        """Images (n, *shape) of z (n, latent); `truncation` as in `map`. Nothing can be given."""
        self.conditions(given, len(z), self.generator)
        return self.synthesise(self.map(z, averaged, truncation), averaged)

    def mix(self, coarse: np.ndarray, fine: np.ndarray, at: int | None = None, averaged: bool = True,
            truncation: float = 1.0) -> np.ndarray:
        """Images (n, *shape) with the styles of the latents `coarse` (n, latent) in the layers before number
        `at`, half of all by default, and those of `fine` from there on."""
        at = self.layers // 2 if at is None else at
        if not 0 < at < self.layers:
            raise UserError(f"mix: layer {at}, expected a number from 1 to {self.layers - 1}")
        w = [self.map(z, averaged, truncation)[:, None] for z in (coarse, fine)]
        return self.synthesise(np.where(np.arange(self.layers)[:, None] < at, *w), averaged)

    def interpolate(self, start: np.ndarray, end: np.ndarray, t: np.ndarray, averaged: bool = True,
                    given: Any = None, truncation: float = 1.0) -> np.ndarray:
        """Images (n, *shape) of the points (1 - t) w_start + t w_end on the lines in W between the latents
        `start` and `end`, (n, latent); t is (n,)."""
        self.conditions(given, len(t), self.generator)
        w = [self.map(z, averaged, truncation) for z in (start, end)]
        return self.synthesise(lerp(*w, np.asarray(t, w[0].dtype)[:, None]), averaged)


class StyleGAN(StyleSampler):
    """Both players, their optimisers, and training step by step. `streams` become the default ones, from
    which layers draw."""
    config_class = Config
    presets: ClassVar = {"digits": {"size": 8, "start": 4}, "points": {"size": None}}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        last, first = levels("stylegan", spec.shape), int(math.log2(max(config.start, 1) / BASE))
        if config.start != BASE * 2**first or not 0 <= first <= last:
            raise UserError(f"start={config.start}: expected 4, 8, 16 ... up to the data's {spec.shape[1]} pixels")
        channels = widths(last, config.width, config.max_width)
        self.layers = 2 * (last + 1)
        self.generator = Generator(spec.shape[0], channels, config).to(device)
        self.discriminator = Discriminator(spec.shape[0], channels).to(device)
        self.growth = Growth(first, last, config.stable_images, config.fade_images)
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One update of D with the R1 penalty, then one of G, at the level of this minibatch. `penalty` is
        E[||grad D||^2], `edge` that of the pictures."""
        G, D, growth = self.generator, self.discriminator, self.growth
        x = drawn(lambda: self._minibatch(batches), D)
        level = growth.level
        fade = drawn(lambda: growth.level % 1, D) if level % 1 else None
        x = shrunk(x, level, growth.last, fade).requires_grad_()
        with no_grad():
            fake = self.fake(len(x), level, fade)
        real_logits, fake_logits = D(x, level, fade), D(fake, level, fade)
        penalty = r1_penalty(real_logits, x)
        loss_d = self.config.r1 / 2 * penalty - value(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=list(D.parameters()))
        self.optimizer_d.step()

        loss_g = non_saturating_loss(D(self.fake(len(x), level, fade), level, fade))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        self.ema.update()
        probabilities = F.sigmoid(real_logits).mean(), F.sigmoid(fake_logits).mean()
        return scalars(loss_d=loss_d, loss_g=loss_g, penalty=penalty, d_real=probabilities[0],
                       d_fake=probabilities[1], level=lambda: growth.level)

    @property
    def course(self) -> tuple:
        """How many batches the coming step takes, its level, and whether that is being faded in."""
        growth = self.growth
        level = growth.after(growth.batches * self.config.batch_size)
        return growth.batches, math.ceil(level), level % 1 > 0

    def _minibatch(self, batches: Iterator) -> np.ndarray:
        """The images of a step, counted."""
        x = np.concatenate([next(batches)[0] for _ in range(self.growth.batches)])
        self.growth.shown += len(x)
        return x

    def fake(self, n: int, level: float, fade: Tensor | None = None) -> Tensor:
        """n images of this level for training, with random noise in each layer and mixed styles."""
        layers, synthesis = 2 * math.ceil(level) + 2, self.generator.synthesis
        noise = synthesis.noise(self.streams["layers"], n, layers)
        return synthesis(self.styles(n, layers), noise, level, fade)

    def images(self, G: Generator, w: Tensor) -> Tensor:
        """Those of the present level, enlarged to the data's size."""
        level = self.growth.level
        noise = G.synthesis.noise(np.random.default_rng(0), 1, self.layers)
        image = G.synthesis(F.unbind(w, 1), noise, level)
        return F.interpolate(image, scale_factor=1 << self.growth.last - math.ceil(level), mode="nearest")

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.discriminator, self.optimizer_d),
                "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """D's logits (N,) of host samples (N, *shape), at the present level, in evaluation mode."""
        with evaluating(self.discriminator) as D:
            level = self.growth.level
            return to_host(D(shrunk(constant(x, D), level, self.growth.last), level)._array)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema,
                "growth": self.growth}


def shrunk(x: Tensor, level: float, last: int, fade: Tensor | None = None) -> Tensor:
    """Images of the level `last` as they are at this one: means over squares of pixels and, while a level is
    faded in, partly over squares of twice the edge. `fade` as in `Synthesis`."""
    factor = 1 << last - math.ceil(level)
    x = F.avg_pool2d(x, factor) if factor > 1 else x
    return faded(doubled(halved(x)), x, level, fade) if level % 1 else x
