"""Encoding in chunks against sentence-transformers' cached loss: the same tower, weights, batch and loss.

    pip install "moonshelf[peers]" && python benchmarks/cached_loss.py SHOP [--batch 256 1024] [--budget 0 64]

Tower: BERT of 4 layers, 128 wide, made from its config (random weights, dropout on), mean pooling. Pairs are titles and
whole texts (title, brand, category, attributes) of the shop's products, as long as they are there in our tokens; the
tokens are random. Without a shop all texts have 24. Both sides get the batch padded to its longest text. A step
is forward, backward, AdamW. Each side runs in a process of its own on one thread, in turn, `--rounds` times; the
figures are CPU seconds a step and the growth of the peak resident set over one step of a single chunk (median).
`--budget` is how many MB of activations we hold instead of making them again. Gradients are compared first, without
dropout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from moonshelf.encoder.inputs import product_text
from moonshelf.encoder.sentence import tokenizer
from moonshelf.shop.shop import open_shop
from moonshelf.training.chunks import encode_in_chunks
from moonshelf.training.losses import Relation, info_nce
from moonshelf.types import ProductBatch

WORDS, SCALE = 24, 20.0
VOCABULARY, MOST = 8000, 128


class Tower(nn.Module):
    """Token ids to a vector: BERT and mean pooling, in the form that sentence-transformers calls."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bert = BertModel(
            BertConfig(
                vocab_size=VOCABULARY, hidden_size=128,
                num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
                hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            ),
            add_pooling_layer=False,
        )  # fmt: skip

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        mask = features["attention_mask"]
        states = self.bert(input_ids=features["input_ids"], attention_mask=mask).last_hidden_state
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return {**features, "sentence_embedding": mean}

    def vectors(self, batch: ProductBatch) -> Tensor:
        """The same for our batches."""
        found: Tensor = self({"input_ids": batch.ids, "attention_mask": batch.mask.long()})[
            "sentence_embedding"
        ]
        return found


def lengths(shop: Path) -> list[tuple[int, int]]:
    """Tokens of the title and of the whole text of every product that has both."""
    words = tokenizer()
    products = open_shop(shop)
    assert products.products is not None
    found = []
    for name in products.products["product_id"]:
        product = products.product(name)
        pair = tuple(len(words.ids(text, MOST)) for text in (product.title, product_text(product)))
        found.append((pair[0], pair[1]))
    return [pair for pair in found if all(pair)]


def texts(batch: int, known: list[tuple[int, int]] | None) -> list[tuple[Tensor, Tensor]]:
    """Ids and mask of both sides, padded to the longest text of the side."""
    g = torch.Generator().manual_seed(1)
    pairs = torch.full((batch, 2), WORDS)
    if known:
        pairs = torch.tensor(known)[torch.randint(0, len(known), (batch,), generator=g)]
    out = []
    for side in pairs.T:
        mask = torch.arange(int(side.max())) < side[:, None]
        out.append((torch.randint(1, VOCABULARY, mask.shape, generator=g) * mask, mask))
    return out


Pairs = list[tuple[Tensor, Tensor]]


def theirs(tower: Tower, pairs: Pairs, mini: int, budget: int) -> Tensor:
    model = SentenceTransformer(modules=[tower], device="cpu")
    model.train(tower.training)
    loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, mini_batch_size=mini)
    features = [{"input_ids": ids, "attention_mask": mask.long()} for ids, mask in pairs]
    value: Tensor = loss(features, torch.empty(0))
    return value


def ours(tower: Tower, pairs: Pairs, mini: int, budget: int) -> Tensor:
    empty = torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.int64)
    q, c = (
        encode_in_chunks(
            tower.vectors, ProductBatch(len(ids), *empty, ids, mask), rows=mini, budget=budget * 500_000
        )
        for ids, mask in pairs
    )
    index = torch.arange(len(q))
    return info_nce(q, c, Relation.from_ids(index, index), SCALE)


SIDES = {"theirs": theirs, "ours": ours}


def peak() -> int:
    """Peak resident set, KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(
    side: str, shop: Path | None, batch: int, mini: int, budget: int, precision: str, steps: int
) -> None:
    torch.set_num_threads(1)
    known = lengths(shop) if shop else None
    small, whole = texts(mini, known), texts(batch, known)
    tower = Tower(0.1).train()
    optimiser = torch.optim.AdamW(tower.parameters(), lr=1e-4)
    step = partial(SIDES[side], tower, mini=mini, budget=budget)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss = step(small)  # everything is loaded and allocated once before the clock and the scale are read
        loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    before, begun = peak(), time.process_time()
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = step(whole)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    seconds = (time.process_time() - begun) / steps
    print(json.dumps({"seconds": seconds, "megabytes": (peak() - before) / 1024, "loss": loss.item()}))


def run(
    arguments: argparse.Namespace, side: str, batch: int, budget: int, precision: str
) -> dict[str, float]:
    command = [sys.executable, __file__, *([str(arguments.shop)] if arguments.shop else []), "--child", side]
    command += ["--batch", str(batch), "--mini", str(arguments.mini)]
    command += ["--budget", str(budget), "--precision", precision, "--steps", str(arguments.steps)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    value: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return value


def gradients_agree(shop: Path | None) -> None:
    found, pairs = [], texts(96, lengths(shop) if shop else None)
    for side in SIDES.values():
        tower = Tower(0.0).train()
        side(tower, pairs, 32, 2).backward()
        found.append(torch.cat([p.grad.flatten() for p in tower.parameters() if p.grad is not None]))
    print(f"gradients: relative difference {float((found[0] - found[1]).norm() / found[0].norm()):.1e}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path, nargs="?")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--mini", type=int, default=32)
    parser.add_argument("--budget", type=int, nargs="+", default=[0, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(a.child, a.shop, a.batch[0], a.mini, a.budget[0], a.precision, a.steps)
        return 0
    gradients_agree(a.shop)
    for batch in a.batch:
        settings = [("theirs", 0, "fp32"), *(("ours", budget, "fp32") for budget in a.budget)]
        settings += [("ours", budget, "bf16") for budget in a.budget]
        rows: dict[tuple[str, int, str], list[dict[str, float]]] = {s: [] for s in settings}
        for _ in range(a.rounds):
            for s in settings:
                rows[s].append(run(a, s[0], batch, s[1], s[2]))
        base = {k: statistics.median(r[k] for r in rows[settings[0]]) for k in ("seconds", "megabytes")}
        for s in settings:
            found = {k: statistics.median(r[k] for r in rows[s]) for k in ("seconds", "megabytes")}
            print(
                f"batch {batch:>5}  {s[0]:<6} {s[2]} {s[1]:>3} MB kept {batch / found['seconds']:7.1f} pairs/CPU s "
                f"({base['seconds'] / found['seconds']:.2f} times theirs), memory {found['megabytes']:6.0f} MB "
                f"({found['megabytes'] / base['megabytes']:.2f})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
