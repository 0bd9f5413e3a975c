"""What was read, what was refused and why, and whether the shop can be used: for people and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from moonshelf.types import SPLITS

if TYPE_CHECKING:
    from moonshelf.shop.ingest import Reading
    from moonshelf.shop.shop import Shop

_EXAMPLES = 3


def check_report(shop: Shop) -> dict[str, Any]:
    """The check of an opened shop as JSON-ready values (also ``check.json`` in its prepared folder)."""
    return {**shop.check, "rejects": str(shop.path / "rejects.parquet")}


def build_check(reading: Reading, *, data: str = "") -> dict[str, Any]:
    """Put the check together after reading; ``reading.rejects`` holds every reject line."""
    rejects = reading.rejects[0]
    tables: dict[str, Any] = {}
    for name, frame in reading.frames.items():
        read = reading.tables[name]
        tables[name] = _table(rejects, name, read.path.name if read.path else "", read.rows_read, len(frame))
    images = _images(reading.index)
    if reading.facts.get("image_file"):
        rows = int(reading.facts.get("image_rows", 0))
        tables["images"] = _table(rejects, "images", reading.facts["image_file"], rows, rows)
        tables["images"]["kept"] = rows - tables["images"]["rejected"]
    products = _products(reading.frames.get("products"))
    report: dict[str, Any] = {
        "shop": reading.source.resolve().name,
        "fingerprint": data,
        "usable": False,
        "why": [],
        "usable_for": [],
        "tables": tables,
        "images": images,
        "products": products,
        "splits": _splits(reading),
        "leaks": reading.facts.get("leaks", {}),
        "catalogue_photos_as_queries": _catalogue_queries(reading),
        "times": _times(reading.frames),
        "notes": list(reading.notes),
    }
    _verdict(report, reading)
    return report


def _table(rejects: pl.DataFrame, name: str, file: str, rows_read: int, kept: int) -> dict[str, Any]:
    mine = rejects.filter(table=name)
    groups = (
        mine.group_by("column", "reason", "kept", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("row").head(_EXAMPLES), pl.col("value").head(_EXAMPLES))
        .sort("count", descending=True, maintain_order=True)
    )
    reasons = [
        {
            "column": g["column"],
            "reason": g["reason"],
            "count": g["count"],
            "row_kept": g["kept"],
            "examples": [{"row": r, "value": v} for r, v in zip(g["row"], g["value"], strict=True)],
        }
        for g in groups.iter_rows(named=True)
    ]
    dropped = int((~mine["kept"]).sum())
    rejected = mine.filter(~pl.col("kept"))["row"].n_unique() if dropped else 0
    values = len(mine) - dropped
    return {
        "file": file,
        "read": rows_read,
        "kept": kept,
        "rejected": rejected,
        "values_refused": values,
        "reasons": reasons,
    }


def _images(index: pl.DataFrame) -> dict[str, Any]:
    ok = index.filter(status="ok")
    bad = (
        index.filter(status="rejected")
        .group_by("reason")
        .len()
        .sort("len", "reason", descending=[True, False])
    )
    sizes = ok.group_by("near_group").len()["len"]
    return {
        "total": len(index),
        "ok": len(ok),
        "rejected": len(index) - len(ok),
        "by_reason": dict(bad.iter_rows()),
        "exact_duplicates": len(ok) - ok["duplicate_of"].null_count(),
        "near_groups": int((sizes > 1).sum()),
        "largest_near_group": int(sizes.max() or 0),  # type: ignore[arg-type]
    }


def _products(frame: pl.DataFrame | None) -> dict[str, int]:
    if frame is None:
        return {}
    no_image = pl.col("image_ids").list.len() == 0
    no_text = pl.col("title").is_null() & pl.col("description").is_null() & pl.col("category").is_null()
    empty = pl.col("attributes").is_null() | (pl.col("attributes") == "{}")
    counts = frame.select(
        pl.len().alias("total"),
        no_image.sum().alias("without_image"),
        no_text.sum().alias("without_text"),
        (no_image & no_text & empty).sum().alias("without_both"),
        pl.col("category").is_null().sum().alias("without_category"),
        (pl.col("image_ids").list.len() > 1).sum().alias("with_several_images"),
    )
    return {name: int(counts[name][0]) for name in counts.columns}


def _splits(reading: Reading) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, how in reading.facts.get("split", {}).items():
        counts = dict(reading.frames[name].group_by("split").len().iter_rows())
        out[name] = {"by": how, **{s: counts.get(s, 0) for s in SPLITS}}
    return out


def _catalogue_queries(reading: Reading) -> int:
    """Searches whose photo is one of the product's own photos: they are answered by the hash alone."""
    searches, products = reading.frames.get("searches"), reading.frames.get("products")
    if searches is None or products is None:
        return 0
    groups = reading.index.filter(status="ok").select("image_id", "near_group")
    shown = (
        products.select("product_id", pl.col("image_ids").alias("image_id"))
        .explode("image_id")
        .join(groups, on="image_id")
    )
    asked = searches.select("product_id", pl.col("query_image_id").alias("image_id")).join(
        groups, on="image_id"
    )
    return len(
        asked.join(shown.unique(["product_id", "near_group"]), on=["product_id", "near_group"], how="semi")
    )


def _times(frames: dict[str, pl.DataFrame]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for name, frame in frames.items():
        column = "created_at" if name == "products" else "time"
        if column in frame.columns and frame[column].is_not_null().any():
            out[name] = [str(frame[column].min()), str(frame[column].max())]
    return out


def _verdict(report: dict[str, Any], reading: Reading) -> None:
    """Fill ``usable``, ``why`` and ``usable_for`` (what the tables allow)."""
    rows = {name: len(frame) for name, frame in reading.frames.items()}
    products, why, uses = report["products"], report["why"], report["usable_for"]
    notes = report["notes"]
    if report["images"]["ok"]:
        uses.append("pretraining on photos")
    else:
        notes.append("no usable images: photos cannot be searched or trained on")
    if "products" not in rows:
        why.append("there is no products table")
    elif not rows["products"]:
        why.append("the products table has no usable row")
    elif products["without_both"] == products["total"]:
        why.append("no product has an image or a text")
    else:
        report["usable"] = True
        uses.append("search")
        if products["without_text"] == products["total"]:
            notes.append("no product has a text: products are known by their photos only")
    for name, use in (
        ("searches", "posttraining"),
        ("relevance", "relevance"),
        ("impressions", "ranking"),
        ("creatives", "creatives"),
    ):
        if rows.get(name):
            uses.append(use)
        elif name in rows and reading.tables[name].rows_read:
            notes.append(f"every row of {name} was refused: mend the table, its stage cannot run")


def format_check(report: dict[str, Any]) -> str:
    """The check as a table that a person can act on."""
    lines = [f"Shop {report['shop']}", ""]
    lines.append(f"  {'table':<12} {'read':>9} {'kept':>9} {'rejected':>9}  file")
    for name, table in report["tables"].items():
        lines.append(
            f"  {name:<12} {table['read']:>9,} {table['kept']:>9,} {table['rejected']:>9,}  {table['file']}"
        )
    lines += _image_lines(report["images"]) + _fact_lines(report)
    refused = [(name, reason) for name, table in report["tables"].items() for reason in table["reasons"]]
    if refused:
        lines += ["", "  refused (rows, or single values where the row was kept)"]
        for name, r in refused[:30]:
            examples = ", ".join(
                f"row {e['row']}" + (f" {_short(e['value'])}" if e["value"] else "") for e in r["examples"]
            )
            where = f"{name}.{r['column']}" if r["column"] else name
            what = "value" if r["row_kept"] else "row"
            lines.append(f"  {r['count']:>9,} {what:<5} {where}: {r['reason']}  ({examples})")
        if len(refused) > 30:
            lines.append(f"            and {len(refused) - 30} more reasons")
        if "rejects" in report:
            lines.append(f"  every one of them: {report['rejects']}")
    if report["notes"]:
        lines += ["", "  notes"] + [f"  - {note}" for note in report["notes"]]
    verdict = "usable" if report["usable"] else "NOT usable: " + "; ".join(report["why"])
    uses = f" (its tables allow: {', '.join(report['usable_for'])})" if report["usable_for"] else ""
    return "\n".join([*lines, "", f"Verdict: {verdict}{uses}"])


def _image_lines(images: dict[str, Any]) -> list[str]:
    if not images["total"]:
        return ["", "  images       none"]
    why = ", ".join(f"{count:,} {reason}" for reason, count in images["by_reason"].items())
    lines = [
        "",
        f"  images       {images['ok']:,} usable, {images['rejected']:,} rejected"
        + (f" ({why})" if why else ""),
    ]
    twins = f"{images['exact_duplicates']:,} exact copies; {images['near_groups']:,} groups of one picture"
    return [*lines, f"  duplicates   {twins} (largest {images['largest_near_group']})"]


def _fact_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    products = report["products"]
    if products:
        lines.append(
            f"  products     {products['total']:,}: {products['without_image']:,} without image, "
            f"{products['without_text']:,} without text, {products['without_category']:,} without category"
        )
    for name, split in report["splits"].items():
        counts = ", ".join(f"{split[part]:,} {part}" for part in SPLITS)
        lines.append(f"  split        {name} by {split['by']}: {counts}")
    leaks = {k: v for k, v in report["leaks"].items() if v}
    if leaks:
        told = ", ".join(f"{count:,} {which}" for which, count in leaks.items())
        lines.append(f"  leakage      repeated queries taken out of the less protected side: {told}")
    own = report["catalogue_photos_as_queries"]
    if own:
        lines.append(f"  leakage      {own:,} searches ask with a photo of the catalogue itself")
    for name, (first, last) in report["times"].items():
        lines.append(f"  time         {name}: {first[:19]} to {last[:19]} UTC")
    return lines


def _short(value: str) -> str:
    text = " ".join(value.split())
    return f'"{text[:40]}..."' if len(text) > 40 else f'"{text}"'
