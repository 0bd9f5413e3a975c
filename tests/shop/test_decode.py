"""Photos as shops have them: every kind becomes upright RGB or one reason."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from moonshelf.errors import InputError
from moonshelf.shop.decode import ImageError, decode_image, decode_sized

Encode = Callable[..., bytes]
Picture = Callable[..., Image.Image]


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims any size and whose pixel data is a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def pixel(image: Image.Image, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    value = image.getpixel(at)
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value)


def test_a_bomb_is_refused_before_anything_is_allocated() -> None:
    bomb = png_header(50_000, 50_000)
    tracemalloc.start()
    try:
        assert reason(bomb) == "too many pixels"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_the_pixel_limit_counts_pixels(picture: Picture, encode: Encode) -> None:
    data = encode(picture(size=(100, 50)))
    assert decode_image(data, pixel_limit=5000).size == (100, 50)
    assert reason(data, pixel_limit=4999) == "too many pixels"
    assert reason(png_header(8000, 7000)) == "too many pixels"


def test_text_named_jpg_is_not_an_image() -> None:
    assert reason(b"I am a text file, whatever my name says.\n" * 20) == "not an image"


def test_no_bytes_are_a_missing_image() -> None:
    assert reason(b"") == "missing"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_file_is_refused(picture: Picture, encode: Encode, kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    data = encode(noise, kind)
    assert decode_image(data).size == (200, 200)
    assert reason(data[: len(data) // 2]) in ("truncated", "unreadable")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_cut_jpeg_is_truncated_at_reduced_scale_too(encode: Encode, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8))
    data = encode(noise)
    assert reason(data[: int(share * len(data))], short_side=50) == "truncated"


@pytest.mark.parametrize("short", [1, 49, 50, 51, 99, 100, 101, 1000])
def test_reduced_decoding_never_goes_below_the_short_side(
    picture: Picture, encode: Encode, short: int
) -> None:
    data = encode(picture(size=(400, 300)))
    image, size = decode_sized(data, short_side=short)
    assert size == (400, 300) and min(image.size) >= min(short, 300)
    assert abs(image.width / image.height - 4 / 3) < 0.03
    if short <= 37:
        assert image.size == (50, 38)


def test_exif_rotation_is_applied(encode: Encode) -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste((255, 0, 0), (0, 0, 10, 20))  # red at the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    for kind in ("JPEG", "PNG"):
        upright, size = decode_sized(encode(image, kind, exif=exif))
        assert size == upright.size == (20, 40)
        red, green, _ = pixel(upright, (10, 3))
        assert red > 200 and green < 80, "red must now be on top"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_lose_the_picture(picture: Picture, encode: Encode) -> None:
    data = encode(picture(size=(40, 20)), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode_image(data).size == (40, 20)


def test_cmyk_becomes_rgb(encode: Encode) -> None:
    image = decode_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0))))
    red, green, blue = pixel(image)
    assert image.mode == "RGB" and red > 200 and green < 60 and blue < 60


def test_sixteen_bits_are_scaled_not_clipped(encode: Encode) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for kind in ("PNG", "TIFF"):
        got = np.asarray(decode_image(encode(Image.fromarray(ramp), kind)))[..., 0]
        np.testing.assert_allclose(got, ramp / 257.0, atol=0.51)


def test_float_tiff_is_scaled(encode: Encode) -> None:
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    got = np.asarray(decode_image(encode(Image.fromarray(ramp), "TIFF")))[..., 0]
    np.testing.assert_allclose(got, ramp * 255, atol=0.51)


def test_transparency_lies_on_white(encode: Encode) -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert pixel(decode_image(encode(clear, "PNG"))) == (255, 255, 255)
    assert pixel(decode_image(encode(half, "PNG"))) == (127, 127, 127)
    assert pixel(decode_image(encode(Image.new("LA", (4, 4), (0, 0)), "PNG"))) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert pixel(decode_image(encode(palette, "PNG", transparency=0))) == (255, 255, 255)
    assert pixel(decode_image(encode(palette, "PNG"))) == (10, 20, 30)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_and_bitmap(encode: Encode, mode: str) -> None:
    assert pixel(decode_image(encode(Image.new(mode, (4, 4), 255), "PNG"))) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(encode: Encode, kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encode(first, kind, save_all=True, append_images=[second], duration=100)
    red, _, blue = pixel(decode_image(data))
    assert red > 200 and blue < 60


def test_formats_that_run_other_programs_are_no_images() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason(eps) == "not an image"


def test_the_error_is_bad_input_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageError("truncated", "half", "a.jpg")))
    assert issubclass(ImageError, InputError) and (error.reason, error.detail) == ("truncated", "half")
    assert str(error) == str(ImageError("truncated", "half", "a.jpg"))


def _seeds() -> list[bytes]:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 24, 3), dtype=np.uint8))
    out = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        buffer = io.BytesIO()
        noise.save(buffer, kind)
        out.append(buffer.getvalue())
    return out


_SEEDS = _seeds()


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(_SEEDS), st.data())
def test_damaged_bytes_give_an_rgb_image_or_a_reason(seed: bytes, data: st.DataObject) -> None:
    broken = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(broken)))
    try:
        image = decode_image(bytes(broken[:cut]), short_side=8, pixel_limit=1_000_000)
    except ImageError as error:
        assert error.reason in {"missing", "truncated", "not an image", "too many pixels", "unreadable"}
    else:
        assert image.mode == "RGB" and image.width * image.height <= 1_000_000
