"""Creatives: the click rate follows the written factors, and other interests would choose another winner."""

from __future__ import annotations

import numpy as np
import pytest

from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.creatives import TERMS, WEIGHTS, contributions, creative_picture, make_creatives


def test_logged_rates_rank_like_the_true_ones() -> None:
    ads = make_creatives(make_items(600, 1), 150, 1)
    true = np.asarray([a.ctr for a in ads])
    seen = np.asarray([a.clicks / a.impressions for a in ads])
    ranks = [np.argsort(np.argsort(v)) for v in (true, seen)]
    assert np.corrcoef(*ranks)[0, 1] > 0.9
    p = true * [a.impressions for a in ads]
    z = (np.asarray([a.clicks for a in ads]) - p) / np.sqrt(p * (1 - true))
    assert abs(z.mean()) < 0.25 and 0.8 < z.std() < 1.2


def test_every_term_is_in_the_rate() -> None:
    for a in make_creatives(make_items(60, 1), 20, 1):
        logit = WEIGHTS["base"] + a.product_effect + sum(a.terms().values())
        assert abs(1 / (1 + np.exp(-logit)) - a.ctr) < 1e-4
        assert set(a.terms()) == set(TERMS)


def test_enough_pairs_are_decided() -> None:
    ads = make_creatives(make_items(600, 2), 100, 2)
    wide = total = 0
    for a in ads:
        for b in ads:
            if a.item == b.item and a.creative_id < b.creative_id:
                total += 1
                wide += max(a.ctr, b.ctr) > 1.6 * min(a.ctr, b.ctr)
    assert wide / total > 0.3


def test_another_interest_prefers_another_headline() -> None:
    def rate(theme: str, interest: str) -> float:
        return sum(contributions(0.66, 0.0, "plain", theme, interest, True, "", 0).values())

    assert rate("gift", "gift") > rate("office", "gift")
    assert rate("office", "office") > rate("gift", "office")


@pytest.mark.parametrize("better, worse", [((0.66, 0.0), (0.4, 0.0)), ((0.66, 0.0), (0.66, 0.2))])
def test_size_and_position(better: tuple[float, float], worse: tuple[float, float]) -> None:
    a, b = (
        sum(contributions(*layout, "plain", "", "gift", True, "", 0).values()) for layout in (better, worse)
    )
    assert a > b


def test_queries_carry_the_main_interest() -> None:
    from moonshelf.shop.demo.text import INTERESTS

    for a in make_creatives(make_items(60, 1), 20, 1):
        carry = [any(word in q for word in INTERESTS[a.interest]) for q in a.queries]
        assert len(a.queries) == 5 and sum(carry) >= 3


def test_the_picture_shows_the_badge_and_the_headline() -> None:
    item = make_items(20, 0)[0]
    ads = [a for a in make_creatives(make_items(600, 1), 100, 1) if a.badge and a.headline and a.legible]
    blank = np.zeros((128, 128, 4), dtype=np.uint8)
    plain = next(a for a in ads if a.background == "plain" and a.clutter == 0)
    pixels = np.asarray(creative_picture(plain, item, blank, 160, np.random.default_rng(0))).astype(int)
    red = (pixels[:, :, 0] > 180) & (pixels[:, :, 1] < 90)
    assert red[110:].sum() > 200
    assert np.ptp(pixels[3:24].mean(axis=2)) > 60
