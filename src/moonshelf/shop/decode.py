"""Bytes of any photo a shop may hold -> an RGB picture, or one reason why not.

EXIF rotation is applied, CMYK, palettes and 16 bit become 8-bit RGB, alpha is laid on white (a shop's
page is white), an animation gives its first frame. Nothing is allocated before the size is known.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from moonshelf.errors import InputError

Reason = Literal["missing", "truncated", "not an image", "too many pixels", "unreadable"]

# Pillow warns about damaged metadata of pictures that decode well: thousands of lines in a real shop.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # we have a limit of our own

PIXEL_LIMIT = 50_000_000
"""Default largest width x height: a 50-megapixel camera passes, a decompression bomb does not."""

# Raster formats that decode in-process; formats that call other programs (EPS) or nest files stay out.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM", "AVIF", "JPEG2000")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_MENDS = {
    "missing": "add the file, or remove the id",
    "truncated": "copy the file again: its end is missing",
    "not an image": "use JPEG, PNG, WebP, GIF, BMP or TIFF",
    "too many pixels": "make it smaller",
    "unreadable": "open it and save it again as JPEG or PNG",
}


class ImageError(InputError):
    """An image cannot be used; ``reason`` is one of five fixed words, ``detail`` says more."""

    def __init__(self, reason: Reason, detail: str = "", where: str = "") -> None:
        self.reason: Reason = reason
        self.detail = detail
        self._where = where
        what = (
            f"the image is {reason}"
            if reason not in ("too many pixels",)
            else "the image has too many pixels"
        )
        super().__init__(what + (f", {detail}" if detail else ""), where=where, mend=_MENDS[reason])

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str, str]]:
        return ImageError, (self.reason, self.detail, self._where)


def decode_image(
    data: bytes, *, short_side: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> Image.Image:
    """Decode ``data`` to an upright RGB image.

    Args:
        data: the bytes of the file.
        short_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its short side
            stays at least this (several times faster); None decodes at full size.
        pixel_limit: largest width x height, read from the header before anything is allocated.

    Returns:
        A loaded PIL image, mode RGB. It may be larger than ``short_side``, never reduced below it.

    Raises:
        ImageError: with one of the reasons missing, truncated, not an image, too many pixels, unreadable.
    """
    return decode_sized(data, short_side=short_side, pixel_limit=pixel_limit)[0]


def read_image(path: str | Path, *, short_side: int | None = None) -> Image.Image:
    """Decode a file that somebody named; ``short_side`` as above.

    Raises:
        InputError: the file cannot be read, or holds no picture; it is named.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            "the photo cannot be read", where=str(path), mend="give the path of an image file"
        ) from error
    try:
        return decode_image(data, short_side=short_side)
    except ImageError as error:
        raise ImageError(error.reason, error.detail, str(path)) from error


def decode_sized(
    data: bytes, *, short_side: int | None = None, pixel_limit: int = PIXEL_LIMIT
) -> tuple[Image.Image, tuple[int, int]]:
    """Like ``decode_image``, and the upright (width, height) of the full picture."""
    if not data:
        raise ImageError("missing", "no bytes")
    image = _open(data)
    width, height = image.size
    if width * height > pixel_limit:
        raise ImageError("too many pixels", f"{width} x {height}")
    if width < 1 or height < 1:
        raise ImageError("unreadable", f"{width} x {height}")
    try:
        if short_side is not None and image.format in ("JPEG", "MPO"):
            image.draft("RGB", (short_side, short_side))
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types on damaged bytes; all mean the same here
        raise _damaged(data, error) from error
    upright, orientation = image, _orientation(image)
    if orientation != 1:  # to turn by nothing would still copy
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a damaged EXIF block says nothing about the pixels: the picture is used as stored
            upright = image
    turned = orientation in (5, 6, 7, 8)
    try:
        rgb = _to_rgb(upright)
    except (ValueError, OSError) as error:
        raise ImageError("unreadable", f"colour mode {upright.mode}") from error
    return rgb, ((height, width) if turned else (width, height))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too many pixels") from error
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_MAGIC):
            raise ImageError("truncated", "its header is not whole") from error
        raise ImageError("not an image") from error
    except Exception as error:
        raise _damaged(data, error) from error


def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _damaged(data: bytes, error: Exception) -> ImageError:
    text = str(error).lower()
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return ImageError("too many pixels")
    short_webp = data[:4] == b"RIFF" and len(data) < int.from_bytes(data[4:8], "little") + 8
    if "truncat" in text or "not enough image data" in text or isinstance(error, EOFError) or short_webp:
        return ImageError("truncated")
    return ImageError("unreadable", (str(error).splitlines() or [""])[0][:80])


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF: the picture is used as stored
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB: alpha on white, 16 bit and float scaled to 8 bit (Pillow alone would clip them)."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float64) / 257.0)
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        top = float(values.max(initial=0.0))
        scale = (
            255.0 if top <= 1.0 else 1.0 if top <= 255.0 else 1.0 / 257.0 if top <= 65535.0 else 255.0 / top
        )
        return _grey(values * scale)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image


def _grey(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
