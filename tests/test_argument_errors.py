"""Wrong arguments: one sentence that names the function, what it found and what it expected."""

import numpy as np
import pytest

import scratchgan as sg
from scratchgan import functional as F


def t(*shape, dtype=np.float32):
    return sg.tensor(np.zeros(shape, dtype))


def integers(*shape, value=0):
    return sg.tensor(np.full(shape, value))


WRONG = [
    (lambda: F.matmul(t(2, 3), t(4, 3)), ValueError, r"matmul: shapes \(2, 3\) and \(4, 3\) do not fit: 3 .* 4 rows"),
    (lambda: F.matmul(t(3), t(4)), ValueError, r"matmul: shapes \(3,\) and \(4,\) do not fit"),
    (lambda: F.matmul(t(2, 3), t(3, 4, dtype=np.float64)), TypeError, "matmul: found float32 and float64"),
    (lambda: F.linear(t(2, 3), t(4, 2)), ValueError, r"linear: weight has shape \(4, 2\), .* input \(2, 3\)"),
    (lambda: F.linear(t(2, 3), t(4, 3), t(3)), ValueError, r"linear: bias has shape \(3,\), expected \(4,\)"),
    (lambda: F.linear(t(2, 3), t(4, 3), t(4, dtype=np.float64)), TypeError, "linear: found .* and float64"),
    (lambda: F.max(t(2, 3), (0, 1)), TypeError, r"max: dim is \(0, 1\), expected an int; amax takes several"),
    (lambda: F.reshape(t(2, 3), (-2,)), ValueError, r"reshape.*: shape is \(-2,\), expected sizes"),
    (lambda: F.index_select(t(2, 3), 1, integers(1, value=-1)), IndexError, "index_select: index has -1, expected 0 to 2"),
    (lambda: F.gather(t(2, 3), 0, integers(1, 1, value=2)), IndexError, "gather: index has 2, expected 0 to 1"),
    (lambda: F.pad(t(2, 3), (-2, -2)), ValueError, r"pad: pad \(-2, -2\) takes more away than input \(2, 3\) has"),
    (lambda: F.avg_pool2d(t(2, 3, 0, 8), 2, padding=1), ValueError, r"avg_pool2d: input has shape .* at least one pixel"),
    (lambda: sg.tensor([True]).sign(), TypeError, r"sign\(\(1,\) bool\)"),
    (
        lambda: F.conv2d(t(2, 3, 8, 8), t(4, 2, 3, 3)),
        ValueError,
        r"conv2d: input \(2, 3, 8, 8\) has 3 channels, .* expects 2",
    ),
    (
        lambda: F.conv2d(t(3, 8), t(4, 3, 3, 3)),
        ValueError,
        r"conv2d: input has shape \(3, 8\), expected 3 .*or 4 axes",
    ),
    (lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3)), ValueError, "conv2d: weight has shape"),
    (
        lambda: F.conv2d(t(2, 0, 8, 8), t(4, 0, 3, 3)),
        ValueError,
        r"conv2d: weight has shape \(4, 0, 3, 3\), expected at least 1 along each axis",
    ),
    (
        lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3), t(3)),
        ValueError,
        r"conv2d: bias has shape \(3,\), expected \(4,\)",
    ),
    (
        lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3, dtype=np.float64)),
        TypeError,
        "conv2d: input is float32 but weight is float64",
    ),
    (
        lambda: F.conv2d(t(2, 4, 8, 8), t(3, 2, 3, 3), groups=2),
        ValueError,
        "conv2d: groups 2 does not divide the 3 channels",
    ),
    (
        lambda: F.conv2d(t(2, 3, 2, 2), t(4, 3, 3, 3)),
        ValueError,
        r"conv2d: a kernel of size \(3, 3\) .* does not fit",
    ),
    (
        lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3), stride=0),
        ValueError,
        "conv2d: stride is 0, expected an int >= 1",
    ),
    (lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3), padding=(1, 1, 1)), ValueError, "conv2d: padding"),
    (lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3), padding="full"), ValueError, "conv2d: padding is 'full'"),
    (
        lambda: F.conv2d(t(2, 3, 8, 8), t(4, 3, 3, 3), stride=2, padding="same"),
        ValueError,
        "conv2d: padding 'same' needs stride 1",
    ),
    (
        lambda: F.conv_transpose2d(t(2, 3, 4, 4), t(4, 3, 3, 3)),
        ValueError,
        "conv_transpose2d: .* has 3 channels, .* expects 4",
    ),
    (
        lambda: F.conv_transpose2d(t(2, 3, 4, 4), t(3, 4, 3, 3), output_padding=1),
        ValueError,
        "output_padding",
    ),
    (
        lambda: F.conv_transpose2d(t(2, 3, 1, 1), t(3, 4, 2, 2), padding=1),
        ValueError,
        r"conv_transpose2d: .* give size \(0, 0\)",
    ),
    (lambda: F.unfold(t(2, 3, 2, 2), 3), ValueError, "unfold: a kernel of size"),
    (
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 2, padding=2),
        ValueError,
        "avg_pool2d: padding .* more than half of kernel_size",
    ),
    (
        lambda: F.avg_pool2d(t(2, 3, 8, 8), 2, divisor_override=0),
        ValueError,
        "avg_pool2d: divisor_override is 0",
    ),
    (lambda: F.max_pool2d(t(2, 3, 2, 2), 3), ValueError, r"max_pool2d: windows \(3, 3\) do not fit"),
    (lambda: F.interpolate(t(2, 3, 4, 4)), ValueError, "interpolate: expected one of size and scale_factor"),
    (
        lambda: F.interpolate(t(2, 3, 4, 4), 8, 2.0),
        ValueError,
        "interpolate: expected one of size and scale_factor",
    ),
    (lambda: F.interpolate(t(2, 3, 4, 4), 8, mode="cubic"), ValueError, "interpolate: mode is 'cubic'"),
    (
        lambda: F.interpolate(t(2, 3, 4, 4), 8, align_corners=True),
        ValueError,
        "interpolate: align_corners has no meaning",
    ),
    (
        lambda: F.interpolate(t(2, 3, 4, 4), scale_factor=0.1),
        ValueError,
        "interpolate: scale_factor 0.1 leaves nothing",
    ),
    (lambda: F.interpolate(t(2, 3, 4, 4), 2, antialias=True), ValueError, "interpolate: antialias"),
    (
        lambda: F.pixel_shuffle(t(2, 3, 4, 4), 2),
        ValueError,
        "pixel_shuffle: 3 channels .* not divisible by 2 squared",
    ),
    (lambda: F.pixel_unshuffle(t(2, 3, 5, 4), 2), ValueError, "pixel_unshuffle: .* not divisible by 2"),
    (lambda: F.upfirdn2d(t(2, 3, 4, 4), np.ones((9, 9))), ValueError, "upfirdn2d: a filter of size"),
    (
        lambda: F.upfirdn2d(t(2, 3, 4, 4), np.ones((2, 2)), padding=(1, 2, 3)),
        ValueError,
        "upfirdn2d: padding",
    ),
    (
        lambda: F.batch_norm(t(2, 3), t(4), t(4)),
        ValueError,
        r"batch_norm: running_mean has shape \(4,\), expected \(3,\)",
    ),
    (
        lambda: F.batch_norm(t(1, 3), None, None, training=True),
        ValueError,
        "batch_norm: expected more than 1 value per channel",
    ),
    (
        lambda: F.batch_norm(t(2, 3), None, None),
        ValueError,
        "batch_norm: running_mean and running_var are needed",
    ),
    (
        lambda: F.instance_norm(t(2, 3, 1, 1)),
        ValueError,
        "instance_norm: expected more than 1 spatial element",
    ),
    (
        lambda: F.layer_norm(t(2, 3), (4,)),
        ValueError,
        r"layer_norm: input \(2, 3\) does not end in normalized_shape \(4,\)",
    ),
    (lambda: F.layer_norm(t(2, 3), (3,), t(2)), ValueError, "layer_norm: weight has shape"),
    (lambda: F.group_norm(t(2, 6), 4), ValueError, "group_norm: num_groups 4 does not divide the 6 channels"),
    (
        lambda: F.embedding(integers(2, value=5), t(5, 3)),
        IndexError,
        r"embedding: input holds 5 \.\.\. 5, weight has the rows 0 \.\.\. 4",
    ),
    (lambda: F.embedding(t(2), t(5, 3)), TypeError, "embedding: expected integers"),
    (lambda: F.embedding(integers(2), t(5, 3), padding_idx=5), ValueError, "embedding: padding_idx 5"),
    (lambda: F.dropout(t(2), 1.5), ValueError, "dropout: p is 1.5"),
    (lambda: F.mse_loss(t(2), t(2), reduction="avg"), ValueError, "mse_loss: reduction is 'avg'"),
    (lambda: F.smooth_l1_loss(t(2), t(2), beta=-1), ValueError, "smooth_l1_loss: beta is -1"),
    (
        lambda: F.binary_cross_entropy(t(2) + 2, t(2)),
        ValueError,
        "binary_cross_entropy: input must lie between 0 and 1",
    ),
    (
        lambda: F.binary_cross_entropy_with_logits(t(4, 1), t(4)),
        ValueError,
        r"with_logits: target has shape \(4,\), expected the input's",
    ),
    (
        lambda: F.cross_entropy(t(4, 3), integers(4, value=3)),
        IndexError,
        r"cross_entropy: target holds 3 \.\.\. 3, the classes are 0 \.\.\. 2",
    ),
    (lambda: F.cross_entropy(t(4, 3), integers(4, value=-1)), IndexError, "cross_entropy: target holds -1"),
    (
        lambda: F.cross_entropy(t(4, 3), integers(3)),
        ValueError,
        r"cross_entropy: target is int64 of shape \(3,\), expected integers of shape \(4,\)",
    ),
    (lambda: F.cross_entropy(t(4, 3), integers(4), t(4)), ValueError, "cross_entropy: weight has shape"),
    (
        lambda: F.cross_entropy(t(4, 3), integers(4), label_smoothing=2.0),
        ValueError,
        "cross_entropy: label_smoothing is 2.0",
    ),
    (lambda: F.nll_loss(t(4, 3), t(4, 3)), ValueError, "nll_loss: target is float32"),
]


@pytest.mark.parametrize("call, kind, message", WRONG, ids=[message for _, _, message in WRONG])
def test_wrong_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_dropout_keeps_the_mean_and_masks_the_gradient():
    x = sg.tensor(np.ones((200, 200)), requires_grad=True)
    sg.backend.manual_seed(3)
    y = F.dropout(x, 0.3)
    values = y.detach().numpy()
    assert set(np.unique(values).round(12)) == {0.0, round(1 / 0.7, 12)}
    assert abs((values == 0).mean() - 0.3) < 0.01
    (dx,) = sg.grad(y.sum(), [x])
    np.testing.assert_array_equal(dx.numpy(), values)
    sg.backend.manual_seed(3)
    np.testing.assert_array_equal(F.dropout(x, 0.3).detach().numpy(), values)
    assert (F.dropout(x, 0.3).detach().numpy() != values).any()
