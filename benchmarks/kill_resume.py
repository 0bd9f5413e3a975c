"""Kill posttrain with SIGKILL at random steps, resume, and compare the final weights byte for byte.

    python benchmarks/kill_resume.py SHOP [--kills 10] [--steps 60] [--seed 0] [--ranks 2]

One uninterrupted run is the reference. Each trial starts anew, is killed at a random step (and once more
while it resumes, half of the time), resumes to the end, and its `model.safetensors` is compared. With several
ranks a random one of them is killed, or all at once; those that are left must end by themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from moonshelf.shop.shop import open_shop
from moonshelf.training.runlog import read_log


def command(shop: Path, work: Path, steps: int, seed: int) -> list[str]:
    settings = {
        "posttrain.loop.max_steps": steps,
        "posttrain.loop.checkpoint_steps": 7,
        "posttrain.view_size": 64,
        "encoder.image_size": 64,
        "posttrain.batch": 16,
        "evaluation.validation_queries": 40,
    }
    changed = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    verb = [sys.executable, "-m", "moonshelf.cli", "posttrain", str(shop), "--work", str(work), "--resume"]
    return [*verb, "--seed", str(seed), *changed]


def weights(work: Path) -> str:
    return hashlib.sha256((work / "posttrain" / "model.safetensors").read_bytes()).hexdigest()


def reached(work: Path) -> int:
    return max((r["step"] for r in read_log(work / ".posttrain.unfinished")), default=0)


def start(args: list[str], ranks: int) -> list[subprocess.Popen[bytes]]:
    """The command in so many processes, with the variables that torchrun sets."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(s.getsockname()[1]),
            "WORLD_SIZE": str(ranks),
        }
    if ranks > 1:
        shared["OMP_NUM_THREADS"] = "1"
    return [
        subprocess.Popen(
            args,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(ranks)
    ]


def run(args: list[str], ranks: int) -> None:
    codes = [process.wait() for process in start(args, ranks)]
    if any(codes):
        raise SystemExit(f"a run that was not killed ended with {codes}")


def kill_at(args: list[str], work: Path, step: int, ranks: int, victims: list[int]) -> int:
    processes = start(args, ranks)
    while reached(work) < step and all(process.poll() is None for process in processes):
        time.sleep(0.005)
    for rank in victims:
        if processes[rank].poll() is None:
            os.killpg(processes[rank].pid, signal.SIGKILL)
    for process in processes:
        process.wait(timeout=300)
    return reached(work)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    a = parser.parse_args()
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepared = open_shop(a.shop, cache=root / "shop").path
        reference = root / "reference"
        run(command(prepared, reference, a.steps, a.seed), a.ranks)
        expected, same = weights(reference), 0
        for trial in range(a.kills):
            work = root / f"trial-{trial}"
            args = command(prepared, work, a.steps, a.seed)
            who = [rng.choice([[rank] for rank in range(a.ranks)] + [[*range(a.ranks)]]) for _ in range(2)]
            at = [kill_at(args, work, rng.randrange(1, a.steps - 1), a.ranks, who[0])]
            if rng.random() < 0.5 and at[0] < a.steps - 2:
                at.append(kill_at(args, work, rng.randrange(at[0] + 1, a.steps), a.ranks, who[1]))
            run(args, a.ranks)
            equal = weights(work) == expected
            same += equal
            print(
                f"trial {trial}: ranks {who[: len(at)]} killed at step {at}, "
                f"final weights {'same' if equal else 'DIFFERENT'}",
                flush=True,
            )
        print(f"same bytes: {same}/{a.kills}")
    return 0 if same == a.kills else 1


if __name__ == "__main__":
    sys.exit(main())
