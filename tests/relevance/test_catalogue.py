"""Words, spelling, latent spaces and whole-text scores of a catalogue, against plain loops, numpy and sklearn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from moonshelf.relevance.asked import ask, dice
from moonshelf.relevance.catalogue import K1, B, Catalogue
from moonshelf.relevance.features import pair_features
from moonshelf.relevance.goods import goods_of, lexicon_of, read_titles, used_fields
from moonshelf.relevance.latent import Sparse, title_factors, truncated_svd, word_vectors
from moonshelf.relevance.lexicon import edits
from moonshelf.relevance.ragged import Ragged
from moonshelf.relevance.reasons import reasons
from moonshelf.relevance.words import read_text, stem

TITLES = [
    "Acme 12 in. White Kitchen Faucet with Spray",
    "Acme 10 in. Bronze Bath Faucet",
    "Boltek Toilet Seat, White",
    "Boltek Toilet Brush and Toilet Holder",
    "Kitchen Backsplash Tile 12 in. x 24 in. in White",
    "Deadbolt Door Lock",
    "",
    "红色 亚麻 连衣裙",
    "Door Knob Deadbolt Kit 红色",
]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    products = pl.DataFrame({"product_id": [f"p{i}" for i in range(len(TITLES))], "title": TITLES})
    titles = read_titles(products)
    lexicon = lexicon_of(titles)
    goods = goods_of(products, lexicon, [], titles)
    factors = title_factors(goods.titles, lexicon.idf, 5, seed=0)
    return Catalogue(lexicon, goods, factors, word_vectors(goods.titles, lexicon.counts, 4, seed=0, least=1))


def plain(products: pl.DataFrame, fields: Sequence[str] = ()) -> Catalogue:
    """Without anything learned of the titles."""
    texts = read_titles(products)
    lexicon = lexicon_of(texts, products, fields)
    goods, nothing = goods_of(products, lexicon, fields, texts), np.zeros((len(lexicon), 2), np.float32)
    return Catalogue(lexicon, goods, nothing, nothing)


def test_a_number_without_a_unit_is_compared_as_it_is_written() -> None:
    titles = ["2 in. x 4 in. x 8 ft. Lumber", "1 ft. Lumber", "8 in. Lumber", "8 Lumber Screws"]
    products = pl.DataFrame({"product_id": list("abcd"), "title": titles})
    catalogue = plain(products)
    goods = catalogue.goods

    def found(query: str) -> list[float]:
        return pair_features(ask(query, catalogue), goods, catalogue)["has"].round(2).tolist()

    assert found("2x4x8") == pytest.approx([0.7, 0, 0.23, 0.33], abs=0.01)
    assert found("12") == [0, 0, 0, 0]  # 1 ft is 12 in, but nobody said inches
    assert found("12 in") == [0, 1, 0, 0]
    assert found("96 in") == [1, 0, 0, 0]
    assert found("8 ft") == pytest.approx([1, 0, 0, 0.7])


def test_whole_numbers_without_a_unit_are_names() -> None:
    titles = [
        "Valve 1234567",
        "Valve 1234571",
        "889842640816 Pump",
        "889842640724 Pump",
        "Rod 0.3334 in",
        "Rod 99 9",
    ]
    products = pl.DataFrame({"product_id": list("abcdef"), "title": titles})
    catalogue = plain(products)
    goods = catalogue.goods

    def found(query: str) -> list[bool]:
        return (pair_features(ask(query, catalogue), goods, catalogue)["has"] > 0).tolist()

    assert found("1234571") == [False, True, False, False, False, False]
    assert found("889842640816") == [False, False, True, False, False, False]
    assert found("1/3 in") == [False, False, False, False, True, False]  # rounded


def test_words_of_other_fields_are_known() -> None:
    products = pl.DataFrame(
        {
            "product_id": list("abc"),
            "title": ["running shoes red", "water pump", "mountain bike"],
            "brand": ["Nike", "Puma", None],
            "category": ["Sport > Shoes", None, None],
            "attributes": ['{"sole": "rubber"}', None, None],
            "description": ["waterproof, breathable", "waterproof", None],
        }
    )
    catalogue = plain(products, used_fields(products))
    lexicon, goods = catalogue.lexicon, catalogue.goods
    stems = [stem(w) for w in ("nike", "puma", "waterproof", "breathable", "rubber")]
    assert [lexicon.count(w) for w in stems] == [1, 1, 2, 0, 1]  # one description alone names the fourth
    assert lexicon.mend("puma") == ("puma",) and lexicon.mend("pumma") == ("puma",)
    features = pair_features(ask("nike shoes waterproof", catalogue), goods, catalogue)
    assert (features["brand_has"][0] > 0) and features["brand_has"][1] == 0
    assert (features["description_has"][:2] > 0).all() and features["anywhere"][0] == pytest.approx(1)
    assert reasons(ask("puma shoes", catalogue), goods, catalogue)[1].startswith("matches 'puma'")


def test_bm25_equals_its_formula(catalogue: Catalogue) -> None:
    texts = [read_text(t).words for t in TITLES]
    n, mean = len(texts), np.mean([len(t) for t in texts])
    for query in ("white faucet", "toilet", "kitchen 12 in", "红色"):
        words = set(read_text(query).words)
        wanted = []
        for text in texts:
            score = 0.0
            for word in words:
                having = sum(word in t for t in texts)
                often = text.count(word)
                idf = np.log(1 + (n - having + 0.5) / (having + 0.5))
                score += idf * often * (K1 + 1) / (often + K1 * (1 - B + B * len(text) / mean))
            wanted.append(score)
        assert catalogue.bm25(np.array(catalogue.lexicon.ids(sorted(words)))) == pytest.approx(
            wanted, rel=1e-5
        )
        features = pair_features(ask(query, catalogue), catalogue.goods, catalogue)
        assert features["bm25"] == pytest.approx(wanted, rel=1e-5)


def test_gram_cosines_equal_those_of_whole_vectors(catalogue: Catalogue) -> None:
    joined = [" ".join(read_text(t).words) for t in TITLES]
    counter = CountVectorizer(analyzer="char_wb", ngram_range=(3, 3), lowercase=False)
    counts = counter.fit_transform(joined).toarray()
    idf = np.log1p(len(TITLES) / (1.0 + _titles_of_grams(catalogue, counter.get_feature_names_out())))
    rows = counts * idf
    for query in ("white faucet", "toilet seat"):
        own = counter.transform([" ".join(read_text(query).words)]).toarray()[0] * idf
        length = np.linalg.norm(rows, axis=1) * np.linalg.norm(own)
        wanted = np.where(length > 0, rows @ own / np.where(length > 0, length, 1), 0)
        weights = catalogue.gram_weights(list(read_text(query).words))
        assert catalogue.gram_cosines(weights) == pytest.approx(wanted, abs=1e-5)
        features = pair_features(ask(query, catalogue), catalogue.goods, catalogue)
        assert features["grams"] == pytest.approx(wanted, abs=1e-5)


def _titles_of_grams(catalogue: Catalogue, grams: np.ndarray) -> np.ndarray:
    """How often each gram is in a word of a title, a word of a title counting once."""
    words = catalogue.lexicon.words
    return np.array(
        [
            sum(catalogue.lexicon.counts[i] * f" {w} ".count(g) for i, w in enumerate(words) if w)
            for g in grams
        ]
    )


def test_svd_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(60, 25)) * (rng.uniform(size=(60, 25)) < 0.3)
    lists = Ragged.of([np.flatnonzero(row) for row in dense])
    matrix = Sparse(lists, dense[dense != 0].astype(np.float32), 25)
    value, right = truncated_svd(matrix, 6, seed=0, rounds=8)
    _, wanted, turned = np.linalg.svd(dense)
    assert value == pytest.approx(wanted[:6], rel=1e-3)
    assert np.abs(np.sum(right * turned[:6].T, axis=0)) == pytest.approx(np.ones(6), abs=2e-2)
    assert np.allclose(matrix.turned().times(_eye(60)).numpy(), dense.T, atol=1e-6)


def _eye(n: int):
    import torch

    return torch.eye(n)


def test_words_of_like_company_are_near() -> None:
    rng = np.random.default_rng(0)
    lists = [[1 + rng.integers(2), *rng.choice(range(3, 9), 3, False)] for _ in range(300)]
    lists += [[9, *rng.choice(range(10, 16), 3, False)] for _ in range(300)]
    lists += [[16] for _ in range(5)]
    counts = np.bincount([w for x in lists for w in x], minlength=18)
    vectors = word_vectors(Ragged.of(lists), counts, 4, seed=0)
    assert vectors[1] @ vectors[2] > 0.9 > 0.3 > vectors[1] @ vectors[9]
    assert not vectors[16].any() and not vectors[17].any()


def test_unknown_words_are_mended(catalogue: Catalogue) -> None:
    mend = catalogue.lexicon.mend
    assert mend("toliet") == ("toilet",)
    assert mend("faucett") == ("faucet",)
    assert mend("kitchan") == ("kitchen",)
    assert mend("kitchen") == ("kitchen",)
    assert mend("xylophon") == ("xylophon",)
    assert mend("#13in") == ("#13in",) and mend("dw745") == ("dw745",) and mend("裙子") == ("裙子",)


def test_long_words_split_where_both_halves_are_common() -> None:
    products = pl.DataFrame({"product_id": list("abcdef"), "title": ["bathroom vanity"] * 6})
    assert lexicon_of(read_titles(products)).mend("bathroomvanity") == ("bathroom", "vanity")


def test_likeness_and_slips_equal_plain_counts(catalogue: Catalogue) -> None:
    alike = catalogue.lexicon.alike("toliet")
    for i, word in enumerate(catalogue.lexicon.words):
        if word:
            assert alike[i] == pytest.approx(dice("toliet", word) if not word.startswith("#") else alike[i])
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, b = ("".join(rng.choice(list("abc"), rng.integers(1, 7))) for _ in "ab")
        assert edits(a, b, 2) == min(_slips(a, b), 3)


def _slips(a: str, b: str) -> int:
    """Optimal string alignment distance by plain recursion."""
    if not a or not b:
        return len(a) + len(b)
    best = min(_slips(a[:-1], b) + 1, _slips(a, b[:-1]) + 1, _slips(a[:-1], b[:-1]) + (a[-1] != b[-1]))
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        best = min(best, _slips(a[:-2], b[:-2]) + 1)
    return best


def test_compounds_count_for_both_words(catalogue: Catalogue) -> None:
    told = pair_features(ask("back splash", catalogue), catalogue.goods, catalogue)
    assert told["has"][4] == 1 and told["pairs"][4] == 1 and told["has"][[0, 1, 2, 3]].sum() == 0


def test_numbers_agree_or_contradict(catalogue: Catalogue) -> None:
    told = pair_features(ask("1 ft faucet", catalogue), catalogue.goods, catalogue)
    assert told["numbers_agree"][[0, 1]].tolist() == [1, 0]  # 12 in. and 10 in.
    assert told["numbers_against"][[0, 1, 2]].tolist() == [
        0,
        1,
        0,
    ]  # a title without measures contradicts nothing
    assert told["numbers_off"][1] == pytest.approx(np.log(1.2), rel=1e-5)
    assert np.isnan(
        pair_features(ask("faucet", catalogue), catalogue.goods, catalogue)["numbers_agree"]
    ).all()


def test_head_order_and_brand(catalogue: Catalogue) -> None:
    told = pair_features(ask("toilet seat", catalogue), catalogue.goods, catalogue)
    assert told["head_head"][[2, 3]].tolist() == [1, 0] and told["pairs"][[2, 3]].tolist() == [1, 0]
    assert told["first_has"][[2, 3, 5]].tolist() == [1, 1, 0]
    backwards = pair_features(ask("seat toilet", catalogue), catalogue.goods, catalogue)
    assert backwards["pairs"][2] == 0 and backwards["has"][2] == 1
    whole = Catalogue(catalogue.lexicon, catalogue.goods, catalogue.factors, catalogue.vectors)
    whole.brands = np.isin(catalogue.lexicon.words, ["acm", "boltek"])
    brand = pair_features(ask("boltek faucet", whole), whole.goods, whole)["brand"]
    assert brand[[0, 2, 5]].tolist() == [-1, 1, -0.5]


def test_chinese_and_titles_without_words(catalogue: Catalogue) -> None:
    told = pair_features(ask("红色连衣裙", catalogue), catalogue.goods, catalogue)
    assert told["has_idf"].argmax() == 7 and told["has"][8] > 0 == told["has"][0]
    for query in ("faucet", "", "!!!"):
        features = pair_features(ask(query, catalogue), catalogue.goods, catalogue)
        assert [*features] == [*told] and features["has"][6] == 0
        assert not np.isinf(np.stack([*features.values()])).any()


def test_some_products_alone_are_told_the_same(catalogue: Catalogue) -> None:
    asked, rows = ask("white kitchen faucet 12 in", catalogue), np.array([6, 4, 0])
    alone = pair_features(asked, catalogue.goods.take(rows), catalogue)
    for name, value in pair_features(asked, catalogue.goods, catalogue).items():
        assert alone[name] == pytest.approx(value[rows], abs=1e-5, nan_ok=True), name
