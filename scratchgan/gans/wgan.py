"""WGAN: Arjovsky, Chintala and Bottou 2017, "Wasserstein GAN" (arXiv 1701.07875).

The Wasserstein distance of the data P_r and the samples P_theta by Kantorovich and Rubinstein's duality, the
paper's equation (2), over functions f of Lipschitz constant 1:

    W(P_r, P_theta) = sup_{||f||_L <= 1} E_{x ~ P_r}[f(x)] - E_{x ~ P_theta}[f(x)]

Over functions of constant K it is K W. The critic f_w has its weights in a box, hence some K that nobody
knows, and training it yields (3), which G then makes small (theorem 3):

    max_{w in [-c, c]^l} E_{x ~ P_r}[f_w(x)] - E_{z ~ p(z)}[f_w(g_theta(z))]

Algorithm 1: n_critic updates of w, each on a new x and z and followed by w <- clip(w, -c, c), then one of
theta, which descends -E[f_w(g_theta(z))]; RMSProp for both, since with momentum the paper's critics became
unstable; alpha = 0.00005, c = 0.01, m = 64, n_critic = 5. `distance` in the log is the critic's estimate of
K W, before its last update.

f_w + const is the same critic, so the bias of its last layer never has a gradient; clipping is all that may
move it.

Departures. The networks are the DCGAN's for images, with the critic's batch normalisation as in the paper,
and MLPs for points. alpha is twenty times the paper's, c three times, and a minibatch has a quarter of its
samples, since runs last minutes. The authors' code gives the critic 100 updates in each of the first 25 steps
and in every 500th; here, as in Algorithm 1, it has n_critic always. Samples come from an exponential moving
average of G's weights, which takes no part in the game.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from scratchgan import nn, optim
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.errors import UserError
from scratchgan.gans.sampling import Player, Sampler, check_limits, logits, real, scalars
from scratchgan.nets import dcgan, mlp
from scratchgan.ops import adversarial
from scratchgan.precision import full
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "the critic ascends": r"\max_{w \in [-c, c]^l} \mathbb{E}_{x \sim P_r}[f_w(x)]"
                          r" - \mathbb{E}_{z \sim p(z)}[f_w(g_\theta(z))]",
    "G descends": r"-\mathbb{E}_{z \sim p(z)}[f_w(g_\theta(z))]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are for images, `POINTS` holds those for the plane."""
    data: str = "mnist5k"
    size: int | None = 32                   # edge in pixels: 8, 16, 28, 32, 64 ...; None: the data's own
    steps: int = 2400                       # updates of G
    batch_size: int = 16                    # m (the paper: 64)
    n_critic: int = 5                       # updates of the critic per update of G
    clip: float = 0.03                      # c (the paper: 0.01)
    lr: float = 1e-3                        # alpha, of RMSProp for both players (the paper: 5e-5)
    latent: int = 32                        # size of z ~ N(0, I)
    g_width: int = 32                       # channels before G's last layer, doubling towards z
    d_width: int = 16                       # channels after the critic's first layer, doubling then
    d_norm: bool = True                     # batch normalisation in the critic
    ema_decay: float = 0.97                 # of the generator that samples are drawn from
    sample_every: int = 100

    def __post_init__(self) -> None:
        check_limits(self, n_critic=(1, math.inf), latent=(1, math.inf), g_width=(1, math.inf),
                     d_width=(1, math.inf), ema_decay=(0, 1))
        if self.clip <= 0:
            raise UserError(f"clip={self.clip}: expected a number above 0")


POINT_LAYERS = 3                            # hidden layers of both MLPs
POINTS = {"size": None, "steps": 4000, "batch_size": 256, "clip": 0.03, "latent": 2, "g_width": 128,
          "d_width": 128, "d_norm": False, "ema_decay": 0.99, "sample_every": 500}


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean f(G(z)) - mean f(x), of critic values (N,): minus the estimate of K times the Wasserstein
    distance."""
    return adversarial.wasserstein_d(full(real), full(fake))


def generator_loss(fake: Tensor) -> Tensor:
    """-mean f(G(z))."""
    return adversarial.wasserstein_g(full(fake))


def clip(weights: Iterable[Tensor], c: float) -> None:
    """w <- clip(w, -c, c) for every weight, in place."""
    with no_grad():
        for w in weights:
            w.clamp_(-c, c)


class WGAN(Sampler):
    """Generator and critic, their optimisers, and Algorithm 1. `streams` become the default ones, from which
    layers draw."""
    config_class = Config
    presets: ClassVar = {"digits": {"size": 16}, "points": POINTS}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        generator, critic = make_networks(spec, config, config.d_norm)
        self.generator, self.critic = generator.to(device), critic.to(device)
        self.optimizer_g = optim.RMSprop(self.generator.parameters(), config.lr)
        self.optimizer_d = optim.RMSprop(self.critic.parameters(), config.lr)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One iteration of Algorithm 1. The scalars of the critic are those of its last update."""
        G, f = self.generator, self.critic
        for _ in range(self.config.n_critic):
            x = real(batches, f)
            with no_grad():
                fake = G(self.noise(len(x)))
            loss_d = critic_loss(f(x), f(fake))
            self.optimizer_d.zero_grad()
            loss_d.backward(inputs=list(f.parameters()))
            self.optimizer_d.step()
            clip(f.parameters(), self.config.clip)

        loss_g = generator_loss(f(G(self.noise(self.config.batch_size))))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        self.ema.update()
        return scalars(loss_d=loss_d, loss_g=loss_g, distance=-loss_d)

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.critic, self.optimizer_d), "g": Player(self.generator, self.optimizer_g)}

    def logits(self, x: np.ndarray) -> np.ndarray:
        """f(x) (N,) of host samples (N, *shape), in evaluation mode."""
        return logits(self.critic, x)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "critic": self.critic, "optimizer_g": self.optimizer_g,
                "optimizer_d": self.optimizer_d, "ema": self.ema}


def make_networks(spec: Spec, config: Any, norm: bool) -> tuple[nn.Module, nn.Module]:
    """Generator and critic: the DCGAN's for images, with batch normalisation in the critic if `norm`; for
    points MLPs of POINT_LAYERS hidden layers. `g_width` and `d_width` are their channels and units."""
    if len(spec.shape) != 1:
        return (dcgan.Generator(config.latent, spec.shape, config.g_width),
                dcgan.Discriminator(spec.shape, config.d_width, norm=norm))
    if norm:
        raise UserError("d_norm=true: the critic of points has no batch normalisation, expected false")
    g_widths, d_widths = [config.g_width] * POINT_LAYERS, [config.d_width] * POINT_LAYERS
    bounded = bool(np.isfinite(spec.high))
    return (mlp.Generator(config.latent, spec.shape, g_widths, bounded=bounded, norm=False),
            mlp.Discriminator(spec.shape, d_widths))
