"""The blocks about balance: numbers of the log, nothing without them."""

from __future__ import annotations

from moonshelf.report.about_balance import balance_blocks


def test_routes_objectives_and_beliefs_are_told() -> None:
    records = [
        {
            "step": i, "epoch": i // 5, "doubted": 0.5 if i < 5 else 0.1, "pair_weight": 0.8,
            **{f"phi_{k}": float(k == (2 if i < 5 else 8)) for k in range(10)},
            "route_text_0": 0.25, "route_text_1": 0.75, "route_image_0": 1.0, "route_image_1": 0.0,
            "loss_text>joint": 4.0 - i / 10, "weight_text>joint": 1.25,
        }
        for i in range(10)
    ]  # fmt: skip
    page = "".join(map(str, balance_blocks(records)))
    assert "text, expert 2" in page and "75.0%" in page and "joint, expert" not in page
    assert "text&gt;joint" in page and "1.25" in page
    assert "phi in epoch 1" in page and "phi in epoch 2" in page and "50.0%" in page and "10.0%" in page
    assert "0.8 to 0.9: 100.0%" in page  # all pairs of the second epoch


def test_nothing_is_said_of_what_was_not_logged() -> None:
    assert (
        balance_blocks([]) == [] == balance_blocks([{"step": 1, "loss": 2.0, "route_text_0": float("nan")}])
    )
