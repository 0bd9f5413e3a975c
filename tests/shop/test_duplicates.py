"""The same picture is recognised; pictures that only look alike are not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from moonshelf.shop import duplicates
from moonshelf.shop.duplicates import THUMB_BYTES, Sets, _candidates, near_groups, signature

Picture = Callable[..., Image.Image]


def groups(images: list[Image.Image]) -> list[int]:
    found = [signature(image) for image in images]
    thumbs = np.frombuffer(b"".join(f[1] for f in found), dtype=np.uint8).reshape(len(found), THUMB_BYTES)
    aspect = np.array([np.log(i.width / i.height) for i in images])
    hashes = np.array([f[0] for f in found], dtype=np.uint64)
    return [int(g) for g in near_groups(hashes, thumbs, aspect, np.arange(len(found)))]


def again(image: Image.Image, quality: int = 95) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def studio(colour: str, shape: str = "ellipse") -> Image.Image:
    """A product on white, as in a catalogue."""
    image = Image.new("RGB", (240, 240), "white")
    draw = ImageDraw.Draw(image)
    (draw.ellipse if shape == "ellipse" else draw.rectangle)((60, 40, 180, 210), fill=colour)
    return image


@pytest.mark.parametrize("seed", range(5))
def test_recompressed_and_rescaled_pictures_are_one(picture: Picture, seed: int) -> None:
    one = picture(seed, (300, 240))
    twins = [
        one,
        again(one, 60),
        again(one.resize((200, 160), Image.Resampling.LANCZOS)),
        again(one.resize((600, 480))),
    ]
    assert groups(twins) == [0, 0, 0, 0]


def test_different_pictures_are_apart(picture: Picture) -> None:
    assert groups([picture(seed) for seed in range(40)]) == list(range(40))


def test_studio_photos_of_one_shape_in_other_colours_are_apart() -> None:
    assert groups([studio("darkred"), studio("navy"), studio("darkred", "rectangle")]) == [0, 1, 2]
    assert groups([studio("darkred"), again(studio("darkred"), 70)]) == [0, 0]


def test_pictures_without_structure_are_never_near_duplicates() -> None:
    white = Image.new("RGB", (50, 50), "white")
    assert signature(white)[0] == 0
    assert groups([white, white.copy()]) == [0, 1]


def test_another_shape_of_the_frame_is_another_picture(picture: Picture) -> None:
    assert groups([picture(1, (200, 200)), picture(1, (200, 100))]) == [0, 1]


def test_exact_duplicates_share_a_group() -> None:
    same = np.array([0, 0, 2])
    thumbs = np.zeros((3, THUMB_BYTES), dtype=np.uint8)
    assert near_groups(np.zeros(3, dtype=np.uint64), thumbs, np.zeros(3), same).tolist() == [0, 0, 1]


def test_a_slight_change_of_light_is_another_picture(picture: Picture) -> None:
    dark = picture(3, (200, 200)).point(lambda v: 100 + v // 4)
    light = dark.point(lambda v: v + 9)
    assert signature(dark)[0] == signature(light)[0]
    assert groups([dark, light]) == [0, 1]


@pytest.mark.parametrize("free", range(4))
def test_any_one_band_in_common_is_enough(free: int) -> None:
    flips = sum(1 << (16 * band + 5) for band in range(4) if band != free)
    assert found_pairs(np.array([0x0123456789ABCDEF, 0x0123456789ABCDEF ^ flips], dtype=np.uint64)) == {
        (0, 1)
    }


def brute_force(hashes: np.ndarray) -> set[tuple[int, int]]:
    n = len(hashes)
    return {(i, j) for i in range(n) for j in range(i + 1, n) if int(hashes[i] ^ hashes[j]).bit_count() <= 3}


def found_pairs(hashes: np.ndarray) -> set[tuple[int, int]]:
    return {
        tuple(sorted(p)) for a, b in _candidates(hashes) for p in zip(a.tolist(), b.tolist(), strict=True)
    }


def clustered(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 2**63, 12, dtype=np.uint64)
    hashes = centres[rng.integers(0, 12, n)]
    for _ in range(2):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64))
    return hashes


@pytest.mark.parametrize("seed", range(3))
def test_banding_finds_every_close_pair(seed: int) -> None:
    hashes = clustered(150, seed)
    wanted = brute_force(hashes)
    assert len(wanted) > 20 and found_pairs(hashes) == wanted


def test_a_full_band_is_bounded_but_equal_hashes_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_BUCKET", 10)
    monkeypatch.setattr(duplicates, "NEIGHBOURS", 2)
    hashes = np.arange(1, 2001, dtype=np.uint64) << np.uint64(16)  # one band in common: the lowest
    hashes[1500] = hashes[3]
    pairs = found_pairs(hashes)
    assert (3, 1500) in pairs and len(pairs) < 2000 * 2 * 4


def test_batches_do_not_lose_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = clustered(120, 9)
    monkeypatch.setattr(duplicates, "_BATCH", 7)
    assert found_pairs(hashes) == brute_force(hashes)


def test_sets_keep_the_smallest_root() -> None:
    sets = Sets(5)
    sets.join(4, 3)
    sets.join(3, 1)
    assert [sets.find(i) for i in range(5)] == [0, 1, 2, 1, 1]
