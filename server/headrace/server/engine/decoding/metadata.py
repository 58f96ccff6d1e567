"""Leaves out what a file holds beside its pixels, before a decoder sees it.

Metadata may be compressed, and may refer to the same bytes thousands of times: a decoder that reads it takes a thousand
times the memory of the file. Only the orientation of EXIF is read, here.
"""

from __future__ import annotations

import struct

JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
UPRIGHT = 1
_JFIF, _EXIF, _ADOBE, _COMMENT, _SCAN = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA
_FILL = 0xFF
_ALONE = {0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}
"""Markers without a segment."""
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL"}
_ORIENTATION, _SHORT = 0x0112, 3
_IFD_ENTRY_BYTES = 12
MAX_PARTS = 1 << 15
"""Segments of a JPEG, or chunks of a PNG. Each takes a microsecond or two, and as many may be in a megabyte as take
seconds and hundreds of megabytes."""


def without_metadata(data: bytes) -> tuple[bytes, int]:
    """A file of JPEG or PNG with what decides about its pixels, and its orientation, from 1 to 8 as EXIF counts.

    What is not understood is left to the decoder. Raises ValueError with a clause for a file of too many parts.
    """
    return _png(data) if data.startswith(PNG_START) else _jpeg(data)


def _jpeg(data: bytes) -> tuple[bytes, int]:
    """What stands between segments is left out, too: a decoder skips it, and would find segments in it."""
    kept: list[bytes | memoryview] = [JPEG_START]
    orientation = UPRIGHT
    at = len(JPEG_START)
    for _ in range(MAX_PARTS):
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            break
        marker = data[at + 1]
        if marker == _SCAN:
            kept.append(memoryview(data)[at:])
            break
        if marker == _FILL or marker in _ALONE:
            at += 1 if marker == _FILL else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _EXIF and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = orientation if orientation != UPRIGHT else _orientation(data[at + 10 : end])
        if marker in (_JFIF, _ADOBE) or not (_JFIF <= marker <= 0xEF or marker == _COMMENT):
            kept.append(data[at:end])
        at = max(end, at + 4)
    else:
        raise ValueError(f"has more than {MAX_PARTS} segments")
    return b"".join(kept), orientation


def _png(data: bytes) -> tuple[bytes, int]:
    kept: list[bytes | memoryview] = [PNG_START]
    orientation = UPRIGHT
    view = memoryview(data)
    at = len(PNG_START)
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        kind = data[at + 4 : at + 8]
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if kind in _PNG_CHUNKS:
            kept.append(view[at:end])
        elif kind == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        at = end
    else:
        raise ValueError(f"has more than {MAX_PARTS} chunks")
    return b"".join(kept), orientation


def _orientation(exif: bytes) -> int:
    """UPRIGHT if there is none that can be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return UPRIGHT
    try:
        (ifd,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, ifd)
        for number in range(count):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", exif, ifd + 2 + number * _IFD_ENTRY_BYTES)
            if tag == _ORIENTATION:
                return value if kind == _SHORT and values == 1 and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT
