"""Pictures, and the files that hold them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def picture(height: int, width: int, seed: int = 0) -> Pixels:
    """RGB, smooth as photographs are, with some noise. [height, width, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (9 + 7 * each) + seed) * np.cos(y / (13 + 5 * each)) for each in range(3)]
    noise = random.normal(0, 4, (height, width, 3))
    return (128 + 100 * np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)


def png(pixels: npt.NDArray[Any] | Image.Image, **options: Any) -> bytes:
    return _saved(pixels, "PNG", **options)


def jpeg(pixels: npt.NDArray[Any] | Image.Image, quality: int = 90, **options: Any) -> bytes:
    return _saved(pixels, "JPEG", quality=quality, **options)


def _saved(pixels: npt.NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """A PNG of RGB that says that it has this size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", pixels or zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + chunk(b"IEND", b"")
