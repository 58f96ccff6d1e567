"""Decodes a file of JPEG or PNG. Nothing that a file holds may take more memory or time than its limits say.

Of what files may hold beside plain pixels:

- The orientation of EXIF is applied: the model sees a picture as a viewer shows it.
- Gray, palettes, CMYK and 16 bits for a channel become 8 bits of RGB, or of gray where the model takes gray. Alpha and
  colour profiles are dropped, and so is all other metadata.
- Of several pictures in a JPEG (MPO) the first one counts. An animated PNG is refused.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from headrace.server.engine.decoding.metadata import JPEG_START, PNG_START, without_metadata
from headrace.server.engine.decoding.resizing import GraphAlgorithm, resized

Pixels = npt.NDArray[np.uint8]
"""[height, width, channels]."""
PillowAlgorithm = Literal["bilinear_pillow", "bicubic_pillow"]
PILLOW = {"bilinear_pillow": Image.Resampling.BILINEAR, "bicubic_pillow": Image.Resampling.BICUBIC}

MAX_PIXELS = 64 << 20
MAX_SIDE = (1 << 16) - 1
"""Pixels of a side: as many as a JPEG can have."""
MAX_SCANNED_PIXELS = 16 * MAX_PIXELS
"""Pixels times scans. Each scan of a progressive JPEG may visit all pixels, and take a few bytes of the file."""
MARGIN = 2
"""A JPEG that is decoded at 1/2, 1/4 or 1/8 of its size is still at least this many times as large as the model's
input. Then the pixels for the model differ by 0.2 to 0.4 on average, and by up to 3; without a margin by 9."""
_DECODED_BYTES, _RESIZED_BYTES, _SCANNED_BYTES = 10, 8, 6
"""Of memory, for each pixel that is decoded; what the runtime takes in addition to resize it; and for each pixel of a
JPEG of several scans, even if fewer are decoded."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_OTHERS = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"RIFF": "a WebP",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"\xff\x0a": "a JPEG XL",
    b"\0\0\0": "an HEIF or AVIF",
    b"%PDF": "a PDF",
    b"<": "an SVG or HTML",
}


class BadImageError(Exception):
    """Why a file is not decoded, as a clause behind what names it: "is cut short"."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What becomes of the images of an input.

    `size` is the height and width that the model takes, None if it takes any. `crop` is (top, left, height, width) of
    the upright image, and comes before `resize`, which is empty if images must have the model's size. `scaled`: JPEG
    much larger than the model's input may be decoded smaller, which takes half the time.
    """

    gray: bool = False
    size: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    resize: PillowAlgorithm | GraphAlgorithm | Literal[""] = ""
    scaled: bool = False


class ImageFile:
    """A file whose header has been read and checked. Raises BadImageError for one that cannot be decoded."""

    def __init__(self, data: bytes, options: ImageOptions) -> None:
        self._options = options
        self._file, self._orientation = _opened(data)
        width, height = self._file.size
        _check_size(width, height)
        self._scanned = 0
        if isinstance(self._file, JpegImageFile):
            scans = data.count(b"\xff\xda")  # those of a thumbnail, and of other pictures in the file, too
            if scans * width * height > MAX_SCANNED_PIXELS:
                raise BadImageError(f"has {scans} scans of {width} x {height} pixels, which takes too long to decode")
            self._scanned = width * height if "progressive" in self._file.info or scans > 2 else 0
            self._reduce()
        elif getattr(self._file, "is_animated", False):
            raise BadImageError("is animated; send an image without frames")
        self._file.decodermaxblock = max(len(data), 1 << 16)

    @property
    def nbytes(self) -> int:
        """The memory that decoding it takes, at most."""
        width, height = self._file.size
        resizes = bool(self._options.resize) and self._options.resize not in PILLOW
        return (_DECODED_BYTES + resizes * _RESIZED_BYTES) * width * height + _SCANNED_BYTES * self._scanned

    @property
    def result_bytes(self) -> int:
        """The size of the pixels for the model, at most."""
        width, height = self._file.size
        if self._options.crop is not None:
            height, width = self._options.crop[2:]
        if self._options.size is not None:
            height, width = self._options.size
        return height * width * (1 if self._options.gray else 3)

    def _reduce(self) -> None:
        """Choose the size at which a JPEG is decoded."""
        options = self._options
        size = None
        if options.scaled and options.size is not None:
            height, width = options.size
            turned = self._orientation >= 5
            size = (MARGIN * (height if turned else width), MARGIN * (width if turned else height))
        self._file.draft("L" if options.gray else "RGB", size)

    def decode(self) -> Pixels:
        """The pixels for the model."""
        try:
            self._file.load()
        except MemoryError:
            raise
        except Exception as error:
            cut = isinstance(error, OSError) and "truncated" in str(error)
            raise BadImageError("is cut short" if cut else "is broken: its pixels cannot be read") from error
        image = _in_mode(self._file, "L" if self._options.gray else "RGB")
        if self._orientation in _TURNS:
            image = image.transpose(_TURNS[self._orientation])
        return self._fit(image)

    def _fit(self, image: Image.Image) -> Pixels:
        options = self._options
        if options.crop is not None:
            top, left, height, width = options.crop
            if top + height > image.height or left + width > image.width:
                raise BadImageError(f"has {image.width} x {image.height} pixels, too few to crop {width} x {height} of")
            image = image.crop((left, top, left + width, top + height))
        if options.size is None:
            return _pixels(image)
        height, width = options.size
        if (image.width, image.height) == (width, height):
            return _pixels(image)
        if not options.resize:
            raise BadImageError(
                f"has {image.width} x {image.height} pixels, but the model takes {width} x {height}, and does not "
                "resize them"
            )
        if options.resize == "bilinear_pillow" or options.resize == "bicubic_pillow":
            return _pixels(image.resize((width, height), PILLOW[options.resize]))
        return resized(_pixels(image), options.resize, height, width)


def _opened(data: bytes) -> tuple[JpegImageFile | PngImageFile, int]:
    """The file with its header read, and its orientation. Its class is chosen here, so that no other parser ever sees
    the bytes."""
    reader: Callable[[io.BytesIO], JpegImageFile | PngImageFile]
    if data.startswith(JPEG_START + b"\xff"):
        reader = JpegImageFile
    elif data.startswith(PNG_START):
        reader = PngImageFile
    elif not data:
        raise BadImageError("is empty; send a JPEG or PNG file")
    else:
        kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "")
        raise BadImageError("is not a JPEG or PNG file" + (f"; it looks like {kind}" if kind else ""))
    try:
        pixels, orientation = without_metadata(data)
    except ValueError as error:
        raise BadImageError(str(error)) from None
    try:
        return reader(io.BytesIO(pixels)), orientation
    except MemoryError:
        raise
    except Exception as error:
        raise BadImageError("is broken: its header cannot be read") from error


def _check_size(width: int, height: int) -> None:
    if min(width, height) < 1 or max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadImageError(
            f"has {width} x {height} pixels; the limits are {MAX_PIXELS >> 20} megapixels, and {MAX_SIDE} for a side"
        )


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of gray, which a conversion would cut at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image.info.pop("transparency", None)
    return image if image.mode == mode else image.convert(mode)


def _pixels(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
