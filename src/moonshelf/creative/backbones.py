"""Language models that write verdicts: the embedded one, or any image-text model of Hugging Face, with a LoRA on top.

    smol        SmolLM2-135M with the compact image trunk before it (``encoder.smol``); nothing is downloaded
    hf:PATH     a folder, or a name that is in the local cache, of an image-text model (Qwen-VL, Idefics, LLaVA ...)

Only this file and the trainers know ``transformers``; install ``moonshelf[vlm]``.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moonshelf.encoder.language import Language, load_language
from moonshelf.errors import InputError

SMOL = "smol"
NEEDED = ("transformers", "peft", "trl", "accelerate", "datasets")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS = rf"(?!.*(?:vision|visual|trunk)).*\.(?:{'|'.join(PROJECTIONS)})"
"""Layers of the language model that a LoRA goes to, not those of an image tower."""


@dataclass(frozen=True, slots=True)
class Backbone:
    """A model with its processor.

    Attributes:
        name: as it was asked for.
        brief: it is trained on the format, so prompts leave the wording of the ten questions out.
        whole: modules that are trained whole beside the LoRA: a projector that is new.
    """

    name: str
    model: Any
    processor: Any
    brief: bool
    whole: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> Any:
        """Of the processor."""
        return getattr(self.processor, "tokenizer", self.processor)


def needs_vlm() -> None:
    """Say what to install where a language model cannot run.

    Raises:
        InputError: a package is missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"language models need {', '.join(missing)}", mend='pip install "moonshelf[vlm]"')


@contextmanager
def quietly() -> Iterator[None]:
    """Without the bars and notices of the packages below: what a user can mend is said by us."""
    import datasets
    from transformers.utils import logging as chatter

    loud, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    more = not datasets.are_progress_bars_disabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.set_verbosity(loud)
        if bars:
            chatter.enable_progress_bar()
        if more:
            datasets.enable_progress_bars()


def check_backbone(name: str) -> None:
    """Refuse a name that is none, and an environment that cannot run one, before hours of work.

    Raises:
        InputError: with what to do.
    """
    if name != SMOL and not (name.startswith("hf:") and name[3:].strip()):
        raise InputError(f"there is no backbone {name!r}", mend="write smol, or hf: and a folder or a name")
    needs_vlm()
    if name == SMOL:
        from moonshelf.encoder.weights import SMOL as WEIGHTS
        from moonshelf.encoder.weights import locate

        if importlib.util.find_spec("gguf") is None:
            raise InputError("SmolLM2's weights need gguf", mend='pip install "moonshelf[vlm]"')
        locate(WEIGHTS)


def short(device: str) -> bool:
    """Whether a frozen backbone is held in bfloat16 there: where the processor multiplies it faster than float32.

    What is trained (LoRA, projector) stays in float32 everywhere.
    """
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    told = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def load_backbone(name: str, *, device: str = "cpu", seed: int = 0) -> Backbone:
    """A backbone by its name.

    Args:
        seed: of what is new in it (the projector of ``smol``).

    Raises:
        InputError: packages or weights are missing, or the name is none.
    """
    check_backbone(name)
    if name == SMOL:
        from moonshelf.encoder.smol import load_smol

        with quietly():
            model, processor = load_smol(seed=seed, short=short(device))
        return Backbone(name, model.to(device), processor, brief=True, whole=("multi_modal_projector",))
    return _hugging_face(name, device)


def read_with(name: str, device: str = "cpu") -> Language | None:
    """The frozen language model that texts are read with; None for "".

    Args:
        name: ``smol``, or the version of one (``Chooser.language``).

    Raises:
        InputError: there is none of this name or version, or packages or weights are missing.
    """
    if not name:
        return None
    needs_vlm()
    with quietly():
        found = load_language(device=device, short=short(device))
    if name not in (SMOL, found.version):
        raise InputError(
            f"the selector reads texts with language model {name}, this version has {found.version}",
            mend="train the selector again",
        )
    return found


def _hugging_face(name: str, device: str) -> Backbone:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    path = name[3:]
    try:
        with quietly():
            config = AutoConfig.from_pretrained(path)
            kind = torch.bfloat16 if short(device) else torch.float32
            model = AutoModelForImageTextToText.from_pretrained(path, config=config, dtype=kind)
            processor = load_processor(path)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the model cannot be loaded: {reason[:200]}",
            where=path,
            mend="give the folder of an image-text model with its processor",
        ) from error
    tokenizer = processor.tokenizer
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    if processor.chat_template is None:
        raise InputError(
            "the model's processor has no chat template",
            where=path,
            mend="add a chat_template.jinja to the folder",
        )
    return Backbone(name, model.to(device), processor, brief=False)


def load_processor(path: str | Path) -> Any:
    """The processor of a model, for pictures alone where its video part needs a torchvision that is not there.

    ``transformers``' processors of the Qwen-VL family insist on a video processor, which torchvision makes.

    Raises:
        OSError, ValueError: as ``transformers`` raises them.
    """
    from transformers import AutoConfig, AutoProcessor

    kind = getattr(AutoConfig.from_pretrained(path), "model_type", "")
    if importlib.util.find_spec("torchvision") is not None or not kind.startswith("qwen"):
        return AutoProcessor.from_pretrained(path)
    return pictures_only(kind).from_pretrained(path)


def pictures_only(kind: str) -> Any:
    """The processor class of a Qwen-VL family (``model_type``) without its video part."""
    from transformers import ProcessorMixin
    from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as old
    from transformers.models.qwen3_vl import processing_qwen3_vl as new

    stock: Any = new.Qwen3VLProcessor if kind.startswith("qwen3") else old.Qwen2_5_VLProcessor

    class PicturesOnly(stock):  # type: ignore[misc]
        """The stock processor without its video part."""

        @classmethod
        def get_attributes(cls) -> list[str]:
            """Parts that are loaded and saved."""
            return ["image_processor", "tokenizer"]

        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any
        ) -> None:
            self.image_token = getattr(tokenizer, "image_token", "<|image_pad|>")
            self.video_token = getattr(tokenizer, "video_token", "<|video_pad|>")
            self.vision_start_token = "<|vision_start|>"
            self.vision_end_token = "<|vision_end|>"
            for name in ("image", "video", "vision_start", "vision_end"):
                token = getattr(self, f"{name}_token")
                setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(token))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    PicturesOnly.__name__ = stock.__name__  # what a saved folder says
    return PicturesOnly
