"""Reading files that may be anything: every failure becomes one UserError that names the file."""
from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from scratchgan.errors import UserError

# No deflate stream holds more bytes per byte than this (zlib's technical details, "Maximum Compression
# Factor"), so a declared length can be judged by the file's size before a byte is unpacked.
MAX_INFLATION = 1032

_CHUNK = 1 << 20


@contextmanager
def reading(path: str, what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a UserError: "`path`: not a readable `what`: ...".

    Warnings are muted: what decoders warn of is readable all the same, or the error tells of it.
    It catches Exception because decoders (Pillow, zipfile, zlib, NumPy's header parser) answer damaged bytes
    with nearly any type, SyntaxError, struct.error and MemoryError among them; only decoding belongs inside.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: not a readable {what}: {_one_line(error.strerror or error)}") from error
    except Exception as error:
        reason = f"{type(error).__name__} {_one_line(error)}".rstrip()
        raise UserError(f"{path}: not a readable {what}: {reason}") from error


def read_at_most(stream: BinaryIO, count: int) -> bytearray:
    """The next `count` bytes, fewer at the end; memory grows with what is there, not with `count`."""
    data = bytearray()
    while len(data) < count:
        chunk = stream.read(min(_CHUNK, count - len(data)))
        if not chunk:
            break
        data += chunk
    return data


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
