"""Damaged files, wrong arguments, lying headers: a UserError of one line, nothing else, no memory taken."""
from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scratchgan.data import load
from scratchgan.errors import UserError
from tests.data_files import LABELS, PIXELS, assert_sound, cifar, idx, npz, picture


def with_value(value, index):
    samples = np.zeros((4, 3, 5, 5), np.float32)
    samples[index, 0, 1, 2] = value
    return samples


def idx_header(*shape, magic=b"\0\0\x08"):
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def zip_of(compression=zipfile.ZIP_DEFLATED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for key, data in members.items():
            archive.writestr(f"{key}.npy", data)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0"):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def broken_data(archive: bytes) -> bytes:
    """The archive with one byte of its first member's data changed, so that only the checksum tells."""
    at = archive.index(PIXELS.tobytes()) + 3
    return archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1:]


def header(shape, descr="<f4"):
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"


OBJECTS = npz(x=np.array([{}, []], dtype=object))
FLAT = np.zeros((2, 3), np.float32)

# file name, its bytes, what the message must say besides the file's name
MALFORMED = [
    ("a.idx", b"", "magic missing, expected 00000803"),
    ("a.idx", idx(LABELS), "magic 00000801, expected 00000803"),
    ("a.idx", idx_header(6, 5, 7, magic=b"\0\0\x0d") + PIXELS.tobytes(), "magic 00000d03"),
    ("a.idx", idx(PIXELS)[:12], "header ends after 12 bytes, expected 16"),
    ("a.idx", idx(PIXELS)[:-1], r"expected 210 bytes .* shape \(6, 5, 7\), found 209"),
    ("a.idx", idx(PIXELS) + b"\0", "expected 210 bytes .* found more"),
    ("a.idx", idx_header(0, 5, 7), r"shape \(0, 5, 7\), expected no axis of length 0"),
    ("a.idx", idx_header(6, 5, 0), "no axis of length 0"),
    ("a.idx.gz", gzip.compress(idx(PIXELS)[:-1]), "expected 210 bytes .* found 209"),
    ("a.idx.gz", gzip.compress(idx(PIXELS) + b"\0"), "expected 210 bytes .* found more"),
    ("a.idx.gz", gzip.compress(idx(PIXELS))[:-9], "not a readable IDX file: "),
    ("a.idx.gz", gzip.compress(idx(PIXELS))[:-8] + b"\0" * 8, "not a readable IDX file: CRC"),
    ("a.idx.gz", gzip.compress(idx(PIXELS)) + b"junk", "not a readable IDX file: Not a gzipped file"),
    ("a.idx.gz", gzip.compress(idx_header(2**32 - 1, 2**32 - 1, 9)), "expected .* bytes .* found at most"),
    ("a.bin", b"", "holds 0 bytes, expected a multiple of 3073"),
    ("a.bin", cifar([1, 2])[:-1], "holds 6145 bytes, expected a multiple of 3073"),
    ("a.bin", cifar([1, 10]), "record 1 has label 10"),
    ("a.npz", b"", "not a readable .npz archive: .*not a zip file"),
    ("a.npz", npz(x=PIXELS)[:-30], "not a readable .npz archive"),
    ("a.npz", broken_data(npz(x=PIXELS)), "not a readable .npz archive: .*CRC"),
    ("a.npz", npz(weights=PIXELS, b=PIXELS), "holds weights, b, expected samples under x, images, samples, "),
    ("a.npz", npz(), "holds no arrays"),
    ("a.npz", OBJECTS, "x holds Python objects"),
    ("a.npz", npz(x=np.zeros(2, [("a", object)])), "x holds Python objects"),
    ("a.npz", npz(x=PIXELS, y=np.array(list("abcdef"), object)), "y holds Python objects"),
    ("a.npz", npz(x=np.array(list("abc"))), "samples have shape"),
    ("a.npz", npz(x=np.array([list("abc")])), "dtype <U1, expected uint8 images or floats"),
    ("a.npz", npz(x=PIXELS.astype(np.int64)), "dtype int64"),
    ("a.npz", npz(x=PIXELS > 3), "dtype bool"),
    ("a.npz", npz(x=FLAT.astype(complex)), "dtype complex128"),
    ("a.npz", npz(x=np.float32(3)), r"shape \(\)"),
    ("a.npz", npz(x=np.zeros(7, np.float32)), r"shape \(7,\)"),
    ("a.npz", npz(x=np.zeros((0, 4, 4), np.uint8)), r"shape \(0, 4, 4\)"),
    ("a.npz", npz(x=np.zeros((3, 0), np.float32)), r"shape \(3, 0\)"),
    ("a.npz", npz(x=np.zeros((2, 4, 4, 4), np.uint8)), r"shape \(2, 4, 4, 4\), expected"),
    ("a.npz", npz(x=np.zeros((2, 3, 4, 3), np.uint8)), "which could be either"),
    ("a.npz", npz(x=np.zeros((2, 1, 3, 4, 4), np.float32)), "expected"),
    ("a.npz", npz(x=np.zeros((2, 9), np.uint8)), r"shape \(2, 9\)"),
    ("a.npz", npz(x=with_value(np.nan, 2)), "sample 2 holds NaN or infinity"),
    ("a.npz", npz(x=with_value(-np.inf, 3)), "sample 3 holds NaN or infinity"),
    ("a.npz", npz(x=np.array([[0.0], [1e300]])), "sample 1 holds NaN or infinity"),
    ("a.npz", npz(x=with_value(-2, 0)), r"images span \[-2, 0\], expected"),
    ("a.npz", npz(x=with_value(255.5, 0)), r"images span \[0, 255.5\], expected"),
    ("a.npz", npz(x=PIXELS, y=LABELS[:5]), r"labels have shape \(5,\), expected one for each of 6"),
    ("a.npz", npz(x=PIXELS, y=LABELS[:, None]), r"labels have shape \(6, 1\)"),
    ("a.npz", npz(x=PIXELS, y=LABELS.astype(float)), "labels have dtype float64, expected integers"),
    ("a.npz", npz(x=PIXELS, y=LABELS.astype(int) - 1), "sample 1 has label -1"),
    ("a.npz", npz(x=FLAT, y=np.array([0, 2**63], np.uint64)), "label 9223372036854775808 found"),
    ("a.npz", npz(x=FLAT, y=np.array([0, 10**6])), "label 1000000 found"),
    ("a.npz", zip_of(x=npy(header((10**9, 10**9)))), "expected 4000000000000000000 bytes, found 0"),
    ("a.npz", zip_of(x=npy(header((2, -2), "<f4"), bytes(16))), "expected -16 bytes, found 16"),
    ("a.npz", zip_of(x=npy(header((-2, -2), "<f4"), bytes(16))), "not a readable .npz archive"),
    ("a.npz", zip_of(x=npy(header("2,"), bytes(8))), "not a readable .npz archive"),
    ("a.npz", zip_of(x=npy("__import__('os').abort()", bytes(8))), "not a readable .npz archive"),
    ("a.npz", zip_of(x=npy(header((2, 2)), bytes(16), b"\3\0")), r"version \(3, 0\)"),
    ("a.npz", zip_of(x=npy(header((2, 2)) + " " * 20000)), "not a readable .*: ValueError Header info"),
    ("a.npz", zip_of(x=npy("{'descr': 1if}")), "not a readable .npz archive"),  # makes Python's parser warn
    ("a.npz", zip_of(x=b"no array"), "not a readable .npz archive"),
    ("a.npz", zip_of(zipfile.ZIP_LZMA, x=npy(header((2, 2)), bytes(16))), "zip compression 14"),
    ("a.csv", b"1,2,3", "unknown format, expected .npz"),
    ("a", b"", "unknown format"),
]


@pytest.mark.parametrize("name, data, message", MALFORMED, ids=[f"{n} {m}" for n, _, m in MALFORMED])
def test_malformed_file(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    refused(message, tmp_path / name)


def refused(message, path, **options):
    """`load` raises a UserError of one line that names the file and matches `message`."""
    with warnings.catch_warnings(record=True) as warned, pytest.raises(UserError, match=message) as caught:
        warnings.simplefilter("always")
        load(path, **options)
    assert not warned
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and "UserError" not in text


RED = Image.new("RGB", (40, 30), "red")
_ihdr = b"IHDR" + struct.pack(">II", 9000, 9000) + picture(RED)[24:29]
LYING_PNG = picture(RED)[:12] + _ihdr + struct.pack(">I", zlib.crc32(_ihdr)) + picture(RED)[33:]
PICTURES = [
    ("a.png", b"", "cannot identify"),
    ("a.png", b"these are words", "cannot identify"),
    ("a.jpg", idx(PIXELS), "cannot identify"),
    ("a.png", picture(RED, "GIF"), "cannot identify"),
    ("a.png", picture(RED, "TIFF"), "cannot identify"),
    ("a.png", picture(RED)[:60], "not a readable image"),
    ("a.jpg", picture(RED, "JPEG")[:-40], "not a readable image: .*[Tt]runcated"),
    ("a.bmp", picture(RED, "BMP")[:-400], "truncated"),
    ("a.webp", picture(RED, "WEBP")[:-40], "not a readable image"),
    ("a.png", picture(Image.new("1", (10000, 10000))), "decompression bomb"),
    ("a.png", picture(Image.new("1", (14000, 14000))), "decompression bomb"),
    ("a.png", LYING_PNG, "declares 9000 x 9000 pixels, more than its [0-9]+ bytes can hold"),
]


@pytest.mark.parametrize("name, data, message", PICTURES, ids=[f"{n} {m}" for n, _, m in PICTURES])
def test_malformed_picture(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_broken_picture_further_on_is_named_when_its_turn_comes(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(RED))
    (tmp_path / "b.png").write_bytes(b"broken")
    dataset = load(tmp_path)
    assert dataset.get([0]).shape == (1, 3, 64, 64)
    with pytest.raises(UserError, match="b.png: not a readable image"):
        dataset.get([0, 1])


def test_folder_without_pictures(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("words")
    refused("no pictures found, expected files ending in .png", tmp_path)


def test_folder_with_pictures_beside_classes(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("a.png", "cat/b.png"):
        (tmp_path / name).write_bytes(picture(RED))
    refused(r"holds pictures \(a.png\) beside folders of pictures \(cat\)", tmp_path)


# Arguments

@pytest.mark.parametrize("name, near", [("mnsit5k", "mnist5k"), ("digit", "digits"),
                                        ("swiss-roll", "swissroll"), ("Ring", "ring")])
def test_unknown_name_offers_the_nearest(name, near):
    named = "mnist5k, digits, stacked_mnist, photographs, ring, grid, swissroll"
    refused(f"no such file or folder.*{named}.*did you mean {near}\\?", name)


@pytest.mark.parametrize("name", ["", "qqqq", "/no/such/folder/x.npz", "nul\0byte"])
def test_unknown_name_without_a_near_one(name):
    with pytest.raises(UserError, match=r"no such file or folder.*swissroll\)$"):
        load(name)


@pytest.mark.parametrize("size", [0, -1, 1025, 2.0, "32", True])
@pytest.mark.parametrize("name", ["digits", "ring"])
def test_size_is_checked(name, size):
    with pytest.raises(UserError, match="size=.*expected an integer from 1 to 1024"):
        load(name, size=size)


def test_points_have_no_size(tmp_path):
    refused("got size=32", "ring", size=32)
    (tmp_path / "a.npz").write_bytes(npz(x=FLAT))
    refused("size=32 is for images", tmp_path / "a.npz", size=32)


def test_labels_go_with_idx_only(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(x=FLAT))
    refused("got labels='y'", "mnist5k", labels="y")
    refused("got labels='y'", tmp_path / "a.npz", labels="y")


@pytest.mark.parametrize("labels, message", [(idx(LABELS[:5]), r"labels have shape \(5,\), expected one for"),
                                             (idx(PIXELS), "magic 00000803, expected 00000801"),
                                             (None, "No such file")])
def test_idx_labels_are_checked(tmp_path, labels, message):
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(PIXELS))
    beside = tmp_path / "train-labels.idx1-ubyte"
    if labels is not None:
        beside.write_bytes(labels)
        with pytest.raises(UserError, match=message):
            load(tmp_path / "train-images.idx3-ubyte")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "train-images.idx3-ubyte", labels=beside)


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_missing_package_names_the_extra(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    refused(r"not installed: pip install 'scratchgan\[data\]'", name)


def table(grey: int, label: int, rows: int = 1797) -> str:
    return f"{grey},{'0,' * 63}{label}\n" * rows


@pytest.mark.parametrize("text, message", [(None, "not a readable table"),
                                           ("1,2\n3\n", "not a readable table"),
                                           ("1,x\n", "not a readable table"),
                                           ("1,2\n3,4\n", r"shape \(2, 2\), expected \(1797, 65\)"),
                                           (table(0, 0, rows=9), r"shape \(9, 65\), expected \(1797, 65\)"),
                                           (table(17, 0), "grey level 17 found, expected at most 16"),
                                           (table(0, 10), "sample 0 has label 10")])
def test_damaged_package_is_named(text, message, tmp_path, monkeypatch):
    class Found:
        submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("importlib.util.find_spec", lambda package: Found)
    path = tmp_path / "datasets/data/digits.csv.gz"
    path.parent.mkdir(parents=True)
    if text is not None:
        path.write_bytes(gzip.compress(text.encode()))
    refused(message, "digits")


def test_folder_in_place_of_a_file_of_labels(tmp_path):
    (tmp_path / "a.idx").write_bytes(idx(PIXELS))
    with pytest.raises(UserError, match="not a readable IDX file: Is a directory"):
        load(tmp_path / "a.idx", labels=tmp_path)


# Memory

LIES = {
    "a.idx": idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(64),
    "b.idx": idx_header(1, 2**15, 2**15) + bytes(64),
    "a.idx.gz": gzip.compress(idx_header(2**32 - 1, 28, 28) + bytes(64)),
    # As much as a gzip file of this size may hold is declared, far more than it does hold.
    "b.idx.gz": gzip.compress(idx_header(10**5, 32, 32) + np.random.default_rng(0).bytes(10**5)),
    # Little is declared, far more is there.
    "c.idx.gz": gzip.compress(idx_header(1, 8, 8) + bytes(10**8)),
    "a.npz": zip_of(x=npy(header((2**20, 2**10)), bytes(64))),
    "b.npz": zip_of(x=npy(header((2**10, 2**10), "<U1000"), bytes(64))),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_headers_take_no_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LIES[name])
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_zip_directory_that_lies_about_a_member(tmp_path):
    """The central directory declares 2 GB for a member, and the array's header agrees."""
    data = zip_of(x=npy(header((2**19, 2**10)), bytes(64)))
    at = data.index(b"PK\1\2")
    size = 2**31 + struct.unpack("<I", data[at + 24:at + 28])[0] - 64
    (tmp_path / "a.npz").write_bytes(data[:at + 24] + struct.pack("<I", size) + data[at + 28:])
    tracemalloc.start()
    try:
        refused("x declares .* bytes, more than the file can hold", tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


# Any bytes at all

@st.composite
def damaged(draw, originals):
    """One of `originals` with bytes changed, cut out, repeated or cut off; or bytes of no origin."""
    data = bytearray(draw(st.sampled_from(originals)))
    kind = draw(st.sampled_from(["change", "cut", "truncate", "insert", "random", "whole"]))
    start = draw(st.integers(0, len(data)))
    if kind == "change":
        for _ in range(draw(st.integers(1, 6))):
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    elif kind == "cut":
        del data[start:start + draw(st.integers(1, 64))]
    elif kind == "truncate":
        del data[start:]
    elif kind == "insert":
        data[start:start] = draw(st.binary(min_size=1, max_size=32))
    elif kind == "random":
        data[draw(st.integers(0, 20)):] = draw(st.binary(max_size=200))
    return bytes(data)


def sound_or_refused(path, shown=None):
    """The file loads into a sound dataset whose samples are the bytes shown(), or is refused in one line."""
    try:
        dataset = load(path)
        samples = dataset.get(range(len(dataset)))
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert_sound(dataset)
    if shown is not None:
        assert np.array_equal(np.rint((samples.ravel() + 1) * 127.5), np.frombuffer(shown(), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


fuzz = settings(max_examples=300, deadline=None, database=None)


@fuzz
@given(damaged([idx(PIXELS), idx(PIXELS[:1]), idx(LABELS)]))
def test_any_idx(folder, data):
    (folder / "a.idx").write_bytes(data)
    sound_or_refused(folder / "a.idx", lambda: data[16:])


@fuzz
@given(damaged([gzip.compress(idx(PIXELS), mtime=0), gzip.compress(idx(PIXELS), 0, mtime=0)]))
def test_any_gzipped_idx(folder, data):
    (folder / "a.idx.gz").write_bytes(data)
    sound_or_refused(folder / "a.idx.gz", lambda: gzip.decompress(data)[16:])


@fuzz
@given(damaged([idx(LABELS), gzip.compress(idx(LABELS), mtime=0)]))
def test_any_labels(folder, data):
    (folder / "train-images-idx3-ubyte").write_bytes(idx(PIXELS))
    (folder / "train-labels-idx1-ubyte").write_bytes(data)
    sound_or_refused(folder / "train-images-idx3-ubyte")


@settings(fuzz, max_examples=100)
@given(damaged([cifar([3]), cifar([0, 9, 4])]))
def test_any_cifar(folder, data):
    (folder / "a.bin").write_bytes(data)
    records = range(0, len(data), 3073)
    sound_or_refused(folder / "a.bin", lambda: b"".join(data[at + 1:at + 3073] for at in records))


@settings(fuzz, max_examples=600)
@given(damaged([npz(x=PIXELS, y=LABELS), npz(compressed=True, images=PIXELS), npz(x=FLAT, labels=LABELS[:2]),
                npz(x=np.float64(PIXELS) / 255), OBJECTS]))
def test_any_npz(folder, data):
    (folder / "a.npz").write_bytes(data)
    sound_or_refused(folder / "a.npz")


npy_headers = st.one_of(
    st.text("{}()[]',:<>|-0123456789 descrfortan_oshapTueFl4uiVUSM", max_size=120),
    st.builds(header,
              st.lists(st.integers(-3, 9) | st.just(2**40), max_size=4).map(tuple) | st.just("(2.0, 2)"),
              st.sampled_from(["<f4", ">f8", "|u1", "|b1", "|S0", "<U3", "|O", "|V4", "<M8[ns]", "(2,)<f4"])))


@fuzz
@given(npy_headers, st.binary(max_size=64))
def test_any_npy_header(folder, text, data):
    (folder / "b.npz").write_bytes(zip_of(zipfile.ZIP_STORED, x=npy(text, data)))
    sound_or_refused(folder / "b.npz")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8))
ORIGINALS = {
    "png": [picture(NOISE), picture(NOISE.convert("P")), picture(NOISE.convert("RGBA")),
            picture(NOISE.convert("1")), picture(Image.fromarray(np.full((4, 4), 999, np.uint16)))],
    "jpg": [picture(NOISE, "JPEG"), picture(NOISE.convert("L"), "JPEG", progressive=True),
            picture(NOISE.convert("CMYK"), "JPEG")],
    "webp": [picture(NOISE, "WEBP"), picture(NOISE.convert("RGBA"), "WEBP", lossless=True)],
    "bmp": [picture(NOISE, "BMP"), picture(NOISE.convert("P"), "BMP")],
}


@pytest.mark.parametrize("kind", ORIGINALS)
def test_any_picture(folder, kind):
    (folder / kind).mkdir()

    @fuzz
    @given(damaged(ORIGINALS[kind]))
    def check(data):
        (folder / kind / f"a.{kind}").write_bytes(data)
        sound_or_refused(folder / kind)
    check()
