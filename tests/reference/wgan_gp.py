"""Gulrajani et al. 2017 (arXiv 1704.00028), Algorithm 1, in PyTorch. The networks are those of `wgan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from tests.reference import Average, Draws, Noise, Parts, Report
from tests.reference.wgan import networks


def penalty(critic: nn.Module, x: torch.Tensor, fake: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """mean over samples of (||gradient of D at epsilon x + (1 - epsilon) fake|| - 1)^2; epsilon has one
    number per sample.
    """
    epsilon = epsilon.view(-1, *[1] * (x.dim() - 1))
    between = (epsilon * x + (1 - epsilon) * fake).requires_grad_(True)
    values = critic(between)
    (slopes,) = torch.autograd.grad(values, between, torch.ones_like(values), create_graph=True)
    return (slopes.flatten(1).norm(2, dim=1) - 1).square().mean()


class Training(Parts):
    """n_critic updates of the critic, one of the generator. `noise(n)` draws latents, `epsilon(n)` numbers of
    U[0, 1].
    """

    PARTS = ("generator", "critic", "optimizer_g", "optimizer_d", "ema")

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        noise: Noise,
        epsilon: Callable[[int], torch.Tensor],
        *,
        lr: float,
        betas,
        n_critic: int,
        weight: float,
        ema_decay: float,
        scale: float = 1.0,
    ):
        self.generator, self.critic, self.noise, self.epsilon = generator, critic, noise, epsilon
        self.n_critic, self.weight, self.scale = n_critic, weight, scale
        self.optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
        self.optimizer_d = torch.optim.Adam(critic.parameters(), lr=lr, betas=betas)
        self.ema = Average(generator, ema_decay)

    def update(self, batches: Iterator[tuple]) -> Report:
        for _ in range(self.n_critic):
            x = next(batches)[0] / self.scale
            with torch.no_grad():
                fake = self.generator(self.noise(len(x)))
            wasserstein = self.critic(x).mean() - self.critic(fake).mean()
            gp = penalty(self.critic, x, fake, self.epsilon(len(x)))
            loss_d = -wasserstein + self.weight * gp
            self.optimizer_d.zero_grad()
            loss_d.backward()
            self.optimizer_d.step()
        loss_g = -self.critic(self.generator(self.noise(len(x)))).mean()
        self.optimizer_g.zero_grad()
        loss_g.backward()
        self.optimizer_g.step()
        self.ema.update()
        return {
            "loss_d": loss_d,
            "loss_g": loss_g,
            "distance": wasserstein,
            "penalty": gp,
        }


def make(spec, config, draws: Draws) -> Training:
    """By the settings of `config`."""
    return Training(
        *networks(spec, config, norm=False),
        lambda n: draws.normal("noise", n, config.latent),
        lambda n: draws.uniform("epsilon", n),
        lr=config.lr,
        betas=config.betas,
        n_critic=config.n_critic,
        weight=config.penalty,
        ema_decay=config.ema_decay,
        scale=config.scale,
    )
