"""A picture enlarged by a trained SRGAN: `scratchgan upscale RUN image.png --out up.png`.

Of any size: the picture goes through the generator in tiles with as much of their surroundings as their
pixels depend on, so the tiles meet without a seam and the result is that of the whole picture at once,
while memory beyond the two pictures does not grow with them.

Of any kind that PNG and JPEG have. Colours go through as they are; a grey picture as three equal channels,
of whose answers the mean is taken, or where the run knows one channel only, each channel on its own. What
becomes what: 1 bit and 8-bit grey to 8-bit grey, 16-bit grey to 16-bit grey, a palette to RGB, RGB to RGB,
CMYK and YCbCr to RGB; transparency, also that of a palette or of a single colour, to an alpha channel.
Alpha is enlarged bicubically: texture in it would be noise. Pillow reads 16-bit colour as 8 bits. Pictures
are turned upright by their EXIF orientation.
"""
from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from scratchgan import storage
from scratchgan.data.files import reading
from scratchgan.data.images import FORMATS, check_pixels
from scratchgan.errors import UserError
from scratchgan.gans.srgan import enlarged

TILE = 64               # pixels of the edge of a tile, without its surroundings
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class Picture(NamedTuple):
    """colours: (C, H, W), C 1 or 3, of 0..top as integers. alpha: (1, H, W) of 0..255, or None. top: 255 or
    65535. profile: the colours' ICC profile, or None."""
    colours: np.ndarray
    alpha: np.ndarray | None
    top: int
    profile: bytes | None


def upscale(run_folder: Path, image: Path, out: Path,
            tile: int = TILE) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write `image`, enlarged by the run's averaged generator, to `out`; returns (width, height) before and
    after. Raises UserError for a run of another GAN, a picture that cannot be read, or an `out` that cannot
    hold it."""
    kind = SUFFIXES.get(out.suffix.lower())
    if kind is None:
        raise UserError(f"--out {out}: expected a file that ends in {', '.join(SUFFIXES)}")
    picture = read(image)
    if kind == "JPEG" and (picture.alpha is not None or picture.top > 255):
        what = "an alpha channel" if picture.alpha is not None else "16 bits"
        raise UserError(f"--out {out}: JPEG cannot hold {what}, which {image} has; choose a .png")
    gan = _gan(run_folder)
    large = enlarge(gan, picture, tile)
    write(out, large, kind)
    return picture.colours.shape[:0:-1], large.colours.shape[:0:-1]


def _gan(folder: Path) -> Any:
    from scratchgan.run import open_run, read_plan
    name = read_plan(folder).gan
    if name != "srgan":
        raise UserError(f"{folder}: is a run of {name}, which enlarges no pictures; expected one of srgan")
    return open_run(folder).gan


# The network

def enlarge(gan: Any, picture: Picture, tile: int = TILE) -> Picture:
    """The picture `scale` times as wide and as high."""
    scale = gan.config.scale
    colours = _in_tiles(picture.colours, scale, picture.top, gan.generator.reach, tile,
                        lambda part: _answer(gan, part))
    alpha = picture.alpha if picture.alpha is None else _in_tiles(
        picture.alpha, scale, 255, BICUBIC_REACH, tile, lambda part: enlarged(part, scale))
    return picture._replace(colours=colours, alpha=alpha)


BICUBIC_REACH = 3


def _answer(gan: Any, part: np.ndarray) -> np.ndarray:
    """G of pixels (1, C, h, w) in [-1, 1], whatever number of channels it has learnt."""
    channels, known = part.shape[1], gan.channels
    if channels == known:
        return gan.enlarge(part)
    if known == 1:
        return gan.enlarge(part.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
    return gan.enlarge(part.repeat(known, axis=1)).mean(axis=1, keepdims=True)


def _in_tiles(pixels: np.ndarray, scale: int, top: int, reach: int, tile: int,
              function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`function` of tiles (1, C, h, w) in [-1, 1], which answers (1, C, scale h, scale w), of pixels (C, H, W)
    in 0..top: (C, scale H, scale W) in 0..top, rounded.

    Each tile is seen with `reach` pixels on each side, or up to the border, and only its middle is kept.
    """
    channels, height, width = pixels.shape
    large = np.empty((channels, scale * height, scale * width), pixels.dtype)
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            up, left = max(y - reach, 0), max(x - reach, 0)
            bottom, right = min(y + tile, height), min(x + tile, width)
            seen = pixels[:, up:bottom + reach, left:right + reach].astype(np.float32) * (2 / top) - 1
            made = function(seen[None])[0, :, scale * (y - up):scale * (bottom - up),
                                        scale * (x - left):scale * (right - left)]
            large[:, scale * y:scale * bottom, scale * x:scale * right] = np.rint(
                (made.clip(-1, 1) + 1) * (top / 2))
    return large


# Files

def read(path: Path) -> Picture:
    """The picture in a PNG, JPEG, WebP or BMP file. Raises UserError for anything else, for damaged files,
    and for more pixels than Pillow's limit (179 million) or the file's bytes can hold."""
    with reading(str(path), "image"), Image.open(path, formats=FORMATS) as file:
        check_pixels(str(path), file.size)
        profile = file.info.get("icc_profile") if file.mode in ("L", "LA", "RGB", "RGBA") else None
        image = _plain(ImageOps.exif_transpose(file))
        array = np.asarray(image)
    top = 65535 if image.mode.startswith("I") else 255
    if top > 255:
        array = array.astype(np.int32).clip(0, top).astype(np.uint16)
    planes = np.atleast_3d(array).transpose(2, 0, 1)
    has_alpha = image.mode in ("LA", "RGBA")
    return Picture(planes[:-1] if has_alpha else planes, planes[-1:] if has_alpha else None, top, profile)


def _plain(image: Image.Image) -> Image.Image:
    """The image as grey of 8 or 16 bits or RGB, or with alpha as LA or RGBA."""
    if image.mode.startswith("I"):
        return image
    grey = image.mode in ("1", "L", "LA")
    transparent = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    if transparent and grey and image.mode != "LA":
        image = image.convert("RGBA")       # where Pillow knows what a transparent grey is
    return image.convert(("LA" if grey else "RGBA") if transparent else "L" if grey else "RGB")


def write(path: Path, picture: Picture, kind: str) -> None:
    """Write a PNG or JPEG file, whole or not at all. Raises UserError where it cannot be written."""
    planes = picture.colours if picture.alpha is None else np.concatenate([picture.colours, picture.alpha])
    array = np.ascontiguousarray(planes.transpose(1, 2, 0))
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    file = io.BytesIO()
    settings = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with reading(str(path), f"destination: a {kind} of {image.width} x {image.height} pixels"):
        image.save(file, kind, icc_profile=picture.profile, **settings)
    storage.write_atomically(path, file.getvalue())
