"""Pictures as arrays (N, C, H, W), C 1 or 3, in [-1, 1]; decoding, cropping and resizing with Pillow."""
from __future__ import annotations

import os
import warnings

import numpy as np
from PIL import Image, ImageOps

from scratchgan.data.dataset import Dataset, Spec, count_classes
from scratchgan.data.files import MAX_INFLATION, reading
from scratchgan.errors import UserError

MAX_SIZE = 1024
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # the decoders that may see a file's bytes; Pillow has dozens more


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Bytes 0..255 to float32: x / 127.5 - 1, so 0 is -1 and 255 is 1, both exactly."""
    unit = pixels.astype(np.float32)
    unit /= 127.5
    unit -= 1
    return unit


def to_bytes(unit: np.ndarray) -> np.ndarray:
    """The inverse of `to_unit`, rounded: [-1, 1] to bytes 0..255; values outside are clipped."""
    return np.rint((unit.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


class Pixels:
    """Samples kept as bytes, a quarter of the memory of floats, and handed out by `to_unit`."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return to_unit(self._pixels[indices])


def image_dataset(name: str, images: np.ndarray, size: int | None = None,
                  labels: np.ndarray | None = None, class_names: tuple[str, ...] | None = None) -> Dataset:
    """A Dataset of images (N, C, H, W), C 1 or 3: uint8, or float32 in [-1, 1]; `size` means `resized`.

    Classes are counted by their names, otherwise by the largest label.
    """
    if size is not None:
        images = resized(images, size)
    classes = len(class_names) if class_names else None if labels is None else count_classes(name, labels)
    spec = Spec(images.shape[1:], -1.0, 1.0, classes, class_names)
    return Dataset(name, spec, Pixels(images) if images.dtype == np.uint8 else images, labels)


def check_image_size(size: int | None) -> None:
    """UserError unless `size` is None or an integer in [1, MAX_SIZE]."""
    if size is not None and (type(size) is not int or not 1 <= size <= MAX_SIZE):
        raise UserError(f"size={size!r}: expected an integer from 1 to {MAX_SIZE}, in pixels")


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Images (N, C, H, W) as (N, C, size, size), dtype and value range kept; see `fit`.

    Greyscale 28x28 to 32 is padded by 2 pixels of the lowest value on each side instead, as is usual for
    MNIST: its digits lie on a background of that value, and so keep their strokes as they were written.
    """
    n, channels, height, width = images.shape
    if (height, width) == (size, size):
        return images
    low, high = (0, 255) if images.dtype == np.uint8 else (-1, 1)
    if (channels, height, width, size) == (1, 28, 28, 32):
        return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=low)
    planes = np.empty((n * channels, size, size), images.dtype)
    for plane, source in zip(planes, images.reshape(-1, height, width)):
        plane[...] = fit(Image.fromarray(source), size)
    # Bicubic and Lanczos kernels overshoot at edges; Pillow clips bytes by itself, but not floats.
    return planes.clip(low, high).reshape(n, channels, size, size)


def fit(image: Image.Image, size: int) -> Image.Image:
    """Shorter side resized to `size`, then the centre cropped to size x size.

    Lanczos to shrink (its kernel widens, so fine texture does not alias), bicubic to enlarge.
    """
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    kernel = Image.Resampling.LANCZOS if side > size else Image.Resampling.BICUBIC
    # `box` gives the crop of the resized picture without computing what the crop would throw away.
    return image.resize((size, size), kernel, box=(left, top, left + side, top + side))


def decode(path: str, size: int) -> np.ndarray:
    """An image file as uint8 RGB (3, size, size), upright by its EXIF orientation.

    Raises UserError for what is no PNG, JPEG, WebP or BMP, is truncated, declares more pixels than its bytes
    can hold, or is larger than Pillow's limit against decompression bombs (about 89 million pixels).
    """
    with reading(path, "image"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(path, image.size)
            # JPEG only: decode at 1/2, 1/4 or 1/8 of the size where that is still ample
            image.draft(None, (2 * size, 2 * size))
            upright = ImageOps.exif_transpose(image)
            return np.asarray(fit(_rgb(upright), size)).transpose(2, 0, 1)


def check_pixels(path: str, size: tuple[int, int]) -> None:
    """UserError where a header lies: a deflated byte holds at most MAX_INFLATION bytes of 8 pixels.

    The other formats hold less, but for lossless WebP in pictures of a single colour, which are no loss.
    """
    width, height = size
    held = os.path.getsize(path)
    if width * height > 8 * MAX_INFLATION * held:
        raise UserError(f"{path}: declares {width} x {height} pixels, more than its {held} bytes can hold")


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode.

    16-bit grey is scaled, where Pillow would clip it at 255. Transparency is laid on white, where Pillow
    would uncover whatever colour lies below.
    """
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int32).clip(0, 65535)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    elif image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
