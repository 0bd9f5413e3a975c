"""Heatmaps on disk: what is drawn where, the numbers beside it, and the verb."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moonshelf.cli import main
from moonshelf.encoder import CompactEncoder, save_encoder
from moonshelf.errors import InputError
from moonshelf.report.heatmap import MARGIN, PANEL, Side, heatmap, sides


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.full((120, 160, 3), 240, dtype=np.uint8)
    pixels[30:90, 50:110] = (200, 30, 40)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_both_sides_are_drawn_for_every_encoder(encoder: CompactEncoder, photo: Path, tmp_path: Path) -> None:
    query, product = Side(Image.open(photo), "a red square"), Side(Image.open(photo), "红色 square")
    size = encoder.config.image_size
    found = heatmap({"before": encoder, "after": encoder}, query, product, tmp_path / "out" / "heat.png")
    assert encoder.config.image_size == size
    assert [*found] == ["before", "after"] and found["before"] == found["after"]
    assert np.array(found["after"]["query"]["regions"]).shape == (1, 8, 8)
    assert [w for w, _ in found["after"]["query"]["words"]] == ["a", "red", "square"]
    sheet = np.asarray(
        Image.open(io.BytesIO((tmp_path / "out" / "heat.png").read_bytes())).convert("RGB")
    ).astype(int)
    assert sheet.shape[1] == 2 * MARGIN + 3 * PANEL + 2 * 14
    plain = sheet[200:300, MARGIN : MARGIN + PANEL]
    drawn = sheet[200:300, MARGIN + PANEL + 14 : MARGIN + 2 * PANEL + 14]
    assert np.abs(plain - drawn).mean() > 10  # the map lies on the photo
    # one encoder twice: two equal columns
    assert np.array_equal(drawn, sheet[200:300, MARGIN + 2 * (PANEL + 14) : MARGIN + 3 * PANEL + 28])


def test_text_and_photo_alone(encoder: CompactEncoder, photo: Path, tmp_path: Path) -> None:
    query, product = sides(str(photo), "red thing", None, None)
    assert query == Side(None, "red thing") and product.text is None
    found = heatmap({"encoder": encoder}, query, product, tmp_path / "heat.png", "rollout")
    assert found["encoder"]["query"]["regions"] == [] and found["encoder"]["product"]["words"] == []
    assert (np.array(found["encoder"]["product"]["regions"]) > 0).all()


def test_a_match_has_two_sides(photo: Path, tmp_path: Path) -> None:
    for given in ((None, "red", None, None), (str(photo), None, None, None), (None, None, str(photo), "x")):
        with pytest.raises(InputError, match="two sides"):
            sides(*given)
    (tmp_path / "no.png").write_bytes(b"nothing")
    for wrong in (tmp_path / "no.png", tmp_path / "missing.png"):
        with pytest.raises(InputError, match=r"cannot be read|is not an image"):
            sides(str(wrong), "red", None, None)


def test_the_verb(
    encoder: CompactEncoder, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_encoder(encoder, tmp_path)
    words = [
        "heatmap",
        "--encoder",
        str(tmp_path),
        "--before",
        str(tmp_path),
        "--image",
        str(photo),
        "--text",
        "red",
    ]
    assert main([*words, "--out", str(tmp_path / "heat.png"), "--json", str(tmp_path / "heat.json")]) == 0
    out = capsys.readouterr().out
    assert "similarity" in out and (tmp_path / "heat.png").is_file()
    value = json.loads((tmp_path / "heat.json").read_text())["encoder"]
    assert value["similarity"] == pytest.approx(float(out.split()[2]), abs=1e-3)
    assert (
        main(["heatmap", "--encoder", str(tmp_path), "--text", "red", "--out", str(tmp_path / "x.png")]) == 1
    )
