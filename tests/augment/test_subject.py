"""The cut-out: known shapes on plain ground are found, what cannot be cut is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from moonshelf.augment import scenes
from moonshelf.augment.subject import find_subject


def drawn(
    shape: str,
    box: tuple[int, int, int, int],
    ground: tuple[int, int, int],
    fill: tuple[int, int, int],
    size=(240, 200),
) -> tuple[Image.Image, np.ndarray]:
    """A shape on noisy plain ground, and its true mask."""
    size = (240, 200)
    image, truth = Image.new("RGB", size, ground), Image.new("L", size, 0)
    for canvas, colour in ((image, fill), (truth, 255)):
        pen = ImageDraw.Draw(canvas)
        (pen.ellipse if shape == "ellipse" else pen.rectangle)(box, fill=colour)
    noise = np.random.default_rng(0).normal(0, 2, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), np.asarray(truth) > 0


@given(
    st.sampled_from(["ellipse", "rectangle"]),
    st.integers(20, 90),
    st.integers(20, 80),
    st.integers(40, 120),
    st.integers(40, 100),
    st.sampled_from([(255, 255, 255), (230, 230, 228), (40, 42, 45)]),
)
@settings(max_examples=30, deadline=None)
def test_a_shape_on_plain_ground_is_found(shape: str, x: int, y: int, w: int, h: int, ground) -> None:
    image, truth = drawn(shape, (x, y, x + w, y + h), ground, (180, 60, 40))
    found = find_subject(image)
    assert found.why_not == ""
    mask = np.asarray(found.mask) > 127
    assert (mask & truth).sum() / (mask | truth).sum() > 0.85
    left, top, right, bottom = found.box
    assert abs(left - x) < 8 and abs(top - y) < 8 and abs(right - x - w) < 8 and abs(bottom - y - h) < 8


def test_a_hole_and_a_light_part_inside_stay() -> None:
    image, truth = drawn("rectangle", (60, 40, 180, 160), (255, 255, 255), (40, 60, 160))
    ImageDraw.Draw(image).rectangle(
        (100, 80, 130, 110), fill=(255, 255, 255)
    )  # a label as white as the ground
    mask = np.asarray(find_subject(image).mask) > 127
    assert mask[95, 115] and (mask & truth).sum() / truth.sum() > 0.95


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.new("RGB", (120, 90), "white"), "nothing stands out"),
        (Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)), ""),
        (Image.new("RGB", (1, 1), "red"), "nothing stands out"),
    ],
)
def test_what_cannot_be_cut_is_said(image: Image.Image, why: str) -> None:
    found = find_subject(image)
    assert found.why_not and why in found.why_not
    assert found.box == (0, 0, *image.size) and found.mask.size == image.size


def test_only_the_outline_of_a_white_thing_is_no_cut() -> None:
    image = Image.new("RGB", (200, 200), "white")
    pen = ImageDraw.Draw(image)
    pen.line((60, 20, 60, 180), fill=(90, 90, 90), width=3)
    pen.line((140, 20, 140, 180), fill=(90, 90, 90), width=3)
    assert find_subject(image).why_not == "only parts of the subject stand out from the ground"


def test_scenes_are_functions_of_the_photo_and_the_seed() -> None:
    image, _ = drawn("ellipse", (60, 40, 180, 160), (255, 255, 255), (40, 60, 160))
    subject = find_subject(image)
    main = np.asarray(scenes.standard(image, subject))
    assert main.shape == (scenes.SIDE, scenes.SIDE, 3) and (main[0, 0] == 255).all()
    middle = main[scenes.SIDE // 2, scenes.SIDE // 2].astype(int)
    assert np.abs(middle - (40, 60, 160)).max() < 12
    blue = np.abs(main.astype(int) - (40, 60, 160)).max(2) < 40
    assert 0.80 < (np.ptp(np.flatnonzero(blue.any(0))) + 1) / scenes.SIDE < 0.88  # as large as asked for
    for name, make in scenes.RECIPES.items():
        first, again, other = (np.asarray(make(image, subject, np.random.default_rng(s))) for s in (0, 0, 1))
        assert first.shape == main.shape and np.array_equal(first, again), name
        assert np.array_equal(first, other) == (name == "standard"), name  # nothing is drawn in a main image
        bluish = (first[..., 2].astype(int) - first[..., 0] > 40).mean()
        assert bluish > 0.05, name  # the subject is still there
