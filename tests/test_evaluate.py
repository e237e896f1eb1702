"""Evaluation: the protocol of draws, floors and references, with metrics whose answer is known, and the
command."""
from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scratchgan import backend, cli, data, evaluate, measure, metrics
from scratchgan.classes import Classes
from scratchgan.data import Dataset, Spec
from scratchgan.errors import UserError
from scratchgan.measure import Generated, Stored
from scratchgan.metrics import Metric, Setting, features
from scratchgan.metrics.features import Extractor

RING = "train gan --data ring --batch-size 16 --set g_widths=8,8 --set d_widths=8 --steps 2".split()


class Spy(Metric):
    """Counts what it reads, and keeps the first value of each sample: samples are told apart by it."""
    name, reads = "spy", "features"
    figures = {"gap": "lower", "count": ""}
    made: list[Spy] = []

    def __init__(self):
        self.read = {"real": [], "held_out": [], "fake": []}
        self.history = []
        Spy.made.append(self)

    def update(self, batch, source, labels=None):
        assert len(batch) <= measure.BATCH
        self.read[source] += batch.reshape(len(batch), -1)[:, 0].tolist()

    def compute(self):
        self.history.append({source: list(read) for source, read in self.read.items()})
        gap = abs(np.mean(self.read["fake"]) - np.mean(self.read["real"]))
        return {"gap": gap, "count": len(self.read["fake"])}

    def reset(self, source="fake"):
        self.read[source] = []


class AgainstHeldOut(Spy):
    sources = ("real", "held_out", "fake")


class OfTheGenerator(Metric):
    name, reads, sources, figures = "alone", "samples", (), {"seed": ""}

    def __init__(self, seed):
        self.seed = seed

    @classmethod
    def create(cls, setting):
        if setting.gan is None:
            raise UserError("needs the GAN itself")
        return cls(setting.seed)

    def compute(self):
        return {"seed": self.seed}


class OfImages(Spy):
    reads = "images"


class Choosy(Spy):
    """Wants three samples."""

    def compute(self):
        if len(self.read["fake"]) < 3:
            raise UserError(f"found {len(self.read['fake'])}")
        return super().compute()


KNOWN = {"spy": Spy, "choosy": Choosy, "against": AgainstHeldOut, "alone": OfTheGenerator,
         "of_images": OfImages}


@pytest.fixture(autouse=True)
def known_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Spy, "made", [])
    for name, kind in KNOWN.items():
        monkeypatch.setitem(metrics.CLASSES, name, ("none", kind.__name__))
    usual = metrics.get
    monkeypatch.setattr(metrics, "get", lambda name: KNOWN.get(name) or usual(name))


def numbered(first: int, count: int) -> Dataset:
    """Points whose first coordinate is their number."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return Dataset("numbered", Spec((2,), -np.inf, np.inf), np.stack([numbers, 0 * numbers], axis=1))


class Counting:
    """A "GAN" whose samples are equal to its noise, shifted."""
    conditioned_on = None

    def sample(self, n, noise):
        return (noise.standard_normal((n, 2)) + 1e6).astype(np.float32)


SETTING = Setting(numbered(0, 1000), numbered(5000, 100), Counting(), seed=3)


# The protocol

def test_floor_reference_and_samples_are_disjoint_and_as_many_in_each_draw():
    stored = Stored(numbered(10_000, 1000), n=300)
    measure.measure(stored, SETTING, ["spy"], n=300)
    draws = [spy.history for spy in Spy.made if spy.history]
    assert len(draws) == 3
    for of_samples, of_floor in draws:
        reference, floor = set(of_samples["real"]), set(of_floor["fake"])
        assert reference == set(of_floor["real"]) and len(reference) == 700 == len(of_samples["real"])
        assert len(floor) == 300 == len(set(of_samples["fake"])) and not floor & reference
        assert reference | floor == set(range(1000))
    seen = [set(of_samples["fake"]) for of_samples, _ in draws]
    assert not seen[0] & seen[1] and not seen[1] & seen[2] and not seen[0] & seen[2]
    assert draws[0][0]["real"] != draws[1][0]["real"]


def test_held_out_data_are_halved_and_all_of_the_training_data_are_shown():
    figures = measure.measure(Generated(Counting()), SETTING, ["against", "spy"], n=300)
    assert [(f.metric, f.n, f.reference) for f in figures] == [
        ("against", 50, 1000), ("against", 50, 1000), ("spy", 300, 700), ("spy", 300, 700)]
    for spy in Spy.made:
        if isinstance(spy, AgainstHeldOut) and spy.history:
            of_samples, of_floor = spy.history
            assert set(of_samples["real"]) == set(range(1000))
            assert len(of_samples["fake"]) == 50 == len(of_floor["fake"]) == len(of_samples["held_out"])
            assert set(of_samples["held_out"]) | set(of_floor["fake"]) == set(range(5000, 5100))


def test_mean_and_deviation_are_of_the_draws():
    gap, count = measure.measure(Generated(Counting()), SETTING, ["spy"], n=100, draws=4)
    draws = [spy.history[0] for spy in Spy.made if spy.history]
    by_hand = [abs(np.mean(read["fake"]) - np.mean(read["real"])) for read in draws]
    np.testing.assert_allclose(gap.values, by_hand)
    assert gap.mean == pytest.approx(np.mean(by_hand))
    assert gap.deviation == pytest.approx(np.std(by_hand, ddof=1))
    assert len(gap.values) == len(gap.floor) == 4 and max(gap.floor) < 200 < 9e5 < min(gap.values)
    assert gap.better == "lower" and count.values == count.floor == [100] * 4


def test_each_draw_has_noise_of_its_own():
    source = Generated(Counting())
    first, second, again = (np.concatenate([b for b, _ in source.batches(i, 300)])[:, 1] for i in (0, 1, 0))
    assert len(first) == 300 and (first == again).all() and (first != second).mean() > 0.9


def test_each_extractor_runs_once_a_batch_whatever_the_metrics():
    calls = []

    def extract(samples):
        calls.append(len(samples))
        return samples

    measure.measure(Generated(Counting()), SETTING, ["spy", "against"], n=300, extractor=extract)
    assert sum(calls) == 1000 + 100 + 3 * 300           # the data once, each draw once; floors are read again
    calls.clear()
    measure.measure(Generated(Counting()), SETTING, ["spy"], n=300, extractor=extract)
    assert sum(calls) == 1000 + 3 * 300


def test_a_metric_of_the_generator_alone_has_neither_samples_nor_floor():
    figure, = measure.measure(Generated(Counting()), SETTING, ["alone"], n=100)
    assert (figure.values, figure.floor, figure.n, figure.reference) == ([3, 4, 5], [], 0, 0)


def test_the_same_seed_gives_the_same_figures_and_leaves_the_random_streams_alone():
    streams = backend.manual_seed(1)
    state = streams.state_dict()
    first, second = (measure.measure(Generated(Counting()), SETTING, ["spy"], n=100) for _ in range(2))
    assert [f.values for f in first] == [f.values for f in second]
    assert [f.floor for f in first] == [f.floor for f in second]
    assert backend.default_streams() is streams and streams.state_dict() == state
    other = measure.measure(Generated(Counting(), seed=1), SETTING, ["spy"], n=100)
    assert other[0].values != first[0].values


def test_draws_of_too_few_samples_overlap_and_say_so():
    stored = Stored(numbered(0, 250), n=100)
    assert "overlap" in stored.draws and not stored.disjoint
    first, second = (np.concatenate([b for b, _ in stored.batches(i, 100)])[:, 0] for i in range(2))
    assert len(set(first)) == 100 and set(first) != set(second)
    assert Stored(numbered(0, 300), n=100).disjoint
    with pytest.raises(UserError, match="holds 250 samples, fewer than the 251"):
        Stored(numbered(0, 250), n=251)


def test_labels_go_with_their_samples():
    first = np.arange(40)
    labelled = Dataset("labelled", Spec((2,), -1, 1, 10), numbered(0, 40).get(first), first % 10)
    for samples, labels in Stored(labelled, n=10).batches(1, 10):
        np.testing.assert_array_equal(samples[:, 0] % 10, labels)


@pytest.mark.parametrize("n, draws, message", [(501, 3, "n=501: expected from 2 to 500"), (1, 3, "n=1"),
                                               (10, 0, "draws=0")])
def test_counts_that_leave_no_reference_are_refused(n, draws, message):
    with pytest.raises(UserError, match=message):
        measure.measure(Generated(Counting()), SETTING, ["spy"], n=n, draws=draws)


def test_a_generator_of_nan_and_a_metric_of_images_on_points_are_refused():
    class Broken(Counting):
        def sample(self, n, noise):
            return np.full((n, 2), np.nan, np.float32)

    with pytest.raises(UserError, match="NaN or infinity"):
        measure.measure(Generated(Broken()), SETTING, ["spy"], n=10)
    with pytest.raises(UserError, match="of_images: is a metric of images"):
        measure.measure(Generated(Counting()), SETTING, ["of_images"], n=10)


# Class by class

def parity(first: int, count: int, odd_in: int = 2) -> Dataset:
    """`numbered`, of class 1 one in `odd_in`."""
    plain = numbered(first, count)
    labels = (np.arange(count) % odd_in == 0).astype(int)
    return Dataset("parity", Spec((2,), -np.inf, np.inf, 2), plain.get(np.arange(count)), labels)


LABELLED = Setting(parity(0, 1000), parity(5000, 100), None, seed=3)
BOTH = Classes(("even", "odd"))


def test_each_class_has_its_own_reference_and_a_floor_of_as_many_samples():
    samples, train = parity(10_000, 1000, odd_in=5), LABELLED.train
    figures = measure.measure(Stored(samples, n=300), LABELLED, ["spy"], n=300, classes=BOTH)
    assert [(f.name, f.class_name) for f in figures] == [
        (name, k) for name in ("gap", "count") for k in (None, "even", "odd")]
    divided = [spy.history for spy in Spy.made if spy.history and len(spy.history[0]["real"]) < 700]
    assert len(divided) == 3 * 2
    for k, (of_samples, of_floor) in zip([0, 1] * 3, divided):
        assert set(train.labels[np.array(of_samples["real"] + of_floor["fake"], int)]) == {k}
        assert set(samples.labels[np.array(of_samples["fake"], int) - 10_000]) == {k}
        assert len(of_samples["fake"]) == len(of_floor["fake"]) == len(set(of_floor["fake"]))
        assert not set(of_floor["fake"]) & set(of_floor["real"])
    even, odd = (f for f in figures if f.name == "count" and f.class_name)
    # 240 even samples come, but of the 300 real ones in their place about 150 are even; 60 odd ones are
    # fewer.
    assert even.values == even.floor and 120 < even.mean < 180 and even.n == round(even.mean)
    assert odd.values == odd.floor and 40 < odd.mean < 80
    assert abs(even.reference + odd.reference - 700) <= 1


def test_what_is_computed_of_all_samples_stays_the_same():
    def whole(classes):
        figures = measure.measure(Stored(parity(10_000, 900), n=300), LABELLED, ["spy", "against"], n=300,
                                  classes=classes)
        return [(f.name, f.values, f.floor, f.n, f.reference) for f in figures if f.class_name is None]

    assert whole(BOTH) == whole(None)


def test_held_out_data_are_divided_too():
    figures = measure.measure(Stored(parity(10_000, 900), n=300), LABELLED, ["against"], n=300, classes=BOTH)
    by_class = {f.class_name: (f.n, f.reference) for f in figures}
    assert by_class[None] == (50, 1000) and by_class["odd"][1] == 500 and 15 < by_class["odd"][0] < 30


def test_what_the_classifier_sees_counts_for_samples_and_floor_but_not_for_the_reference(monkeypatch):
    class OffByOne:
        """Sees the class that follows on the one whose number every pixel holds."""

        def probabilities(self, images):
            return np.eye(3)[(images[:, 0, 0, 0].astype(int) + 1) % 3]

    monkeypatch.setattr(features, "classifier", OffByOne)
    labels = np.arange(300) % 3
    pictures = np.broadcast_to(labels[:, None, None, None], (300, 1, 2, 2)).astype(np.float32)
    train = Dataset("pictures", Spec((1, 2, 2), -1, 1, 3), pictures, labels)
    unlabelled = Dataset("made", Spec((1, 2, 2), -1, 1), pictures)
    measure.measure(Stored(unlabelled, n=100), Setting(train, train), ["of_images"], n=100,
                    classes=Classes(("0", "1", "2"), agreement=0.9))
    divided = [spy.history for spy in Spy.made if spy.history and len(spy.history[0]["real"]) < 200]
    assert len(divided) == 9
    for k, (of_samples, of_floor) in zip([0, 1, 2] * 3, divided):
        assert set(of_samples["real"]) == {k}
        assert set(of_samples["fake"]) == set(of_floor["fake"]) == {(k - 1) % 3}
        assert len(of_samples["fake"]) == len(of_floor["fake"])


@pytest.fixture
def labelled_files():
    labels = np.arange(600) % 3
    np.savez("data.npz", x=points(600), y=labels)
    np.savez("samples.npz", samples=points(300, seed=1), labels=np.arange(300) % 2)
    np.savez("unlabelled.npz", samples=points(300, seed=1))
    np.savez("beyond.npz", samples=points(300, seed=1), y=np.arange(300) % 4)
    noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8), np.uint8)
    np.savez("noise.npz", x=noise, y=np.arange(200) % 10)
    np.savez("grey.npz", x=noise[:90])


def test_a_class_without_samples_gets_no_value_and_a_reason(labelled_files, capsys):
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "choosy", "--per-class",
               "--out", "e.json") == 0
    document = evaluate.read(Path("e.json"))
    gap = {f["class"]: f for f in document["figures"] if (f["metric"], f["figure"]) == ("choosy", "gap")}
    assert [*gap] == [None, "0", "1", "2"]
    assert gap["2"]["value"] is gap["2"]["floor"] is None and gap["2"]["reason"] == "choosy: found 0"
    assert (gap["2"]["n"], gap["2"]["values"]) == (0, [None] * 3)
    assert all(gap[k]["value"] is not None and gap[k]["reason"] is None for k in (None, "0", "1"))
    shown = capsys.readouterr().out.splitlines()
    assert re.split("  +", shown[0])[:5] == ["metric", "figure", "class", "value", "floor"]
    assert shown[1].split()[:3] == ["choosy", "gap", "all"]
    assert shown[4].split()[:6] == ["choosy", "gap", "2", "-", "-", "0"]
    assert shown.count("no value for class 2: choosy: found 0") == 1
    assert any(line.startswith("class: the labels of data.npz") for line in shown)


def test_without_the_option_there_are_no_classes(labelled_files, capsys):
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "spy", "--out", "e.json") == 0
    assert {f["class"] for f in evaluate.read(Path("e.json"))["figures"]} == {None}
    assert "class" not in capsys.readouterr().out


def test_the_classifier_says_what_unlabelled_digits_are(capsys):
    digits = data.load("mnist5k")
    chosen = np.random.default_rng(0).permutation(len(digits))[:500]
    pictures = np.round((digits.get(chosen) + 1) * 127.5).astype(np.uint8)
    labels = digits.labels[chosen]
    np.savez("data.npz", x=pictures[:350, 0], y=labels[:350])
    np.savez("samples.npz", x=pictures[350:][labels[350:] != 7, 0])
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "choosy,groups", "--features",
               "pixels", "--per-class", "--n", "90", "--out", "e.json") == 0
    shown = capsys.readouterr().out
    document = evaluate.read(Path("e.json"))
    of_class = {f["class"]: f for f in document["figures"] if f["figure"] == "count"}
    assert of_class["7"]["value"] is None and "choosy: found" in of_class["7"]["reason"]
    assert of_class["1"]["value"] >= 3 and of_class["1"]["values"] == of_class["1"]["floor_values"]
    assert {f["class"] for f in document["figures"] if f["metric"] == "groups"} == {None}
    assert re.search(r"as the shipped digit classifier sees them, which agrees with (9.|100)\.. % of", shown)
    assert "of all classes together only: groups" in shown


@pytest.mark.parametrize("arguments, message", [
    (["samples.npz", "--data", "unlabelled.npz"], "unlabelled.npz has no labels"),
    (["unlabelled.npz", "--data", "data.npz"], "come without labels, which only greyscale digits can"),
    (["beyond.npz", "--data", "data.npz"], "labels of the samples go up to 3, those of data.npz to 2"),
    (["grey.npz", "--data", "noise.npz"], "the digit classifier sees only .* of those of noise.npz"),
    (["samples.npz", "--data", "data.npz", "--metrics", "against", "--held-out", "unlabelled.npz"],
     "unlabelled.npz has no labels"),
    (["samples.npz", "--data", "data.npz", "--metrics", "cas"],
     "no question of a single class is asked by cas"),
])
def test_classes_that_are_not_known_are_refused(labelled_files, arguments, message, capsys):
    metric = [] if "--metrics" in arguments else ["--metrics", "spy"]
    assert re.search(message, refused(capsys, "evaluate", *arguments, *metric, "--per-class"))


def test_folders_of_other_classes_are_refused(capsys):
    for folder, names in (("real", ("cat", "dog")), ("made", ("dog", "fox"))):
        for name in names:
            Path(folder, name).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (8, 8), (i, 9 * i, 3)).save(Path(folder, name, f"{i}.png"))
    line = refused(capsys, "evaluate", "made", "--data", "real", "--size", "8", "--metrics", "of_images",
                   "--per-class")
    assert "classes of the samples are dog, fox, but those of real cat, dog" in line


# The command

def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def refused(capsys, *arguments: str) -> str:
    """The one line that a refused command prints."""
    before = sorted(p for p in Path().rglob("*"))
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("scratchgan: error: ")
    assert sorted(p for p in Path().rglob("*")) == before, "something was written"
    return lines[0]


def points(count: int, seed: int = 0, **more) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)


@pytest.fixture
def files():
    np.savez("data.npz", x=points(600))
    np.savez("samples.npz", samples=points(300, seed=1))


def test_a_run_is_evaluated_into_its_folder(capsys):
    assert run(*RING, "--out", "a") == 0
    capsys.readouterr()
    assert run("evaluate", "a", "--metrics", "spy,against,alone", "--n", "100") == 0
    shown = capsys.readouterr().out
    document = evaluate.read(Path("a/evaluation.json"))
    assert "±" in shown and "alone" in shown and "each with new noise" in shown
    assert (document["gan"], document["step"], document["n"], document["draws"]) == ("gan", 2, 100, 3)
    counts = {f["metric"]: (f["n"], f["reference"]) for f in document["figures"]}
    assert counts == {"spy": (100, measure.REFERENCE), "against": (100, 90_000), "alone": (0, 0)}
    assert document["figures"][-1]["floor"] is None


def test_points_of_another_program(files, capsys):
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "spy", "--out", "e.json") == 0
    document = evaluate.read(Path("e.json"))
    assert document["n"] == 100 and "disjoint parts of 300" in document["draws_are"]
    assert "disjoint parts of 300" in capsys.readouterr().out
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "spy", "--n", "200") == 0
    assert "overlap" in capsys.readouterr().out


def test_held_out_data_for_samples_from_elsewhere(files, capsys):
    np.savez("never_seen.npz", x=points(80, seed=2))
    assert "name some with --held-out" in refused(
        capsys, "evaluate", "samples.npz", "--data", "data.npz", "--metrics", "against")
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "against", "--held-out",
               "never_seen.npz", "--out", "e.json") == 0
    assert {(f["n"], f["reference"]) for f in evaluate.read(Path("e.json"))["figures"]} == {(40, 600)}


def test_a_folder_of_grey_pictures_is_brought_to_the_data(capsys):
    random = np.random.default_rng(0)
    np.savez("data.npz", x=random.integers(0, 256, (60, 8, 8), np.uint8))
    Path("pictures").mkdir()
    for i in range(30):
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(f"pictures/{i:02d}.png")
    command = ["evaluate", "pictures", "--data", "data.npz", "--metrics", "of_images", "--out", "e.json"]
    assert run(*command) == 0
    assert evaluate.read(Path("e.json"))["shape"] == [1, 8, 8]
    Image.new("RGB", (16, 16), "red").save("pictures/99.png")
    Path("e.json").unlink()
    assert "sample 30 has colours" in refused(capsys, *command, "--n", "11")


def test_bytes_and_floats_in_any_range_mean_the_same(capsys):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    pictures[0, 0, 0], pictures[0, 0, 1] = 0, 255
    np.savez("data.npz", x=pictures)
    values = []
    for array in (pictures, pictures / 255, pictures / 127.5 - 1, pictures.transpose(0, 3, 1, 2)):
        np.savez("any_name.npz", mine=array)
        assert run("evaluate", "any_name.npz", "--data", "data.npz", "--metrics", "of_images",
                   "--out", "e.json") == 0
        values.append(evaluate.read(Path("e.json"))["figures"][0]["value"])
    np.testing.assert_allclose(values, values[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("arguments, message", [
    (["nowhere", "--data", "data.npz"], "nowhere: no such run folder, .npz or folder of pictures"),
    (["samples.npz"], "--data is missing"),
    (["samples.npz", "--data", "nothing.npz"], "nothing.npz"),
    (["samples.npz", "--data", "data.npz", "--metrics", "spyy"], "did you mean spy"),
    (["samples.npz", "--data", "data.npz", "--metrics", "alone"], "alone: needs the GAN itself"),
    (["samples.npz", "--data", "data.npz", "--draws", "2"], "--draws 2: expected an integer of at least 3"),
    (["samples.npz", "--data", "data.npz", "--n", "1"], "--n 1: expected"),
    (["samples.npz", "--data", "data.npz", "--n", "x"], "'x' is no integer"),
    (["samples.npz", "--data", "data.npz", "--metrics", "spy", "--n", "271"], "expected from 2 to 270"),
    (["few.npz", "--data", "data.npz", "--metrics", "spy", "--n", "60"], "50 samples, fewer than the 60"),
    (["samples.npz", "--data", "data.npz", "--seed", "-1"], "--seed -1"),
    (["samples.npz", "--data", "data.npz", "--out", "e.txt"], "expected a file that ends in .json"),
    (["samples.npz", "--data", "data.npz", "--out", "no/e.json"], "there is no folder no"),
    (["samples.npz", "--data", "data.npz", "--metrics", "spy", "--features", "pixel"], "did you mean pixels"),
    (["samples.npz", "--data", "digits"], r"have shape \(2,\), but those of digits \(1, 8, 8\)"),
    (["truncated.npz", "--data", "data.npz"], "truncated.npz: not a readable"),
    (["nan.npz", "--data", "data.npz"], "sample 7 holds NaN"),
    (["two.npz", "--data", "data.npz"], "two.npz: holds a, b"),
    (["folder", "--data", "data.npz"], "folder: no pictures found"),
])
def test_bad_input_is_one_line(files, arguments, message, capsys):
    Path("truncated.npz").write_bytes(Path("samples.npz").read_bytes()[:500])
    broken = points(50)
    broken[7] = np.nan
    np.savez("nan.npz", samples=broken)
    np.savez("two.npz", a=points(5), b=points(5))
    np.savez("few.npz", points(50))
    Path("folder").mkdir()
    assert re.search(message, refused(capsys, "evaluate", *arguments))


def test_a_run_without_checkpoint_or_with_held_out_given_is_refused(capsys):
    assert run(*RING, "--out", "a") == 0
    capsys.readouterr()
    assert "--held-out" in refused(capsys, "evaluate", "a", "--held-out", "ring")
    for file in Path("a/checkpoint").iterdir():
        file.unlink()
    assert "checkpoint" in refused(capsys, "evaluate", "a", "--metrics", "spy")


WRONG_CLASS = json.dumps({"figures": [{
    "metric": "fid", "figure": "fid", "better": "", "n": 1, "reference": 1, "class": 3,
    **dict.fromkeys(("value", "deviation", "floor", "floor_deviation"))}]})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"figures": [1]}', '{"figures": [{"metric": 1}]}',
                                     WRONG_CLASS, '{"figures": [], "classes": 3}', '{"figures": []}'])
def test_a_damaged_document_is_refused(content):
    Path("e.json").write_text(content)
    with pytest.raises(UserError, match="e.json: (is no JSON|expected what scratchgan evaluate writes)"):
        evaluate.read(Path("e.json"))


def test_what_is_no_finite_number_is_null(files, monkeypatch):
    monkeypatch.setattr(Spy, "compute", lambda self: {"gap": float("inf"), "count": float("nan")})
    assert run("evaluate", "samples.npz", "--data", "data.npz", "--metrics", "spy", "--out", "e.json") == 0
    document = json.loads(Path("e.json").read_text())
    assert [f["value"] for f in document["figures"]] == [None, None]
    assert "-" in evaluate.table(evaluate.read(Path("e.json")))[1]


def test_an_extractor_of_ones_own():
    figures = measure.measure(Generated(Counting()), SETTING, ["spy"], n=10,
                              extractor=Extractor("first", lambda x: x[:, :1]))
    assert figures[0].n == 10


def test_every_default_metric_exists():
    names = {*evaluate.OF_IMAGES, *evaluate.OF_GREY_IMAGES, *evaluate.OF_MIXTURES, *evaluate.OF_POINTS}
    assert names | {*evaluate.OF_HELD_OUT} <= set(metrics.names())
    ring = data.load("ring")
    assert evaluate.default_metrics(ring, False) == evaluate.OF_MIXTURES
    assert evaluate.default_metrics(ring, True) == evaluate.OF_MIXTURES + evaluate.OF_HELD_OUT
