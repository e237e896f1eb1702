"""TensorBoard event files of a run, in RUN/tensorboard/: the scalars of metrics.jsonl and the grids of
samples.

An event file is a row of records (TFRecord): the length in 8 bytes, its checksum, the data, their checksum.
The data are an `Event` in the protocol buffers' encoding, of which three kinds of fields are needed:

    event.proto     Event: wall_time = 1 (double), step = 2, file_version = 3, summary = 5, session_log = 7
                    SessionLog: status = 1 (START is 1)
    summary.proto   Summary: value = 1; Value: tag = 1, simple_value = 2 (float), image = 4
                    Image: height = 1, width = 2, colorspace = 3 (channels), encoded_image_string = 4

A resumed run goes on in a file of its own, which begins by telling TensorBoard to forget what earlier files
hold from that step on.
"""
from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from scratchgan import storage

FOLDER = "tensorboard"
NO_SCALARS = ("step", "seconds")


class EventFile:
    """The event file of one session of training, which goes on after `last_step`."""

    def __init__(self, folder: Path, last_step: int):
        storage.make_folder(folder)
        # TensorBoard reads files in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() // 10**6:013d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        with storage.disk_errors(self.path, "opened"):
            self._file = open(self.path, "ab")
        self._write(0, text(3, b"brain.Event:2"))
        if last_step:
            self._write(last_step + 1, text(7, integer(1, 1)))

    def scalars(self, row: Mapping[str, float]) -> None:
        """The scalars of a row of metrics.jsonl, under their names there."""
        values = [text(1, text(1, name.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
                  for name, value in row.items() if name not in NO_SCALARS]
        self._write(row["step"], text(5, b"".join(values)))

    def picture(self, path: Path, step: int) -> None:
        """The PNG at `path`, as "samples"."""
        from PIL import Image
        with storage.disk_errors(path, "read"):
            content = path.read_bytes()
            with Image.open(path) as picture:
                width, height, channels = *picture.size, len(picture.getbands())
        image = integer(1, height) + integer(2, width) + integer(3, channels) + text(4, content)
        self._write(step, text(5, text(1, text(1, b"samples") + text(4, image))))

    def _write(self, step: int, content: bytes) -> None:
        event = struct.pack("<Bd", 1 << 3 | 1, time.time()) + integer(2, step) + content
        length = struct.pack("<Q", len(event))
        with storage.disk_errors(self.path, "written"):
            self._file.write(length + masked_crc(length) + event + masked_crc(event))

    def sync(self) -> None:
        """Put everything on the disk."""
        with storage.disk_errors(self.path, "written"):
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing may follow."""
        with storage.disk_errors(self.path, "written"):
            self._file.close()


# Protocol buffers: a field is its number and kind, then its value

def varint(value: int) -> bytes:
    """A whole number >= 0 in groups of seven bits, the lowest first; the top bit says that more follow."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def integer(field: int, value: int) -> bytes:
    """A field that holds a whole number >= 0."""
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes) -> bytes:
    """A field that holds bytes: text, or a message within."""
    return varint(field << 3 | 2) + varint(len(value)) + value


# Checksums

@lru_cache(maxsize=1)
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(content: bytes) -> int:
    """The cyclic redundancy check with Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(content: bytes) -> bytes:
    """The checksum as records hold it: turned by 15 bits, plus a constant, 4 bytes."""
    crc = crc32c(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
