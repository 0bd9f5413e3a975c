"""Shapes, geometry buffers, paintings and phone photos."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.geometry import Shape, View, make_buffer
from moonshelf.shop.demo.light import STUDIO
from moonshelf.shop.demo.paint import Canvas
from moonshelf.shop.demo.phone import draw_settings, phone_photo, phone_views
from moonshelf.shop.demo.render import studio_photo
from moonshelf.shop.demo.sdf import Outline, box, capsule, cylinder, ellipsoid, torus
from moonshelf.shop.demo.shapes import VARIANTS, build_shape
from moonshelf.shop.demo.textures import brand_mark, tile
from moonshelf.shop.demo.words import BRANDS, CATEGORIES, PATTERNS

ALL = [(c, k) for c, variants in VARIANTS.items() for k in range(len(variants))]


def points(*rows: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points as three arrays."""
    x, y, z = np.asarray(rows, dtype=np.float32).T
    return x, y, z


def test_primitives_have_the_distances_of_geometry() -> None:
    p = points((2, 0, 0), (0, 3, 0), (0, 0, 0))
    assert np.allclose(ellipsoid(points((2, 0, 0), (0, 0, 0.5)), (0, 0, 0), (1, 1, 1)), [1, -0.5], atol=1e-5)
    assert np.allclose(box(p, (0, 0, 0), (1, 1, 1), 0.1), [1, 2, -1], atol=1e-5)
    assert np.allclose(capsule(p, (0, 0, 0), (0, 2, 0), 0.5), [1.5, 0.5, -0.5], atol=1e-5)
    assert np.allclose(cylinder(p, (0, 0, 0), 1, 1, 0.1), [1, 2, -1], atol=1e-5)
    assert np.allclose(torus(p, (0, 0, 0), 1, 0.25, axis="y"), [0.75, np.hypot(1, 3) - 0.25, 0.75], atol=1e-5)


def test_outline_is_the_distance_to_its_polygon_inside_its_table_and_a_bound_beyond() -> None:
    t = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = Outline.of([(float(np.cos(a)), float(np.sin(a))) for a in t])
    rng = np.random.default_rng(0)
    near = rng.uniform(-1, 1, (2, 500)).astype(np.float32)
    assert np.abs(circle(near[0], near[1]) - (np.hypot(*near) - 1)).max() < 0.03
    far = rng.uniform(-4, 4, (2, 500)).astype(np.float32)
    true = np.hypot(*far) - 1
    assert (circle(far[0], far[1]) <= true + 0.03).all()
    assert (circle(far[0], far[1])[true > 0.5] > 0.3).all()


def test_a_sphere_is_marched_where_it_is() -> None:
    ball = Shape(lambda p: [(0, ellipsoid(p, (0.0, 0.5, 0.0), (0.5, 0.5, 0.5)))])
    b = make_buffer(ball, View(30, 20, 0.5), 96)
    centre = b.pos - np.asarray([0, 0.5, 0], dtype=np.float32)
    assert np.abs(np.linalg.norm(centre, axis=1) - 0.5).max() < 5e-3
    assert np.abs((b.normal * centre).sum(axis=1) / 0.5 - 1).max() < 1e-2
    assert abs(len(b.index) / 96**2 - np.pi / 4 * 0.5**2) < 0.02  # it fills half the side
    assert ((b.normal * b.eye).sum(axis=1) > -0.05).all()


@pytest.mark.parametrize("category, variant", ALL)
def test_every_shape_fills_its_frame(category: str, variant: int) -> None:
    shape = build_shape(category, variant)
    b = make_buffer(shape, View(shape.yaw, shape.pitch), 64)
    rows, cols = np.divmod(b.index, 64)
    assert 0.6 < max(np.ptp(rows), np.ptp(cols)) / 64 < 0.85
    assert np.abs(np.linalg.norm(b.normal, axis=1) - 1).max() < 1e-3
    assert b.pos[:, 1].min() > -0.08
    assert (b.part == 0).mean() > 0.15
    assert np.isfinite(b.uv).all() and b.shadow.min() >= 0 and b.shadow.max() < 0.75


def test_every_category_has_variants_and_every_pattern_a_tile() -> None:
    assert set(VARIANTS) == {c.key for c in CATEGORIES}
    assert all(len({v.name for v in VARIANTS[c]}) == len(VARIANTS[c]) >= 4 for c in VARIANTS)
    for name in PATTERNS:
        empty = tile(name).max() == 0
        assert empty == (name in ("plain", "gradient", "blocks")), name
        assert tile(name).sum(axis=2).max() <= 1.0 + 1e-6


def test_brand_marks_differ() -> None:
    marks = [brand_mark(b.form, b.outline) for b in BRANDS]
    for i, a in enumerate(marks):
        assert 0.05 < a.mean() < 0.75
        assert all(np.abs(a - b).mean() > 0.01 for b in marks[:i])


@pytest.fixture(scope="module")
def mug() -> tuple[Canvas, Shape]:
    """A lit mug, ready to be painted."""
    shape = build_shape("mug", 0)
    return Canvas(make_buffer(shape, View(shape.yaw, shape.pitch, 0.68), 128), shape), shape


def test_latent_factors_show(mug: tuple[Canvas, Shape]) -> None:
    canvas, _ = mug
    item = replace(
        make_items(20, 0)[0], category="mug", shape=0, material="ceramic", colour="red", pattern="plain"
    )

    def picture(**changes: object) -> np.ndarray:
        painted = canvas.paint(replace(item, **changes), STUDIO)  # type: ignore[arg-type]
        return np.asarray(studio_photo(item, painted, 64, np.random.default_rng(0))).astype(int)

    base = picture()
    red, blue = base[20:44, 20:40].mean(axis=(0, 1)), picture(colour="blue")[20:44, 20:40].mean(axis=(0, 1))
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50
    for changes in ({"pattern": "dots"}, {"material": "glass"}, {"brand": 3}, {"pattern": "blocks"}):
        assert np.abs(picture(**changes) - base).max() > 30, changes


def test_studio_paper_is_near_white(mug: tuple[Canvas, Shape]) -> None:
    item = make_items(20, 0)[0]
    photo = np.asarray(studio_photo(item, mug[0].paint(item, STUDIO), 64, np.random.default_rng(0)))
    assert photo[:6].min() > 215


def test_phone_photos_repeat_with_their_seed_and_differ_without(mug: tuple[Canvas, Shape]) -> None:
    item = make_items(20, 0)[0]
    painted = mug[0].paint(item, STUDIO)
    settings = draw_settings(np.random.default_rng(1), False, False)
    photo = [phone_photo(item, painted, settings, 64, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert photo[0] == photo[1] != photo[2]


def test_an_unusable_photo_does_not_show_the_product(mug: tuple[Canvas, Shape]) -> None:
    item = make_items(20, 0)[0]
    settings = draw_settings(np.random.default_rng(1), False, True)
    full, none = mug[0].paint(item, STUDIO), np.zeros((128, 128, 4), dtype=np.uint8)
    a, b = (phone_photo(item, p, settings, 64, np.random.default_rng(1)) for p in (full, none))
    assert a == b
    assert np.asarray(Image.open(io.BytesIO(a))).mean() < 110


def test_phone_views_are_not_the_studio_view() -> None:
    for category in VARIANTS:
        shape = build_shape(category, 0)
        for view in phone_views(shape, np.random.default_rng(0)):
            assert abs(view.yaw - shape.yaw) > 10
