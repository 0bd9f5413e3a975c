"""The ground behind a product: made grounds whose colours, repeats and props are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from moonshelf.creative.ground import NAMES, ground_mask, measure_ground
from moonshelf.creative.place import Cutout, Place

WHOLE = np.ones((160, 160), dtype=bool)


def measured(pixels: np.ndarray, ground: np.ndarray = WHOLE) -> dict[str, float]:
    return dict(zip(NAMES, measure_ground(pixels, ground), strict=True))


def plain() -> np.ndarray:
    return np.broadcast_to(np.array([0.6, 0.7, 0.8]), (160, 160, 3)).copy()


def tiles() -> np.ndarray:
    cells = np.indices((160, 160)) // 16
    return np.where(((cells[0] + cells[1]) % 2)[..., None] == 1, [0.9, 0.9, 0.9], [0.2, 0.5, 0.3])


def with_prop(pixels: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    out[100:140, 10:50] = 0.05, 0.05, 0.6
    return out


def test_plain_ground_is_one_colour_and_empty() -> None:
    m = measured(plain())
    assert m["ground_colours"] == pytest.approx(1) and m["ground_repeat"] == 0
    assert m["ground_clutter"] == m["ground_breaks"] == 0 and m["ground_spread"] == pytest.approx(0)


def test_tiles_repeat_and_have_two_colours() -> None:
    m = measured(tiles())
    assert m["ground_colours"] == pytest.approx(2, abs=0.01) and m["ground_repeat"] > 0.95
    assert m["ground_clutter"] > 0.2 and m["ground_breaks"] < 0.01


def shaded() -> np.ndarray:
    return plain() * np.linspace(1, 0.4, 160)[:, None, None]


def table() -> np.ndarray:
    """A smooth wall above, a grained table below."""
    out = plain() * np.linspace(1, 0.85, 160)[:, None, None]
    grain = 0.12 * np.random.default_rng(0).random((53, 160, 1))
    out[107:] = np.array([0.55, 0.4, 0.25]) + grain
    return out


@pytest.mark.parametrize("ground", [plain(), tiles(), shaded(), table()])
def test_a_prop_breaks_its_ground(ground: np.ndarray) -> None:
    """40 x 40 of 160 x 160: a quarter of its width, on tiles as on plain ground."""
    assert measured(with_prop(ground))["ground_breaks"] == pytest.approx(1 / 4, abs=0.05)


def test_what_is_out_of_focus_breaks_nothing() -> None:
    sharp, blurred = with_prop(plain()), np.asarray(ndimage.gaussian_filter(with_prop(plain()), (9, 9, 0)))
    assert measured(blurred)["ground_breaks"] == 0 < measured(sharp)["ground_breaks"]


def test_shade_is_spread_not_clutter() -> None:
    m = measured(shaded())
    assert m["ground_spread"] > 0.08 and m["ground_clutter"] < 0.01 and m["ground_breaks"] == 0


def test_what_fades_does_not_repeat_itself() -> None:
    assert measured(shaded())["ground_repeat"] < 0.05 < 0.95 < measured(tiles())["ground_repeat"]


def test_a_table_divides_its_ground_and_tiles_do_not() -> None:
    assert measured(table())["ground_divided"] > 0.4 > 0.1 > measured(tiles())["ground_divided"]
    assert measured(plain())["ground_divided"] == pytest.approx(0)
    hidden = WHOLE.copy()
    hidden[30:130, 40:120] = False  # a product before it
    assert measured(table(), hidden)["ground_divided"] > 0.4


def test_the_mask_leaves_out_product_letters_and_what_lies_beyond() -> None:
    cut = Cutout(Image.new("RGB", (40, 80), "red"), Image.new("L", (40, 80), 255))
    mask = ground_mask((160, 160), (cut, Place(0.9, 0.5, 0.5, 0.5)), [(0.0, 0.0, 1.0, 0.1)])
    assert not mask[:16].any() and not mask[40:120, 60:100].any() and mask[130:, 110:].all()
    assert (~mask).sum() == pytest.approx(16 * 160 + 86 * 46, abs=40)  # dilated by three
    edge = ground_mask((160, 160), (cut, Place(0.9, 1.0, 1.0, 0.9)), [])
    assert not edge[100:, 130:].any() and edge[:40].all()
    assert measure_ground(plain(), ~WHOLE) == [0.0] * len(NAMES)


@given(st.integers(16, 60), st.integers(16, 60), st.integers(0, 999), st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_any_ground_can_be_measured(high: int, wide: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    found = measure_ground(rng.random((high, wide, 3)), rng.random((high, wide)) < share)
    assert np.isfinite(found).all() and min(found) >= 0
    place = Place(0.9, *(float(v) for v in rng.uniform(0.1, 1.2, 3)))
    cut = Cutout(Image.new("RGB", (9, 7)), Image.new("L", (9, 7), 255))
    assert ground_mask((wide, high), (cut, place), []).shape == (high, wide)
