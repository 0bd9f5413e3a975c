"""The report as a file: whole, escaped, bounded, honest about what is missing, and it renders."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from workfolder import SCRIPT, SETTINGS, TIMINGS, write_evaluations, write_messy, write_stage

from moonshelf.report.page import write_report
from moonshelf.shop.shop import Shop, open_shop

SECTIONS = ("data", "rejects", "training", "recall", "searches", "matches", "relevance", "ranking", "run")
CHROMIUM = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")


class Page(HTMLParser):
    """Reads a page strictly enough to notice an unclosed element, and keeps what the tests ask for."""

    VOID = frozenset({"img", "meta", "br", "line", "circle", "rect", "path"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"{tag} closed inside {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(work: Path, shop: Shop, out: Path, **options: Any) -> tuple[str, Page]:
    path = write_report(work, shop, **{"config": SETTINGS, "timings": TIMINGS, **options}, out=out)
    assert path == out
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


@pytest.fixture(scope="module")
def whole(work: Path, messy: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return report(work, messy, tmp_path_factory.mktemp("out") / "report" / "index.html")


def test_every_section_is_there_and_linked(whole: tuple[str, Page]) -> None:
    _, page = whole
    assert [a["id"] for t, a in page.tags if t == "section"] == list(SECTIONS)
    assert [a["href"] for t, a in page.tags if t == "a"] == [f"#{s}" for s in SECTIONS]
    assert sum(t == "svg" for t, _ in page.tags) >= 10
    assert "not run" not in page.text and "not made" not in page.text


def test_nothing_is_loaded_from_anywhere(whole: tuple[str, Page]) -> None:
    source, page = whole
    assert not {"script", "link", "iframe", "object", "base"} & {t for t, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (name, value)
        assert not [name for name in attributes if name.startswith("on")]
    assert "http://" not in source and "https://" not in source
    assert "@import" not in source and "url(" not in source
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")


def test_user_text_is_escaped(whole: tuple[str, Page], messy: Shop) -> None:
    source, page = whole
    assert SCRIPT not in source
    assert messy.source.name == "raw <shop>" and "raw &lt;shop&gt;" in source
    assert SCRIPT in page.text or any(SCRIPT in (a.get("title") or "") for _, a in page.tags)


def test_a_title_of_markup_in_every_place(tmp_path: Path) -> None:
    evil = '"><img src=x onerror=alert(1)>' + SCRIPT + "\x00\u202e"
    raw = write_messy(tmp_path / "raw", products=8, searches=6)
    shop = open_shop(raw, cache=tmp_path / "prepared")
    work = tmp_path / "work"
    write_evaluations(work, shop)
    for path in (work / "evaluation").iterdir():
        value = json.loads(path.read_text())
        value["examples"][0] |= {"query_text": evil, "positives": [evil], "top": [evil, evil], "rank": 1}
        value["protocol"][evil] = evil
        value["provenance"] |= {"encoder": evil, "code": evil}
        value["by_category"]["top"][evil] = next(iter(value["by_category"]["top"].values()))
        path.write_text(json.dumps(value))
    shop.check["notes"].append(evil)
    shop.check["tables"][evil] = {
        "file": evil,
        "reasons": [{"reason": evil, "count": 1, "examples": [{"value": evil}]}],
    }
    _, page = report(
        work, shop, tmp_path / "r.html", config={evil: {evil: evil}, "hash": evil}, timings={evil: 3.0}
    )
    assert all("onerror" not in a for _, a in page.tags) and "script" not in {t for t, _ in page.tags}
    assert page.text.count("onerror=alert(1)") >= 10


def shown(metric: dict[str, float], share: bool) -> Iterator[str]:
    """The numbers of a metric as a reader should find them, written down independently of the page."""
    for key in ("value", "low", "high"):
        v = metric[key]
        yield f"{100 * v:.{2 if 0 < v < 0.01 else 1}f}" if share else f"{v:.3f}"


def test_every_measured_number_is_in_the_page(whole: tuple[str, Page], work: Path) -> None:
    text = whole[1].text
    files = sorted((work / "evaluation").glob("*.json"))
    assert len(files) == 6
    for path in files:
        value = json.loads(path.read_text())
        systems = [value["metrics"], *value["baselines"].values()]
        if "posttrain" in path.stem:
            systems += [
                m for level in value["by_category"].values() for s in level.values() for m in s.values()
            ]
        for metrics in systems:
            for name, metric in metrics.items():
                middle, low, high = shown(metric, name != "mrr")
                whole_value = f"{middle}%" if name != "mrr" else middle
                if not metric["low"] == metric["high"] == metric["value"]:
                    whole_value += f" [{low}, {high}]"
                assert whole_value in text, (path.stem, name, whole_value)


def test_the_headline_is_the_main_number(whole: tuple[str, Page], work: Path) -> None:
    text = whole[1].text
    last = json.loads((work / "evaluation" / "posttrain.json").read_text())
    m = last["metrics"]["recall@1"]
    place = text.index(
        f"{100 * m['value']:.1f}% of cases [{100 * m['low']:.1f}, {100 * m['high']:.1f}], n = {m['n']}"
    )
    assert place < text.index("The data")
    off = last["baselines"]["off_the_shelf"]["recall@1"]["value"]
    assert f"off the shelf {100 * off:.1f}%" in text[place : text.index("The data")]


def test_counts_of_the_check_are_told(whole: tuple[str, Page], messy: Shop) -> None:
    text = whole[1].text
    for told in (
        "products.parquet",
        "not a number",
        "duplicate of a test query",
        "unknown product_id",
        "not an image",
    ):
        assert told in text
    assert f"{len(messy.rejects)} rows or values were refused" in text
    assert "train rows whose query is also in test 1" in text
    assert "Exact copies of another photo: 1." in text


def test_provenance_and_settings(whole: tuple[str, Page], messy: Shop) -> None:
    text = whole[1].text
    for told in (
        messy.fingerprint,
        SETTINGS["hash"],
        "posttrain.optim.trunk_lr=0.0003",
        "encoder.widths=256,128,64,32",
    ):
        assert told in text
    assert "torch threads 2" in text and "seed 7" in text
    assert "23m26s" in text  # the 1405.5 seconds of posttrain


def frames(source: str) -> list[str]:
    return re.findall(r'<figure class="(right|wrong)(?: sought)?"', source)


def test_examples_frame_the_right_product(work: Path, messy: Shop, tmp_path: Path) -> None:
    copy = tmp_path / "work"
    (copy / "evaluation").mkdir(parents=True)
    value = json.loads((work / "evaluation" / "posttrain.json").read_text())
    ids = [f"sku-{i}" for i in range(12)]
    photo = value["examples"][0]["query_image_id"]
    base = {"query_text": None, "query_image_id": photo}
    value["examples"] = [
        {**base, "query_id": "a", "positives": ["sku-1"], "rank": 2, "top": ids},
        {**base, "query_id": "b", "positives": ["sku-30"], "rank": 17, "top": ids},
    ]
    (copy / "evaluation" / "posttrain.json").write_text(json.dumps(value))
    source, page = report(copy, messy, tmp_path / "r.html")
    assert sorted(frames(source)) == ["right"] * 2 + ["wrong"] * 9
    assert source.count('class="right sought"') == 1 and "right one, rank 17" in page.text
    assert "No kept example of the search by photo was found first" in page.text


def test_same_files_same_page(work: Path, messy: Shop, tmp_path: Path) -> None:
    first, _ = report(work, messy, tmp_path / "a.html")
    second, _ = report(work, messy, tmp_path / "b.html")
    assert first == second


def test_an_empty_work_folder(messy: Shop, tmp_path: Path) -> None:
    _, page = report(tmp_path / "nothing", messy, tmp_path / "r.html", config={}, timings={})
    for told in ("No search was evaluated", "stage pretrain was not run", "stage posttrain was not run"):
        assert told in page.text
    for told in ("Search by photo was not evaluated", "shelf was not made", "No timings", "No settings"):
        assert told in page.text
    assert [a["id"] for t, a in page.tags if t == "section"] == list(SECTIONS)


def test_one_stage_without_val(messy: Shop, tmp_path: Path) -> None:
    write_stage(tmp_path, "pretrain", 40, 0.3, 0.5, val=False)
    _, page = report(tmp_path, messy, tmp_path / "r.html")
    assert "There were no val searches" in page.text and "stage posttrain was not run" in page.text


BROKEN = [
    "",
    "[]",
    '{"metrics": 3}',
    '{"metrics": {"recall@1": null}}',
    '{"metrics": {"recall@1": {"value": NaN, "low": null, "n": "many"}}, "by_category": {"top": {"x": 3}}}',
    '{"metrics": {"recall@1": {"value": 0.5}}, "baselines": 1, "examples": [{"rank": NaN}, 7, {"top": 3}]}',
    '{"metrics": {"recall@1": {"value": 1e999, "n": Infinity}}, "protocol": {"gallery": NaN}, "examples": 3}',
]


@pytest.mark.parametrize("content", BROKEN)
def test_broken_files_never_stop_it(content: str, messy: Shop, tmp_path: Path) -> None:
    for folder in ("evaluation", "pretrain", "shelf"):
        (tmp_path / folder).mkdir()
    (tmp_path / "evaluation" / "posttrain.json").write_text(content)
    (tmp_path / "pretrain" / "manifest.json").write_text(content)
    (tmp_path / "shelf" / "manifest.json").write_text(content)
    log = ['{"step": 1, "kind": "train", "loss": NaN}', '{"step": "x", "kind": "val"}', "7"]
    log += ['{"step": 2, "kind": "train", "loss": 3.5, "scale": -Infinity}', '{"step": 3, "kind": "tra']
    (tmp_path / "pretrain" / "log.jsonl").write_text("\n".join(log))
    _, page = report(tmp_path, messy, tmp_path / "r.html", timings={"embed": float("nan")})
    assert not re.search(r"\bnan\b|\binf\b|None", page.text)
    if content in ("", "[]"):
        assert "evaluation/posttrain.json cannot be read" in page.text


def test_results_of_other_data_are_marked(messy: Shop, work: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    value = json.loads((work / "evaluation" / "posttrain.json").read_text())
    value["provenance"]["shop"] = "another"
    (tmp_path / "evaluation" / "posttrain.json").write_text(json.dumps(value))
    _, page = report(tmp_path, messy, tmp_path / "r.html")
    assert "evaluation/posttrain.json was measured on other data (another)" in page.text


def test_a_made_shop_says_so(made: Callable[[], Shop], messy: Shop, work: Path, tmp_path: Path) -> None:
    _, page = report(tmp_path / "w", made(), tmp_path / "r.html")
    assert "This shop is made, not real." in page.text
    _, real = report(work, messy, tmp_path / "q.html")
    assert "is made" not in real.text


def test_a_shop_of_photos_only(tmp_path: Path) -> None:
    raw = write_messy(tmp_path / "raw", products=5, searches=3)
    for name in ("products", "searches"):
        (raw / f"{name}.parquet").unlink()
    shop = open_shop(raw, cache=tmp_path / "prepared", require_products=False)
    _, page = report(tmp_path / "w", shop, tmp_path / "r.html")
    assert "There is no products table" in page.text


def test_size_does_not_grow_with_the_shop(tmp_path: Path) -> None:
    raw = write_messy(tmp_path / "raw", products=5000, searches=600)
    shop = open_shop(raw, cache=tmp_path / "prepared")
    work = tmp_path / "work"
    write_stage(work, "posttrain", 4000, 0.3, 0.8)
    write_evaluations(work, shop)
    source, page = report(work, shop, tmp_path / "r.html")
    assert len(source.encode()) < 3_000_000
    assert 60 < sum(t == "img" for t, _ in page.tags) < 400


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_renders_it_without_a_complaint(work: Path, messy: Shop, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    source, _ = report(work, messy, out)
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", out.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    dom = done.stdout
    assert [s for s in SECTIONS if f'<section id="{s}">' in dom] == list(SECTIONS)
    assert dom.count("<img") == source.count("<img") and dom.count("<svg") == source.count("<svg")
    assert "CONSOLE" not in done.stderr and "Refused to" not in done.stderr
