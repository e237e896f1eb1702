"""WGAN-GP: Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (arXiv 1704.00028).

The critic, a function D without a sigmoid, estimates the Wasserstein distance between the data P_r and the
samples P_g. It would have to be 1-Lipschitz; the paper asks for gradients of norm 1 on lines between examples
and samples instead. Its equation (3), descended in D:

    L = E_{x~ ~ P_g}[D(x~)] - E_{x ~ P_r}[D(x)] + lambda E_{x^}[(||grad_x^ D(x^)||_2 - 1)^2]

    x^ = epsilon x + (1 - epsilon) x~,    epsilon ~ U[0, 1]

The norm is each sample's own, over all its axes, and so is epsilon. Hence no batch normalisation in the
critic: the penalty is "with respect to each input independently, and not the entire batch" (section 4). The
penalty's gradient in D's weights is a derivative of a derivative, by double backward. Algorithm 1: n_critic
updates of D, each on new x, z and epsilon, then one of G, which descends -E[D(G(z))]; Adam with alpha =
0.0001, beta1 = 0, beta2 = 0.9; lambda = 10, n_critic = 5, m = 64.

D + c is the same critic for any constant c, so the bias of its last layer never has a gradient.

Departures. The networks are the DCGAN's for images, without the critic's batch normalisation, and MLPs for
points. alpha is ten times the paper's and a minibatch has a quarter of its samples, since runs last minutes.
Samples come from an exponential moving average of G's weights, which takes no part in the game.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scratchgan import optim
from scratchgan.autograd import grad
from scratchgan.backend import Streams, use_streams
from scratchgan.data import Spec
from scratchgan.gans.sampling import Player, Sampler, check_limits, drawn, logits, real, scalars
from scratchgan.gans.wgan import critic_loss, generator_loss, make_networks
from scratchgan.ops import adversarial
from scratchgan.recording import no_grad
from scratchgan.tensor import Tensor

# The docstring's formulas in TeX, for `scratchgan report`.
OBJECTIVE = {
    "D descends": r"L = \mathbb{E}_{\tilde{x} \sim P_g}[D(\tilde{x})] - \mathbb{E}_{x \sim P_r}[D(x)]"
                  r" + \lambda \; \mathbb{E}_{\hat{x}}[(\lVert \nabla_{\hat{x}} D(\hat{x}) \rVert_2 - 1)^2]",
    "with": r"\hat{x} = \epsilon x + (1 - \epsilon) \tilde{x}, \quad \epsilon \sim U[0, 1]",
    "G descends": r"-\mathbb{E}_{z \sim p(z)}[D(G(z))]",
}


@dataclass(frozen=True)
class Config:
    """Hyperparameters; the defaults are for images, `POINTS` holds those for the plane."""
    data: str = "mnist5k"
    size: int | None = 32                   # edge in pixels: 8, 16, 28, 32, 64 ...; None: the data's own
    steps: int = 1200                       # updates of G
    batch_size: int = 16                    # m (the paper: 64)
    n_critic: int = 5                       # updates of D per update of G
    penalty: float = 10.0                   # lambda
    lr: float = 1e-3                        # alpha, of Adam for both players (the paper: 1e-4)
    betas: tuple[float, float] = (0.0, 0.9)
    latent: int = 32                        # size of z ~ N(0, I)
    g_width: int = 32                       # channels before G's last layer, doubling towards z
    d_width: int = 16                       # channels after D's first layer, doubling towards its output
    ema_decay: float = 0.99                 # of the generator that samples are drawn from
    scale: float = 1.0                      # what both networks see samples divided by
    sample_every: int = 100

    def __post_init__(self) -> None:
        check_limits(self, n_critic=(1, math.inf), penalty=(0, math.inf), latent=(1, math.inf),
                     g_width=(1, math.inf), d_width=(1, math.inf), betas=(0, 1), ema_decay=(0, 1),
                     scale=(1e-6, 1e6))


# In the plane distances are small, and a lambda of 10 would drown them: G circles what it should settle on.
# The authors' code for such toys, too, takes 0.1, with beta1 = 0.5 and batches of 256.
POINTS = {"size": None, "steps": 4000, "batch_size": 256, "penalty": 0.1, "lr": 1.5e-3, "betas": (0.5, 0.9),
          "latent": 2, "g_width": 128, "d_width": 128, "sample_every": 500}
# The authors divide the grid by its standard deviation, too, and train for 100,000 steps; a larger alpha and fewer
# updates of D get there sooner.
GRID = {**POINTS, "scale": 2.83, "steps": 9000, "n_critic": 3, "lr": 2e-3, "g_width": 96, "d_width": 96,
        "ema_decay": 0.999, "sample_every": 1000}


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
                     epsilon: Tensor) -> Tensor:
    """mean (||grad D(x^)||_2 - 1)^2 at x^ = epsilon x + (1 - epsilon) x~, the norm over all axes of a sample.

    real, fake: (N, ...), without gradient. epsilon: one number per sample, (N, 1, ...). The result is
    differentiable in D's weights.
    """
    x_hat = (epsilon * real + (1 - epsilon) * fake).detach().requires_grad_()
    slope, = grad(critic(x_hat).sum(), x_hat, create_graph=True)
    return adversarial.gradient_penalty(slope, weight=1.0)


class WGANGP(Sampler):
    """Generator and critic, their optimisers, and Algorithm 1. `streams` become the default ones, from which
    layers draw."""
    config_class = Config
    presets: ClassVar = {"digits": {"size": 16}, "grid": GRID, "points": POINTS}

    def __init__(self, spec: Spec, config: Config, streams: Streams, device: str = "cpu"):
        self.config, self.streams = config, use_streams(streams)
        generator, critic = make_networks(spec, config, norm=False)
        self.generator, self.critic = generator.to(device), critic.to(device)
        self.optimizer_g = optim.Adam(self.generator.parameters(), config.lr, config.betas)
        self.optimizer_d = optim.Adam(self.critic.parameters(), config.lr, config.betas)
        self.ema = optim.EMA(self.generator, config.ema_decay, warmup=True)

    def step(self, batches: Iterator) -> dict[str, float]:
        """One iteration of Algorithm 1. The scalars of the critic are those of its last update."""
        G, D = self.generator, self.critic
        for _ in range(self.config.n_critic):
            x = real(batches, D) / self.config.scale
            with no_grad():
                fake = G(self.noise(len(x)))
            distance = -critic_loss(D(x), D(fake))
            penalty = gradient_penalty(D, x, fake, self.epsilon(x))
            loss_d = self.config.penalty * penalty - distance
            self.optimizer_d.zero_grad()
            loss_d.backward(inputs=list(D.parameters()))
            self.optimizer_d.step()

        loss_g = generator_loss(D(G(self.noise(self.config.batch_size))))
        self.optimizer_g.zero_grad()
        loss_g.backward(inputs=list(G.parameters()))
        self.optimizer_g.step()
        self.ema.update()
        return scalars(loss_d=loss_d, loss_g=loss_g, distance=distance, penalty=penalty)

    def epsilon(self, x: Tensor) -> Tensor:
        """One number of U[0, 1] per sample of x, from the stream "epsilon", shaped to broadcast over it."""
        return drawn(lambda: self.streams["epsilon"].random((len(x), *[1] * (x.ndim - 1))), self.critic)

    def players(self) -> dict[str, Player]:
        """Both sides of the game, by the letters of the scalars."""
        return {"d": Player(self.critic, self.optimizer_d), "g": Player(self.generator, self.optimizer_g)}

    def generate(self, z: np.ndarray, given: np.ndarray | None = None, averaged: bool = True) -> np.ndarray:
        """As Sampler.generate, times `scale`."""
        return self.config.scale * super().generate(z, given, averaged)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """D(x / scale) (N,) of host samples (N, *shape), in evaluation mode."""
        return logits(self.critic, x / self.config.scale)

    def parts(self) -> dict[str, object]:
        """All whose state a checkpoint holds."""
        return {"generator": self.generator, "critic": self.critic, "optimizer_g": self.optimizer_g,
                "optimizer_d": self.optimizer_d, "ema": self.ema}
