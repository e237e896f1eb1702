"""Files that are whole or not there, and folders that one process owns.

A file is written under a temporary name beside its own, synced to the disk and renamed, so a crash at any
moment leaves the old content or the new, never a part. What the system refuses (a full disk, a read-only
folder) becomes a UserError.
"""
from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from scratchgan.errors import UserError

try:
    import fcntl
except ImportError:         # not a POSIX system
    fcntl = None


@contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError inside into the UserError "`path`: cannot be `doing`: why"."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be {doing}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` by one with `content`. Raises UserError; the old file is intact then, and
    nothing is left over."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path, "written"):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """As `write_atomically`, an .npz of these arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_atomically(path, file.getvalue())


def read_json(path: Path) -> Any:
    """The JSON document at `path`. Raises UserError where it cannot be read or is none."""
    with disk_errors(path, "read"):
        content = path.read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:       # the latter for brackets in brackets without end
        raise UserError(f"{path}: is no JSON: {error}") from error


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut; POSIX alone can open a folder for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create `folder` and the folders above it, unless they are there."""
    with disk_errors(folder, "made"):
        folder.mkdir(parents=True, exist_ok=True)


def check_parent(path: Path) -> None:
    """Raise UserError unless a file at `path` has a folder to be in; for results that take long to compute."""
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else f'there is no folder {path.parent}'}, "
                        "expected the path of a file to write")


def entries(folder: Path) -> list[str]:
    """Names in `folder`, without the temporary files that a killed process may have left."""
    with disk_errors(folder, "read"):
        names = sorted(p.name for p in folder.iterdir())
    return [name for name in names if not (name.startswith(".") and name.endswith(".tmp"))]


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second process that would write to it; the system lets go of it when this one
    dies.

    Raises UserError where another process holds it. Without POSIX locks nothing is held.
    """
    if fcntl is None:
        yield
        return
    with disk_errors(folder, "opened"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: another process is training in this folder; "
                            "wait for it, stop it, or choose another folder with --out") from None
        yield
    finally:
        os.close(descriptor)
