"""Files become the pixels that a viewer shows, or an error that says what is wrong with them."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import openvino as ov
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openvino import opset15 as opset
from openvino.preprocess import PrePostProcessor, ResizeAlgorithm
from PIL import Image

from headrace.server.engine.decoding.images import MAX_PIXELS, BadImageError, ImageFile, ImageOptions, Pixels
from headrace.server.engine.decoding.metadata import MAX_PARTS, without_metadata
from tests.server.engine.decoding.pictures import chunk, jpeg, picture, png, png_of_size, turned

RGB = picture(30, 40)
SEGMENT = b"\xff\xe1" + (2 + len(turned(1).tobytes())).to_bytes(2, "big") + turned(1).tobytes()
"""Of a JPEG: EXIF."""


def decoded(data: bytes, **options: Any) -> Pixels:
    return ImageFile(data, ImageOptions(**options)).decode()


def why(data: bytes, **options: Any) -> str:
    with pytest.raises(BadImageError) as caught:
        decoded(data, **options)
    return str(caught.value)


def test_a_png_is_exact_and_a_jpeg_is_what_its_library_says() -> None:
    np.testing.assert_array_equal(decoded(png(RGB)), RGB)
    file = jpeg(RGB)
    np.testing.assert_array_equal(decoded(file), np.asarray(Image.open(io.BytesIO(file))))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_kinds_of_jpeg(progressive: bool, subsampling: int) -> None:
    file = jpeg(RGB, progressive=progressive, subsampling=subsampling)
    np.testing.assert_array_equal(decoded(file), np.asarray(Image.open(io.BytesIO(file))))


def test_gray_is_decoded_as_such_and_repeated_where_colours_are_needed() -> None:
    gray = RGB[:, :, 0]
    np.testing.assert_array_equal(decoded(png(gray)), np.repeat(gray[:, :, np.newaxis], 3, 2))
    np.testing.assert_array_equal(decoded(png(gray), gray=True), gray[:, :, np.newaxis])
    brightness = RGB @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(decoded(png(RGB), gray=True)[:, :, 0], brightness, atol=1)
    np.testing.assert_allclose(decoded(jpeg(RGB, 100, subsampling=0), gray=True)[:, :, 0], brightness, atol=4)


def test_alpha_and_palettes() -> None:
    alpha = np.dstack((RGB, np.full(RGB.shape[:2], 7, np.uint8)))
    np.testing.assert_array_equal(decoded(png(alpha)), RGB)
    palette = Image.fromarray(RGB).quantize(32)
    np.testing.assert_array_equal(decoded(png(palette)), np.asarray(palette.convert("RGB")))
    transparent = png(palette, transparency=bytes(range(32)))
    np.testing.assert_array_equal(decoded(transparent), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(RGB[:, :, 0] > 128)
    np.testing.assert_array_equal(decoded(png(bits))[:, :, 1], np.asarray(bits) * 255)


def test_sixteen_bits_become_the_upper_eight() -> None:
    deep = (RGB[:, :, 0].astype(np.uint16) << 8) + 200
    np.testing.assert_array_equal(decoded(png(deep), gray=True)[:, :, 0], RGB[:, :, 0])


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    assert np.abs(decoded(jpeg(cmyk, 100, subsampling=0)).astype(int) - RGB).max() < 12


@pytest.mark.parametrize("kind", [png, jpeg])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(kind: Any, orientation: int) -> None:
    blocks = np.repeat(np.repeat(np.arange(1, 7, dtype=np.uint8).reshape(2, 3) * 40, 16, 0), 16, 1)
    upright = {
        1: blocks,
        2: blocks[:, ::-1],
        3: blocks[::-1, ::-1],
        4: blocks[::-1],
        5: blocks.T,
        6: np.rot90(blocks, -1),
        7: blocks[::-1, ::-1].T,
        8: np.rot90(blocks),
    }[orientation]
    file = kind(blocks, exif=turned(orientation))
    assert without_metadata(file)[1] == orientation
    found = decoded(file, gray=True)[:, :, 0].astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() <= 3
    small = decoded(
        file, gray=True, size=(upright.shape[0] // 8, upright.shape[1] // 8), resize="bilinear_pillow", scaled=True
    )
    assert np.abs(small[1::2, 1::2, 0].astype(int) - upright[12::16, 12::16]).max() <= 20


def test_a_crop_is_of_the_upright_picture_and_comes_before_the_size() -> None:
    np.testing.assert_array_equal(decoded(png(RGB), crop=(3, 5, 7, 11)), RGB[3:10, 5:16])
    sideways = png(RGB, exif=turned(6))
    np.testing.assert_array_equal(decoded(sideways, crop=(3, 5, 7, 11)), np.rot90(RGB, -1)[3:10, 5:16])
    cut = Image.fromarray(RGB[3:23, 5:25]).resize((10, 10), Image.Resampling.BILINEAR)
    found = decoded(png(RGB), crop=(3, 5, 20, 20), size=(10, 10), resize="bilinear_pillow")
    np.testing.assert_array_equal(found, np.asarray(cut))
    assert why(png(RGB), crop=(0, 0, 31, 2)) == "has 40 x 30 pixels, too few to crop 2 x 31 of"


@pytest.mark.parametrize("name", ["linear", "cubic", "nearest"])
@pytest.mark.parametrize("size", [(12, 50), (30, 40), (100, 7)])
def test_resizing_is_what_the_graph_of_a_model_does(name: Any, size: tuple[int, int]) -> None:
    pixels = opset.parameter([1, *size, 3], ov.Type.u8)
    processor = PrePostProcessor(ov.Model([opset.concat([pixels], 0)], [pixels]))
    processor.input(0).tensor().set_layout(ov.Layout("NHWC")).set_spatial_static_shape(*RGB.shape[:2])
    processor.input(0).model().set_layout(ov.Layout("NHWC"))
    processor.input(0).preprocess().resize(getattr(ResizeAlgorithm, f"RESIZE_{name.upper()}"))
    expected = ov.Core().compile_model(processor.build(), "CPU")([RGB[np.newaxis]])[0][0]
    np.testing.assert_array_equal(decoded(png(RGB), size=size, resize=name), expected)


@pytest.mark.parametrize("name", ["bilinear_pillow", "bicubic_pillow"])
def test_a_large_jpeg_may_be_decoded_smaller_and_looks_the_same(name: Any) -> None:
    file = jpeg(picture(900, 1200))
    algorithm = getattr(Image.Resampling, name.removesuffix("_pillow").upper())
    whole = np.asarray(Image.open(io.BytesIO(file)).resize((100, 75), algorithm)).astype(int)
    np.testing.assert_array_equal(decoded(file, size=(75, 100), resize=name), whole)
    difference = np.abs(decoded(file, size=(75, 100), resize=name, scaled=True).astype(int) - whole)
    assert difference.mean() < 1
    assert difference.max() <= 8
    memory = ImageFile(file, ImageOptions(size=(75, 100), resize=name, scaled=True)).nbytes
    assert memory < 900 * 1200  # of pixels of a quarter in each direction


def test_without_resize_an_image_has_the_size_of_the_model() -> None:
    np.testing.assert_array_equal(decoded(png(RGB), size=(30, 40)), RGB)
    assert why(png(RGB), size=(40, 30)) == ("has 40 x 30 pixels, but the model takes 30 x 40, and does not resize them")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; send a JPEG or PNG file"),
        (b"hello", "is not a JPEG or PNG file"),
        (b"GIF89a" + bytes(20), "is not a JPEG or PNG file; it looks like a GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "is not a JPEG or PNG file; it looks like a WebP"),
        (b"\xff\xd8\xff", "is broken: its header cannot be read"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is broken: its header cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "is broken: its header cannot be read"),
        (jpeg(RGB)[:-200], "is cut short"),
        (png(RGB)[:-200], "is cut short"),
        (png_of_size(40, 30), "is cut short"),
        (png_of_size(40, 30, pixels=b"no zlib"), "is broken: its pixels cannot be read"),
        (png_of_size(0, 30), "is broken: its header cannot be read"),
        (png_of_size(100_000, 100_000), "has 100000 x 100000 pixels; the limits are 64 megapixels, and 65535 for a"),
        (png_of_size(1 << 16, 1), "has 65536 x 1 pixels; the limits are 64 megapixels, and 65535 for a side"),
        (png_of_size((1 << 31) - 1, (1 << 31) - 1), "has 2147483647 x 2147483647 pixels; the limits"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, message: str) -> None:
    assert why(data).startswith(message)


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(picture(30, 40, seed)) for seed in range(3)]
    assert why(png(frames[0], save_all=True, append_images=frames[1:])) == "is animated; send an image without frames"


def test_a_jpeg_of_many_scans_is_refused_before_they_are_decoded() -> None:
    file = bytearray(jpeg(np.zeros((8, 8, 3), np.uint8), progressive=True))
    size = file.index(b"\xff\xc2") + 5
    file[size : size + 4] = (8000).to_bytes(2, "big") * 2
    scan = bytes(file[file.rindex(b"\xff\xda") : -2])
    bomb = bytes(file[:-2]) + scan * 1000 + b"\xff\xd9"
    scans = bomb.count(b"\xff\xda")
    assert why(bomb) == f"has {scans} scans of 8000 x 8000 pixels, which takes too long to decode"


def test_compressed_metadata_is_not_read() -> None:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(900_000)))
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(900_000)))
    plain = png(RGB)
    loaded = plain[:33] + profile + text * 60 + plain[33:]
    assert without_metadata(loaded) == (plain, 1)
    np.testing.assert_array_equal(decoded(loaded), RGB)


@pytest.mark.parametrize(
    "hidden",
    [
        b"\xff\xdb\0\2" + b"between segments" + SEGMENT,
        *[
            b"\xff" + marker + (2 + len(SEGMENT)).to_bytes(2, "big") + SEGMENT
            for marker in (b"\0", b"\xc8", b"\xd9", b"\xf0")
        ],
    ],
)
def test_metadata_is_not_read_where_only_a_decoder_would_find_it(
    hidden: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(_: object) -> None:
        raise AssertionError("the metadata of a file has been read")

    monkeypatch.setattr(Image.Image, "getexif", unexpected)
    plain = jpeg(RGB)
    without_jfif = plain[:2] + plain[4 + int.from_bytes(plain[4:6], "big") :]  # which has the resolution
    loaded = without_jfif[:2] + hidden + without_jfif[2:]
    assert SEGMENT not in without_metadata(loaded)[0]
    np.testing.assert_array_equal(decoded(loaded), decoded(plain))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"\xff\xd8" + b"\xff\xdb\0\2" * MAX_PARTS, f"has more than {MAX_PARTS} segments"),
        (b"\xff\xd8" + b"\xff" * MAX_PARTS * 2, f"has more than {MAX_PARTS} segments"),
        (png_of_size(40, 30, chunk(b"tRNS", b"") * MAX_PARTS), f"has more than {MAX_PARTS} chunks"),
    ],
)
def test_files_of_very_many_parts_are_refused(file: bytes, message: str) -> None:
    assert why(file) == message


def test_limits_are_those_of_phones_and_more() -> None:
    assert MAX_PIXELS > 48e6
    assert decoded(png(np.zeros((8000, 6000), np.uint8)), size=(4, 3), resize="nearest").shape == (4, 3, 3)


FILES = [
    png(RGB),
    jpeg(RGB),
    jpeg(RGB, progressive=True, exif=turned(6)),
    png(Image.fromarray(RGB).quantize(16), transparency=3),
    jpeg(Image.fromarray(RGB).convert("CMYK")),
]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"gray": True},
    {"size": (8, 9), "resize": "linear"},
    {"size": (4, 4), "crop": (0, 0, 4, 4)},
]


@settings(max_examples=400)
@given(data=st.data())
def test_a_damaged_file_is_decoded_or_refused_in_our_words(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(file) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if how == "set":
            file[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del file[at : at + data.draw(st.integers(1, 64))]
        elif how == "insert":
            file[at:at] = data.draw(st.binary(max_size=16))
        else:
            file[at:at] = file[at : at + 32]
        if not file:
            break
    options: dict[str, Any] = data.draw(st.sampled_from(OPTIONS))
    try:
        pixels = decoded(bytes(file), **options)
    except BadImageError as error:
        words = str(error)
        assert words.startswith(("is ", "has ")), words
        assert "0x" not in words
        assert "/" not in words
    else:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
