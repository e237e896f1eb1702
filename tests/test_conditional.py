"""Conditional GANs through everything around them: samples by class, pictures with a class in each column,
figures of what was asked for, diagnosis, reports, resumed runs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgan import cli, data, evaluate, gans, html_report, report, snapshots
from scratchgan.backend import Streams
from scratchgan.data import Dataset, Spec
from scratchgan.diagnosis.measures import Measures
from scratchgan.errors import UserError
from scratchgan.gans.sampling import lerp
from scratchgan.html_report import pictures
from scratchgan.measure import Generated, measure
from scratchgan.metrics import Setting, get
from scratchgan.metrics.features import classifier
from scratchgan.run import open_run

CGAN = ("train cgan --data digits --size 8 --batch-size 8 --set g_width=2 --set d_width=2 --set latent=4 "
          "--steps 2 --out a").split()
DCGAN = ("train dcgan --data digits --size 8 --batch-size 8 --set g_width=2 --set d_width=2 --steps 1 "
         "--out b").split()
SPEC = Spec((1, 8, 8), -1.0, 1.0, 10)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained():
    assert run(*CGAN) == 0
    return open_run(Path("a"))


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def small(seed: int = 0, **given):
    config = gans.configure("cgan", **{"g_width": 4, "d_width": 4, "latent": 6, **given})
    return gans.get("cgan")(SPEC, config, Streams(seed))


class Echo:
    """Stands for a GAN that knows the digits by heart: asked for a class it draws a real sample of it, or of
    the next class, for those classes in `wrong`."""
    conditioned_on, classes = "labels", 10

    def __init__(self, wrong=()):
        self.digits, self.wrong = data.load("mnist5k"), wrong

    def sample(self, n, noise, averaged=True, given=None):
        shown = [(k + 1) % 10 if k in self.wrong else k for k in given]
        places = [np.flatnonzero(self.digits.labels == k) for k in range(10)]
        return self.digits.get([noise.choice(places[k]) for k in shown])


# What a sampler is given

def test_labels_are_drawn_alike_after_z_where_none_are_given():
    model, n = small(), 2000
    x = model.sample(n, np.random.default_rng(3))
    stream = np.random.default_rng(3)
    z = model.prior(stream, n)
    labels = stream.integers(10, size=n)
    assert (np.bincount(labels, minlength=10) > 150).all()
    np.testing.assert_array_equal(x, model.generate(z, labels))


@pytest.mark.parametrize("given, error, message", [
    (np.array([0, 10, 3]), UserError, "CGAN: class 10, expected 0 to 9"),
    (np.array([0, -1, 3]), UserError, "CGAN: class -1, expected 0 to 9"),
    (np.array([0, 1]), UserError, "CGAN: expected labels for 3 samples, found 2"),
    (None, UserError, "CGAN: expected labels for 3 samples, found none"),
    (np.array([0.0, 1.0, 2.0]), TypeError, "CGAN: labels are float64"),
    (np.array([[0], [1], [2]]), TypeError, r"CGAN: labels are int64 \(3, 1\)")])
def test_labels_that_are_none(given, error, message):
    model = small()
    with pytest.raises(error, match=message):
        model.generate(model.prior(np.random.default_rng(0), 3), given)


def test_unconditional_gans_take_no_labels():
    model = gans.get("dcgan")(SPEC, gans.configure("dcgan", g_width=2, d_width=2), Streams(0))
    with pytest.raises(UserError, match="DCGAN: takes no labels or images"):
        model.sample(2, given=np.array([1, 2]))


def test_interpolation_begins_and_ends_at_the_samples_of_its_latents():
    model, labels = small(), np.array([1, 5])
    a, b = model.prior(np.random.default_rng(0), 2), model.prior(np.random.default_rng(1), 2)
    for t, z in ((0.0, a), (1.0, b), (0.25, lerp(a, b, 0.25))):
        np.testing.assert_allclose(model.interpolate(a, b, np.full(2, t), given=labels),
                                   model.generate(z, labels), atol=1e-6)


# scratchgan sample

def samples_of(*arguments: str):
    assert run("sample", "a", "--out", "s.npz", *arguments) == 0
    with np.load("s.npz", allow_pickle=False) as file:
        return file["samples"], file["labels"]


def test_samples_by_class(trained):
    x, labels = samples_of("--n", "25")
    assert x.shape == (25, 1, 8, 8) and labels.tolist() == [k % 10 for k in range(25)]
    sevens, asked = samples_of("--class", "7", "--n", "25")
    assert (asked == 7).all()
    np.testing.assert_allclose(sevens[[7, 17]], x[[7, 17]], rtol=1e-5, atol=1e-6)
    assert abs(sevens - x).max(axis=(1, 2, 3))[labels != 7].min() > 1e-5
    assert len(samples_of()[0]) == 60, "six whole rows"
    assert len(samples_of("--class", "3")[0]) == 64


def test_samples_from_a_checkpoint_are_those_before_saving(trained):
    before = trained.sample(10, 0)
    trained.save()
    np.testing.assert_array_equal(before, open_run(Path("a")).sample(10, 0))


def test_pictures_have_a_class_in_each_column(trained):
    cell = report.CELL + report.GAP
    for path in ("a/samples.png", "s.png"):
        assert run("sample", "a", "--out", "s.png", "--n", "60") == 0
        with Image.open(path) as picture:
            assert picture.size == (10 * cell + report.GAP, 6 * cell + report.GAP)
    assert Path("a/samples.png").read_bytes() == Path("s.png").read_bytes()
    assert run("sample", "a", "--out", "s.png", "--class", "1", "--n", "9") == 0
    with Image.open("s.png") as picture:
        assert picture.size == (3 * cell + report.GAP,) * 2


def test_interpolations_keep_the_class_of_a_row(trained):
    x, labels = samples_of("--interpolate", "--n", "3")
    assert x.shape == (27, 1, 8, 8) and labels.tolist() == [0] * 9 + [1] * 9 + [2] * 9
    steps = abs(np.diff(x.reshape(3, 9, -1), axis=1)).mean(axis=2)
    apart = abs(x[0] - x[9]).mean()
    assert 0 < steps.min() and steps.max() < apart, "one row changes little by little"
    assert (samples_of("--interpolate", "--class", "4")[1] == 4).all()
    assert run("sample", "a", "--interpolate", "--out", "s.png") == 0
    with Image.open("s.png") as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize("folder, arguments, message", [
    ("a", "--class 10", "--class 10: expected an integer from 0 to 9"),
    ("a", "--class -1", "--class -1: expected an integer from 0 to 9"),
    ("a", "--class seven", "argument --class: 'seven' is no integer"),
    ("b", "--class 7", "--class 7: dcgan is not conditioned on classes"),
    ("b", "--truncation 0.7", "--truncation 0.7: dcgan has no mean latent"),
    ("b", "--mix", "--mix: dcgan has no styles to mix"),
    ("b", "--mix --interpolate", "not allowed with argument"),
    ("b", "--interpolate --n 2000", "--n 2000: expected an integer from 1 to 10000 for .png, which would"),
    ("b", "--seed -1", "--seed -1: expected an integer of at least 0")])
def test_what_a_gan_does_not_have_is_one_line(folder, arguments, message, capsys):
    assert run(*(CGAN if folder == "a" else DCGAN)) == 0
    capsys.readouterr()
    assert run("sample", folder, *arguments.split()) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 and not Path("samples.png").exists()


# Figures

def test_asked_class_of_known_shares():
    train, held_out = data.load("mnist5k").split(0.1)
    accuracy = np.mean(classifier().labels(held_out.get(np.arange(500))) == held_out.labels)
    right, wrong = (measure(Generated(gan), Setting(train, held_out, gan), ["asked_class"], n=500, draws=2)[0]
                    for gan in (Echo(), Echo(wrong=(2, 7))))
    assert right.mean == pytest.approx(accuracy, abs=0.02) and right.better == "higher"
    assert wrong.mean == pytest.approx(0.8 * accuracy, abs=0.04)
    assert right.n == 500 and right.reference == 0
    assert np.mean(right.floor) == pytest.approx(accuracy, abs=0.02)


def test_asked_class_counts_and_forgets():
    metric = get("asked_class")()
    metric.update(np.eye(10)[[1, 2, 3]], "fake", np.array([1, 2, 4]))
    metric.reset()
    metric.update(np.eye(10)[[1, 2]], "fake", np.array([1, 2]))
    metric.update(np.eye(10)[[1, 2]], "fake", np.array([1, 3]))
    assert metric.compute() == {"asked_class": 0.75}
    with pytest.raises(UserError, match="asked_class: the samples came without labels"):
        metric.update(np.eye(10), "fake")
    with pytest.raises(ValueError, match="probabilities of 9 classes, expected 10"):
        metric.update(np.eye(9), "fake", np.arange(9))
    with pytest.raises(UserError, match="0 fake samples were read"):
        get("asked_class")().compute()


def test_asked_class_needs_digits_and_somebody_who_is_asked():
    def refused(dataset, gan=None):
        with pytest.raises(UserError) as error:
            get("asked_class").create(Setting(dataset, dataset, gan))
        return str(error.value)

    unlabelled = Dataset("grey", Spec((1, 8, 8), -1, 1), np.zeros((2, 1, 8, 8), np.float32))
    assert "expected greyscale images" in refused(data.load("ring"))
    assert "grey has no classes, expected the 10 digits" in refused(unlabelled)
    plain = gans.get("dcgan")(SPEC, gans.configure("dcgan", g_width=2, d_width=2), Streams(0))
    assert "not conditioned on labels" in refused(data.load("digits"), plain)


def test_a_conditional_run_is_evaluated_by_the_classes_asked_for(trained, capsys):
    assert run("evaluate", "a", "--n", "60", "--metrics", "asked_class,fid", "--per-class") == 0
    document = evaluate.read(Path("a/evaluation.json"))
    by_class = [f for f in document["figures"] if f["figure"] == "asked_class" and f["class"]]
    assert [f["class"] for f in by_class] == [str(k) for k in range(10)]
    assert any("those that come with the samples" in line for line in document["classes"])
    assert "asked_class" in evaluate.default_metrics(trained.dataset, True, asked=True)
    assert "asked_class" not in evaluate.default_metrics(trained.dataset, True)


def test_stored_samples_with_their_labels_are_measured_alike(trained, capsys):
    samples_of("--n", "200")
    assert run("evaluate", "s.npz", "--data", "digits", "--metrics", "asked_class", "--n", "60",
               "--out", "e.json") == 0
    assert 0 <= evaluate.read(Path("e.json"))["figures"][0]["value"] <= 1


def test_path_length_of_a_conditional_generator():
    """One condition on both ends of a step: with a y that changed between them, |dx|^2 / epsilon^2 would
    exceed 1e4."""
    model = small()
    setting = Setting(Dataset("digits", SPEC, np.zeros((1, 1, 8, 8), np.float32)), None, model, 0)

    def length():
        metric = get("ppl").create(setting)
        metric.pairs = 40
        return metric.compute()["ppl"]

    assert 0 < length() == length() < 1e4


# Diagnosis, report, resumed runs

def test_diagnosis_asks_for_the_classes_of_the_examples():
    digits = data.load("digits")
    model, asked = small(), {}
    logits, sample = model.logits, model.sample
    model.logits = lambda x, given: asked.setdefault(len(asked), given) is None or logits(x, given)
    model.sample = lambda n, noise, averaged, given: sample(n, noise, averaged, given)
    train, held_out = digits.split(0.1)
    measures = Measures(model, train, held_out, seed=0)
    measures.before_step()
    shown = measures.after_step()
    assert np.isfinite(list(shown.values())).all() and {"logit_real", "diversity"} <= shown.keys()
    real, of_held_out, fake = asked.values()
    assert len(np.unique(real)) == 10 and not np.array_equal(real, of_held_out)
    np.testing.assert_array_equal(real, fake)


def test_the_report_of_a_conditional_run(trained):
    html_report.write(Path("a"), Path("a.html"))
    page = Path("a.html").read_text()
    assert "Mirza" in page and "Between latents" in page and "Nearest training samples" in page
    walks = pictures.walks(trained, rows=3, stops=4)
    assert walks.shape == (3, 4, 1, 8, 8)


def test_a_resumed_run_is_the_one_that_was_not_interrupted(trained):
    del trained
    assert run("train", "--resume", "a", "--steps", "5") == 0
    whole = [*CGAN[:-1], "whole"]
    whole[whole.index("--steps") + 1] = "5"
    assert run(*whole) == 0
    for name in ("samples.png", "samples/step_000005.png"):
        assert Path("a", name).read_bytes() == Path("whole", name).read_bytes()
    states = [sorted(p.read_bytes() for p in Path(folder, "checkpoint").glob("*.safetensors"))
              for folder in ("a", "whole")]
    assert states[0][-1:] == states[1][-1:]


def test_a_mixture_in_the_plane_by_mode():
    assert run("train", "cgan", "--data", "ring", "--batch-size", "16", "--steps", "2", "--set",
               "g_widths=4,4,8", "--set", "d_widths=4,4,4", "--out", "a") == 0
    assert snapshots.read(Path("a/samples/step_000002.npz")).logits.shape == (snapshots.GRID,) * 2
    x, labels = samples_of("--class", "5", "--n", "9")
    assert x.shape == (9, 2) and (labels == 5).all()
    html_report.write(Path("a"), Path("a.html"))


def test_data_without_labels_are_refused(capsys):
    assert run("train", "cgan", "--data", "swissroll") == 2
    assert "cgan: the data have no labels" in capsys.readouterr().err and not list(Path().iterdir())
