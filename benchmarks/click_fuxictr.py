"""The peer's side of click_speed.py: FuxiCTR's own DIN (its wheel's ``model_zoo.LongCTR.DIN``) on made rows.

    PEER_PYTHON click_fuxictr.py ROWS.npz --seed 0

Rows come from tensors in memory, not through its data loader, which reads a table row by row: kinder to the peer. The
training step is its own: loss, clipping, optimiser, zeroing.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from model_zoo.LongCTR.DIN.DIN import DIN
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--longest", type=int, default=50)
    parser.add_argument("--most", type=int, default=0, help="rows to learn from and to score; 0: all")
    parser.add_argument("--clip", type=float, default=10.0)
    parser.add_argument(
        "--start", choices=("theirs", "torch"), default="theirs", help="torch: torch's own inits"
    )
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    made = np.load(a.rows, allow_pickle=False)
    category = torch.from_numpy(np.concatenate(([0], made["category"])).astype(np.int64))
    what, start = torch.from_numpy(made["what"]), torch.from_numpy(made["start"])
    item, user = torch.from_numpy(made["item"]).long() + 1, torch.from_numpy(made["user"]).long()
    label, until = torch.from_numpy(made["label"]).float(), torch.from_numpy(made["until"])
    test = made["test"]
    del made

    features = FeatureMap("made", tempfile.gettempdir())
    for name, size, source in (
        ("user", len(start), "user"), ("item", len(category), "item"), ("category", int(category.max()) + 1, "item")
    ):  # fmt: skip
        features.features[name] = {"type": "categorical", "source": source, "vocab_size": size}
    features.labels, features.default_emb_dim = ["label"], 16
    features.num_fields = 3
    model = DIN(
        features, dnn_hidden_units=[256, 128, 64], attention_hidden_units=[64, 32],
        attention_hidden_activations="ReLU", embedding_dim=16, learning_rate=1e-3, optimizer="adam",
        loss="binary_crossentropy", task="binary_classification", metrics=["AUC"], verbose=0,
        model_root=tempfile.gettempdir(),
    )  # fmt: skip
    if a.start == "torch":
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.reset_parameters()
    model._max_gradient_norm, model._batch_index = a.clip, 0
    back = torch.arange(-a.longest, 0)

    def batch(at: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        past = until[at][:, None] + back
        there = past >= start[user[at]][:, None]
        items = torch.cat(
            (torch.where(there, what[past.clamp(min=0)].long() + 1, 0), item[at][:, None]), 1
        ).view(-1)
        return {"user": user[at] + 1, "label": label[at]}, {"item": items, "category": category[items]}, there

    train = torch.from_numpy(
        np.random.default_rng(a.seed).permutation(np.flatnonzero(~test))[: a.most or None]
    )
    model.train()
    model.train_step(batch(train[: a.batch]))  # everything loaded and allocated before the clock
    losses = []
    wall, cpu = time.perf_counter(), time.process_time()
    for part in train.split(a.batch):
        losses.append(model.train_step(batch(part)).item())
    train_wall, train_cpu = time.perf_counter() - wall, time.process_time() - cpu
    model.eval()
    at = torch.from_numpy(np.flatnonzero(test)[: a.most or None])
    with torch.no_grad():
        wall, cpu = time.perf_counter(), time.process_time()
        scores = torch.cat([model(batch(part))["y_pred"].flatten() for part in at.split(4096)]).numpy()
    told = {
        "train": len(train) / train_wall, "train_cpu": len(train) / train_cpu,
        "score": len(at) / (time.perf_counter() - wall), "score_cpu": len(at) / (time.process_time() - cpu),
        "auc": roc_auc_score(label[at].numpy(), scores), "loss": float(np.mean(losses[-20:])),
        "parameters": sum(p.numel() for p in model.parameters()),
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
