"""The product's own photo in a creative: found at its size and place on grounds that cannot be cut, not elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from moonshelf.creative.facts import INDEX, fact, read_fact, write_fact
from moonshelf.creative.measures import Brief, see, share_among
from moonshelf.creative.place import INSIDE, LEAST, SIDE, Cutout, _array, _correlation, cutout_of, locate
from moonshelf.encoder import CompactEncoder


def mug(side: int = 160) -> Image.Image:
    """A two-coloured thing on white."""
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((40, 40, 110, 130), fill=(190, 30, 40))
    pen.rectangle((40, 70, 110, 90), fill=(250, 210, 60))
    pen.ellipse((100, 60, 140, 110), outline=(190, 30, 40), width=10)
    return image


def placed(size: float, x: float, y: float, seed: int, *, side: int = 200) -> Image.Image:
    """The mug on a busy ground: its longer side, and its centre, as shares of the picture."""
    rng = np.random.default_rng(seed)
    ground = Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).resize((side, side))
    cut = cutout_of(mug())
    assert cut is not None
    scale = size * side / max(cut.rgb.size)
    w, h = (round(v * scale) for v in cut.rgb.size)
    at = (round(x * side - w / 2), round(y * side - h / 2))
    ground.paste(cut.rgb.resize((w, h)), at, cut.mask.resize((w, h)))
    return ground


@pytest.mark.parametrize(
    ("size", "x", "y"), [(0.35, 0.3, 0.6), (0.5, 0.5, 0.5), (0.7, 0.55, 0.45), (0.9, 0.5, 0.5)]
)
def test_found_at_its_size_and_place(size: float, x: float, y: float) -> None:
    cut = cutout_of(mug())
    assert cut is not None
    found = locate(placed(size, x, y, seed=3), cut)
    assert found.peak > LEAST
    assert abs(np.log(found.size / size)) < 0.12 and abs(found.x - x) < 0.04 and abs(found.y - y) < 0.04


def test_not_found_where_it_is_not() -> None:
    cut = cutout_of(mug())
    assert cut is not None
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).resize((200, 200))
    for picture in (noise, Image.new("RGB", (200, 120), (90, 120, 200)), Image.new("L", (50, 80), 128)):
        assert locate(picture, cut).peak < LEAST
    assert cutout_of(noise) is None  # a product photo that cannot be cut gives nothing to look for


def test_the_correlation_is_the_formula() -> None:
    """Against sums written out, at every place: what lies outside the picture counts for neither."""
    rng = np.random.default_rng(1)
    inside = np.zeros((11, 13), dtype=np.float32)
    inside[3:9, 2:11] = 1
    seen = rng.random((11, 13, 3), dtype=np.float32) * inside[..., None]
    rgb = rng.random((4, 5, 3), dtype=np.float32)
    mask = (rng.random((4, 5)) < 0.7).astype(np.float32)
    planes = np.concatenate((seen.transpose(2, 0, 1), (seen**2).sum(2)[None], inside[None]))
    found = _correlation(np.fft.rfft2(planes).astype(np.complex64), (11, 13), rgb, mask)
    assert found.shape == (8, 9)
    compared = 0
    for i in range(8):
        for j in range(9):
            both = mask * inside[i : i + 4, j : j + 5]
            if both.sum() < INSIDE * mask.sum() - 1e-3:
                assert found[i, j] == 0
                continue
            part = seen[i : i + 4, j : j + 5]
            own, other = (
                (v - (v * both[..., None]).sum((0, 1)) / both.sum()) * both[..., None] for v in (rgb, part)
            )
            expected = (own * other).sum() / np.sqrt((own**2).sum() * (other**2).sum())
            assert found[i, j] == pytest.approx(expected, abs=1e-3)
            compared += 1
    assert 10 < compared < 72


def test_found_where_it_reaches_beyond_the_picture() -> None:
    cut = cutout_of(mug())
    assert cut is not None
    for size, x, y in ((0.9, 0.75, 0.55), (0.8, 0.3, 0.85)):
        found = locate(placed(size, x, y, seed=4), cut)
        assert found.peak > LEAST
        assert abs(np.log(found.size / size)) < 0.12 and abs(found.x - x) < 0.05 and abs(found.y - y) < 0.05


def test_wide_and_tiny_pictures() -> None:
    cut = Cutout(Image.new("RGB", (60, 20), "red"), Image.new("L", (60, 20), 255))
    for size in ((400, 60), (60, 400), (9, 9), (SIDE, SIDE)):
        found = locate(Image.new("RGB", size, "white"), cut)
        assert np.isfinite(found.peak) and found.peak <= 1
    assert _array(Image.new("RGB", (2, 3))).shape == (3, 2, 3)


def test_measured_and_said(_untrained: CompactEncoder) -> None:
    cut = cutout_of(mug())
    large, small = placed(0.8, 0.5, 0.5, 5), placed(0.4, 0.25, 0.5, 6)
    seen = see(_untrained, [Brief(None, lambda p=p: p, product=lambda: cut) for p in (large, small)])
    a, b = seen.measures
    told = fact("image.found_size", "A", a, b)
    assert told is not None and told.more and read_fact(write_fact(told)) == told
    assert write_fact(told).startswith("A shows the product larger: 7") and told.other.startswith("3")
    assert a[INDEX["image.found_off"]] < 0.05 < b[INDEX["image.found_off"]]
    bare = see(_untrained, [Brief(None, lambda: large), Brief(None, lambda: small)])
    assert not bare.measures[:, INDEX["image.found"]].any()
    assert fact("image.found_size", "A", *bare.measures) is None


def test_share_among_known_texts(_untrained: CompactEncoder) -> None:
    """Words that suit the searches more than other headlines do have the larger share; shares of all sum to 1."""
    known = ("Ready to travel", "Kids love it", "Small price", "The perfect gift")
    briefs = [Brief(t, queries=("travel backpack", "bag for a trip")) for t in known]
    shares = see(_untrained, briefs, among=known).measures[:, INDEX["match.text_among"]]
    assert shares.sum() == pytest.approx(1, abs=1e-5) and shares.argmax() == 0
    assert not see(_untrained, briefs).measures[:, INDEX["match.text_among"]].any()
    q, t, k = np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), np.array([[0.0, 1.0]])
    assert share_among(q, t, k) == 1.0 and share_among(q, k[0], np.array([[1.0, 0.0]])) < 1e-8
    both, title, gift = np.array([[0.6, 0.8]]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    known_texts = np.array([[0.6, 0.8], [0.0, 1.0]])  # one names the product, too
    assert share_among(both, gift, known_texts) < 0.01
    assert share_among(both, gift, known_texts, title) > 0.99  # beyond the title it is the gift alone


@pytest.mark.parametrize("seed", range(6))
def test_found_where_something_covers_a_part(seed: int) -> None:
    """Three tenths are covered: some smaller size fits what is left better, on less evidence."""
    cut = cutout_of(mug())
    assert cut is not None
    picture = np.asarray(placed(0.8, 0.5, 0.5, seed)).copy()
    picture[:, int(picture.shape[1] * 0.66) :] = np.random.default_rng(seed).integers(0, 255, 3)
    found = locate(Image.fromarray(picture), cut)
    assert abs(np.log(found.size / 0.8)) < 0.12 and abs(found.x - 0.5) < 0.1
