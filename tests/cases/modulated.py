"""Cases of modulated convolutions, against the authors' way: weights for each image, grouped convolutions."""

import torch.nn.functional as T

from scratchgan.ops import modulated
from tests.cases.case import Case, Input

SHAPES = (  # N, C, K, H, W, kernel
    (2, 3, 4, 5, 4, 3),
    (3, 5, 3, 2, 3, 1),
    (1, 1, 1, 1, 1, 3),
)


def _own_weights(w, style, demodulate):
    """Weights (N, K, C, R, S) for each image."""
    own = w[None] * style[:, None, :, None, None]
    return own * (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt() if demodulate else own


def _conv(x, w, style, noise, strength, bias, *, padding, demodulate=True, slope=1.0, gain=1.0):
    own = _own_weights(w, style, demodulate).flatten(0, 1)
    y = (
        T.conv2d(x.flatten(0, 1)[None], own, padding=padding, groups=len(x))[0].unflatten(0, (len(x), len(w)))
        * gain
    )
    y = y if noise is None else y + strength * noise
    return T.leaky_relu(y if bias is None else y + bias[:, None, None], slope)


def _up(x, w, style, *, demodulate=True, gain=1.0):
    own = _own_weights(w, style, demodulate).transpose(1, 2).flatten(0, 1)
    y = T.conv_transpose2d(x.flatten(0, 1)[None], own, stride=2, groups=len(x))[0]
    return y.unflatten(0, (len(x), len(w))) * gain


def _layer(shape, finished=True, batch=None, layout="C", **kwargs):
    N, C, K, H, W, r = shape
    inputs = [Input((N, C, H, W), layout=layout), Input((K, C, r, r)), Input((N, C))]
    if finished:
        inputs += [Input((batch or N, 1, H, W)), Input(()), Input((K,))]
    none = () if finished else (None, None, None)
    kwargs["padding"] = (r // 2, r // 2)
    return Case(
        "modulated_conv",
        tuple(inputs),
        note=f"{kwargs}",
        differences=kwargs.get("slope", 1) == 1,  # some of so many numbers are near the kink
        call=lambda F, *a: modulated.modulated_conv(*a, *none, **kwargs),
        torch=lambda *a: _conv(*a, *none, **kwargs),
    )


def _doubled(shape, **kwargs):
    N, C, K, H, W, r = shape
    return Case(
        "modulated_conv_up",
        (Input((N, C, H, W)), Input((K, C, r, r)), Input((N, C))),
        note=f"{kwargs}",
        call=lambda F, *a: modulated.modulated_conv_up(*a, **kwargs),
        torch=lambda *a: _up(*a, **kwargs),
    )


CASES = [
    *[_layer(shape, slope=0.2, gain=1.4) for shape in SHAPES],
    _layer(SHAPES[0], batch=1, layout="channels_last", slope=0.2),
    _layer(SHAPES[0], slope=0.0),
    _layer(SHAPES[0], gain=1.4),
    *[
        _layer(SHAPES[1], finished=False, demodulate=demodulate, gain=gain)
        for demodulate in (True, False)
        for gain in (1.0, 1.4)
    ],
    *[_doubled(shape, gain=1.4) for shape in SHAPES[:2]],
    *[_doubled(shape, demodulate=False) for shape in SHAPES[::2]],
]
