"""What the selector and the measured teacher know of a creative: frozen vectors, and measures with a name and a unit.

A creative is a text, a picture, or a picture whose words are known. Its vectors are those of the compact encoder's
towers as they are; the match to the title and to the searches is a cosine of the encoder's own vectors. What a creative
does not have is 0, and says so (``text.there``, ``image.there``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from moonshelf.arrays import kept_array, unit
from moonshelf.creative import measures_image, measures_text
from moonshelf.creative.looks import GRID, LAYOUT, grids, layouts
from moonshelf.creative.place import Cutout, cutout_of
from moonshelf.encoder.compact import CompactEncoder
from moonshelf.encoder.core import prepare_photo
from moonshelf.encoder.efficientnet import CHANNELS
from moonshelf.encoder.inputs import Item
from moonshelf.encoder.language import Language
from moonshelf.encoder.sentence import TOKEN_WIDTH
from moonshelf.progress import Progress

BATCH = 64
MATCHES = (
    "match.text_title", "match.text_queries", "match.text_among", "match.image_title", "match.image_queries"
)  # fmt: skip
SHARP = 40.0  # of the softmax over known texts: cosines of texts to searches differ by some .05
NAMES: tuple[str, ...] = (
    "text.there", *(f"text.{n}" for n in measures_text.NAMES),
    "image.there", *(f"image.{n}" for n in measures_image.NAMES), *MATCHES,
)  # fmt: skip
UNITS: dict[str, str] = {
    "text.there": "whether there are words", "image.there": "whether there is a picture",
    **{f"text.{n}": unit for n, unit in measures_text.NAMES.items()},
    **{f"image.{n}": unit for n, unit in measures_image.NAMES.items()},
    **{n: "cosine" for n in MATCHES},
    "match.text_among": "share among the texts of the log, by how well they fit the searches",
}  # fmt: skip
VERSION = 4  # of what is cached: another one when vectors or measures would come out differently


@dataclass(frozen=True, slots=True)
class Brief:
    """A creative without its counts, and what it is for.

    Attributes:
        text: its words, None or "" without any.
        image: gives its picture; None without one.
        title: of the product.
        queries: what its buyers search for.
        product: gives the product as cut from its own photo, None where it cannot be cut; None without one.
        mark: names the bytes of its picture and of the product's photo; "" where they are not known: then what is
            seen in them is not kept.
    """

    text: str | None = None
    image: Callable[[], Image.Image] | None = None
    title: str = ""
    queries: tuple[str, ...] = ()
    product: Callable[[], Cutout | None] | None = None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """N creatives as numbers.

    Attributes:
        text: ``[N, 2 x 512]`` float32: sentence vector (unit) and mean of the token states; 0 without words.
        image: ``[N, 1280 + width + LAYOUT + GRID]`` float32: the trunk's features (unit), the encoder's vector, the
            layout and the trunk's grid (``looks``); 0 without picture, no columns where none has one.
        measures: ``[N, len(NAMES)]`` float64 in the order of ``NAMES``.
        language: ``[N, D]`` float32 of a frozen language model, 0 without words; None where none was asked.
    """

    text: np.ndarray
    image: np.ndarray
    measures: np.ndarray
    language: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.measures)

    def take(self, at: np.ndarray) -> Seen:
        """Some rows, by number or mask."""
        language = None if self.language is None else self.language[at]
        return Seen(self.text[at], self.image[at], self.measures[at], language)


def briefs(
    frame: pl.DataFrame,
    load: Callable[[str], Image.Image] | None = None,
    photos: Mapping[str, str] | None = None,
    marks: Mapping[str, str] | None = None,
) -> list[Brief]:
    """The creatives of a frame of :class:`Logged`.

    Args:
        load: gives a picture by its id; without it pictures are left out.
        photos: product id -> id of its own photo.
        marks: id of a picture -> hash of its bytes.
    """
    marks = marks or {}
    cut: dict[str, Callable[[], Cutout | None]] = {}
    if load is not None:
        for product in frame["product_id"].drop_nulls().unique().to_list():
            if photos and product in photos:
                cut[product] = lru_cache(maxsize=1)(_cutter(load, photos[product]))
    found = []
    columns = ("text", "image_id", "title", "queries", "product_id")
    for text, image_id, title, queries, product in frame.select(columns).iter_rows():
        image = None if load is None or image_id is None else _loader(load, image_id)
        photo = photos.get(product, "") if photos else ""
        mark = f"{marks[image_id]} {marks.get(photo, '')}" if image_id in marks else ""
        found.append(Brief(text, image, title, tuple(queries), cut.get(product), mark))
    return found


def _loader(load: Callable[[str], Image.Image], image_id: str) -> Callable[[], Image.Image]:
    return lambda: load(image_id)


def _cutter(load: Callable[[str], Image.Image], image_id: str) -> Callable[[], Cutout | None]:
    return lambda: cutout_of(load(image_id))


def see(
    encoder: CompactEncoder,
    creatives: Sequence[Brief],
    *,
    cache: Path | None = None,
    among: Sequence[str] = (),
    language: Language | None = None,
) -> Seen:
    """Vectors and measures of creatives.

    Args:
        among: texts of the log that ``match.text_among`` compares a creative's own with.
        cache: folder that keeps what texts and pictures gave, by encoder and content, pictures 64 at a time: work that
            is cut off goes on from there. Pictures without a mark are measured anew.
        language: a frozen language model that reads the texts, too.

    Cost: about 6 ms a text and 90 ms a picture on one busy core; each distinct text is read once.
    """
    texts = [(c.text or "").strip() for c in creatives]
    asked = sorted(
        {t for t in (*texts, *among) if t}
        | {t for c in creatives for t in (c.title, *c.queries) if t.strip()}
    )
    place = {t: i for i, t in enumerate(asked)}
    towers, own = text_vectors(encoder, asked, cache=cache)
    at_text = np.array([place.get(t, -1) for t in texts])
    text = (
        np.where(at_text[:, None] >= 0, towers[at_text], 0)
        if len(asked)
        else np.zeros((len(at_text), 2 * TOKEN_WIDTH))
    )
    pictures = [i for i, c in enumerate(creatives) if c.image is not None]
    columns = CHANNELS + encoder.width + LAYOUT + GRID if pictures else 0
    image = np.zeros((len(creatives), columns), dtype=np.float32)
    seen = np.zeros((len(creatives), len(measures_image.NAMES)))
    with Progress(len(pictures), "creatives: pictures", "pictures") if pictures else nullcontext() as bar:
        for start in range(0, len(pictures), BATCH):
            part = pictures[start : start + BATCH]
            shown = [creatives[i] for i in part]
            rows = kept_array(_pictures_file(cache, encoder, shown), partial(_read_pictures, encoder, shown))
            image[part] = rows[:, :columns]
            seen[part] = np.ascontiguousarray(rows[:, columns:]).view(np.float64)
            if bar is not None:
                bar.advance(len(part))
    match = np.zeros((len(creatives), len(MATCHES)))
    known = own[[place[t] for t in among]] if among else np.zeros((0, own.shape[1]), dtype=np.float32)
    for i, creative in enumerate(creatives):
        title = [own[place[creative.title]]] if creative.title.strip() else []
        queries = [own[place[q]] for q in creative.queries if q.strip()]
        for at, against in enumerate((title, queries)):
            if against and at_text[i] >= 0:
                match[i, at] = float(np.mean(np.stack(against) @ own[at_text[i]]))
            if against and creative.image is not None:
                match[i, 3 + at] = float(
                    np.mean(np.stack(against) @ image[i, CHANNELS : CHANNELS + encoder.width])
                )
        if queries and at_text[i] >= 0 and len(known):
            match[i, 2] = share_among(np.stack(queries), own[at_text[i]], known, *title)
    told = np.array([measures_text.measure_text(t) for t in texts]).reshape(
        len(texts), len(measures_text.NAMES)
    )
    there = [
        np.array([[float(bool(t))] for t in texts]),
        np.array([[float(c.image is not None)] for c in creatives]),
    ]
    if not creatives:
        there = [np.zeros((0, 1)), np.zeros((0, 1))]
    measures = np.concatenate([there[0], told, there[1], seen, match], axis=1)
    return Seen(text.astype(np.float32), image, measures, _language(language, texts, cache))


def _language(language: Language | None, texts: Sequence[str], cache: Path | None) -> np.ndarray | None:
    if language is None:
        return None
    distinct, place = np.unique(np.array(texts, dtype=object), return_inverse=True)
    rows: np.ndarray = language.vectors(distinct.tolist(), cache=cache)[place]
    return rows


def share_among(
    queries: np.ndarray, text: np.ndarray, known: np.ndarray, title: np.ndarray | None = None
) -> float:
    """Mean over queries of ``exp(SHARP q.t) / sum_k exp(SHARP q.t_k)`` over the known texts, 1 at most.

    A cosine alone says which product a query names; which *other* texts fit it less says whether this one speaks to it.
    Of each query counts what it says beyond the title, ``unit(q - (q.title) title)``: "gift" of "gift yellow handbag".
    """
    if title is not None:
        queries = unit(queries - (queries @ title)[:, None] * title)
    own, others = SHARP * (queries @ text), SHARP * (queries @ known.T)
    top = np.maximum(own, others.max(1))
    shares = np.exp(own - top) / np.exp(others - top[:, None]).sum(1)
    return float(np.minimum(shares, 1.0).mean())


def _cut(product: Callable[[], Cutout | None] | None) -> Cutout | None:
    return None if product is None else product()


def _call(image: Callable[[], Image.Image] | None) -> Image.Image:
    assert image is not None
    return image()


def _pictures_file(cache: Path | None, encoder: CompactEncoder, shown: Sequence[Brief]) -> Path | None:
    if cache is None or not all(c.mark for c in shown):
        return None
    told = "\0".join((encoder.version, str(VERSION), *measures_image.NAMES, *(c.mark for c in shown)))
    return cache / f"pictures-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy"


def _read_pictures(encoder: CompactEncoder, shown: Sequence[Brief]) -> np.ndarray:
    """``[n, D + 2 M]`` float32: vectors of pictures, then the bytes of their measures, which are float64."""
    loaded, products = [_call(c.image) for c in shown], [_cut(c.product) for c in shown]
    measured = measures_image.measure_images(loaded, products)
    as_bytes = np.ascontiguousarray(measured, dtype=np.float64).view(np.float32)
    return np.concatenate((_image_vectors(encoder, loaded), as_bytes), axis=1)


def text_vectors(
    encoder: CompactEncoder, texts: Sequence[str], *, cache: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Of the frozen sentence tower ``[N, 2 x 512]``, and the encoder's own ``[N, width]`` unit rows."""
    name = hashlib.sha256("\0".join((encoder.version, str(VERSION), *texts)).encode()).hexdigest()[:16]
    file = None if cache is None else cache / f"texts-{name}.npy"
    both = kept_array(file, lambda: _read_texts(encoder, texts))
    return both[:, : 2 * TOKEN_WIDTH], both[:, 2 * TOKEN_WIDTH :]


def _read_texts(encoder: CompactEncoder, texts: Sequence[str]) -> np.ndarray:
    both = np.zeros((len(texts), 2 * TOKEN_WIDTH + encoder.width), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of one length share a batch
    was = encoder.training
    encoder.eval()
    try:
        with Progress(len(texts), "creatives: texts", "texts") as bar, torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                batch = encoder.collate([Item(texts[i]) for i in part])
                device = encoder.class_anchors.device
                ids, mask = batch.ids.to(device), batch.mask.to(device)
                states, sentence = encoder.sentence(ids, mask)
                mean = states.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
                towers = torch.cat((sentence, mean), dim=1).float().cpu()
                both[part] = torch.cat((towers, encoder.embed(batch)), dim=1).numpy()
                bar.advance(len(part))
    finally:
        encoder.train(was)
    return both


def _image_vectors(encoder: CompactEncoder, images: Sequence[Image.Image]) -> np.ndarray:
    size = encoder.image_size
    prepared = [prepare_photo(image, size, core=encoder.config.core) for image in images]
    batch = encoder.collate([Item(None, pixels) for pixels in prepared])
    whole = encoder.collate([Item(None, pixels[:1]) for pixels in prepared]).images
    trunk, grid = grids(encoder, whole)
    return np.concatenate((trunk, encoder.embed(batch).numpy(), layouts(images), grid), axis=1)
