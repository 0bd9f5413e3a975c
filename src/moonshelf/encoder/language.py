"""A frozen language model as a reader of texts: the mean of its hidden states at one layer. Our design.

    h_l(t) = state of token t after layer l,   v = mean_t h_l(t)

SmolLM2-135M has read a hundred times more than the sentence tower, and which of two headlines people click stands in
the middle of it rather than at its end: of 30 layers the 18th told most in five folds over training tests (docs/LOG.md,
E53). Needs ``moonshelf[vlm]`` and the package with its weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moonshelf.arrays import kept_array
from moonshelf.encoder.weights import SMOL, locate
from moonshelf.errors import InputError
from moonshelf.progress import Progress

LAYER = 18
BATCH = 64
MOST = 256  # tokens of a text that are read


@dataclass(frozen=True, slots=True)
class Language:
    """See the module.

    Attributes:
        model: a decoder of ``transformers`` that ends after the layer, without its last norm.
        tokenizer: its own.
        version: of weights and layer.
    """

    model: Any
    tokenizer: Any
    version: str

    @property
    def width(self) -> int:
        """Of the vectors."""
        return int(self.model.config.hidden_size)

    def vectors(self, texts: Sequence[str], *, cache: Path | None = None) -> np.ndarray:
        """``[N, width]`` float32; zeros for a text without words.

        Args:
            cache: folder that keeps them, by version and texts.

        Cost: 12 GFLOP a text of 60 tokens; 15 ms on one core that multiplies bfloat16.
        """
        name = hashlib.sha256("\0".join((self.version, *texts)).encode()).hexdigest()[:16]
        file = None if cache is None else cache / f"language-{name}.npy"
        return kept_array(file, lambda: self._read(texts))

    def _read(self, texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), self.width), dtype=np.float32)
        order = sorted((i for i, t in enumerate(texts) if t.strip()), key=lambda i: len(texts[i]))
        with Progress(len(order), "creatives: language model", "texts") as bar, torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                given = self.tokenizer(
                    [texts[i].strip() for i in part], padding=True, truncation=True, max_length=MOST,
                    padding_side="right", return_tensors="pt", add_special_tokens=False,
                ).to(self.model.device)  # fmt: skip
                mask = given["attention_mask"]
                states = self.model(input_ids=given["input_ids"], attention_mask=mask).last_hidden_state
                mean = (states.float() * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
                out[part] = mean.cpu().numpy()
                bar.advance(len(part))
        return out


def cut(model: Any, tokenizer: Any, layer: int, version: str) -> Language:
    """The first layers of a causal language model; the rest of it is dropped.

    Args:
        model: ``...ForCausalLM`` of the Llama family; it is changed in place.
    """
    decoder = model.model
    decoder.layers = decoder.layers[:layer]
    decoder.norm = torch.nn.Identity()  # states of the middle are read as they are
    decoder.config.use_cache = False
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Language(decoder.eval().requires_grad_(False), tokenizer, version)


def load_language(*, device: str = "cpu", short: bool = False) -> Language:
    """SmolLM2-135M-Instruct from its package, up to layer 18.

    Args:
        short: hold it in bfloat16.

    Raises:
        InputError: ``transformers``, ``gguf`` or the package with the weights is missing.

    Cost: some 5 s; 370 MB in float32, half in bfloat16.
    """
    missing = [name for name in ("transformers", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"a language model needs {', '.join(missing)}", mend='pip install "moonshelf[vlm]"')
    model, tokenizer = read_smol()
    if short:
        model.to(torch.bfloat16)
    return cut(model.to(device), tokenizer, LAYER, f"{SMOL.sha256[:12]}-{LAYER}")


def read_smol() -> tuple[Any, Any]:
    """SmolLM2-135M in float32 and its tokenizer, from the package that holds the weights.

    Raises:
        InputError: the package is missing, or holds others.
    """
    file = locate(SMOL)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": file.name}
    with redirect_stderr(io.StringIO()):  # a bar that no setting turns off; errors are raised, not printed
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **given)
    return model, tokenizer
