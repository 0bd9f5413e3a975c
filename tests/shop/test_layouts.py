"""Public layouts, as their cards and readers show them, to shops that can be measured on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moonshelf.cli import main
from moonshelf.errors import InputError
from moonshelf.shop import layouts
from moonshelf.shop.layouts import convert, layout_of
from moonshelf.shop.shop import Shop, open_shop


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((40, 40), Image.Resampling.NEAREST).save(path)


def mbe(root: Path) -> None:
    rows = [
        {
            "id": f"9f{i}", "doc_title": f"复古碎花连衣裙 {i}", "doc_image": f"pictures/{i}.jpg",
            "doc_industry_name": "服饰", "doc_cate1_name": "女装", "doc_cate2_name": "裙装" if i % 2 else "",
            "doc_cate3_name": "", "doc_cate4_name": "",
            "doc_attributes": "材质:棉,,颜色:红!!!白",
        }
        for i in range(4)
    ]  # fmt: skip
    for i in range(4):
        picture(root / f"pictures/{i}.jpg", i)
    (root / "MBE_test.jsonl").write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n")
    (root / "MBE_train.jsonl").write_text(json.dumps(rows[0] | {"id": "other"}) + "\n")


def m5product(root: Path) -> None:
    rows = {
        f"56{i}": {
            "title": f"亚克力盲盒收纳盒 {i}", "label": "收纳盒" if i else "花瓶", "video": "",
            "url": "#//img.example.com/a.jpg",
            "pv": "品牌#:#X#;#材质#:#亚克力" if i else "",
        }
        for i in range(3)
    }  # fmt: skip
    for i in range(3):
        picture(root / f"images/56{i}.jpg", i)
    (root / "product1m_product5m_test_id_label.json").write_text(
        json.dumps(rows, ensure_ascii=False, indent=1)
    )


def fashion200k(root: Path) -> None:
    lines = []
    for product in range(3):
        for view in range(2):
            place = f"women/dresses/casual_and_day_dresses/{product}/{product}_{view}.jpeg"
            picture(root / place, 10 * product + view)
            lines.append(f"{place}\t-1.78\tgreen seamed a-line dress {product}")
    (root / "labels").mkdir()
    (root / "labels" / "dress_test_detect_all.txt").write_text("\n".join(lines) + "\n")


def mbeir(root: Path) -> None:
    for folder in ("query/test", "cand_pool/local"):
        (root / folder).mkdir(parents=True)
    image = "mbeir_images/fashion200k_images/tops/{}.jpg"
    for i in range(3):
        picture(root / image.format(i), i)
    pool = [
        {"did": f"1:{i}", "txt": None, "img_path": image.format(i), "modality": "image"} for i in range(2)
    ]
    texts = [
        {"did": f"1:{i + 7}", "txt": f"blue dress {i}", "img_path": None, "modality": "text"}
        for i in range(2)
    ]
    queries = [
        {"qid": "1:20", "query_txt": "blue dress", "query_img_path": None, "pos_cand_list": ["1:0"]},
        {
            "qid": "1:21",
            "query_txt": None,
            "query_img_path": image.format(2),
            "pos_cand_list": [{"did": "1:7"}],
        },
    ]
    for name, rows in (
        ("cand_pool/local/task0", pool),
        ("cand_pool/local/task3", texts),
        ("query/test/q", queries),
    ):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "mbe": mbe, "m5product": m5product, "fashion200k": fashion200k, "mbeir": mbeir,
}  # fmt: skip


def read(name: str, tmp_path: Path) -> Shop:
    root = tmp_path / name
    root.mkdir()
    LAYOUTS[name](root)
    assert layout_of(root) == name
    return open_shop(convert(root, tmp_path / "shop"), cache=tmp_path / "read")


def test_mbe(tmp_path: Path) -> None:
    shop = read("mbe", tmp_path)
    assert shop.products is not None and len(shop.products) == 4  # of test alone
    one = shop.product("9f1")
    assert (
        one.title == "复古碎花连衣裙 1"
        and one.category == "女装 > 裙装"
        and shop.product("9f0").category == "女装"
    )
    assert one.attributes == {"材质": "棉", "颜色": "红, 白"} and one.image_ids == ("pictures/1.jpg",)


def test_m5product(tmp_path: Path) -> None:
    shop = read("m5product", tmp_path)
    one = shop.product("561")
    assert one.category == "收纳盒" and one.attributes == {"品牌": "X", "材质": "亚克力"}
    assert one.image_ids == ("images/561.jpg",) and shop.product("560").attributes == {}


def test_fashion200k(tmp_path: Path) -> None:
    shop = read("fashion200k", tmp_path)
    one = shop.products
    assert one is not None and one["title"].to_list() == [f"green seamed a-line dress {i}" for i in range(3)]
    assert one["category"][0] == "women > dresses > casual and day dresses"
    assert [len(ids) for ids in one["image_ids"]] == [2, 2, 2]


def test_mbeir(tmp_path: Path) -> None:
    shop = read("mbeir", tmp_path)
    assert shop.searches is not None and shop.products is not None
    asked = shop.searches.select("query_text", "query_image_id", "product_id").rows()
    assert asked == [("blue dress", None, "1:0"), (None, "mbeir_images/fashion200k_images/tops/2.jpg", "1:7")]
    assert shop.product("1:7").title == "blue dress 0" and shop.product("1:7").image_ids == ()


def test_the_benchmark_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    root.mkdir()
    fashion200k(root)
    assert main(["evaluate", "benchmark", str(root), "--encoder", "compact"]) == 0
    out = capsys.readouterr().out
    assert "text>image" in out and "image>image" in out


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    assert layout_of(tmp_path) is None
    with pytest.raises(InputError, match="no layout that is known"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "a_test.jsonl").write_text('{"doc_title": "x", "query_text": "y"}\n')
    with pytest.raises(InputError, match="its keys are doc_title, query_text"):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "a_test.jsonl").write_text(
        '{"id": 1, "doc_title": "x", "doc_image": "../../secret.jpg"}\n{"id":'
    )
    with pytest.raises(InputError, match="line 2 is no JSON"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "a_test.jsonl").write_text('{"id": 1, "doc_title": "x", "doc_image": "../secret.jpg"}\n')
    (tmp_path.parent / "secret.jpg").write_bytes(b"secret")
    out = convert(tmp_path, tmp_path / "out")
    assert not [path for path in out.rglob("*") if path.suffix == ".jpg"]  # nothing from outside is taken


@given(
    st.dictionaries(
        st.text(max_size=8), st.dictionaries(st.text(max_size=4), st.text(max_size=30)), max_size=6
    ),
    st.integers(1, 40),
)
def test_a_large_object_is_read_member_by_member(value: dict[str, dict[str, str]], block: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "_BLOCK", block)
        path = Path(folder) / "x.json"
        path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8", newline="\n")
        assert dict(layouts._members(path)) == value
        if value:
            path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
            with pytest.raises(InputError, match="ends in the middle"):
                dict(layouts._members(path))


def test_products_without_pictures_are_products(tmp_path: Path) -> None:
    root = tmp_path / "m5"
    root.mkdir()
    m5product(root)
    for path in (root / "images").iterdir():
        path.unlink()
    shop = open_shop(convert(root, tmp_path / "shop"), cache=tmp_path / "read")
    assert shop.products is not None and len(shop.products) == 3
    assert len(shop.rejects.filter(pl.col("column") == "image_ids")) == 3
