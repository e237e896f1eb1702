"""The command line as a user meets it: what it prints, its exit status, runs that are interrupted and killed,
and mistakes."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import scratchgan
from scratchgan import checkpoint, cli, gradients, report, settings
from scratchgan.check import gradcheck
from scratchgan.errors import UserError
from tests import double  # noqa: F401  (makes the device "double" known)

RING = "train gan --data ring --batch-size 16 --set g_widths=8,8 --set d_widths=8".split()
DIGITS = "train dcgan --data digits --size 8 --batch-size 8 --set g_width=2 --set d_width=2".split()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def background(*arguments: str) -> subprocess.Popen:
    """The command in a process of its own, single-threaded so that a busy machine does not slow it down."""
    environment = {**os.environ, "SCRATCHGAN_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "scratchgan.cli", *arguments],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def last_state(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / "checkpoint").iterdir()}


def steps(folder: Path) -> list[int]:
    return [row["step"] for row in report.read_metrics(folder / "metrics.jsonl")]


# What the commands do


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        run("--version")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"scratchgan {scratchgan.__version__}\n"
    assert scratchgan.__version__ == version("scratchgan")


def test_help_names_the_commands_and_answers_without_the_library():
    late = {"matplotlib", "PIL", "tqdm", "scratchgan.nn"}
    code = f"import sys, scratchgan.cli; assert not {late} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0


def test_list_names_gans_with_papers_and_data_with_shapes(capsys):
    assert run("list") == 0
    shown = capsys.readouterr().out
    for text in (
        "1406.2661",
        "1511.06434",
        "1704.00028",
        "mnist5k        5000 1x28x28 images in [-1, 1], 10 classes",
        "100000 2-D points",
    ):
        assert text in shown


def test_list_shows_the_settings_of_a_gan(capsys):
    assert run("list", "WGAN-GP") == 0
    assert "n_critic" in capsys.readouterr().out


def test_info_names_versions_threads_blas_gpu_and_kernels(capsys):
    assert run("info") == 0
    machine, kernels = capsys.readouterr().out.split("\n\n")
    shown = [line.split()[0] for line in machine.splitlines()]
    assert shown == ["python", "numpy", "scratchgan", "system", "threads", "BLAS", "GPU"]
    assert kernels.startswith("Kernels (SCRATCHGAN_IMPL=") and "  conv.conv_nhwc " in kernels


@pytest.mark.parametrize("command, shape", [(RING, (5, 2)), (DIGITS, (5, 1, 8, 8))])
def test_train_then_sample(command, shape, capsys, recwarn):
    assert run(*command, "--steps", "3", "--out", "a") == 0
    assert "3 steps done" in capsys.readouterr().out
    assert sorted(p.name for p in Path("a").iterdir()) == [
        "alarms.jsonl",
        "checkpoint",
        "config.json",
        "losses.png",
        "metrics.jsonl",
        "samples",
        "samples.png",
    ]
    assert run("sample", "a", "--n", "5", "--out", "s.npz") == 0
    with np.load("s.npz", allow_pickle=False) as file:
        samples = file["samples"]
    assert samples.shape == shape and samples.dtype == np.float32 and np.isfinite(samples).all()
    assert run("sample", "a", "--n", "5", "--out", "s.PNG", "--seed", "1") == 0
    with Image.open("s.PNG") as picture:
        assert picture.width > 100
    assert not recwarn.list


def test_samples_depend_on_their_seed_alone():
    assert run(*RING, "--steps", "1", "--out", "a") == 0
    for name, seed, n in (("x", "0", "600"), ("y", "0", "10"), ("z", "1", "10")):
        assert run("sample", "a", "--n", n, "--out", f"{name}.npz", "--seed", seed) == 0
    x, y, z = (np.load(f"{name}.npz")["samples"] for name in "xyz")
    np.testing.assert_allclose(x[:10], y, rtol=1e-5, atol=1e-6)
    assert not np.allclose(y, z)


def test_the_default_folder_names_gan_data_and_seed():
    assert run(*RING, "--steps", "1", "--seed", "7") == 0
    assert Path("runs/gan-ring-seed7/config.json").is_file()
    assert run(*RING, "--steps", "2", "--seed", "7", "--resume") == 0
    assert steps(Path("runs/gan-ring-seed7")) == [1, 2]


def test_wgan_gp_counts_epochs_by_the_data_it_uses():
    command = ["train", "wgan-gp", "--data", "ring", "--set", "g_width=4", "--set", "d_width=4"]
    assert run(*command, "--batch-size", "10000", "--epochs", "1", "--out", "a") == 0
    assert steps(Path("a")) == [1, 2]  # ten batches in the data, five to a step


def test_data_given_by_path_are_found_again_from_elsewhere(tmp_path, monkeypatch):
    np.savez("points.npz", x=np.random.default_rng(0).standard_normal((50, 2)).astype(np.float32))
    assert run(*RING, "--data", "points.npz", "--steps", "1") == 0
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert run("train", "--resume", "../runs/gan-points-seed0", "--steps", "2") == 0


@pytest.mark.parametrize("name, count", [("tanh", 1), ("wgan-gp", 3), ("gan", 3), ("dcgan", 2)])
def test_check_prints_a_table_of_errors(name, count, capsys):
    assert run("check", name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == count + 2 and all(line.endswith("ok") for line in lines[1:-1])
    assert lines[-1].startswith(f"{count} checked, 0 failed")


def test_a_failing_check_has_status_1(monkeypatch, capsys):
    bad = gradcheck(lambda x: x * 2, [np.ones(3)], raise_exception=False)
    monkeypatch.setattr(
        gradients, "gradcheck", lambda *a, **k: dataclasses.replace(bad, analytic=bad.analytic + 1)
    )
    assert run("check", "tanh") == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown and "1 checked, 1 failed: tanh" in shown


def test_every_example_passes():
    assert gradients.table(None)[1]


def test_a_closed_pipe_is_no_mistake():
    process = background("list")
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == ""
    process.stderr.close()


def test_a_run_on_a_device_goes_on_on_another():
    """The strict double of CuPy stands for the GPU: nothing may slip between device and host by itself."""
    assert run(*DIGITS, "--steps", "2", "--device", "double", "--out", "a") == 0
    assert run("train", "--resume", "a", "--steps", "3") == 0
    assert run("sample", "a", "--n", "3", "--out", "a.npz") == 0
    assert run("train", "--resume", "a", "--steps", "4", "--device", "cpu") == 0
    assert steps(Path("a")) == [1, 2, 3, 4]


# Interruptions


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_says_how_to_go_on(number, status):
    process = background(*RING, "--steps", "1000000", "--out", "a")
    wait_for(lambda: steps(Path("a")))
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    done = steps(Path("a"))[-1]
    assert errors.strip() == f"stopped after step {done}; go on with: scratchgan train --resume a"
    assert checkpoint.load(Path("a/checkpoint")).step == done
    assert run("train", "--resume", "a", "--steps", str(done + 1)) == 0
    assert steps(Path("a")) == list(range(1, done + 2))


@pytest.mark.parametrize("command", [RING, DIGITS], ids=["ring", "digits"])
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bits(command):
    random = np.random.default_rng(len(command[1]))
    command = [*command, "--steps", "60"]
    finish(background(*command, "--out", "whole"))
    process = background(*command, "--out", "killed", "--checkpoint-every", "1")
    for _ in range(3):
        wait_for_progress(process, Path("killed"))
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert (
            len(checkpoint.load(Path("killed/checkpoint")).state) == 3
        )  # whatever the moment, a complete pair
        process = background("train", "--resume", "killed")
    finish(process)
    assert last_state(Path("whole")) == last_state(Path("killed"))
    assert steps(Path("killed")) == list(range(1, 61))
    for picture in Path("whole/samples").iterdir():
        assert picture.read_bytes() == (Path("killed/samples") / picture.name).read_bytes()


def wait_for_progress(process: subprocess.Popen, folder: Path) -> None:
    seen = len(steps(folder))
    wait_for(lambda: len(steps(folder)) > seen or process.poll() is not None)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def test_a_folder_is_trained_in_by_one_process_at_a_time(capsys):
    process = background(*RING, "--steps", "1000000", "--out", "a")
    wait_for(lambda: steps(Path("a")))
    assert run("train", "--resume", "a") == 2
    assert "another process is training in this folder" in capsys.readouterr().err
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the limit")
def test_a_disk_that_fills_up_is_named_and_the_checkpoint_stands():
    assert run(*RING, "--steps", "2", "--out", "a") == 0
    before = last_state(Path("a"))
    code = (
        "import resource, sys; from scratchgan import cli; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "sys.exit(cli.main(['train', '--resume', 'a', '--steps', '4']))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr.count("\n") == 1 and "cannot be written: File too large" in process.stderr
    assert last_state(Path("a")) == before and not list(Path("a").rglob(".*.tmp"))


# Mistakes: one line, status 2, nothing left behind

MISTAKES = [
    (["trian"], "'trian' is no command; did you mean train?"),
    ([], "required"),
    (["train"], "the name of a GAN is missing"),
    (["train", "dcgam"], "did you mean dcgan?"),
    (["train", "gan", "--data", "rign"], "did you mean ring?"),
    (["train", "gan", "--data", "missing.npz"], "missing.npz"),
    (["train", "gan", "--data", "ring", "--steps", "many"], "argument --steps: 'many' is no integer"),
    (["train", "gan", "--data", "ring", "--steps", "-1"], "steps=-1: expected an integer from 0"),
    (["train", "gan", "--data", "ring", "--steps", "1", "--epochs", "1"], "not allowed with"),
    (["train", "gan", "--data", "ring", "--batch-size", "0"], "batch_size=0"),
    (
        ["train", "gan", "--data", "ring", "--batch-size", "100001"],
        "batch_size=100001: expected an integer from 1 to 90000",
    ),
    (["train", "gan", "--data", "ring", "--lr", "0"], "lr=0.0: expected a number above 0"),
    (["train", "gan", "--data", "ring", "--lr", "nan"], "argument --lr: 'nan' is no finite number"),
    (["train", "gan", "--data", "ring", "--size", "32"], "size"),
    (["train", "gan", "--data", "ring", "--held-out", "1"], "held_out=1.0: expected a number of at least 0"),
    (["train", "gan", "--data", "ring", "--log-every", "-1"], "log_every=-1: expected an integer from 0"),
    (["train", "gan", "--data", "ring", "--eval-metrics", "modes"], "say how often with --eval-every"),
    (["train", "gan", "--data", "ring", "--eval-every", "5", "--eval-metrics", "mods"], "did you mean modes?"),
    (["train", "dcgan", "--data", "digits", "--size", "30"], "30"),
    (["train", "dcgan", "--data", "ring"], "data of shape (2,), expected square images"),
    (["train", "gan", "--data", "ring", "--seed", "-1"], "error: seed=-1: expected an integer of at least 0\n"),
    (
        ["train", "gan", "--data", "ring", "--device", "tpu"],
        "device 'tpu' is unknown: expected 'cpu' or 'cuda'",
    ),
    (["train", "gan", "--data", "ring", "--graph"], "--graph is a GPU's: expected --device cuda beside it"),
    (["train", "gan", "--data", "ring", "--bacth-size", "3"], "unrecognized arguments: --bacth-size 3"),
    (["train", "gan", "--data", "ring", "--set", "latnet=3"], "'latnet' is no setting; did you mean latent?"),
    (["train", "gan", "--data", "ring", "--set", "latent"], "--set latent: expected key=value"),
    (
        ["train", "gan", "--data", "ring", "--set", "latent=x"],
        "'x' is no value for latent, expected an integer",
    ),
    (["train", "gan", "--data", "ring", "--set", "latent=0"], "latent=0: expected a number of at least 1"),
    (
        ["train", "gan", "--data", "ring", "--set", "latent=1000000000000"],
        "gan cannot be built with these settings",
    ),
    (["train", "gan", "--data", "ring", "--set", "k=0"], "k=0: expected a number of at least 1"),
    (["train", "gan", "--data", "ring", "--set", "lr=1", "--lr", "2"], "lr is given twice"),
    (["train", "gan", "--data", "ring", "--set", "betas=1,2,3"], "expected a number,a number"),
    (["train", "gan", "--data", "ring", "--set", "betas=0.5,2"], "betas=(0.5, 2.0): expected numbers"),
    (["train", "gan", "--data", "ring", "--set", "ema_decay=2"], "ema_decay=2.0: expected"),
    (["train", "gan", "--data", "ring", "--set", "d_dropout=2"], "d_dropout=2.0: expected"),
    (["train", "gan", "--data", "ring", "--resume"], "runs/gan-ring-seed0: is no run folder"),
    (["train", "--resume", "gan"], "--resume gan: no such folder"),
    (["train", "gan", "--resume", "a", "--out", "b"], "expected one folder, not two"),
    (["sample", "nowhere"], "nowhere: is no run folder"),
    (["sample", "nowhere", "--out", "x.jpg"], "--out x.jpg: expected a file that ends in .png or .npz"),
    (["sample", "nowhere", "--n", "0"], "--n 0: expected an integer from 1"),
    (["check", "tnah"], "did you mean tanh?"),
    (["list", "ganx"], "did you mean gan?"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing_behind(arguments, message, capsys):
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("scratchgan: error: ") and shown.err.count("\n") == 1
    assert message in shown.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "more, message",
    [
        (["--lr", "0.5"], "its run has lr 0.001, not 0.5"),
        (["--seed", "1"], "its run has seed 0, not 1"),
        (["--held-out", "0.2"], "its run has held_out 0.1, not 0.2"),
        (["--data", "grid"], "its run has data 'ring', not 'grid'"),
        (["--set", "latent=9"], "its run has latent 2, not 9"),
    ],
)
def test_a_resumed_run_keeps_its_settings(more, message, capsys):
    assert run(*RING, "--steps", "1", "--out", "a") == 0
    before = Path("a/config.json").read_bytes()
    assert run("train", "--resume", "a", *more) == 2
    assert message in capsys.readouterr().err
    assert run("train", "wgan_gp", "--resume", "a") == 2
    assert "its run has GAN 'gan', not 'wgan_gp'" in capsys.readouterr().err
    assert Path("a/config.json").read_bytes() == before


def test_a_run_is_not_overwritten(capsys):
    assert run(*RING, "--steps", "1") == 0
    before = last_state(Path("runs/gan-ring-seed0"))
    assert run(*RING, "--steps", "1") == 2
    assert (
        "exists already; continue it with --resume, or choose another folder with --out"
        in capsys.readouterr().err
    )
    assert last_state(Path("runs/gan-ring-seed0")) == before


def test_a_checkpoint_of_another_model_is_refused(capsys):
    assert run(*RING, "--steps", "1", "--out", "a") == 0
    config = Path("a/config.json")
    config.write_text(config.read_text().replace('"latent": 2', '"latent": 3'))
    for command in (["sample", "a"], ["train", "--resume", "a"]):
        assert run(*command) == 2
        assert "a/checkpoint/checkpoint.json: is of another model: 'generator/" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(capsys):
    Path("file").write_text("")
    assert run(*RING, "--steps", "1", "--out", "file/a") == 2
    assert "file/a: cannot be made: Not a directory" in capsys.readouterr().err


def test_divergence_has_status_1_and_keeps_the_checkpoint(capsys):
    assert run(*RING, "--steps", "400", "--lr", "1e30", "--out", "a") == 1
    shown = capsys.readouterr().err
    assert shown.startswith("scratchgan: error: step ") and shown.count("\n") == 1
    assert np.isfinite(
        checkpoint.load(Path("a/checkpoint")).state["parts"]["generator"]["layers.0.weight"]
    ).all()


# Settings


@dataclasses.dataclass(frozen=True)
class Example:
    n: int = 1
    x: float = 1.0
    flag: bool = False
    word: str = "a"
    size: int | None = None
    widths: tuple[int, ...] = (1,)
    betas: tuple[float, float] = (0.5, 0.9)


@pytest.mark.parametrize(
    "pair, value",
    [
        ("n=-3", -3),
        ("x=1e-3", 1e-3),
        ("x=2", 2.0),
        ("flag=Yes", True),
        ("flag=0", False),
        ("word=b=c", "b=c"),
        ("word=", ""),
        ("size=none", None),
        ("size=8", 8),
        ("widths=4,5,6", (4, 5, 6)),
        ("betas=0,0.9", (0.0, 0.9)),
    ],
)
def test_settings_are_typed_by_their_fields(pair, value):
    found = settings.parse_pairs(Example, [pair])[pair.partition("=")[0]]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "pair, expected",
    [
        ("n=1.5", "an integer"),
        ("n=none", "an integer"),
        ("x=inf", "a number"),
        ("flag=maybe", "true or false"),
        ("size=x", "an integer or none"),
        ("widths=", "an integer,an integer,..."),
        ("betas=1", "a number,a number"),
    ],
)
def test_settings_of_another_type_are_refused(pair, expected):
    key, _, text = pair.partition("=")
    with pytest.raises(UserError) as caught:
        settings.parse_pairs(Example, [pair])
    assert str(caught.value) == f"--set {pair}: {text!r} is no value for {key}, expected {expected}"
