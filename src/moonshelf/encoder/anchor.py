"""Class-name anchoring: an image tower and a text tower that never met, brought into one space.

ConSE (Norouzi et al. 2014): a photo is the mixture of the *text* vectors of the ImageNet class names,
``v = softmax(W f + b) E``, with ``W, b`` the published classifier and ``E`` the sentence vectors of the
names. ``E`` is turned into its principal axes, so a prefix of the vector keeps the directions in which
class names differ most and Matryoshka widths work before any training. This is not CLIP: what the
classifier never learned (brand, colour, material, people) is absent until the encoder is trained.
"""

from __future__ import annotations

from importlib.resources import files

import torch
from torch import Tensor

from moonshelf.encoder.sentence import SentenceEncoder, tokenizer

# Share of the raw visual detail beside the mixture (docs/LOG.md, E2 and E4): at 1.0 text search loses a
# little before training, photo search gains, and training gets under way twice as fast as at 0.5.
DETAIL = 1.0
# Typical length of a mean-pooled feature vector of the trunk; makes DETAIL a share of a unit vector.
FEATURE_NORM = 16.0


def class_names() -> list[str]:
    """The 1000 ImageNet class names (WordNet lemmas), in the order of the classifier."""
    text = files("moonshelf.encoder").joinpath("data/imagenet_classes.txt").read_text()
    return text.splitlines()


@torch.no_grad()
def sentence_vectors(sentence: SentenceEncoder, texts: list[str], max_tokens: int = 48) -> Tensor:
    """Unit rows ``[len(texts), 512]``, 64 texts at a time."""
    out = []
    for start in range(0, len(texts), 64):
        rows = [tokenizer().ids(text, max_tokens) for text in texts[start : start + 64]]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
        out.append(sentence(ids, mask)[1])
    return torch.cat(out)


def anchors(sentence: SentenceEncoder, width: int) -> tuple[Tensor, Tensor]:
    """Class-name vectors in ``width`` principal axes.

    Returns:
        ``[1000, width]`` anchors and the basis ``[512, width]`` that took them there (orthonormal columns).
    """
    vectors = sentence_vectors(sentence, class_names())
    basis: Tensor = torch.linalg.svd(vectors, full_matrices=False)[2][:width].T.contiguous()
    # the sign of a singular vector is arbitrary: make its largest entry positive
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    basis = basis * torch.sign(largest)
    return vectors @ basis, basis


def detail_projection(channels: int, width: int, generator: torch.Generator) -> Tensor:
    """Random orthogonal projection ``[width, channels]`` that carries visual detail past the anchors.

    Meant for features divided by ``FEATURE_NORM``: their image then has a length of about ``DETAIL``.
    """
    q: Tensor = torch.linalg.qr(torch.randn(channels, width, generator=generator))[0]
    projection: Tensor = q.T.contiguous() * (DETAIL * (channels / width) ** 0.5)
    return projection
