"""Checkpoints: the whole state of a run as a pair of files, safetensors for arrays and JSON for the rest.

A state is a tree of dicts, lists and tuples whose leaves are arrays, Tensors, numbers, strings and None: what
`state_dict` of modules, optimisers, streams and batches returns. Arrays are named by their path in the tree
("generator/0.weight"); in the JSON {"$array": path} stands in their place. JSON has neither tuples nor
integer keys, so {"$tuple": [...]} and {"$items": [[key, value], ...]} stand for those.

The pair changes in one moment: the arrays are written first, to a file whose name holds their hash, then
`checkpoint.json`, which names that file, is renamed over its predecessor, and only then the predecessor's
arrays go. No pickle is read or written.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from scratchgan import storage
from scratchgan.backend import to_host
from scratchgan.errors import UserError
from scratchgan.tensor import Tensor

FORMAT = 1
NAME = "checkpoint.json"
TAGS = ("$array", "$tuple", "$items")
ARRAYS_ENTRY = {"file": str, "bytes": int, "sha256": str}


class Diverged(UserError):
    """A loss or a weight is NaN or infinite: the run cannot go on."""


class Checkpoint(NamedTuple):
    """A state as it was after `step` steps, and the file it was read from."""

    path: Path
    step: int
    state: dict


# Writing

def save(folder: Path, step: int, state: Mapping) -> None:
    """Make (step, state) the checkpoint in `folder`. The previous one stands until this one does, whatever
    happens.

    Raises Diverged for an array that holds NaN or infinity, UserError where the disk refuses; the previous
    checkpoint is intact then. Equal states give equal bytes.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _packed(state, "", arrays)
    _check_finite(step, arrays)
    content = safetensors.save(arrays)
    digest = hashlib.sha256(content).hexdigest()
    file = f"step_{step:06d}-{digest[:12]}.safetensors"
    entry = {"file": file, "bytes": len(content), "sha256": digest}
    document = {"format": FORMAT, "step": step, "arrays": entry, "state": tree}
    storage.make_folder(folder)
    storage.write_atomically(folder / file, content)
    storage.write_atomically(folder / NAME, json.dumps(document, indent=1, allow_nan=False).encode())
    _remove_others(folder, file)


def _packed(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON can hold it; its arrays go to `arrays`, by path."""
    if isinstance(value, Tensor):
        value = value._array
    if isinstance(value, Mapping):
        return _packed_dict(value, path, arrays)
    if isinstance(value, (list, tuple)):
        items = [_packed(v, _join(path, i), arrays) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if hasattr(value, "dtype"):
        arrays[path] = np.asarray(to_host(value), order="C")
        return {"$array": path}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"checkpoint: {path} is of type {type(value).__name__}, "
                    "expected an array, a number, a string, None, or a dict, list or tuple of them")


def _packed_dict(value: Mapping, path: str, arrays: dict[str, np.ndarray]) -> dict:
    items = [(k, _packed(v, _join(path, k), arrays)) for k, v in value.items()]
    if all(isinstance(k, str) and k not in TAGS for k, _ in items):
        return dict(items)
    return {"$items": [list(item) for item in items]}


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def _check_finite(step: int, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise Diverged(f"step {step}: {name} holds NaN or infinity; the checkpoint before it is kept")


def _remove_others(folder: Path, file: str) -> None:
    """Remove the arrays of earlier checkpoints and what a killed process left; the new pair stands, so
    nothing here may fail."""
    for other in [*folder.glob("step_*.safetensors"), *folder.glob(".*.tmp")]:
        if other.name != file:
            try:
                other.unlink()
            except OSError:
                pass            # the next save tries again


# Reading

def exists(folder: Path) -> bool:
    """Whether `folder` holds a checkpoint."""
    return (folder / NAME).is_file()


def load(folder: Path) -> Checkpoint:
    """The checkpoint in `folder`, its arrays in host memory, their bytes verified against the hash.

    Raises UserError, naming the file, for one that is missing, truncated, altered or of another format.
    """
    path = folder / NAME
    document, arrays = _read_pair(folder)
    used: set[str] = set()
    try:
        state = _unpacked(document["state"], arrays, used)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is damaged: its state does not fit its arrays: {error}") from error
    if used != arrays.keys():
        unused = min(arrays.keys() - used)
        raise UserError(f"{path}: is damaged: its state does not mention the array {unused!r}")
    return Checkpoint(path, document["step"], state)


def _read_pair(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The JSON document and its arrays; once more from the start where a training has replaced the pair
    meanwhile."""
    document = _read_document(folder / NAME)
    try:
        return document, _read_arrays(folder, document["arrays"])
    except UserError:
        newer = _read_document(folder / NAME)
        if newer == document:
            raise
        return newer, _read_arrays(folder, newer["arrays"])


def _read_document(path: Path) -> dict:
    document = storage.read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise UserError(f"{path}: format {found!r}, expected a checkpoint of format {FORMAT}")
    entry, step = document.get("arrays"), document.get("step")
    sound = (isinstance(entry, dict) and all(isinstance(entry.get(k), t) for k, t in ARRAYS_ENTRY.items())
             and isinstance(step, int) and step >= 0 and isinstance(document.get("state"), dict))
    if not sound or Path(entry["file"]).name != entry["file"]:
        raise UserError(f"{path}: is damaged: expected step, state and arrays with {', '.join(ARRAYS_ENTRY)}")
    return document


def _read_arrays(folder: Path, entry: dict) -> dict[str, np.ndarray]:
    path = folder / entry["file"]
    with storage.disk_errors(path, "read"):
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise UserError(f"{path}: has {size} bytes, expected {entry['bytes']}")
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise UserError(f"{path}: its content was altered: SHA-256 differs from the one in {NAME}")
    try:
        views = safetensors.load(content)
    except SafetensorError as error:
        raise UserError(f"{path}: is no safetensors file: {error}") from error
    return {name: view.copy() for name, view in views.items()}      # views of the bytes cannot be written to


def _unpacked(value: Any, arrays: dict[str, np.ndarray], used: set[str]) -> Any:
    """The inverse of `_packed`; notes the arrays it meets in `used`."""
    if isinstance(value, list):
        return [_unpacked(v, arrays, used) for v in value]
    if not isinstance(value, dict):
        return value
    if "$array" in value:
        used.add(value["$array"])
        return arrays[value["$array"]]
    if "$tuple" in value:
        return tuple(_unpacked(value["$tuple"], arrays, used))
    items = value["$items"] if "$items" in value else value.items()
    return {k: _unpacked(v, arrays, used) for k, v in items}


# Restoring

def restore(parts: Mapping[str, Any], states: Any, path: Path) -> None:
    """Load `states[name]` into `parts[name]`, objects with `state_dict` and `load_state_dict`.

    Raises UserError, naming `path`, where the states are not those of these parts: other names, shapes or
    dtypes. An optimiser that has not stepped yet holds no arrays and is compared by its own
    `load_state_dict`.
    """
    if not isinstance(states, dict) or states.keys() != parts.keys():
        found = ", ".join(states) if isinstance(states, dict) else repr(states)
        raise UserError(f"{path}: is of another model: holds {found}, expected {', '.join(parts)}")
    for name, part in parts.items():
        _check_alike(name, part.state_dict(), states[name], path)
        try:
            part.load_state_dict(states[name])
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise UserError(f"{path}: is of another model: {name}: {error}") from error


def _check_alike(name: str, own: Any, found: Any, path: Path) -> None:
    ours, theirs = {}, {}
    _packed(own, name, ours)
    _packed(found, name, theirs)
    if not ours:
        return
    for key in sorted(ours.keys() ^ theirs.keys()):
        verb = "lacks" if key in ours else "holds"
        raise UserError(f"{path}: is of another model: it {verb} {key!r}")
    for key, array in ours.items():
        if (array.shape, array.dtype) != (theirs[key].shape, theirs[key].dtype):
            raise UserError(f"{path}: is of another model: {key!r} is {theirs[key].dtype} {theirs[key].shape}"
                            f", expected {array.dtype} {array.shape}")
