"""Cases of the adversarial losses and of the penalties on gradient norms."""

import torch.nn.functional as T

from scratchgan.ops import adversarial
from tests.cases.case import Case, Input


def _softplus(u):
    return -T.logsigmoid(-u)


def _hinge(real, fake):
    return T.relu(1 - real).mean() + T.relu(1 + fake).mean()


def _case(op, torch_function, *inputs, **kwargs):
    return Case(
        op,
        inputs,
        note=" ".join(f"{k}={v}" for k, v in kwargs.items()),
        differences=op != "hinge_d",  # some of the logits are near its kink
        call=lambda F, *a: getattr(adversarial, op)(*a, **kwargs),
        torch=torch_function,
    )


REAL, FAKE, PATCHES = Input((5,)), Input((3, 1)), Input((2, 1, 3, 2), layout="channels_last")
GRADIENTS = (Input((3, 2, 3, 2), layout="channels_last"), Input((4, 2)), Input((3,), "nonzero"))

CASES = [
    _case("minimax_d", lambda r, f: _softplus(-r).mean() + _softplus(f).mean(), REAL, FAKE),
    _case("minimax_d", lambda r, f: _softplus(-r).mean() + _softplus(f).mean(), PATCHES, PATCHES),
    _case("least_squares_d", lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2, REAL, FAKE),
    _case("least_squares_d", lambda r, f: ((r - 0.9) ** 2).mean() / 2 + ((f + 1) ** 2).mean() / 2, REAL, FAKE,
          a=-1.0, b=0.9),
    _case("hinge_d", _hinge, REAL, FAKE),
    _case("wasserstein_d", lambda r, f: f.mean() - r.mean(), REAL, FAKE),
    _case("relativistic_d", lambda r, f: _softplus(f - r).mean(), REAL, REAL),
    _case("relativistic_g", lambda r, f: _softplus(r - f).mean(), PATCHES, PATCHES),
    _case("minimax_g", lambda f: -_softplus(f).mean(), FAKE),
    _case("non_saturating_g", lambda f: _softplus(-f).mean(), FAKE),
    _case("least_squares_g", lambda f: ((f - 1) ** 2).mean() / 2, FAKE),
    _case("least_squares_g", lambda f: (f**2).mean() / 2, PATCHES, c=0.0),
    _case("wasserstein_g", lambda f: -f.mean(), FAKE),
    *[_case("r1_penalty", lambda g: 1.5 * (g * g).sum() / len(g), g, gamma=3.0) for g in GRADIENTS],
    *[_case("gradient_penalty", lambda g: 10 * (g.reshape(len(g), -1).norm(dim=1) - 1).square().mean(),
            g, weight=10.0) for g in GRADIENTS],
]  # fmt: skip
