"""Does a reasoner look at the pictures? Its choices and words when both are grey, and when they are exchanged.

    python benchmarks/creative_blind.py SHOP --model WORK [--pairs 40] [--split test] [--seed 0]

Pairs of a split by lot, each asked in both orders; prompts stay as they are, so that what is measured of the pictures
is still told. WORK is what ``moonshelf creative train SHOP --work WORK --backbone ...`` left.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from moonshelf.choosing import encoder_for, split_pairs
from moonshelf.creative.chooser import load_chooser
from moonshelf.creative.learn import gather
from moonshelf.creative.reasoner import ask, load_reasoner
from moonshelf.creative.samples import Sample
from moonshelf.errors import InputError
from moonshelf.evaluation.metrics import bootstrap_interval
from moonshelf.pipeline import device
from moonshelf.reasoning import SFT, questions, reasoner_folder, some_pairs
from moonshelf.shop.shop import open_shop


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    chooser, shop = load_chooser(a.model), open_shop(a.shop)
    if chooser.kind != "image":
        raise InputError("the selector reads texts", where=str(a.model), mend="give one of pictures")
    encoder = encoder_for(a.model, None, chooser)
    material = gather(shop, encoder, splits=(a.split,), among=chooser.headlines)
    pairs = some_pairs(split_pairs(material, chooser, a.split, a.seed), a.pairs, a.seed)
    reasoner = load_reasoner(reasoner_folder(a.model) / SFT, device=device())
    samples = questions(material, chooser, pairs, reasoner, shop)
    group = np.repeat(pairs.frame["group"].to_numpy(), 2).tolist()
    first = ask(reasoner, samples)
    print(f"{len(pairs)} pairs of {a.split}, asked in both orders; 95% intervals over products")
    for name, shown in (("grey", [grey(s) for s in samples]), ("exchanged", [exchanged(s) for s in samples])):
        other = ask(reasoner, shown)
        p, q = (np.array([x.chance for x in answers]) for answers in (first, other))
        read = ~(np.isnan(p) | np.isnan(q))
        groups = [g for g, r in zip(group, read, strict=True) if r]
        print(f"pictures {name}: {(~read).sum()} questions without an answer left out")
        for what, values in (
            ("another choice", (p > 0.5) != (q > 0.5)),
            ("change of P(A)", np.abs(p - q)),
            ("other words", np.array([x.text != y.text for x, y in zip(first, other, strict=True)])),
        ):
            print(f"  {what:<15} {bootstrap_interval(values[read].astype(float), groups=groups)}")
    return 0


def grey(sample: Sample) -> Sample:
    """The question with grey in place of its pictures."""
    return replace(sample, images=tuple(Image.new("RGB", i.size, (128, 128, 128)) for i in sample.images))


def exchanged(sample: Sample) -> Sample:
    """The question with its pictures in the other order, and nothing else."""
    return replace(sample, images=sample.images[::-1])


if __name__ == "__main__":
    sys.exit(main())
