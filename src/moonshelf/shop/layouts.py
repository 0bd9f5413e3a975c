"""Public benchmark data in its published layout, turned into a shop folder: MBE, M5Product, Fashion200K, M-BEIR's copy.

The layouts are known from data cards and from public readers, not from the papers; what a reader lacks, it says.
MBE2.0's columns are not known to us: a file of it is read if it has MBE's, else the keys that it has are named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from moonshelf.errors import InputError
from moonshelf.workspace import atomic_folder, write_json

MARK = "layout.json"
_BLOCK = 1 << 20
_OBJECT = "give one JSON object, id -> {title, label, ...}"
_TEXTS = ("product_id", "title", "category", "attributes")
_PRODUCTS = pl.Schema({**dict.fromkeys(_TEXTS, pl.String()), "image_ids": pl.List(pl.String())})
_SEARCHES = pl.Schema(
    dict.fromkeys(("query_id", "product_id", "query_text", "query_image_id", "split"), pl.String())
)
_Rows = list[dict[str, Any]]
_Found = tuple[_Rows, _Rows]


def layout_of(folder: Path) -> str | None:
    """The layout that a folder has: ``mbe``, ``m5product``, ``fashion200k``, ``mbeir``; None for another one."""
    if any(folder.glob("labels/*_detect_all.txt")):
        return "fashion200k"
    if any(folder.glob("query/*/*.jsonl")) and any(folder.glob("cand_pool/**/*.jsonl")):
        return "mbeir"
    if any(folder.glob("*id_label.json")):
        return "m5product"
    if any("doc_title" in line for path in sorted(folder.glob("*.jsonl"))[:1] for line in _first(path)):
        return "mbe"
    return None


def convert(folder: Path, out: Path, *, split: str = "test") -> Path:
    """Write a shop folder for a data set in its published layout.

    Its pictures are hard links where the file system allows it, else copies.

    Args:
        folder: the data set's root.
        out: the shop folder to make.
        split: the part of the data that is read, where it has parts.

    Raises:
        InputError: no known layout, a file without the columns of its layout, no products.
    """
    name = layout_of(folder)
    if name is None:
        raise InputError(
            "this is no layout that is known",
            where=str(folder),
            mend="give the root folder of MBE (*.jsonl), M5Product (*id_label.json), Fashion200K (labels/) or M-BEIR "
            "(query/, cand_pool/)",
        )
    products, searches = _READERS[name](folder, split)
    if not products:
        raise InputError(
            f"no products of split {split} were found", where=str(folder), mend="choose another split"
        )
    shown = {i for p in products for i in p["image_ids"]} | {s["query_image_id"] for s in searches}
    with atomic_folder(out, (MARK,)) as shop:
        pl.DataFrame(products, schema=_PRODUCTS).write_parquet(shop / "products.parquet")
        if searches:
            pl.DataFrame(searches, schema=_SEARCHES).write_parquet(shop / "searches.parquet")
        _link((image for image in shown if image and "://" not in image), folder, shop)
        write_json(
            shop / MARK, {"layout": name, "source": str(folder), "split": split, "products": len(products)}
        )
    return out


def _product(
    product_id: str,
    title: str = "",
    category: str = "",
    attributes: dict[str, str] | None = None,
    images: list[str] | None = None,
) -> dict[str, Any]:
    told = json.dumps(attributes or {}, ensure_ascii=False)
    values = (product_id, title, category, told, images or [])
    return dict(zip((*_TEXTS, "image_ids"), values, strict=True))


def _link(images: Iterable[str], folder: Path, shop: Path) -> None:
    """The pictures of a data set in a shop; those outside its folder or missing are left for the audit to name."""
    home = folder.resolve()
    for image in images:
        source, target = (home / image).resolve(), shop / image
        if ".." in Path(image).parts or not source.is_relative_to(home) or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copyfile(source, target)


def _mbe(folder: Path, split: str) -> _Found:
    """JSON lines: ``id, doc_title, doc_image, doc_cate1_name.., doc_attributes`` ("key:value,,key:a!!!b")."""
    files = [p for p in sorted(folder.glob("*.jsonl")) if split in p.stem] or sorted(folder.glob("*.jsonl"))
    products = []
    for path in files:
        for number, row in _lines(path):
            if "id" not in row or "doc_title" not in row:
                raise InputError(
                    f"line {number} has no id and doc_title; its keys are {', '.join(sorted(row))}",
                    where=str(path),
                    mend="rename its columns to those of MBE: id, doc_title, doc_image, doc_cate1_name, doc_attributes",
                )
            category = " > ".join(
                v for i in range(1, 5) if (v := (row.get(f"doc_cate{i}_name") or "").strip())
            )
            pairs = (part.partition(":") for part in (row.get("doc_attributes") or "").split(",,"))
            attributes = {k.strip(): v.replace("!!!", ", ").strip() for k, _, v in pairs if v.strip()}
            image = (row.get("doc_image") or "").strip()
            images = [image] if image else []
            products.append(_product(str(row["id"]), row["doc_title"] or "", category, attributes, images))
    return products, []


def _m5product(folder: Path, split: str) -> _Found:
    """One JSON object: id -> ``title, label, url, pv`` ("key#:#value#;#..."); pictures ``images/ID.jpg``. Streamed."""
    files = sorted(folder.glob("*id_label.json"))
    path = next((p for p in files if f"_{split}_" in p.name), files[0])
    here = (folder / "images").is_dir()
    products = []
    for key, row in _members(path):
        pairs = (part.partition("#:#") for part in (row.get("pv") or "").split("#;#"))
        attributes = {k.strip(): v.strip() for k, _, v in pairs if k.strip() and v.strip()}
        url = (row.get("url") or "").lstrip("#")
        image = f"images/{key}.jpg" if here else f"https:{url}" if url.startswith("//") else url
        images = [image] if image else []
        products.append(_product(key, row.get("title") or "", row.get("label") or "", attributes, images))
    return products, []


def _fashion200k(folder: Path, split: str) -> _Found:
    """``labels/CATEGORY_SPLIT_detect_all.txt``: path, score, caption by tabs; the parent folder is the product."""
    by_id: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"labels/*_{split}_detect_all.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            cells = line.split("\t")
            parts = Path(cells[0]).parts
            if len(cells) != 3 or len(parts) < 2:
                raise InputError(
                    f"line {number} is not a path, a score and a caption",
                    where=str(path),
                    mend="put tabs between them",
                )
            category = " > ".join(parts[:-2]).replace("_", " ")
            own = by_id.setdefault(str(Path(cells[0]).parent), _product(parts[-2], cells[2], category))
            own["image_ids"].append(cells[0])
    return [*by_id.values()], []


def _mbeir(folder: Path, split: str) -> _Found:
    """JSON lines: queries ``qid, query_txt, query_img_path, pos_cand_list``, candidates ``did, txt, img_path``."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("cand_pool/**/*.jsonl")):
        for _, row in _lines(path):
            images = [row["img_path"]] if row.get("img_path") else []
            found[row["did"]] = _product(row["did"], row.get("txt") or "", images=images)
    searches = []
    for path in sorted(folder.glob(f"query/{split}/*.jsonl")):
        for _, row in _lines(path):
            for one in row.get("pos_cand_list") or ():
                right = one["did"] if isinstance(one, dict) else one
                asked = (row["qid"], right, row.get("query_txt"), row.get("query_img_path"), split)
                searches.append(dict(zip(_SEARCHES, asked, strict=True)))
    return [*found.values()], searches


_READERS: dict[str, Callable[[Path, str], _Found]] = {
    "mbe": _mbe,
    "m5product": _m5product,
    "fashion200k": _fashion200k,
    "mbeir": _mbeir,
}


def _first(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        yield lines.readline(_BLOCK)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    what = f"line {number} is no JSON: {error.msg}"
                    raise InputError(what, where=str(path), mend="mend the line") from None
                if not isinstance(row, dict):
                    raise InputError(
                        f"line {number} is no object", where=str(path), mend="write one object a line"
                    )
                yield number, row


def _members(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Members of one large JSON object, one at a time; a few megabytes in memory.

    Raises:
        InputError: the file is no JSON object of objects, or ends early.
    """
    decoder, text, at, begun = json.JSONDecoder(), "", 0, False
    with path.open(encoding="utf-8") as file:
        while True:
            block = file.read(_BLOCK)
            text, at = text[at:] + block, 0
            while True:
                while at < len(text) and text[at] in " \t\r\n,":
                    at += 1
                if not begun and at < len(text):
                    if text[at] != "{":
                        raise InputError("this is no JSON object", where=str(path), mend=_OBJECT)
                    begun, at = True, at + 1
                    continue
                if at < len(text) and text[at] == "}":
                    return
                try:
                    key, end = decoder.raw_decode(text, at)
                    while text[end] in " \t\r\n:":
                        end += 1
                    value, end = decoder.raw_decode(text, end)
                except (json.JSONDecodeError, IndexError):
                    if not block:
                        what = "the file ends in the middle"
                        raise InputError(what, where=str(path), mend="fetch it again") from None
                    break
                if not isinstance(key, str) or not isinstance(value, dict):
                    raise InputError("a member is no object", where=str(path), mend=_OBJECT)
                yield key, value
                at = end
