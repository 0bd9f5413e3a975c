from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moonshelf.encoder.inputs import Item, prepare_image
from moonshelf.errors import InputError
from moonshelf.shelf.queries import embed_images, embed_matrix, embed_texts
from moonshelf.shelf.stream import Batch, Request, plan_batches, run_batches, windowed_map
from moonshelf.shop.images import ImageError


class FakePhotos:
    """Photos made from their id; ids that start with ``bad`` cannot be decoded. Counts what was decoded."""

    def __init__(self) -> None:
        self.decoded = 0
        self.lock = threading.Lock()

    def decode(self, image_id: str, short_side: int | None = None) -> Image.Image:
        with self.lock:
            self.decoded += 1
        if image_id.startswith("bad"):
            raise ImageError("truncated", "", image_id)
        seed = int.from_bytes(image_id.encode(), "big") % 2**32
        return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8))


requests = st.lists(
    st.builds(
        Request, st.one_of(st.none(), st.text(max_size=9)), st.lists(st.just("a"), max_size=5).map(tuple)
    ),
    max_size=60,
)


@given(requests, st.integers(1, 8), st.integers(0, 5))
def test_plan_keeps_every_request_once_within_the_limits(asked: list[Request], size: int, first: int) -> None:
    batches = plan_batches(asked, size, first)
    assert sorted(p for batch in batches for p, _ in batch) == list(range(first, first + len(asked)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or sum(len(r.image_ids) for _, r in batch) <= size
        assert all(asked[p - first] is r for p, r in batch)


def test_rows_equal_the_encoder_alone_in_the_order_asked(tiny) -> None:
    photos = FakePhotos()
    asked = [
        Request(f"t{i}" if i % 3 else None, tuple(f"{i}.{j}" for j in range(1 + i % 2))) for i in range(50)
    ]
    got, failures = embed_matrix(asked, tiny, photos, batch_size=7)
    assert not failures
    for i, request in enumerate(asked):
        pixels = tuple(prepare_image(photos.decode(name), 16) for name in request.image_ids)
        want = tiny.embed(tiny.collate([Item(request.text, pixels)])).numpy()[0]
        np.testing.assert_allclose(got[i], want, atol=1e-6)


def test_only_a_few_batches_are_decoded_ahead(tiny) -> None:
    photos, planned = FakePhotos(), 0

    def batches() -> Iterator[Batch]:
        nonlocal planned
        for i in range(100):
            planned += 1
            yield [(i, Request(None, (f"{i}",)))]

    for n, _ in enumerate(run_batches(batches(), photos, tiny, ahead=2), 1):
        assert planned <= n + 2 and photos.decoded <= n + 2
    assert n == 100


def test_photos_past_the_limit_are_not_decoded(tiny) -> None:
    photos = FakePhotos()
    embed_matrix([Request(None, ("a", "b", "c", "d", "e"))], tiny, photos)
    assert photos.decoded == tiny.config.max_images


def test_a_photo_that_fails_is_told_and_the_rest_goes_on(tiny) -> None:
    asked = [
        Request("text", ("bad1",)),
        Request(None, ("bad2",)),
        Request(None, ("ok", "bad3")),
        Request("x"),
    ]
    got, failures = embed_matrix(asked, tiny, FakePhotos())
    assert {(f.position, f.image_id, f.reason) for f in failures} == {
        (0, "bad1", "truncated"),
        (1, "bad2", "truncated"),
        (2, "bad3", "truncated"),
    }
    assert not got[1].any()
    np.testing.assert_allclose(got[0], embed_matrix([Request("text")], tiny)[0][0], atol=1e-6)
    np.testing.assert_allclose(
        got[2], embed_matrix([Request(None, ("ok",))], tiny, FakePhotos())[0][0], atol=1e-6
    )


def test_an_error_in_the_network_ends_the_threads(tiny) -> None:
    before = threading.active_count()
    tiny.embed = lambda batch: 1 / 0
    with pytest.raises(ZeroDivisionError):
        embed_matrix([Request(None, (str(i),)) for i in range(300)], tiny, FakePhotos())
    assert threading.active_count() <= before


@pytest.mark.parametrize("request_", [Request(None), Request("  "), Request("")])
def test_an_empty_query_is_refused(tiny, request_: Request) -> None:
    with pytest.raises(InputError, match="query 1 has neither"):
        embed_matrix([Request("fine"), request_], tiny)


def test_photos_without_a_store_are_refused(tiny) -> None:
    with pytest.raises(InputError, match="no shop was given"):
        embed_matrix([Request(None, ("a",))], tiny)


def test_images_stream_in_order_and_leave_out_the_unreadable(tiny) -> None:
    names = [f"{i}" for i in range(10)] + ["bad", "last"]
    found = list(embed_images(FakePhotos(), iter(names), tiny, batch_size=4, dim=8))
    assert [name for ids, _ in found for name in ids] == [n for n in names if n != "bad"]
    assert [len(ids) for ids, _ in found] == [4, 4, 3]
    assert all(v.shape == (len(ids), 8) for ids, v in found)


def test_texts_stream_in_order(tiny) -> None:
    texts = [f"t{i}" * (9 - i) for i in range(9)]
    rows = np.concatenate(list(embed_texts(texts, tiny, batch_size=4)))
    np.testing.assert_allclose(rows, embed_matrix([Request(t) for t in texts], tiny)[0], atol=1e-6)
    assert rows.shape == (9, 16)


def test_windowed_map_keeps_order_and_reads_lazily() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for i in range(1000):
            read += 1
            yield i

    for n, value in enumerate(windowed_map(lambda x: x * x, items(), window=16)):
        assert value == n * n and read <= n + 17
    assert n == 999
