"""Several processes against one: parts, gradients, killed ranks, and what is said when one goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from moonshelf.encoder import CompactEncoder, load_encoder, save_encoder
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import DualConfig, OptimConfig, PosttrainConfig, PretrainConfig
from moonshelf.training.distributed import agreed, average_gradients, part
from moonshelf.training.dual import DualPosttrain
from moonshelf.training.loop import freeze
from moonshelf.training.posttrain import Posttrain
from moonshelf.training.pretrain import Pretrain
from moonshelf.training.runlog import read_log
from moonshelf.training.shard import shard, whole
from moonshelf.training.views import ViewConfig, random_views

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gloo over loopback")
STAGES = {
    "pretrain": PretrainConfig(batch=10, view_size=64),
    "posttrain": PosttrainConfig(
        batch=7, view_size=64, self_weight=0.5, replay=0.5, replay_batch=5, category_hard=1
    ),
    "typed": PosttrainConfig(
        batch=8,
        view_size=64,
        chunk=3,
        keep_megabytes=1,
        loss="circle",
        guard=0.3,
        category_hard=1,
        types=("image>image:1", "image>rich+image:2", "text>rich:1"),
    ),
    "cut": PosttrainConfig(
        batch=7,
        view_size=64,
        self_weight=0.5,
        replay=0.5,
        replay_batch=5,
        category_hard=1,
        optim=OptimConfig(shard=True),
    ),
    "cut, few": PosttrainConfig(batch=2, view_size=64, memory=0, optim=OptimConfig(shard=True)),
    "few": PosttrainConfig(batch=2, view_size=64, memory=0),  # parts without rows
    "dual": PosttrainConfig(
        batch=7,
        view_size=64,
        chunk=2,
        align="dual",
        own_queries=True,
        dual=DualConfig(filter=True, weights="learned"),
    ),
    "dual, cut": PosttrainConfig(
        batch=7,
        view_size=64,
        align="dual",
        own_queries=True,
        dual=DualConfig(filter=True, weights="learned"),
        optim=OptimConfig(shard=True),
    ),
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def gradients(name: str, shop: Shop, encoder: CompactEncoder) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and averaged gradients of the first two steps (the second one meets the memory of the first)."""
    config: Any = STAGES[name]
    kind = Pretrain if name == "pretrain" else DualPosttrain if "dual" in name else Posttrain
    encoder = encoder.upcycled(3, 2) if kind is DualPosttrain else encoder
    stage = kind([shop], encoder, config, 0)  # type: ignore[operator]
    freeze(encoder, config.optim)
    if config.optim.shard and dist.is_initialized():
        shard(encoder, encoder.fusion)
    encoder.train()
    for step in (0, 1):
        encoder.zero_grad()
        loss, _ = stage.loss(encoder, stage.prepare(step), step)
        loss.backward()
        named = [*encoder.named_parameters(), *((f"stage{i}", p) for i, p in enumerate(stage.parameters()))]
        average_gradients([p for _, p in named])
    return loss.item(), whole({k: p.grad for k, p in named if p.grad is not None})


def work(rank: int, size: int, port: int, names: Sequence[str], shop: str, encoder: str, out: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size)
    assert agreed({"rank": rank}) == {"rank": 0}
    for name in names:
        found = gradients(name, open_shop(shop), load_encoder(encoder))
        torch.save(found, f"{out}/{name}-{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_many_processes_give_the_gradients_of_one(
    size: int, shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    save_encoder(encoder, tmp_path)
    names = [*STAGES]
    mp.spawn(work, (size, free_port(), names, str(shop.path), str(tmp_path), str(tmp_path)), nprocs=size)
    for name in names:
        loss, expected = gradients(name, shop, load_encoder(tmp_path))
        size_of = torch.cat([g.flatten() for g in expected.values()]).norm()
        for rank in range(size):
            found, theirs = torch.load(tmp_path / f"{name}-{rank}", weights_only=True)
            assert found == pytest.approx(loss, rel=1e-5)
            if "cut" in name:  # where one process has no gradient, cut weights have one of zero
                assert all(not g.any() for k, g in theirs.items() if k not in expected)
                theirs = {k: g for k, g in theirs.items() if k in expected}
            assert theirs.keys() == expected.keys()
            apart = torch.cat([(theirs[key] - value).flatten() for key, value in expected.items()]).norm()
            assert float(apart / size_of) < 1e-5, name


def test_parts_cover_the_rows_once() -> None:
    for rows in (0, 1, 5, 7):
        for size in (1, 2, 3, 8):
            cuts = [part(rows, rank, size) for rank in range(size)]
            assert [i for cut in cuts for i in range(rows)[cut]] == list(range(rows))
            lengths = [cut.stop - cut.start for cut in cuts]
            assert max(lengths) - min(lengths) <= 1
    assert part(9) == slice(0, 9)


def test_views_do_not_depend_on_who_makes_them() -> None:
    pixels = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8)
    whole = random_views(pixels, 32, ViewConfig(), torch.Generator().manual_seed(3))
    for start, stop in ((0, 2), (2, 2), (2, 5)):
        generator = torch.Generator().manual_seed(3)
        own = random_views(pixels[start:stop], 32, ViewConfig(), generator, total=5, start=start)
        torch.testing.assert_close(own, whole[start:stop], rtol=0, atol=1e-5)


def launch(size: int, args: Sequence[str]) -> list[subprocess.Popen[bytes]]:
    """The command line in ``size`` processes, as torchrun starts them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "moonshelf.cli", *args],
            env=os.environ | shared | path | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]


def torchrun(size: int, args: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """The command line under the real launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, "-m", "moonshelf.cli", *args], env=os.environ | path, capture_output=True, timeout=300
    )


def test_only_training_is_for_several_processes(shop_folder: Path, tmp_path: Path) -> None:
    found = torchrun(2, ["run", str(shop_folder), "--work", str(tmp_path / "w")])
    assert found.returncode and b"moonshelf run is one process" in found.stderr
    assert not (tmp_path / "w").exists()


def test_cut_weights_learn_the_same_and_resume_to_the_same_bytes(shop_folder: Path, tmp_path: Path) -> None:
    """Two processes with whole weights, with cut weights, and with cut weights and all ranks killed."""
    settings = ("loop.max_steps=6", "loop.checkpoint_steps=2", "loop.evaluate_every=4", "optim.trunk_lr=1e-5")

    def args(name: str, *more: str) -> list[str]:
        words = [word for s in (*settings, *more) for word in ("--set", f"posttrain.{s}")]
        return [
            "posttrain",
            str(shop_folder),
            "--work",
            str(tmp_path / name),
            "--recipe",
            "smoke",
            "--resume",
            *words,
        ]

    for name, more in (("plain", []), ("cut", ["optim.shard=true"])):
        found = torchrun(2, args(name, *more))
        assert found.returncode == 0, found.stderr.decode()[-2000:]
    killed = launch(2, args("killed", "optim.shard=true"))
    deadline = time.monotonic() + 200
    unfinished = tmp_path / "killed" / ".posttrain.unfinished"
    while time.monotonic() < deadline and max((r["step"] for r in read_log(unfinished)), default=0) < 3:
        time.sleep(0.01)
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (tmp_path / "killed" / "posttrain").exists()
    found = torchrun(2, args("killed", "optim.shard=true"))
    assert found.returncode == 0 and b"resumed at step" in found.stderr, found.stderr.decode()[-2000:]
    plain, cut, again = (
        load_encoder(tmp_path / name / "posttrain").state_dict() for name in ("plain", "cut", "killed")
    )
    assert all(torch.equal(cut[k], again[k]) for k in cut)
    for name, value in plain.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-3, atol=1e-5, msg=name)
    first, second = (
        [r["gradient_norm"] for r in read_log(tmp_path / name / "posttrain") if r["kind"] == "train"]
        for name in ("plain", "cut")
    )
    assert first == pytest.approx(second, rel=1e-3)
    for record in [r for r in read_log(tmp_path / "plain" / "posttrain") if r["kind"] == "train"]:
        kinds = [record[f"negatives_{kind}"] for kind in ("in_batch", "spatial", "memory")]
        assert record["negatives"] == pytest.approx(sum(kinds), abs=1e-4) and min(kinds[:2]) > 0


def test_killed_ranks_end_the_run_and_resume_to_the_same_bytes(shop_folder: Path, tmp_path: Path) -> None:
    """Two processes under torchrun, uninterrupted; against one rank killed, then all ranks killed, then resumed."""
    plain, killed = tmp_path / "plain", tmp_path / "killed"

    def args(folder: Path) -> list[str]:
        settings = ("max_steps=10", "checkpoint_steps=2", "evaluate_every=4")
        return ["posttrain", str(shop_folder), "--work", str(folder), "--recipe", "smoke", "--resume"] + [
            word for s in settings for word in ("--set", f"posttrain.loop.{s}")
        ]

    def done(folder: Path) -> int:
        return max((r["step"] for r in read_log(folder / ".posttrain.unfinished")), default=0)

    def until(folder: Path, step: int, processes: list[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + 200
        while (
            done(folder) < step and time.monotonic() < deadline and all(p.poll() is None for p in processes)
        ):
            time.sleep(0.01)

    reference = torchrun(2, args(plain))
    assert reference.returncode == 0, reference.stderr.decode()[-2000:]
    assert reference.stdout.decode().split() == ["encoder", str(plain / "posttrain")]  # rank 0 alone speaks

    first = launch(2, args(killed))
    until(killed, 3, first)
    first[1].send_signal(signal.SIGKILL)
    _, err = first[0].communicate(timeout=120)
    assert first[0].returncode == 1
    assert (
        err.decode().strip().splitlines()[-1].startswith("moonshelf: another process of this run has ended")
    )
    first[1].communicate()

    second = launch(2, args(killed))
    until(killed, 7, second)
    for process in second:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert done(killed) < 10, "it ended before it could be killed"

    for process in launch(2, args(killed)):
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()[-2000:]
    for name in ("posttrain/model.safetensors", "encoder/model.safetensors"):
        assert (plain / name).read_bytes() == (killed / name).read_bytes()
    assert [r["loss"] for r in read_log(plain / "posttrain") if r["kind"] == "train"] == [
        r["loss"] for r in read_log(killed / "posttrain") if r["kind"] == "train"
    ]
