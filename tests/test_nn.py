"""Layers against PyTorch's: state, values, gradients, `repr`; initial weights; what modules do."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from scratchgan import backend, nn
from scratchgan import functional as F
from scratchgan.errors import UserError
from scratchgan.nn.spectral_norm import spectral_norm
from scratchgan.tensor import Tensor
from tests import double

IMAGE, SIGNAL, ROWS = (2, 4, 6, 6), (2, 4, 9), (3, 4)

# (layer, arguments, keyword arguments, shape of the input)
LAYERS = [
    ("Linear", (4, 3), {}, ROWS),
    ("Linear", (4, 3), {"bias": False}, (2, 5, 4)),
    ("Identity", (), {}, ROWS),
    ("Conv1d", (4, 6, 3), {}, SIGNAL),
    ("Conv1d", (4, 6, 3), {"padding": "same", "dilation": 2}, (4, 9)),
    ("Conv2d", (4, 6, 3), {}, IMAGE),
    ("Conv2d", (4, 6, (3, 2)), {"stride": (2, 1), "padding": (1, 0), "groups": 2}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "reflect", "bias": False}, IMAGE),
    ("Conv2d", (4, 6, 4), {"padding": "same", "padding_mode": "reflect"}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": (2, 1), "padding_mode": "circular"}, IMAGE),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, SIGNAL),
    ("ConvTranspose2d", (4, 6, 4), {"stride": 2, "padding": 1, "bias": False}, IMAGE),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), {"dilation": 2}, IMAGE),
    ("BatchNorm1d", (4,), {}, ROWS),
    ("BatchNorm1d", (4,), {"affine": False, "momentum": None}, SIGNAL),
    ("BatchNorm2d", (4,), {"eps": 1e-3, "momentum": 0.3}, IMAGE),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, IMAGE),
    ("InstanceNorm1d", (4,), {}, SIGNAL),
    ("InstanceNorm1d", (4,), {"affine": True}, (4, 9)),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, IMAGE),
    ("LayerNorm", (4,), {}, ROWS),
    ("LayerNorm", ((6, 6),), {"eps": 1e-3}, IMAGE),
    ("LayerNorm", ([4, 6, 6],), {"bias": False}, IMAGE),
    ("LayerNorm", (4,), {"elementwise_affine": False}, ROWS),
    ("BatchNorm1d", (4,), {"bias": False}, ROWS),
    ("GroupNorm", (2, 4), {}, IMAGE),
    ("GroupNorm", (1, 4), {"affine": False}, SIGNAL),
    ("ReLU", (), {}, ROWS),
    ("ReLU", (), {"inplace": True}, ROWS),
    ("LeakyReLU", (0.2,), {}, ROWS),
    ("LeakyReLU", (), {}, ROWS),
    ("LeakyReLU", (0.2, True), {}, ROWS),
    ("PReLU", (), {}, IMAGE),
    ("PReLU", (4,), {"init": 0.1}, IMAGE),
    ("PReLU", (4, 0.5), {}, ROWS),
    ("ELU", (), {"alpha": 0.5}, ROWS),
    ("SiLU", (), {}, ROWS),
    ("GELU", (), {}, ROWS),
    ("GELU", (), {"approximate": "tanh"}, ROWS),
    ("Softplus", (2, 1), {}, ROWS),
    ("Softplus", (), {}, ROWS),
    ("LogSigmoid", (), {}, ROWS),
    ("Sigmoid", (), {}, ROWS),
    ("Tanh", (), {}, ROWS),
    ("Softmax", (1,), {}, ROWS),
    ("LogSoftmax", (), {"dim": -1}, ROWS),
    ("Flatten", (), {}, IMAGE),
    ("Flatten", (0, 2), {}, IMAGE),
    ("Unflatten", (1, (2, 2)), {}, IMAGE),
    ("Unflatten", (-1, (-1, 3)), {}, IMAGE),
    ("MaxPool2d", (2,), {}, IMAGE),
    ("MaxPool2d", (3, 2, 1), {"ceil_mode": True}, IMAGE),
    ("AvgPool2d", (2,), {}, IMAGE),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, IMAGE),
    ("AdaptiveAvgPool2d", (1,), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, IMAGE),
    ("Upsample", (), {"scale_factor": 2}, IMAGE),
    ("Upsample", (9,), {}, IMAGE),
    ("Upsample", (), {"scale_factor": 1.5, "mode": "bilinear", "align_corners": False}, IMAGE),
    ("PixelShuffle", (2,), {}, IMAGE),
    ("PixelUnshuffle", (3,), {}, IMAGE),
    ("Unfold", (3,), {"stride": 2, "padding": 1}, IMAGE),
    ("ZeroPad2d", (1,), {}, IMAGE),
    ("ZeroPad2d", ((1, 0, 2, -1),), {}, IMAGE),
    ("ReflectionPad2d", ((1, 2, 0, 3),), {}, IMAGE),
    ("ReplicationPad2d", ((1, 2, 0, 3),), {}, IMAGE),
    ("Dropout", (0.0,), {}, ROWS),
    ("Dropout2d", (0.0,), {}, IMAGE),
]


@pytest.fixture(params=LAYERS, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def layer(request):
    """Our layer and PyTorch's in float64, and an input for them."""
    name, args, kwargs, shape = request.param
    x = np.random.default_rng(0).standard_normal(shape)
    return getattr(nn, name)(*args, **kwargs).double(), getattr(torch.nn, name)(*args, **kwargs).double(), x


def numbers(state) -> dict:
    """A state of Tensors or of PyTorch's tensors as arrays, copied."""
    return {k: np.array(v._array if isinstance(v, Tensor) else v.numpy()) for k, v in state.items()}


def as_tensors(state) -> dict:
    return {k: torch.tensor(v) for k, v in numbers(state).items()}


def assert_same_state(ours, theirs, rtol=0.0):
    a, b = numbers(ours.state_dict()), numbers(theirs.state_dict())
    assert list(a) == list(b)
    for key in a:
        assert a[key].dtype == b[key].dtype and a[key].shape == b[key].shape, key
        np.testing.assert_allclose(a[key], b[key], rtol=rtol, atol=rtol, err_msg=key)


def assert_same_results(ours, theirs, x):
    p, q = Tensor(x.copy()), torch.tensor(x)
    p.requires_grad = q.requires_grad = True
    y, z = ours(p), theirs(q.clone())  # a clone, as PyTorch's inplace=True refuses leaves
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y._array, z.detach().numpy(), rtol=1e-10, atol=1e-10)
    g = np.random.default_rng(1).standard_normal(z.shape)
    y.backward(Tensor(g))
    z.backward(torch.tensor(g))
    np.testing.assert_allclose(p.grad._array, q.grad.numpy(), rtol=1e-9, atol=1e-9)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(a.grad._array, b.grad.numpy(), rtol=1e-9, atol=1e-9, err_msg=name)


def test_layer_equals_pytorchs_with_its_state(layer):
    ours, theirs, x = layer
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(theirs.state_dict())
    assert_same_state(ours, theirs)
    for training in (True, False):  # batch norm's statistics follow in the first round
        ours.train(training)
        theirs.train(training)
        assert_same_results(ours, theirs, x)
        assert_same_state(ours, theirs, rtol=1e-12)


def test_layer_on_the_device_double(layer):
    """Same values where nothing converts between host and device by itself, with a state that comes from the
    host."""
    ours, _, x = layer
    twin = copy.deepcopy(ours).to("double")
    twin.load_state_dict(ours.state_dict())
    results = []
    for module, array in ((ours, x), (twin, double.device(x))):
        input = Tensor(array)
        input.requires_grad = True
        y = module(input)
        y.backward(y.detach())
        results.append(
            [backend.to_host(t._array) for t in (y, input.grad, *(p.grad for p in module.parameters()))]
        )
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert all(backend.device_of(t._array) != "cpu" for t in twin.state_dict().values())


def test_pytorchs_layer_takes_our_state(layer):
    ours, theirs, x = layer
    for parameter in ours.parameters():
        parameter._array[...] = np.random.default_rng(2).standard_normal(parameter.shape)
    theirs.load_state_dict(as_tensors(ours.state_dict()))
    assert_same_results(ours, theirs, x)


def test_every_public_layer_has_a_case():
    elsewhere = {
        "Module",
        "ModuleDict",
        "ModuleList",
        "Parameter",
        "ParameterList",
        "Sequential",
        "Embedding",
        "init",
        "spectral_norm",
    }
    losses = {name for name in nn.__all__ if name.endswith("Loss")}
    assert set(nn.__all__) - elsewhere - losses == {case[0] for case in LAYERS}
    assert losses == {case[0] for case in LOSSES}


def test_initial_weights_have_pytorchs_distributions(layer):
    """Same constants where PyTorch's are constant; else uniform within the same bound, or normal (see
    test_embedding)."""
    ours, theirs, _ = layer
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters()):
        b = b.detach().numpy()
        if "Norm" in type(ours).__name__:
            assert np.array_equal(a._array, b), name
        else:
            fan_in = math.prod(ours.weight.shape[1:])
            assert np.abs(a._array).max() <= 1 / math.sqrt(fan_in) and np.abs(b).max() <= 1 / math.sqrt(
                fan_in
            )


def test_default_weights_are_uniform():
    weight = nn.Linear(100, 500).weight._array * 10  # times sqrt(fan_in)
    assert_uniform(weight.ravel(), -1, 1)
    assert nn.Linear(3, 2).weight.dtype == np.float32


# Losses

PROBABILITIES, LOGITS, CLASSES = "probabilities", "logits", "classes"
LOSSES = [
    ("BCELoss", {}, PROBABILITIES),
    ("BCELoss", {"weight": np.array([1.0, 2.0, 0.5])}, PROBABILITIES),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([1.0, 2.0, 0.5]), "reduction": "sum"}, LOGITS),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, CLASSES),
    ("CrossEntropyLoss", {"weight": np.array([1.0, 2.0, 0.5])}, CLASSES),
    ("NLLLoss", {"ignore_index": 1}, CLASSES),
    ("MSELoss", {}, LOGITS),
    ("L1Loss", {"reduction": "none"}, LOGITS),
    ("SmoothL1Loss", {"beta": 0.5}, LOGITS),
]


@pytest.mark.parametrize("name, kwargs, kind", LOSSES)
def test_losses(name, kwargs, kind):
    rng = np.random.default_rng(0)
    x = rng.random((4, 3)) if kind == PROBABILITIES else rng.standard_normal((4, 3))
    y = np.array([0, 2, 1, 2]) if kind == CLASSES else rng.random((4, 3))

    def built(library, tensor):
        return getattr(library, name)(
            **{k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
        )

    ours, theirs = built(nn, Tensor), built(torch.nn, torch.tensor)
    np.testing.assert_allclose(
        ours(Tensor(x), Tensor(y))._array, theirs(torch.tensor(x), torch.tensor(y)).numpy(), rtol=1e-12
    )
    assert_same_state(ours, theirs)
    assert repr(ours) == repr(theirs)


# Embedding, dropout


def test_embedding():
    ours, theirs = (
        nn.Embedding(7, 3, padding_idx=-1).double(),
        torch.nn.Embedding(7, 3, padding_idx=-1).double(),
    )
    assert repr(ours) == repr(theirs) and np.all(ours.weight._array[6] == 0)
    ours.load_state_dict(theirs.state_dict())
    index = np.array([[0, 6], [3, 3]])
    y, z = ours(Tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_allclose(y._array, z.detach().numpy())
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(ours.weight.grad._array, theirs.weight.grad.numpy(), rtol=1e-12)
    assert_normal(nn.Embedding(300, 200).weight._array.ravel(), 0, 1)
    with pytest.raises(ValueError, match="padding_idx 7"):
        nn.Embedding(7, 3, padding_idx=7)


def test_dropout_drops_entries_or_whole_channels():
    backend.manual_seed(0)
    x = Tensor(np.ones((50, 40, 5, 5)))
    single, channels = nn.Dropout(0.3)(x)._array, nn.Dropout2d(0.3)(x)._array
    assert set(np.unique(single.round(12))) == {0, round(1 / 0.7, 12)}
    assert abs(single.mean() - 1) < 0.02 and 0 < np.ptp(single[0, 0])
    assert abs((channels[:, :, 0, 0] == 0).mean() - 0.3) < 0.05
    assert np.all(np.ptp(channels, axis=(2, 3)) == 0)
    assert nn.Dropout(0.3).eval()(x) is x and nn.Dropout2d(0.3).eval()(x) is x
    assert repr(nn.Dropout(0.3)) == repr(torch.nn.Dropout(0.3))
    with pytest.raises(ValueError, match="probability"):
        nn.Dropout(1.5)


# Initial weights


def assert_uniform(x, low, high):
    """Kolmogorov-Smirnov: the distance to U(low, high) exceeds 2 / sqrt(n) once in a thousand samples."""
    x = np.sort((x - low) / (high - low))
    assert np.abs(x - (np.arange(x.size) + 0.5) / x.size).max() < 2 / math.sqrt(x.size)


def assert_normal(x, mean, std):
    z = (np.asarray(x, dtype=np.float64) - mean) / std
    assert_uniform(np.array([math.erf(v / math.sqrt(2)) for v in z]), -1, 1)


def drawn(function, shape, *args, **kwargs):
    tensor = Tensor(np.empty(shape))
    assert function(tensor, *args, generator=np.random.default_rng(0), **kwargs) is tensor
    return tensor._array.ravel()


def test_init_distributions():
    shape = (40, 30, 3, 3)
    fan_in, fan_out = 30 * 9, 40 * 9
    assert_uniform(drawn(nn.init.uniform_, shape, -2, 3), -2, 3)
    assert_normal(drawn(nn.init.normal_, shape, 1, 0.02), 1, 0.02)
    xavier = 2 * math.sqrt(2 / (fan_in + fan_out))
    assert_normal(drawn(nn.init.xavier_normal_, shape, gain=2), 0, xavier)
    assert_uniform(
        drawn(nn.init.xavier_uniform_, shape, gain=2), -math.sqrt(3) * xavier, math.sqrt(3) * xavier
    )
    assert_normal(drawn(nn.init.kaiming_normal_, shape, nonlinearity="relu"), 0, math.sqrt(2 / fan_in))
    bound = math.sqrt(2 / 1.04) * math.sqrt(3 / fan_out)
    assert_uniform(drawn(nn.init.kaiming_uniform_, shape, 0.2, mode="fan_out"), -bound, bound)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (8, 3, 3, 3), (7, 7), (40, 2, 2)])
def test_orthogonal(shape):
    q = drawn(nn.init.orthogonal_, shape, gain=3).reshape(shape[0], -1) / 3
    product = q @ q.T if q.shape[0] <= q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-13)


def test_orthogonal_matrices_have_no_preferred_sign():
    samples = np.stack(
        [
            drawn(lambda t, generator: nn.init.orthogonal_(t, generator=rng), (3, 3))
            for rng in map(np.random.default_rng, range(400))
        ]
    )
    assert np.abs(samples.mean(axis=0)).max() < 4 / math.sqrt(3 * 400)


@pytest.mark.parametrize(
    "args",
    [
        ("linear",),
        ("conv2d",),
        ("sigmoid",),
        ("tanh",),
        ("relu",),
        ("selu",),
        ("leaky_relu",),
        ("leaky_relu", 0.2),
    ],
)
def test_gains(args):
    assert nn.init.calculate_gain(*args) == pytest.approx(torch.nn.init.calculate_gain(*args))


def test_constants_and_bad_arguments():
    t = Tensor(np.empty((2, 3)))
    assert np.all(nn.init.constant_(t, 3)._array == 3)
    assert np.all(nn.init.ones_(t)._array == 1) and np.all(nn.init.zeros_(t)._array == 0)
    with pytest.raises(ValueError, match="nonlinearity 'rule' is unknown"):
        nn.init.calculate_gain("rule")
    with pytest.raises(ValueError, match="at least 2 dimensions, found shape \\(3,\\)"):
        nn.init.kaiming_normal_(Tensor(np.empty(3)))
    with pytest.raises(ValueError, match="at least 2 dimensions, found shape \\(3,\\)"):
        nn.init.orthogonal_(Tensor(np.empty(3)))
    with pytest.raises(ValueError, match="mode 'in' is unknown"):
        nn.init.kaiming_normal_(t, mode="in")


def test_one_seed_means_the_same_weights_in_every_dtype():
    backend.manual_seed(3)
    single = nn.Conv2d(3, 4, 3).weight._array
    backend.manual_seed(3)
    double = nn.Conv2d(3, 4, 3, dtype=np.float64).weight._array
    assert double.dtype == np.float64 and np.array_equal(single, double.astype(np.float32))
    backend.manual_seed(4)
    assert not np.array_equal(single, nn.Conv2d(3, 4, 3).weight._array)


# Modules


def network(library):
    return library.Sequential(
        library.Conv2d(1, 2, 3), library.Sequential(library.BatchNorm2d(2), library.ReLU()), library.Flatten()
    )


def test_walking_a_network_gives_pytorchs_names():
    ours, theirs = network(nn), network(torch.nn)
    for what in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [name for name, _ in getattr(ours, what)()] == [name for name, _ in getattr(theirs, what)()], (
            what
        )
    assert [name for name, _ in ours.named_parameters("net")] == [
        name for name, _ in theirs.named_parameters("net")
    ]
    assert [n for n, _ in ours[0].named_parameters(recurse=False)] == ["weight", "bias"]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)


def test_shared_weights_are_walked_once_and_saved_under_every_name():
    def tied(library):
        first = library.Linear(3, 3)
        return library.Sequential(first, library.Tanh(), first)

    ours, theirs = tied(nn), tied(torch.nn)
    assert len(list(ours.parameters())) == 2 and len(list(ours.modules())) == 3
    assert list(ours.state_dict()) == list(theirs.state_dict())
    twin = copy.deepcopy(ours)
    assert twin[0] is twin[2] and twin[0].weight is not ours[0].weight


def test_modes_gradients_and_apply():
    net = network(nn)
    assert all(not m.training for m in net.eval().modules()) and all(
        m.training for m in net.train().modules()
    )
    assert all(not p.requires_grad for p in net.requires_grad_(False).parameters())
    net.requires_grad_()
    net(Tensor(np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Conv2d", "BatchNorm2d", "ReLU", "Sequential", "Flatten", "Sequential"]


def test_attributes():
    m = nn.Module()
    m.weight = nn.Parameter(np.ones(2))
    m.register_buffer("mean", Tensor(np.zeros(2)))
    m.register_buffer("scratch", Tensor(np.zeros(2)), persistent=False)
    m.register_parameter("bias", None)
    m.plain = Tensor(np.zeros(2))
    assert list(m.state_dict()) == ["weight", "mean"] and len(list(m.buffers())) == 2
    m.mean = Tensor(np.ones(2))
    assert np.all(m.state_dict()["mean"]._array == 1)
    m.bias = nn.Parameter(np.ones(2))
    assert [n for n, _ in m.named_parameters()] == ["weight", "bias"]
    with pytest.raises(TypeError, match="Module.weight: expected a Parameter or None, found Tensor"):
        m.weight = Tensor(np.ones(2))
    with pytest.raises(TypeError, match="Module.mean: expected a Tensor or None, found int"):
        m.mean = 3
    with pytest.raises(KeyError, match="exists already"):
        m.register_buffer("plain", Tensor(np.ones(2)))
    with pytest.raises(KeyError, match="without dots"):
        m.add_module("a.b", nn.Identity())
    with pytest.raises(AttributeError, match="other"):
        m.other
    del m.weight
    assert [n for n, _ in m.named_parameters()] == ["bias"] and not hasattr(m, "weight")


def test_loading_says_what_does_not_fit_and_then_changes_nothing():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before, good = numbers(net.state_dict()), numbers(net.state_dict())
    good["0.weight"] += 1
    for change, message in (
        ({"0.bias": None}, "missing 0.bias"),
        ({"2.weight": np.ones(2)}, "unexpected 2.weight"),
        ({"1.bias": np.ones(3)}, "1.bias has shape \\(3,\\) where the module has \\(2,\\)"),
        (
            {"1.num_batches_tracked": np.array(0.5)},
            "1.num_batches_tracked is float64 where the module has int64",
        ),
    ):
        state = {k: v for k, v in (good | change).items() if v is not None}
        with pytest.raises(UserError, match=message):
            net.load_state_dict(state)
        np.testing.assert_equal(numbers(net.state_dict()), before)
    del good["0.bias"]
    result = net.load_state_dict(good | {"more": np.ones(1)}, strict=False)
    assert result.missing_keys == ["0.bias"] and result.unexpected_keys == ["more"]
    assert np.array_equal(net[0].weight._array, good["0.weight"])


def test_loading_keeps_memory_and_graphs_that_saved_it_refuse_to_go_back():
    layer, x = nn.Linear(3, 2), Tensor(np.ones((1, 3), dtype=np.float32))
    x.requires_grad = True
    memory, loss = layer.weight._array, layer(x).sum()
    layer.load_state_dict(nn.Linear(3, 2).double().state_dict())
    assert layer.weight._array is memory and memory.dtype == np.float32
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_to_casts_floating_point_state_in_place():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    parameters = list(net.parameters())
    net(Tensor(np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32))).sum().backward()
    assert net.double() is net and all(a is b for a, b in zip(parameters, net.parameters()))
    assert {t.dtype for t in net.parameters()} == {np.dtype(np.float64)}
    assert all(p.grad.dtype == np.float64 for p in net.parameters())
    assert net[1].num_batches_tracked.dtype == np.int64 and net[1].running_mean.dtype == np.float64
    y = net.to("cpu", np.float32)(Tensor(np.ones((4, 3), dtype=np.float32)))
    assert y.dtype == np.float32
    with pytest.raises(UserError, match="device 'gpu' is unknown"):
        net.to("gpu")


def test_deepcopy_has_weights_of_its_own():
    net = network(nn)
    net(Tensor(np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32))).sum().backward()
    twin = copy.deepcopy(net)
    for (name, a), b in zip(net.named_parameters(), twin.parameters()):
        assert np.array_equal(a._array, b._array) and not np.shares_memory(a._array, b._array), name
        assert b.grad is None and b.requires_grad
    twin[1][0].running_mean._array[...] = 9
    assert not np.any(net[1][0].running_mean._array == 9)


def test_pre_hooks():
    layer, seen = nn.Identity(), []
    take_off = layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    layer(1)
    take_off()
    layer(2)
    assert seen == [(layer, (1,))]


# Containers


def test_sequential():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    assert net.append(nn.Linear(3, 1)) is net and len(net) == 3
    assert net[-1] is net[2] and [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert isinstance(net[:2], nn.Sequential) and net[:2][0] is net[0]
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))[1:]
    assert [name for name, _ in net[1:].named_children()] == [name for name, _ in theirs.named_children()]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh) and [n for n, _ in net.named_children()] == ["0", "1", "2"]
    named = nn.Sequential({"first": nn.Linear(2, 3), "second": nn.ReLU()})
    assert list(named.state_dict()) == ["first.weight", "first.bias"] and named[1] is named.second
    with pytest.raises(IndexError, match="index 3 is out of range for 3 members"):
        net[3]
    with pytest.raises(TypeError, match="expected a Module, found Op"):
        nn.Sequential(F.relu)
    with pytest.raises(ValueError, match="the name '2' is taken"):
        net[1:].append(nn.ReLU())


LISTS = {
    "insert": lambda m, members: members.insert(1, m.Tanh()),
    "delete": lambda m, members: members.__delitem__(-2),
    "delete many": lambda m, members: members.__delitem__(slice(0, 2)),
    "add": lambda m, members: members + m.Sequential(m.Linear(1, 2)),
}


@pytest.mark.parametrize("kind", ["Sequential", "ModuleList"])
@pytest.mark.parametrize("change", LISTS)
def test_changes_of_lists_leave_pytorchs_names(kind, change):
    def changed(library):
        members = [library.Linear(2, 3), library.ReLU(), library.Linear(3, 1)]
        members = library.Sequential(*members) if kind == "Sequential" else library.ModuleList(members)
        result = LISTS[change](library, members)
        return result if change == "add" else members

    def described(members):
        return [(name, type(m).__name__) for name, m in members.named_children()], list(members.state_dict())

    assert described(changed(nn)) == described(changed(torch.nn))


def test_a_list_that_refuses_a_member_is_as_before():
    members = nn.ModuleList([nn.ReLU()])
    with pytest.raises(TypeError, match="expected a Module, found int"):
        members.insert(0, 3)
    with pytest.raises(IndexError, match="index 1 is out of range"):
        del members[1]
    assert len(members) == 1


def test_members_by_dotted_names():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), nn.ReLU())
    assert net.get_submodule("") is net and net.get_submodule("0.0") is net[0][0]
    assert net.get_parameter("0.0.bias") is net[0][0].bias
    with pytest.raises(AttributeError, match="ReLU has no module '0'"):
        net.get_submodule("1.0")
    with pytest.raises(AttributeError, match="Sequential has no parameter 'weight'"):
        net.get_parameter("0.weight")
    kept = nn.ModuleDict({"a": net})
    assert kept.pop("a") is net and len(kept) == 0


def test_lists_and_dicts():
    modules = nn.ModuleList([nn.Linear(1, 2), nn.ReLU()]).extend([nn.Linear(2, 1)])
    assert len(modules) == 3 and list(modules.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert isinstance(modules[1:], nn.ModuleList) and modules[1:][0] is modules[1]
    parameters = nn.ParameterList([nn.Parameter(np.ones(2)), Tensor(np.ones(3))])
    assert [p.shape for p in parameters] == [(2,), (3,)] and list(parameters.state_dict()) == ["0", "1"]
    table = nn.ModuleDict({"a": nn.Linear(1, 2)})
    table["b"] = nn.ReLU()
    assert "a" in table and list(table) == ["a", "b"] and len(table) == 2 and table["b"] is table.b
    assert list(table.state_dict()) == ["a.weight", "a.bias"]
    del table["a"]
    assert (
        list(table.keys()) == ["b"]
        and [k for k, _ in table.items()] == ["b"]
        and list(table.values()) == [table["b"]]
    )
    with pytest.raises(KeyError, match="no module 'c'"):
        table["c"]


# Spectral norm

SPECTRAL = [
    ("Linear", (5, 3), {}, (4, 5)),
    ("Conv2d", (4, 6, 3), {"bias": False}, IMAGE),
    ("ConvTranspose2d", (4, 6, 3), {}, IMAGE),
]


@pytest.mark.parametrize("name, args, kwargs, shape", SPECTRAL, ids=lambda v: v if isinstance(v, str) else "")
def test_spectral_norm_equals_pytorchs(name, args, kwargs, shape):
    ours = spectral_norm(getattr(nn, name)(*args, **kwargs), n_power_iterations=2).double()
    theirs = torch.nn.utils.spectral_norm(
        getattr(torch.nn, name)(*args, **kwargs).double(), n_power_iterations=2
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(as_tensors(ours.state_dict()))
    x = np.random.default_rng(0).standard_normal(shape)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        assert_same_results(ours, theirs, x)
        assert_same_state(ours, theirs, rtol=1e-12)


def test_spectral_norm_on_the_device_double():
    ours = nn.Sequential(spectral_norm(nn.Linear(4, 3).double()))
    twin = copy.deepcopy(ours).to("double")
    x = np.random.default_rng(0).standard_normal((2, 4))
    y, z = ours(Tensor(x)), twin(Tensor(double.device(x)))
    np.testing.assert_allclose(y._array, backend.to_host(z._array), rtol=1e-12)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    layer = spectral_norm(nn.Linear(20, 30).double())
    x = Tensor(np.ones((1, 20)))
    for _ in range(200):
        layer(x)
    assert np.linalg.svd(layer.weight._array)[1][0] == pytest.approx(1, abs=1e-6)
    twin = copy.deepcopy(layer)
    assert np.array_equal(twin.eval()(x)._array, layer.eval()(x)._array)
    with pytest.raises(ValueError, match="Linear has no parameter 'wight'"):
        spectral_norm(nn.Linear(2, 2), "wight")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups 2 must divide in_channels 3 and out_channels 4"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "expected an integer or 2 of them"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="zero"), "padding_mode is 'zero'"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "padding_mode is 'reflect'"),
        (lambda: nn.GroupNorm(3, 4), "num_groups 3 must divide num_channels 4"),
        (lambda: nn.BatchNorm2d(3)(Tensor(np.ones((2, 3)))), "expected 4D input, found shape \\(2, 3\\)"),
        (lambda: nn.BatchNorm1d(3)(Tensor(np.ones((2, 4)))), "expected 3 channels"),
        (
            lambda: nn.ConvTranspose2d(1, 1, 3, 2)(Tensor(np.ones((1, 1, 4, 4))), (11, 12)),
            "from \\[9, 9\\] to \\[10, 10\\] are possible",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_output_size_of_transposed_convolutions():
    ours, theirs = nn.ConvTranspose2d(4, 6, 3, 2).double(), torch.nn.ConvTranspose2d(4, 6, 3, 2).double()
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal(IMAGE)
    for size in ((13, 14), (2, 6, 14, 13)):
        y, z = ours(Tensor(x), size), theirs(torch.tensor(x), size)
        np.testing.assert_allclose(y._array, z.detach().numpy(), rtol=1e-10, atol=1e-10)
