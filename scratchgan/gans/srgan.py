"""SRGAN: Ledig et al. 2017, "Photo-realistic single image super-resolution using a generative adversarial
network" (arXiv 1609.04802).

G enlarges a picture I^LR to G(I^LR), of r = 4 times its edge, D tells such pictures from photographs I^HR.
The game is the paper's equation (2), and G descends the perceptual loss (3), a content loss l_X and an
adversarial one (6):

    min_G max_D  E[log D(I^HR)] + E[log(1 - D(G(I^LR)))]

    l^SR = l_X + 10^-3 l_Gen,    l_Gen = -log D(G(I^LR))

l_X is the mean squared error of pixels (4), or that of a map phi of a network that has learnt to see (5):

    l_MSE = mean (I^HR - G(I^LR))^2,    l_phi = mean (phi(I^HR) - phi(G(I^LR)))^2

What minimises l_MSE is the mean of all pictures that might be behind I^LR, which is blurred; l_phi and
l_Gen are to pick one that looks right. G is SRResNet: 9x9 convolution, 16 residual blocks, each with two
3x3 convolutions, batch normalisation and PReLU, a skip over all of them, and two 3x3 convolutions whose
channels are shuffled to pixels, doubling the size each. D is eight 3x3 convolutions, four of them strided,
and two dense layers (figure 4). The first `pretrain_steps` steps descend l_MSE in G alone; then follow G
and D in turn (section 3.2).

Ranges. A mistake in these is a shift of brightness in all that comes out. All pictures here are in [-1, 1],
also I^LR as it is handed to G. Within G it is brought to [0, 1], as the paper has it, and G's output is in
[-1, 1] again, the range of I^HR in all losses: neither bounded (a tanh would flatten black and white) nor
clipped, but in what `generate` hands out. I^LR is I^HR under the bicubic kernel, widened by r, and clipped
to [-1, 1], since the kernel overshoots. phi is taken of pictures in [-1, 1], divided so that its mean
square over photographs is about 1.

Departures. phi is a small network of ours (nets/textures.py) where the paper has VGG19, and its maps are
divided by their own size where the paper divides by 12.75. Both content losses count, with `pixel_weight`
and `feature_weight`; the paper's SRGAN is pixel_weight=0. Sums over the batch are means. With `bicubic`, G
adds what it has learnt to the bicubic enlargement, which it need not learn, then, in the minutes that a run
takes; with g_norm=False batch normalisation is left out of G, as Lim et al. 2017 found better (arXiv
1707.02921). Fewer blocks and channels, smaller kernels at both ends, smaller pictures, and a larger
learning rate, for the same reason: `PAPER` has the paper's. Pictures are made by an exponential moving
average of G's weights, which takes no part in the game.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scratchgan import functional as F
from scratchgan import nn, optim
from scratchgan.backend import Streams, to_host, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.gan import non_saturating_loss, value
from scratchgan.gans.sampling import Player, Sampler, check_limits, drawn, evaluating, logits, scalars
from scratchgan.metrics.perceptual import Features
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "D descends": r"-\mathbb{E}[\log D(I^{HR})] - \mathbb{E}[\log(1 - D(G(I^{LR})))]",
    "G descends": r"l^{SR} = l_X + 10^{-3} \; \mathbb{E}[-\log D(G(I^{LR}))]",
    "of pixels": r"l_{MSE} = \mathbb{E}[(I^{HR} - G(I^{LR}))^2]",
    "of features": r"l_{\phi} = \mathbb{E}[(\phi(I^{HR}) - \phi(G(I^{LR})))^2]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters."""
    data: str = "photographs"
    size: int | None = 48                   # edge of I^HR in pixels, a multiple of `scale`
    steps: int = 860                        # updates of G in all
    pretrain_steps: int = 700               # of those, the first ones: l_MSE alone, without D
    batch_size: int = 16
    lr: float = 1e-3                        # Adam, while l_MSE is alone
    lr_adversarial: float = 2e-4            # Adam, for both players
    decay_steps: int = 110                  # steps of the game after which that is divided by 10
    betas: tuple[float, float] = (0.9, 0.999)
    scale: int = 4                          # r: 2, 4 or 8
    blocks: int = 4                         # residual blocks of G
    g_width: int = 24                       # channels of G
    g_kernel: int = 5                       # edge of G's first and last kernel, odd
    g_norm: bool = False                    # batch normalisation in G
    bicubic: bool = True                    # G adds to the bicubic enlargement
    d_width: int = 12                       # channels after D's first convolution, 8 times as many at its end
    d_dense: int = 64                       # units of D's dense layer
    pixel_weight: float = 1.0               # of l_MSE in the game
    feature_weight: float = 0.05            # of l_phi
    feature_map: int = 2                    # which map phi is, 1 to 3: after two, four or six convolutions
    adversarial_weight: float = 1e-3        # of l_Gen
    ema_decay: float = 0.99                 # of the generator that pictures are made by
    sample_every: int = 200

    def __post_init__(self) -> None:
        check_limits(self, pretrain_steps=(0, math.inf), decay_steps=(0, math.inf), blocks=(1, math.inf),
                     lr_adversarial=(1e-12, math.inf), g_width=(1, math.inf), d_width=(1, math.inf),
                     d_dense=(1, math.inf), pixel_weight=(0, math.inf), feature_weight=(0, math.inf),
                     feature_map=(1, 4), adversarial_weight=(0, math.inf), betas=(0, 1), ema_decay=(0, 1))
        if self.scale not in (2, 4, 8):
            raise UserError(f"scale={self.scale}: expected 2, 4 or 8")
        if self.g_kernel < 1 or self.g_kernel % 2 == 0:
            raise UserError(f"g_kernel={self.g_kernel}: expected an odd number")


# Section 3.2: 96x96, 10^6 updates of SRResNet, 10^5 of the game and as many more at a tenth of the rate.
PAPER = {"size": 96, "steps": 1_200_000, "pretrain_steps": 1_000_000, "lr": 1e-4, "lr_adversarial": 1e-4,
         "decay_steps": 100_000, "blocks": 16, "g_width": 64, "g_kernel": 9, "g_norm": True, "bicubic": False,
         "d_width": 64, "d_dense": 1024, "pixel_weight": 0.0, "feature_weight": 1.0}


# Networks

class Block(nn.Module):
    """x + (convolution, normalisation, PReLU, convolution, normalisation)(x)."""

    def __init__(self, width: int, norm: bool):
        super().__init__()
        self.layers = nn.Sequential(*_convolution(width, width, norm), nn.PReLU(),
                                    *_convolution(width, width, norm))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _convolution(fan_in: int, fan_out: int, norm: bool, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution and, perhaps, batch normalisation, before which it needs no bias."""
    layer = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=not norm)
    return [layer, *([nn.BatchNorm2d(fan_out)] if norm else [])]


class SRResNet(nn.Module):
    """Pictures (N, C, h, w) in [-1, 1] -> (N, C, scale h, scale w), meant to be in [-1, 1].

    `bicubic` makes it nearly the bicubic enlargement at first: its last layer begins with small weights.
    """

    def __init__(self, channels: int, scale: int, blocks: int, width: int, kernel: int, *, norm: bool,
                 bicubic: bool):
        super().__init__()
        self.scale, self.bicubic, margin = scale, bicubic, kernel // 2
        self.head = nn.Sequential(nn.Conv2d(channels, width, kernel, padding=margin), nn.PReLU())
        self.blocks = nn.Sequential(*[Block(width, norm) for _ in range(blocks)],
                                    *_convolution(width, width, norm))
        doublings: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            doublings += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.tail = nn.Sequential(*doublings, nn.Conv2d(width, channels, kernel, padding=margin))
        if bicubic:
            nn.init.normal_(self.tail[-1].weight, 0.0, 1e-3)
            nn.init.zeros_(self.tail[-1].bias)

    @property
    def reach(self) -> int:
        """How far, in pixels of x to each side, what a pixel of x becomes depends on x."""
        margin, doublings = self.tail[-1].padding[0], self.scale.bit_length() - 1
        blocks = 2 * (len(self.blocks) - 1) + 1
        edges = sum(2.0 ** -i for i in range(doublings)) + margin / self.scale
        return max(math.ceil(margin + blocks + edges), 3)

    def forward(self, x: Tensor) -> Tensor:
        shallow = self.head((x + 1) * 0.5)
        y = self.tail(shallow + self.blocks(shallow))
        return y + enlarged(x, self.scale) if self.bicubic else y


class Discriminator(nn.Module):
    """Pictures (N, C, size, size) in [-1, 1] -> one logit each (N,): eight 3x3 convolutions, `width` channels
    after the first two, twice as many after each further two, every second with stride 2, batch normalisation
    after all but the first; then a layer of `dense` units and one of one. LeakyReLU(0.2) after all but the
    last.
    """

    def __init__(self, channels: int, size: int, width: int, dense: int):
        super().__init__()
        layers = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        fan_in = width
        for number in range(1, 8):
            fan_out, stride = width * 2 ** (number // 2), 1 + number % 2
            layers += [*_convolution(fan_in, fan_out, True, stride), nn.LeakyReLU(0.2)]
            fan_in, size = fan_out, -(-size // stride)
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(fan_in * size * size, dense), nn.LeakyReLU(0.2),
                                  nn.Linear(dense, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.head(y.reshape(len(y), -1)).reshape(-1)


# Sizes

def reduced(x: Any, scale: int) -> Any:
    """I^LR of pictures I^HR (N, C, H, W) in [-1, 1]: bicubic, the kernel widened by `scale`, clipped to
    [-1, 1]. Arrays give arrays, Tensors Tensors."""
    return F.clamp(F.interpolate(x, scale_factor=1 / scale, mode="bicubic", antialias=True), -1.0, 1.0)


def enlarged(x: Any, scale: int) -> Any:
    """Pictures (N, C, h, w) as (N, C, scale h, scale w), bicubic, by the same kernel; not clipped."""
    return F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)


# Losses

def mse(high: Tensor, made: Tensor) -> Tensor:
    """l_MSE: the mean over all pixels of (I^HR - G(I^LR))^2."""
    return F.mse_loss(made, high)


def feature_loss(phi: Callable[[Tensor], Tensor], high: Tensor, made: Tensor) -> Tensor:
    """l_phi: the mean over all features of (phi(I^HR) - phi(G(I^LR)))^2. Nothing flows into phi(I^HR)."""
    return F.mse_loss(phi(made), phi(high.detach()))


def content_loss(pixels: Tensor, features: Tensor, config: Config) -> Tensor:
    """l_X, of both, by their weights."""
    return config.pixel_weight * pixels + config.feature_weight * features


class Progress:
    """How many steps G has taken, which a checkpoint has to know: it tells the phases apart."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, int]:
        """The count, fit for JSON."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from `state`; UserError where that is no count."""
        if not isinstance(state, dict) or state.keys() != {"steps"} or type(state["steps"]) is not int:
            raise UserError(f"progress of srgan: found {state!r}, expected the number of steps")
        self.steps = state["steps"]


class SRGAN(Sampler):
    """Both players, their optimisers, and the two phases of section 3.2. `streams` become the default ones,
    from which layers draw."""
    config_class = Config
    conditioned_on = "images"
    presets: ClassVar = {"points": {"size": None}}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        channels, size = _geometry(spec, config)
        self.config, self.streams, self.progress = config, use_streams(streams), Progress()
        self.channels = channels
        self.generator = SRResNet(channels, config.scale, config.blocks, config.g_width, config.g_kernel,
                                  norm=config.g_norm, bicubic=config.bicubic).to(device)
        self.discriminator = Discriminator(channels, size, config.d_width, config.d_dense).to(device)
        self.phi = Features(config.feature_map).to(device)
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.discriminator.parameters(), config.lr_adversarial, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One update of G on l_MSE or, after `pretrain_steps` of them, one of D and one of G in the game."""
        high = drawn(lambda: self._begin(batches), self.generator)
        low = reduced(high, self.config.scale)
        pretraining = self.progress.steps <= self.config.pretrain_steps     # of which this step is one
        reported = self._pretrain(high, low) if pretraining else self._play(high, low)
        self.ema.update()
        return reported

    @property
    def course(self) -> str:
        """Which of the two phases the coming step belongs to."""
        return "pretraining" if self.progress.steps < self.config.pretrain_steps else "game"

    def _begin(self, batches: Iterator) -> np.ndarray:
        """What a step does on the host: sets the learning rates, counts, and takes the next pictures."""
        self._set_rates()
        self.progress.steps += 1
        return next(batches)[0]

    def _pretrain(self, high: Tensor, low: Tensor) -> dict[str, float]:
        """G descends l_MSE."""
        pixels = mse(high, self.generator(low))
        self.optimizer_g.zero_grad()
        pixels.backward(inputs=list(self.generator.parameters()))
        self.optimizer_g.step()
        return scalars(loss_g=pixels, pixels=pixels)

    def _play(self, high: Tensor, low: Tensor) -> dict[str, float]:
        """D descends -log D(I^HR) - log(1 - D(G(I^LR))), then G descends l^SR, on the same pictures."""
        G, D, config = self.generator, self.discriminator, self.config
        made = G(low)

        real_logits, fake_logits = D(high), D(made.detach())
        loss_d = -value(real_logits, fake_logits)
        self.optimizer_d.zero_grad()
        loss_d.backward(inputs=list(D.parameters()))
        self.optimizer_d.step()

        pixels, features = mse(high, made), feature_loss(self.phi, high, made)
        adversarial = non_saturating_loss(D(made))
        loss_g = content_loss(pixels, features, config) + config.adversarial_weight * adversarial
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        probabilities = F.sigmoid(real_logits).mean(), F.sigmoid(fake_logits).mean()
        return scalars(loss_d=loss_d, loss_g=loss_g, d_real=probabilities[0], d_fake=probabilities[1],
                       pixels=pixels, features=features)

    def _set_rates(self) -> None:
        """The learning rates of the coming step."""
        config, pretraining = self.config, self.course == "pretraining"
        decayed = self.progress.steps >= config.pretrain_steps + config.decay_steps
        rate = config.lr_adversarial / (10 if decayed else 1)
        self.optimizer_g.param_groups[0]["lr"] = config.lr if pretraining else rate
        self.optimizer_d.param_groups[0]["lr"] = rate

    # Pictures

    def prior(self, stream: np.random.Generator, n: int) -> np.ndarray:
        """(n, 0): G has no noise."""
        return np.empty((n, 0))

    def show(self, images: np.ndarray) -> None:
        """Pictures I^HR of the data whose I^LR are enlarged where none are given."""
        self.shown = reduced(images, self.config.scale)

    def generate(self, z: np.ndarray, given: np.ndarray | None = None, averaged: bool = True) -> np.ndarray:
        """G of the pictures I^LR `given` (n, C, h, w) in [-1, 1]: (n, C, scale h, scale w), clipped to
        [-1, 1]."""
        with evaluating(self.ema.module if averaged else self.generator) as G:
            low, = self.conditions(given, len(z), G)
            return to_host(G(low)._array).clip(-1, 1)

    def enlarge(self, images: np.ndarray) -> np.ndarray:
        """`generate` without z, of pictures of any size."""
        return self.generate(self.prior(self.streams["sample"], len(images)), images)

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.discriminator, self.optimizer_d),
                "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """D's logits (N,) of host pictures I^HR (N, *shape), in evaluation mode."""
        return logits(self.discriminator, x)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "discriminator": self.discriminator, "phi": self.phi,
                "optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d, "ema": self.ema,
                "progress": self.progress}


def _geometry(spec: Spec, config: Config) -> tuple[int, int]:
    """(channels, edge) of the data. UserError where they are no square pictures that `scale` divides."""
    shape = spec.shape
    if len(shape) != 3 or shape[1] != shape[2]:
        raise UserError(f"srgan: data of shape {tuple(shape)}, expected square images (C, H, W)")
    if shape[0] not in (1, 3) or shape[1] % config.scale or shape[1] < 4:
        raise UserError(f"srgan: images of shape {tuple(shape)}, expected 1 or 3 channels and an edge of at "
                        f"least 4 that scale={config.scale} divides")
    return shape[0], shape[1]
