"""Which pictures are the same picture: a 64-bit DCT hash, checked by a small colour thumbnail.

Hash (after pHash, Zauner 2010): grey 32 x 32, two-dimensional DCT-II, the first 64 coefficients behind
the mean in zigzag order; a bit is set when the coefficient exceeds half the mean absolute coefficient.
pHash cuts at the median, which for studio photos on white lies where most coefficients are, near zero, so that
scaling flips bits; with this cut 99% of photos stay within 3 bits when scaled by 0.75 (benchmarks/stated_costs.py).

Studio photos collide under any such hash, so a pair counts only when its colour thumbnails agree: with
thumbnails a, b and their means, ``sum (a-b)^2 <= 0.003 * (half the sum of both variances + 1 per cell)``
and no cell differs by more than 20 of 255 (our design; set by eye on pairs of real catalogues).

Candidate pairs come from banding: two hashes at Hamming distance <= 3 agree in at least one of four
16-bit bands, so only equal bands are compared. Cost O(N log N) plus the pairs inside bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

Array = np.ndarray[Any, Any]

MAX_DISTANCE = 3  # bits of 64
THUMB = 16  # thumbnail side
THUMB_BYTES = THUMB * THUMB * 3
RESIDUAL = 0.003  # share of the thumbnail's own variance
PEAK = 20  # of 255, the worst cell: a changed print or collar shows here
ASPECT_DIFFERENCE = 0.04  # of log(width / height)
FLAT = 4.0  # standard deviation of grey below which a picture has no structure to hash
MAX_BUCKET = 2048  # pictures of one band compared all with all; beyond it only neighbours by hash
NEIGHBOURS = 64
_BATCH = 8192  # pairs whose thumbnails are compared at once


def _dct(n: int) -> Array:
    k, i = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    return np.cos(np.pi * (2 * i + 1) * k / (2 * n))


def _zigzag(count: int) -> tuple[Array, Array]:
    cells = sorted((i + j, i, j) for i in range(16) for j in range(16))[1 : count + 1]
    return np.array([c[1] for c in cells]), np.array([c[2] for c in cells])


_DCT = _dct(32)
_ROWS, _COLUMNS = _zigzag(64)
_ONES = np.array([i.bit_count() for i in range(1 << 16)], dtype=np.uint8)  # set bits of 16
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def signature(rgb: Image.Image) -> tuple[int, bytes]:
    """Hash and colour thumbnail of a picture.

    Args:
        rgb: RGB image of any size.

    Returns:
        (64-bit hash, ``THUMB_BYTES`` bytes). Hash 0 means: no structure, never a near duplicate.
    """
    small = np.asarray(rgb.resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    grey = small @ np.array([0.299, 0.587, 0.114])
    thumb = small.reshape(THUMB, 32 // THUMB, THUMB, 32 // THUMB, 3).mean(axis=(1, 3))
    packed = np.rint(thumb).astype(np.uint8).tobytes()
    if float(grey.std()) < FLAT:
        return 0, packed
    wave = (_DCT @ grey @ _DCT.T)[_ROWS, _COLUMNS]
    return int(_BITS[wave > 0.5 * np.abs(wave).mean()].sum(dtype=np.uint64)), packed


class Sets:
    """Union-find with path halving; the smallest member is the root."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        """The root of ``i``."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Put ``i`` and ``j`` into one set."""
        a, b = self.find(i), self.find(j)
        self.parent[max(a, b)] = min(a, b)


def near_groups(hashes: Array, thumbs: Array, log_aspect: Array, same: Array) -> Array:
    """Group pictures that are the same picture, whatever its size and compression.

    Args:
        hashes: uint64 [N], 0 = never a near duplicate.
        thumbs: uint8 [N, THUMB_BYTES] colour thumbnails (a memory map will do).
        log_aspect: float [N], log(width / height).
        same: int64 [N], index of the first picture of the same bytes (itself when none).

    Returns:
        int64 [N] group numbers 0.. in order of first appearance; every picture has one.
    """
    n = len(hashes)
    sets = Sets(n)
    for i in np.flatnonzero(same != np.arange(n)):
        sets.join(int(i), int(same[i]))
    alone = np.flatnonzero((same == np.arange(n)) & (hashes != 0))
    coarse = _coarse(thumbs)
    for left, right in _candidates(hashes[alone]):
        a, b = alone[left], alone[right]
        good = np.abs(log_aspect[a] - log_aspect[b]) <= ASPECT_DIFFERENCE
        good &= (
            np.abs(coarse[a] - coarse[b]).max(axis=1) <= PEAK + 1
        )  # means differ less than their worst cell
        a, b = a[good], b[good]
        same_picture = _agree(thumbs[a], thumbs[b])
        for i, j in zip(a[same_picture].tolist(), b[same_picture].tolist(), strict=True):
            sets.join(i, j)
    roots = np.array([sets.find(i) for i in range(n)], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _coarse(thumbs: Array) -> Array:
    """4 x 4 means of the thumbnails, int16 [N, 48], made in steps so that a memory map stays one."""
    out = np.empty((len(thumbs), 48), dtype=np.int16)
    for at in range(0, len(thumbs), 4096):
        part = thumbs[at : at + 4096]
        cells = part.reshape(len(part), 4, THUMB // 4, 4, THUMB // 4, 3).mean(axis=(2, 4))
        out[at : at + 4096] = np.rint(cells).reshape(len(part), 48)
    return out


def _agree(a: Array, b: Array) -> Array:
    """Whether thumbnails [P, THUMB_BYTES] show the same colours at the same places."""
    x = a.reshape(len(a), THUMB * THUMB, 3).astype(np.float32)
    y = b.reshape(len(b), THUMB * THUMB, 3).astype(np.float32)
    away = np.abs(x - y)
    own = [((v - v.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) for v in (x, y)]
    enough = RESIDUAL * ((own[0] + own[1]) / 2 + THUMB_BYTES)
    return np.asarray(((away**2).sum(axis=(1, 2)) <= enough) & (away.max(axis=(1, 2)) <= PEAK))


def _candidates(hashes: Array) -> Iterator[tuple[Array, Array]]:
    """Index pairs of hashes at distance <= 3, in batches; a pair may come once a band."""
    held: list[tuple[Array, Array]] = []
    count = 0
    for band in range(4):
        keys = (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.lexsort((hashes, keys))
        ends = np.append(np.flatnonzero(np.diff(keys[order])) + 1, len(order))
        start = 0
        for end in ends.tolist():
            for a, b in _close_pairs(order[start:end], hashes):
                held.append((a, b))
                count += len(a)
                if count >= _BATCH:
                    yield np.concatenate([p[0] for p in held]), np.concatenate([p[1] for p in held])
                    held, count = [], 0
            start = end
    if held:
        yield np.concatenate([p[0] for p in held]), np.concatenate([p[1] for p in held])


def _distance(a: Array, b: Array) -> Array:
    """Hamming distances of two uint64 vectors, int [N]."""
    return np.asarray(_ONES[(a ^ b).view(np.uint16)].reshape(-1, 4).sum(axis=1, dtype=np.int64))


def _close_pairs(members: Array, hashes: Array) -> Iterator[tuple[Array, Array]]:
    """Pairs of one band; a band that is too full is compared only with its neighbours in hash order."""
    span = len(members) - 1 if len(members) <= MAX_BUCKET else NEIGHBOURS
    for step in range(1, span + 1):
        a, b = members[:-step], members[step:]
        close = _distance(hashes[a], hashes[b]) <= MAX_DISTANCE
        if close.any():
            yield a[close], b[close]
