"""Extractors and the digit classifier, the classification accuracy score, and path length."""
from __future__ import annotations

import shutil

import numpy as np
import pytest
from scipy import integrate

from scratchgan import backend, data, gans, nn, optim
from scratchgan.backend import Streams
from scratchgan.data import Dataset, Spec
from scratchgan.errors import UserError
from scratchgan.gans.sampling import lerp, slerp
from scratchgan.metrics import Setting, features, get
from scratchgan.metrics import classification_accuracy as cas
from scratchgan.metrics.features import Extractor, framed
from scratchgan.metrics.fitting import fit, own_streams
from scratchgan.metrics.path_length import PathLength, path_lengths, trimmed_mean
from scratchgan.metrics.train_classifier import COMMAND, SOURCES, accuracy_key, warped
from scratchgan.nets.classifier import Classifier


@pytest.fixture(scope="module")
def held_out():
    return data.load("mnist5k").split(0.1, seed=0)[1]


@pytest.fixture(scope="module")
def digits(held_out):
    return held_out.get(np.arange(len(held_out)))


# The digit classifier

LEAST = {("mnist5k", 28): 0.985, ("mnist5k", 16): 0.98, ("mnist5k", 8): 0.96, ("digits", 8): 0.98,
         ("digits", 16): 0.98}


@pytest.mark.parametrize("source", SOURCES)
def test_the_shipped_classifier_knows_the_held_out_digits(source):
    held_out = data.load(*source).split(0.1, seed=0)[1]
    accuracy = np.mean(features.classifier().labels(held_out.get(np.arange(len(held_out)))) == held_out.labels)
    assert accuracy >= LEAST[source]
    metadata = features.read_weights(features.WEIGHTS)[1]
    # The file has four decimals, and another machine's rounding may move one digit over the edge.
    assert float(metadata[accuracy_key(*source)]) == pytest.approx(accuracy, abs=1.5 / len(held_out))


def test_the_shipped_file_says_what_made_it():
    assert features.read_weights(features.WEIGHTS)[1]["command"].startswith(COMMAND)


def test_the_shipped_file_is_small():
    assert features.WEIGHTS.stat().st_size < 400_000


@pytest.mark.parametrize("size, least", [(32, 0.98), (56, 0.98), (20, 0.98)])
def test_other_sizes_are_read_too(held_out, size, least):
    resized = data.load("mnist5k", size=size).split(0.1, seed=0)[1]
    assert np.mean(features.classifier().labels(resized.get(np.arange(500))) == held_out.labels) >= least


def test_probabilities_are_distributions_over_the_labels(digits):
    probabilities = features.classifier().probabilities(digits)
    assert probabilities.shape == (500, 10) and probabilities.dtype == np.float32
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5) and probabilities.min() >= 0
    assert np.array_equal(probabilities.argmax(axis=1), features.classifier().labels(digits))


def test_features_are_those_below_the_logits(digits):
    network = features.classifier()._network
    head = {key: t._array for key, t in network.head.state_dict().items()}
    logits = features.classifier().features(digits) @ head["weight"].T + head["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = features.classifier().probabilities(digits)
    assert np.allclose(odds / odds.sum(axis=1, keepdims=True), probabilities, atol=1e-5)


def test_grey_pictures_from_files_have_three_equal_channels(digits):
    grey = features.classifier().labels(np.repeat(digits[:50], 3, axis=1))
    assert np.array_equal(grey, features.classifier().labels(digits[:50]))


def test_frames():
    image = np.random.default_rng(0).uniform(-1, 1, (2, 1, 28, 28)).astype(np.float32)
    frame = framed(image)
    assert np.array_equal(frame[:, :, 2:-2, 2:-2], image) and (frame[:, :, :2] == -1).all()
    assert np.array_equal(framed(frame), frame)
    assert np.allclose(framed(np.full((1, 1, 9, 50), 0.25))[:, :, 2:-2, 2:-2], 0.25)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 28, 28), (4, 28, 28)])
def test_what_is_no_grey_image_is_refused(shape):
    with pytest.raises(UserError, match="expected greyscale images"):
        features.classifier().labels(np.zeros(shape))


def test_coloured_images_are_refused():
    with pytest.raises(UserError, match="coloured"):
        features.classifier().labels(np.array([0.0, 1, 0])[:, None, None] * np.ones((2, 3, 28, 28)))


def test_damaged_weights_are_one_sentence(tmp_path):
    file = tmp_path / "digits.safetensors"
    shutil.copy(features.WEIGHTS, file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        features.read_weights(file)
    with pytest.raises(UserError, match="cannot be read"):
        features.read_weights(tmp_path / "nothing")


# Extractors

SHAPES = {"digits": (1, 28, 28), "random": (3, 20, 17), "pixels": (5,)}
WIDTHS = {"digits": 64, "random": 256, "pixels": 5}


@pytest.mark.parametrize("name", SHAPES)
def test_features_of_a_sample_depend_on_nothing_else(name):
    """Neither on the others of its batch, nor on when, nor on the default random streams, which stay."""
    samples = np.random.default_rng(0).uniform(-1, 1, (300, *SHAPES[name])).astype(np.float32)
    features._random_network.cache_clear()
    features.classifier.cache_clear()
    streams = backend.manual_seed(5)
    before = streams.state_dict()
    first = features.get(name)(samples)
    assert backend.default_streams() is streams and streams.state_dict() == before
    features._random_network.cache_clear()
    backend.manual_seed(6)
    assert first.shape == (300, WIDTHS[name]) and first.dtype == np.float32
    assert np.array_equal(features.get(name)(samples), first)
    assert np.allclose(features.get(name)(samples[::-1][:7]), first[::-1][:7], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 5, 5), (4, 33, 20)])
def test_random_features_take_any_image(shape):
    found = features.get("random")(np.random.default_rng(0).normal(size=(6, *shape)))
    assert found.shape == (6, 256) and found.std(axis=0).max() > 0


def test_random_features_keep_their_scale():
    """Orthogonal weights with gain sqrt(2) neither drown a picture nor blow it up."""
    found = features.get("random")(np.random.default_rng(0).normal(size=(50, 3, 32, 32)))
    assert 0.05 < found.mean() < 5


def test_any_function_is_an_extractor():
    mean = Extractor("mean", lambda x: x.mean(axis=(1, 2, 3))[:, None].astype(np.float64))
    found = mean(np.ones((4, 1, 2, 2)))
    assert found.dtype == np.float32 and found.tolist() == [[1]] * 4 and mean.name == "mean"


TEXT = np.array([["a"]] * 4)


@pytest.mark.parametrize("answer", [np.zeros(4), np.zeros((3, 2)), np.full((4, 2), np.nan), TEXT])
def test_functions_that_answer_something_else_are_refused(answer):
    with pytest.raises(ValueError, match="mine: features"):
        Extractor("mine", lambda x: answer)(np.zeros((4, 2)))


@pytest.mark.parametrize("samples", [np.zeros(4), np.zeros((0, 2)), np.full((2, 2), np.inf), TEXT])
def test_bad_samples_are_refused(samples):
    with pytest.raises(ValueError, match="pixels: samples"):
        features.get("pixels")(samples)


def test_unknown_extractors_get_a_hint():
    with pytest.raises(UserError, match="did you mean digits"):
        features.get("digit")


@pytest.mark.parametrize("shape, name", [((1, 8, 8), "digits"), ((3, 8, 8), "random"), ((2,), "pixels")])
def test_the_usual_extractor(shape, name):
    assert features.default_extractor(Spec(shape, -1, 1)).name == name


# Training

def test_warped_images_are_the_same_digits_elsewhere(digits):
    images = framed(digits[:64])
    moved = warped(images, np.random.default_rng(0))
    assert moved.shape == images.shape and moved.dtype == np.float32
    assert moved.min() >= -1 and moved.max() <= 1
    difference = np.abs(moved - images).mean(axis=(1, 2, 3))
    assert (difference > 0.01).all() and (difference < 0.5).all()
    assert np.array_equal(warped(images, np.random.default_rng(0)), moved)


def test_fit_learns_and_is_seeded(digits, held_out):
    def learnt(seed):
        with own_streams(seed):
            network = Classifier(widths=(4, 4, 4), features=8)
        return fit(network, framed(digits[:128]), held_out.labels[:128], epochs=2, seed=seed).state_dict()

    one, two, other = learnt(0), learnt(0), learnt(1)
    assert all(np.array_equal(one[key]._array, two[key]._array) for key in one)
    assert not np.array_equal(one["head.weight"]._array, other["head.weight"]._array)


# Classification accuracy score

@pytest.fixture(scope="module")
def sides():
    return data.load("mnist5k").split(0.2, seed=0)


def score(sides, images, labels, count=1500, seed=0):
    train, test = sides
    metric = cas.ClassificationAccuracy(test, seed, steps=600)
    order = np.random.default_rng(0).permutation(len(train))
    for part in np.array_split(order[:count], 4):
        metric.update(train.get(part), "real", train.labels[part])
    metric.update(images(train, order[-count:]), "fake", labels(train, order[-count:]))
    return metric.compute()


def test_training_on_real_data_has_no_gap(sides):
    found = score(sides, lambda train, rows: train.get(rows), lambda train, rows: train.labels[rows])
    assert found["cas"] > 0.85 and abs(found["cas_gap"]) < 0.03


def test_shuffled_labels_teach_nothing(sides):
    found = score(sides, lambda train, rows: train.get(rows),
                  lambda train, rows: np.random.default_rng(1).permutation(train.labels[rows]))
    assert found["cas"] < 0.25 and found["cas_gap"] > 0.6


def test_a_generator_that_lacks_half_the_classes_gets_half(sides):
    small = [np.flatnonzero(sides[0].labels == k) for k in range(5)]

    def labels(train, rows):
        return train.labels[rows] % 5

    def images(train, rows):
        return train.get([small[k][i % len(small[k])] for i, k in enumerate(labels(train, rows))])

    found = score(sides, images, labels)
    assert 0.4 < found["cas"] <= 0.5


def test_unlabelled_digits_are_labelled_by_the_classifier(sides):
    found = score(sides, lambda train, rows: train.get(rows), lambda train, rows: None)
    assert found["cas"] > 0.85 and abs(found["cas_gap"]) < 0.03


def test_cas_streams_in_pieces(sides):
    train, test = sides
    one, parts = (cas.ClassificationAccuracy(test, steps=50) for _ in range(2))
    rows = np.arange(0, 4000, 20)
    for source in ("real", "fake"):
        one.update(train.get(rows), source, train.labels[rows])
        for part in np.array_split(rows, 5):
            parts.update(train.get(part), source, train.labels[part])
    assert one.compute() == parts.compute()
    parts.reset()
    with pytest.raises(UserError, match="0 fake samples were read"):
        parts.compute()


def test_cas_keeps_so_many_and_no_more(sides, monkeypatch):
    monkeypatch.setattr(cas, "KEPT", 150)
    kept = cas._Kept()
    for _ in range(3):
        kept.add(np.zeros((100, 1, 2, 2)), np.arange(100))
    images, labels = kept.drawn(150, np.random.default_rng(0))
    assert len(kept) == len(images) == 150 and sorted(labels)[-1] == 99


def test_cas_of_degenerate_input(sides, digits):
    metric = get("cas").create(Setting(*sides))
    with pytest.raises(UserError, match="no labelled images"):
        ring = data.load("ring")
        get("cas").create(Setting(ring, ring))
    with pytest.raises(ValueError, match="expected the data's own"):
        metric.update(digits[:3], "real")
    with pytest.raises(ValueError, match="expected 0 to 9"):
        metric.update(digits[:3], "fake", np.array([0, 1, 10]))
    with pytest.raises(ValueError, match="expected 3 integers"):
        metric.update(digits[:3], "fake", np.array([0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="NaN"):
        metric.update(np.full((3, 1, 28, 28), np.nan), "fake")
    colours = Dataset("colours", Spec((3, 4, 4), -1, 1, 3), np.zeros((3, 3, 4, 4), np.float32), np.arange(3))
    with pytest.raises(UserError, match="came without labels"):
        cas.ClassificationAccuracy(colours).update(np.zeros((2, 3, 4, 4)), "fake")


# Path length

def test_slerp_keeps_length_and_goes_evenly():
    a, b = np.array([[3.0, 0, 0]]), np.array([[0, 3.0, 0]])
    third = slerp(a, b, np.array([1 / 3]))
    assert np.allclose(third, 3 * np.array([[np.cos(np.pi / 6), np.sin(np.pi / 6), 0]]))
    assert np.allclose(slerp(a, b, 0), a) and np.allclose(slerp(a, b, 1), b)
    assert np.allclose(slerp(a, 2 * a, 0.25), lerp(a, 2 * a, 0.25))
    assert np.allclose(slerp(a, 0 * a, 0.25), 0.75 * a)


def test_a_linear_generator_on_a_straight_line_moves_by_its_matrix():
    """f(z) = W z: |W (z2 - z1)|^2 for every t."""
    random = np.random.default_rng(0)
    w, z1, z2 = random.normal(size=(7, 4)), random.normal(size=(50, 4)), random.normal(size=(50, 4))
    found = path_lengths(lambda z: z @ w.T, z1, z2, random.random(50), lerp)
    assert np.allclose(found, ((z2 - z1) @ w.T) ** 2 @ np.ones(7), rtol=1e-7)


def test_the_identity_on_an_arc_moves_by_radius_times_angle():
    random = np.random.default_rng(0)
    z1, z2 = (5 * z / np.linalg.norm(z, axis=1, keepdims=True) for z in random.normal(size=(2, 50, 6)))
    angle = np.arccos((z1 * z2).sum(axis=1) / 25)
    assert np.allclose(path_lengths(lambda z: z, z1, z2, random.random(50)), (5 * angle) ** 2, rtol=1e-6)


def test_a_sharper_generator_has_a_longer_path():
    random = np.random.default_rng(0)
    z1, z2, t = random.normal(size=(2000, 3)), random.normal(size=(2000, 3)), random.random(2000)
    smooth, sharp = (path_lengths(lambda z, k=k: np.tanh(k * z), z1, z2, t).mean() for k in (1, 10))
    assert sharp > 3 * smooth


def test_trimmed_mean_leaves_out_one_percent_at_each_end():
    values = np.arange(1000.0)
    values[-1] = 1e9
    assert trimmed_mean(np.random.default_rng(0).permutation(values)) == np.arange(9, 991).mean()


def test_nan_has_no_length():
    with pytest.raises(ValueError, match="NaN"):
        path_lengths(lambda z: z * np.nan, np.ones((2, 2)), np.ones((2, 2)), np.zeros(2))


def linear_gan(w, kind, offset=0.0):
    """Stands for a GAN whose averaged generator is x = (W z + offset) - offset, z normal or else uniform."""
    out, latent = w.shape
    generator = nn.Sequential(nn.Linear(latent, out), nn.Linear(out, out))
    generator.load_state_dict({"0.weight": w, "0.bias": np.full(out, offset, np.float32),
                               "1.weight": np.eye(out), "1.bias": np.full(out, -offset, np.float32)})
    gan = gans.get(kind).__new__(gans.get(kind))
    gan.config, gan.ema = gans.configure(kind, latent=latent), optim.EMA(generator)
    return gan


def mean_square_of_the_arc(latent):
    """E |d slerp / dt|^2 / latent for normal z1, z2 and uniform t: with w the angle between z1 and z2,
    (w / sin w)^2 [cos^2((1-t) w) r1^2 + cos^2(t w) r2^2 - 2 cos((1-t) w) cos(t w) r1 r2 cos w]."""
    from scipy.special import gammaln
    mean_radius = np.sqrt(2) * np.exp(gammaln((latent + 1) / 2) - gammaln(latent / 2))

    def speed(t, w):
        a, b = np.cos((1 - t) * w), np.cos(t * w)
        square = (a**2 + b**2) * latent - 2 * a * b * np.cos(w) * mean_radius**2
        return (w / np.sin(w)) ** 2 * square * np.sin(w) ** (latent - 2)

    total = integrate.dblquad(speed, 0, np.pi, 0, 1)[0]
    return total / integrate.quad(lambda w: np.sin(w) ** (latent - 2), 0, np.pi)[0] / latent


@pytest.mark.parametrize("kind, mean_square", [("gan", mean_square_of_the_arc(16)), ("dcgan", 2 / 3)])
def test_path_length_of_a_linear_generator_in_closed_form(kind, mean_square):
    """E |W dz/dt|^2 = E |dz/dt|^2 / L |W|_F^2 by symmetry: on the straight line between uniform latents
    E (z2 - z1)^2 = 2/3 a coordinate, between normal ones on the arc as above."""
    w = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    metric = PathLength(linear_gan(w, kind), features.get("pixels"), pairs=4000)
    assert metric.compute()["ppl"] == pytest.approx(mean_square * (w.astype(float) ** 2).sum(), rel=0.03)


def test_the_generator_s_own_rounding_does_not_lengthen_paths():
    """In float32, W z + 1e5 would be off by 4e-3, forty times a step."""
    w = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    plain, offset = (PathLength(linear_gan(w, "gan", by), features.get("pixels"), pairs=50).compute()["ppl"]
                     for by in (0.0, 1e5))
    assert offset == pytest.approx(plain, rel=1e-3)


def test_path_length_of_a_gan_is_seeded_and_leaves_it_alone():
    config = gans.configure("gan", data="digits", g_widths=(16, 16), d_widths=(16,), latent=4)
    spec = Spec((1, 8, 8), -1, 1)
    gan = gans.get("gan")(spec, config, Streams(0))
    before = gan.streams.state_dict(), gan.sample(3, np.random.default_rng(0))
    setting = Setting(Dataset("digits", spec, np.zeros((1, 1, 8, 8), np.float32)), None, gan, seed=4)

    def length(seed=4):
        metric = get("ppl").create(Setting(setting.train, None, gan, seed))
        metric.pairs = 120
        return metric.compute()["ppl"]

    assert length() == length() != length(5)
    assert gan.streams.state_dict() == before[0]
    after = gan.sample(3, np.random.default_rng(0))
    assert after.dtype == np.float32 and np.array_equal(after, before[1])


def test_path_length_needs_the_generator():
    with pytest.raises(UserError, match="needs the generator"):
        get("ppl").create(Setting(data.load("ring"), data.load("ring")))
