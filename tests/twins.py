"""A GAN of scratchgan and its PyTorch twin: same weights, same batches, same noise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from scratchgan import gans
from scratchgan.backend import Streams, to_host
from scratchgan.data import Spec
from tests.reference import dcgan, gan, wgan_gp

IMAGE, POINT = (-1.0, 1.0), (-np.inf, np.inf)


class Recorder:
    """A random generator that remembers what it has drawn."""

    def __init__(self, generator: np.random.Generator, drawn: deque):
        self.generator, self.drawn = generator, drawn

    def __getattr__(self, name: str):
        draw = getattr(self.generator, name)

        def recorded(*args, **kw):
            result = draw(*args, **kw)
            self.drawn.append(np.array(result))
            return result

        return recorded


class RecordingStreams(Streams):
    """Streams whose noise can be handed to another program, draw by draw."""

    RECORDED = ("noise", "epsilon")

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.drawn = {name: deque() for name in self.RECORDED}

    def __getitem__(self, name: str):
        generator = super().__getitem__(name)
        return Recorder(generator, self.drawn[name]) if name in self.RECORDED else generator

    def replay(self, name: str, dtype: torch.dtype) -> Callable[[int], torch.Tensor]:
        """The function n -> the oldest draw that was not yet replayed; it must be n samples."""

        def next_draw(n: int) -> torch.Tensor:
            if not self.drawn[name]:
                raise AssertionError(f"PyTorch draws {name} once more than scratchgan did")
            draw = self.drawn[name].popleft()
            assert len(draw) == n, f"{name}: {n} samples wanted, {len(draw)} were drawn"
            return torch.from_numpy(draw).to(dtype)

        return next_draw


def fresh(latent: int) -> dict[str, Callable[[int], torch.Tensor]]:
    """PyTorch's own noise, for timing."""
    return {"noise": lambda n: torch.randn(n, latent), "epsilon": lambda n: torch.rand(n)}


@dataclass
class Twins:
    """Both sides of one GAN. `ours` has what the GAN's class has; `theirs` is the reference's `Training`."""

    ours: object
    theirs: object
    streams: RecordingStreams

    def modules(self) -> dict[str, tuple]:
        """(ours, PyTorch's) networks by name."""
        critic = self.ours.critic if hasattr(self.ours, "critic") else self.ours.discriminator
        other = self.theirs.critic if hasattr(self.theirs, "critic") else self.theirs.discriminator
        return {
            "G": (self.ours.generator, self.theirs.generator),
            "D": (critic, other),
            "EMA": (self.ours.ema.module, self.theirs.average.module),
        }


def networks(name: str, spec: Spec, config) -> tuple[torch.nn.Module, torch.nn.Module]:
    """PyTorch's G and D for a GAN's Config."""
    bounded, point = bool(np.isfinite(spec.high)), len(spec.shape) == 1
    if name == "gan":
        return (
            gan.Generator(config.latent, spec.shape, config.g_widths, bounded, config.g_norm),
            gan.Discriminator(spec.shape, config.d_widths, config.d_dropout),
        )
    if point:
        return (
            gan.Generator(config.latent, spec.shape, [config.g_width] * 3, bounded, norm=False),
            gan.Discriminator(spec.shape, [config.d_width] * 3),
        )
    return (
        dcgan.Generator(config.latent, *spec.shape[:2], config.g_width),
        dcgan.Discriminator(*spec.shape[:2], config.d_width, norm=name == "dcgan"),
    )


def training(name: str, config, generator, discriminator, draws: dict, freeze: bool = False):
    """PyTorch's training of these networks, with a Config's hyperparameters."""
    common = {"lr": config.lr, "betas": config.betas, "ema_decay": config.ema_decay}
    if name == "gan":
        return gan.Training(
            generator, discriminator, draws["noise"], k=config.k, saturating=config.saturating, **common
        )
    if name == "dcgan":
        return dcgan.Training(generator, discriminator, draws["noise"], freeze=freeze, **common)
    return wgan_gp.Training(
        generator,
        discriminator,
        draws["noise"],
        draws["epsilon"],
        n_critic=config.n_critic,
        weight=config.penalty,
        **common,
    )


def twins(
    name: str,
    spec: Spec,
    *,
    dtype=np.float64,
    device: str = "cpu",
    replay: bool = True,
    freeze: bool = False,
    **settings,
) -> Twins:
    """Both sides with scratchgan's initial weights. `replay` hands scratchgan's noise to PyTorch, which else
    draws its own.
    """
    streams = RecordingStreams(1)
    config = gans.configure(name, **settings)
    ours = gans.get(name)(spec, config, streams, device)
    for module in (
        ours.generator,
        ours.critic if hasattr(ours, "critic") else ours.discriminator,
        ours.ema.module,
    ):
        module.to(dtype=dtype)
    torch_dtype = torch.from_numpy(np.zeros(0, dtype)).dtype
    generator, discriminator = (m.to(torch_dtype) for m in networks(name, spec, config))
    draws = {n: streams.replay(n, torch_dtype) for n in streams.RECORDED} if replay else fresh(config.latent)
    generator.load_state_dict(to_torch(ours.generator.state_dict()))
    discriminator.load_state_dict(
        to_torch((ours.critic if hasattr(ours, "critic") else ours.discriminator).state_dict())
    )
    return Twins(ours, training(name, config, generator, discriminator, draws, freeze), streams)


def to_torch(state: dict) -> dict[str, torch.Tensor]:
    """A state_dict of scratchgan as PyTorch takes it."""
    return {key: torch.from_numpy(np.array(to_host(value._array))) for key, value in state.items()}


def batches(spec: Spec, size: int, dtype=np.float64, seed: int = 0) -> Iterator[np.ndarray]:
    """Endless random samples in the data's range."""
    rng = np.random.default_rng(seed)
    while True:
        x = rng.standard_normal((size, *spec.shape))
        yield (np.tanh(x) if np.isfinite(spec.high) else x).astype(dtype)
