"""Checkpoints: the same bits come back, a crash or a full disk leaves the old pair, and damage is named."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from scratchgan import checkpoint, storage
from scratchgan.backend import Streams
from scratchgan.errors import UserError
from scratchgan.tensor import Tensor


def state(offset: float = 0.0) -> dict:
    """A tree with everything that states hold."""
    weight = np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(offset)
    return {
        "net": {"0.weight": Tensor(weight.T), "0.count": np.array(7, np.int64), "empty": np.zeros((0, 2))},
        "optimizer": {
            "state": {0: {"step": 3, "m": weight * 2}, 1: {}},
            "param_groups": [{"betas": (0.5, 0.999), "lr": 2e-4}],
        },
        "streams": Streams(5).state_dict(),
        "none": None,
        "flag": True,
    }


def assert_same(a, b) -> None:
    if isinstance(a, Tensor):
        a = a._array
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape) and np.array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert type(a) is type(b) and a == b


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_round_trip_keeps_every_bit_type_and_key(tmp_path):
    streams = Streams(5)
    streams["noise"].standard_normal(3)
    saved = {**state(), "streams": streams.state_dict()}
    checkpoint.save(tmp_path, 12, saved)
    found = checkpoint.load(tmp_path)
    assert found.step == 12 and found.path == tmp_path / "checkpoint.json"
    assert_same(saved, found.state)
    found.state["net"]["0.weight"][...] = 0  # loaded arrays can be written to


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        checkpoint.save(tmp_path / name, 3, state())
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_only_the_newest_pair_remains(tmp_path):
    (tmp_path / ".step_000001-0123.safetensors.tmp").write_bytes(b"left by a killed process")
    checkpoint.save(tmp_path, 1, state(1))
    checkpoint.save(tmp_path, 2, state(2))
    assert len(files(tmp_path)) == 2
    assert_same(state(2), checkpoint.load(tmp_path).state)


class Crash(BaseException):
    """Stands for SIGKILL: nothing handles it."""


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_crash_at_any_moment_leaves_a_complete_pair(tmp_path, monkeypatch, function, call):
    checkpoint.save(tmp_path, 1, state(1))
    calls, true_function = [], getattr(os, function)

    def crashing(*args):
        calls.append(args)
        if len(calls) == call:
            raise Crash
        return true_function(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, crashing)
        try:
            checkpoint.save(tmp_path, 2, state(2))
        except Crash:
            pass
    found = checkpoint.load(tmp_path)
    assert_same(state(found.step), found.state)
    checkpoint.save(tmp_path, 3, state(3))
    assert len(files(tmp_path)) == 2  # nothing of the crash is left


@pytest.mark.parametrize("call", [1, 3])  # the arrays' file, the JSON
def test_a_full_disk_is_named_and_the_previous_checkpoint_stands(tmp_path, monkeypatch, call):
    checkpoint.save(tmp_path, 1, state(1))
    before, calls, fsync = files(tmp_path), [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written: No space left on device"):
        checkpoint.save(tmp_path, 2, state(2))
    assert before.items() <= files(tmp_path).items()
    assert not list(tmp_path.glob(".*"))
    assert_same(state(1), checkpoint.load(tmp_path).state)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file.*cannot be made"):
        checkpoint.save(tmp_path / "file" / "checkpoint", 1, state())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_refused_by_name(tmp_path, bad):
    checkpoint.save(tmp_path, 1, state(1))
    with pytest.raises(checkpoint.Diverged, match="step 2: net/0.weight holds NaN"):
        checkpoint.save(tmp_path, 2, state(bad))
    assert checkpoint.load(tmp_path).step == 1


def test_what_cannot_be_kept_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match="net/odd is of type set"):
        checkpoint.save(tmp_path, 1, {"net": {"odd": {1, 2}}})
    assert not files(tmp_path)


def damage_missing(folder: Path) -> None:
    (folder / checkpoint.NAME).unlink()


def damage_truncated_json(folder: Path) -> None:
    path = folder / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-10])


def damage_format(folder: Path) -> None:
    edit(folder, lambda d: d.update(format=99))


def damage_json_kind(folder: Path) -> None:
    (folder / checkpoint.NAME).write_text("[1]")


def damage_step(folder: Path) -> None:
    edit(folder, lambda d: d.update(step="many"))


def damage_outside(folder: Path) -> None:
    edit(folder, lambda d: d["arrays"].update(file="../other.safetensors"))


def damage_reference(folder: Path) -> None:
    edit(folder, lambda d: d["state"]["net"].update(more={"$array": "nowhere"}))


def damage_unreferenced(folder: Path) -> None:
    edit(folder, lambda d: d["state"]["net"].pop("empty"))


def damage_truncated_arrays(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])


def damage_altered_arrays(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_lost_arrays(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def edit(folder: Path, change) -> None:
    path = folder / checkpoint.NAME
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "damage, message",
    [
        (damage_missing, "checkpoint.json: cannot be read: No such file"),
        (damage_truncated_json, "checkpoint.json: is no JSON"),
        (damage_format, "format 99, expected a checkpoint of format 1"),
        (damage_json_kind, "format None, expected"),
        (damage_step, "checkpoint.json: is damaged: expected step"),
        (damage_outside, "checkpoint.json: is damaged"),
        (damage_reference, "is damaged: its state does not fit .*nowhere"),
        (damage_unreferenced, "does not mention the array 'net/empty'"),
        (damage_truncated_arrays, r"safetensors: has \d+ bytes, expected \d+"),
        (damage_altered_arrays, "safetensors: its content was altered"),
        (damage_lost_arrays, "safetensors: cannot be read: No such file"),
    ],
)
def test_damage_is_named(tmp_path, damage, message):
    checkpoint.save(tmp_path, 1, state())
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pair_that_a_training_replaces_meanwhile_is_read_again(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, state(1))
    read, calls = checkpoint._read_document, []

    def read_then_replace(path):
        document = read(path)
        calls.append(path)
        if len(calls) == 1:
            checkpoint.save(tmp_path, 2, state(2))
        return document

    monkeypatch.setattr(checkpoint, "_read_document", read_then_replace)
    found = checkpoint.load(tmp_path)
    assert found.step == 2
    assert_same(state(2), found.state)


class Part:
    """The least that a checkpoint asks of a part."""

    def __init__(self, **arrays):
        self.arrays = arrays

    def state_dict(self):
        return self.arrays

    def load_state_dict(self, arrays):
        if "refused" in arrays:
            raise RuntimeError("refused it")
        self.arrays = arrays


def test_restore_loads_parts():
    part, weight = Part(w=np.zeros(3, np.float32)), np.ones(3, np.float32)
    checkpoint.restore({"g": part}, {"g": {"w": weight}}, Path("c.json"))
    assert part.arrays["w"] is weight


@pytest.mark.parametrize(
    "states, message",
    [
        ({"d": {}}, "holds d, expected g"),
        (None, "holds None, expected g"),
        ({"g": {}}, "lacks 'g/w'"),
        ({"g": {"w": np.zeros(3, np.float32), "b": np.zeros(1)}}, "holds 'g/b'"),
        ({"g": {"w": np.zeros(4, np.float32)}}, r"'g/w' is float32 \(4,\), expected float32 \(3,\)"),
        ({"g": {"w": np.zeros(3)}}, r"'g/w' is float64 \(3,\), expected float32 \(3,\)"),
        ({"g": {"w": np.zeros(3, np.float32), "refused": None}}, "g: refused it"),
    ],
)
def test_restore_refuses_another_model(states, message):
    with pytest.raises(UserError, match="c.json: is of another model: .*" + message):
        checkpoint.restore({"g": Part(w=np.zeros(3, np.float32))}, states, Path("c.json"))


def test_streams_that_were_handed_out_go_back_too():
    streams = Streams(3)
    noise, late = streams["noise"], streams["late"]
    late_first = late.standard_normal()
    state = Streams(3).state_dict()
    state["streams"]["noise"] = noise.bit_generator.state
    expected = noise.standard_normal(4)
    streams.load_state_dict(state)
    assert np.array_equal(noise.standard_normal(4), expected)
    assert late.standard_normal() == late_first  # had not begun in that state


def test_two_processes_do_not_share_a_folder(tmp_path):
    with storage.owned(tmp_path):
        with pytest.raises(UserError, match="another process is training in this folder"):
            with storage.owned(tmp_path):
                pass
    with storage.owned(tmp_path):
        pass
