"""From the creatives of a shop to a :class:`Chooser`, and its answers on pairs that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.creative.additive import fit_additive
from moonshelf.creative.chooser import Chooser
from moonshelf.creative.facts import INDEX
from moonshelf.creative.fast import FastSelector
from moonshelf.creative.fit import fit_fast
from moonshelf.creative.logs import Logged, from_shop, having, pooled
from moonshelf.creative.measures import Seen, briefs, see
from moonshelf.creative.pairs import PairRules, Pairs, build_pairs
from moonshelf.creative.pairwise import fit_pairwise
from moonshelf.creative.protocol import Kind
from moonshelf.encoder import CompactEncoder
from moonshelf.encoder.language import Language
from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation import selection
from moonshelf.evaluation.selection import Judged
from moonshelf.progress import say
from moonshelf.shop.shop import Shop

FAST, MEASURES, LOGISTIC = "fast selector", "measures alone", "logistic on vector differences"


@dataclass(frozen=True, slots=True)
class Material:
    """The creatives of a shop as numbers.

    Attributes:
        kind: what they are.
        logged: every creative; pairs are made of these.
        whole: what a selector is fitted on and scores: of texts each once a test, with its counts together.
        seen: of ``whole``, row by row.
        headlines: texts that those of creatives were compared with.
        language: version of the language model that read the texts; "": none did.
    """

    kind: Kind
    logged: Logged
    whole: Logged
    seen: Seen
    headlines: tuple[str, ...] = ()
    language: str = ""

    @property
    def texts(self) -> list[str]:
        """Of ``whole``, "" without words."""
        return [t or "" for t in self.whole.frame["text"].to_list()]

    def places(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """Rows of ``whole`` that the two creatives of each pair are, ``[P]`` each."""
        by = ("group", "words") if self.kind == "text" else ("group", "creative_id")
        rows = {key: i for i, key in enumerate(self.whole.frame.select(by).iter_rows())}
        own = dict(self.logged.frame.select(pl.col("creative_id").alias("id"), by[1]).iter_rows())
        a, b = (
            np.array(
                [rows[g, own[i]] for g, i in pairs.frame.select("group", f"creative_id_{s}").iter_rows()]
            )
            for s in "ab"
        )
        return a, b


def kind_of(shop: Shop) -> Kind:
    """``image`` where most creatives have a picture that can be opened, ``text`` else."""
    if shop.creatives is None or not len(shop.creatives):
        return "text"
    return "image" if shop.creatives["image_id"].is_not_null().mean() > 0.5 else "text"  # type: ignore[operator]


HEADLINES = 500  # texts of the log that others are compared with


def headlines(logged: Logged) -> tuple[str, ...]:
    """Texts of training creatives, those of most creatives first; none where nobody's searches are known."""
    train = logged.frame.filter((pl.col("split") == "train") & pl.col("text").is_not_null())
    if not len(train) or not train["queries"].list.len().sum():
        return ()
    counted = train.group_by("text").len().sort(["len", "text"], descending=[True, False])
    return tuple(t.strip() for t in counted["text"].head(HEADLINES).to_list() if t.strip())


def gather(
    shop: Shop,
    encoder: CompactEncoder,
    *,
    cache: Path | None = None,
    splits: tuple[str, ...] = (),
    among: Sequence[str] | None = None,
    language: Language | None = None,
) -> Material:
    """The creatives of a shop and what is seen of them.

    Args:
        cache: keeps what was read of texts and pictures.
        splits: only these; all without.
        among: texts that those of creatives are compared with (``Chooser.headlines``); None: the log's own.
        language: reads the texts, too, where creatives are texts.

    Raises:
        TooLittleData: the shop has no creatives that may be compared.
    """
    kind = kind_of(shop)
    if kind == "text":
        logged = having(from_shop(shop, apart="words"), "words", "without words among texts")
    else:
        logged = having(from_shop(shop, apart="picture"), "image_id", "without picture among pictures")
    whole = pooled(logged, alone=True) if kind == "text" else logged
    if splits:
        logged, whole = (
            replace(part, frame=part.frame.filter(pl.col("split").is_in(splits))) for part in (logged, whole)
        )
    if not len(whole):
        raise TooLittleData(
            "no creatives are left that may be compared",
            where=shop.name,
            mend="left out: " + (", ".join(f"{n} {why}" for why, n in logged.left.items()) or "none"),
        )
    load = shop.images.decode if kind == "image" else None
    among = headlines(logged) if among is None else among
    photos: dict[str, str] = {}
    if kind == "image" and shop.products is not None:
        first = shop.products.select("product_id", pl.col("image_ids").list.first())
        photos = {product: photo for product, photo in first.iter_rows() if photo is not None}
    language = language if kind == "text" else None
    marks = dict(shop.images.table.select("image_id", "sha256").drop_nulls().iter_rows()) if load else {}
    shown = briefs(whole.frame, load, photos, marks)
    seen = see(encoder, shown, cache=cache, among=among, language=language)
    return Material(kind, logged, whole, seen, tuple(among), language.version if language else "")


def pair_rules(kind: Kind, rules: PairRules) -> PairRules:
    """The rules of a kind: texts are compared beside one picture.

    Raises:
        InputError: rules for pictures, and creatives that are texts.
    """
    if kind == "text" and rules.alone == "image":
        raise InputError("rules.alone is image, and these creatives are texts", mend="leave it out")
    return replace(rules, alone="text") if kind == "text" else rules


def learn(
    material: Material, encoder: CompactEncoder, rules: PairRules | None = None, *, seed: int = 0
) -> tuple[Chooser, Pairs]:
    """Fit the selector and its baselines on train, chosen on val; ``material`` need not hold test.

    Args:
        rules: which pairs count; ``alone`` follows from the kind.

    Returns:
        The chooser, and the pairs of train and val.

    Raises:
        TooLittleData: a split has too few creatives or no pairs.

    Cost: see :func:`fit_fast`; three fits.
    """
    rules = pair_rules(material.kind, rules or PairRules())
    known = material.whole.frame["split"].is_in(["train", "val"]).to_numpy()
    whole = replace(material.whole, frame=material.whole.frame.filter(known))
    seen = material.seen.take(known)
    loose = replace(rules, alone="")  # of pooled texts no picture is left to be the same
    fast = fit_fast(whole, seen, seed=seed, encoder=encoder.version)
    measures = fit_additive(whole, seen, seed=seed, encoder=encoder.version)
    of = "sentence" if material.kind == "text" else "picture"
    logistic: FastSelector | None = None
    try:
        logistic = fit_pairwise(whole, seen, of=of, rules=loose, seed=seed, encoder=encoder.version)
    except TooLittleData as error:
        say(f"creative: no logistic model to compare with: {error}")
    frame = material.logged.frame.filter(pl.col("split").is_in(["train", "val"]))
    pairs = build_pairs(replace(material.logged, frame=frame), rules, seed=seed)
    about = {
        "creatives": len(whole),
        "tests": whole.frame["group"].n_unique(),
        "seed": seed,
        "fast": fast.about,
    }
    return Chooser(
        material.kind,
        fast,
        measures,
        logistic,
        rules,
        encoder.version,
        about,
        material.headlines,
        material.language if "language" in fast.weights else "",
    ), pairs


def judged(chooser: Chooser, material: Material, pairs: Pairs) -> dict[str, Judged]:
    """What chance, the field's rules of thumb, the baselines and the fast selector say of pairs; the selector last."""
    if chooser.kind != material.kind:
        raise InputError(
            f"the selector was trained on creatives of kind {chooser.kind}, these are of kind {material.kind}",
            mend="train one on such creatives",
        )
    a, b = material.places(pairs)
    won, group = (pairs.frame["winner"] == "A").to_numpy(), pairs.frame["group"].to_list()
    rule, measure = (
        ("longer text", "text.characters")
        if chooser.kind == "text"
        else ("larger subject", "image.core_area")
    )
    size = material.seen.measures[:, INDEX[measure]]
    out = {"chance": selection.chance(won, group), rule: selection.larger_wins(size[a], size[b], won, group)}
    models: Mapping[str, FastSelector | None] = {
        MEASURES: chooser.measures,
        LOGISTIC: chooser.logistic,
        FAST: chooser.fast,
    }
    for name, model in models.items():
        if model is not None:
            out[name] = _asked(model, model.score(material.seen, material.texts), a, b, won, group)
    return out


def _asked(
    model: FastSelector, f: np.ndarray, a: np.ndarray, b: np.ndarray, won: np.ndarray, group: list[str]
) -> Judged:
    return selection.asked_twice(lambda x, y: model.chance(f[x], f[y]), a, b, won, group)
