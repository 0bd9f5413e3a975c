from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from moonshelf.encoder import CompactEncoder, prepare_image
from moonshelf.evaluation.baselines import colour_histogram, photo_features
from moonshelf.shop.shop import Shop


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return prepare_image(Image.new("RGB", (8, 8), colour), 8)


def test_histograms_are_unit_rows_and_tell_colours_apart() -> None:
    red, blue = plain((255, 0, 0)), plain((0, 0, 255))
    half = np.concatenate([red[:, :4], blue[:, :4]], axis=1)
    rows = colour_histogram(np.stack([red, blue, half, half[:, ::-1]]))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    # Bhattacharyya coefficients by hand: disjoint 0, half overlap sqrt(1/2), place does not matter
    s = 0.5**0.5
    np.testing.assert_allclose(
        rows @ rows.T, [[1, 0, s, s], [0, 1, s, s], [s, s, 1, 1], [s, s, 1, 1]], atol=1e-6
    )


def test_histogram_agrees_with_numpy() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    hsv = np.asarray(Image.fromarray(photo.transpose(1, 2, 0)).convert("HSV")).reshape(-1, 3)
    want, _ = np.histogramdd(hsv, bins=8, range=[(0, 256)] * 3)
    np.testing.assert_allclose(colour_histogram(photo[None])[0] ** 2 * 400, want.ravel(), atol=1e-3)


def test_features_keep_their_places(
    shop: Shop, encoder: CompactEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moonshelf.evaluation.baselines.NATIVE_SIZE", 64)
    ids = ["p0", None, "p3", "not there", "p1"]
    found = photo_features(shop.images, ids, encoder, batch_size=2)
    for name in found:
        assert found[name].any(axis=1).tolist() == [True, False, True, False, True]
    pixels = torch.from_numpy(prepare_image(shop.images.decode("p1", short_side=64), 64)[None])
    want = encoder.trunk_features(pixels).numpy()[0]
    np.testing.assert_allclose(found["off_the_shelf"][4], want, atol=1e-5)
