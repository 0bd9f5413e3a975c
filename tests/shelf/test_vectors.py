from __future__ import annotations

import numpy as np
import pytest

from moonshelf.arrays import unit
from moonshelf.errors import InputError
from moonshelf.shelf.vectors import check_format, cut, pack, unpack


def rows(n: int = 200, d: int = 64) -> np.ndarray:
    return unit(np.random.default_rng(0).standard_normal((n, d)))


def test_i8_scale_is_max_over_127_and_error_at_most_half_a_step() -> None:
    x = rows()
    q, scale = pack(x, "i8")
    assert q.dtype == np.int8 and scale.dtype == np.float32
    np.testing.assert_allclose(scale, np.abs(x).max(1) / 127, rtol=1e-6)
    assert np.abs(q).max() == 127
    assert (np.abs(q * scale[:, None] - x) <= scale[:, None] * 0.5 + 1e-7).all()


def test_i8_is_symmetric_and_zero_rows_stay_zero() -> None:
    x = rows()
    np.testing.assert_array_equal(pack(-x, "i8")[0], -pack(x, "i8")[0])
    q, scale = pack(np.zeros((2, 4), np.float32), "i8")
    assert not q.any() and not scale.any() and not unpack(q, scale).any()


@pytest.mark.parametrize(("dtype", "least"), [("f32", 1 - 1e-6), ("f16", 1 - 1e-5), ("i8", 0.9995)])
def test_unpacked_rows_are_unit_and_close(dtype: str, least: float) -> None:
    x = rows()
    q, scale = pack(x, dtype)
    back = unpack(q, scale if dtype == "i8" else None)
    assert back.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert (back * x).sum(1).min() >= least


def test_cut_is_the_normalised_prefix() -> None:
    x = rows()
    np.testing.assert_allclose(
        cut(x, 16), x[:, :16] / np.linalg.norm(x[:, :16], axis=1, keepdims=True), rtol=1e-5
    )
    assert cut(x, 64) is x


@pytest.mark.parametrize(("dim", "dtype", "says"), [(100, "f32", "width 100"), (64, "bf16", "bf16")])
def test_unknown_format_is_refused(dim: int, dtype: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_format(dim, dtype, (64, 32))
