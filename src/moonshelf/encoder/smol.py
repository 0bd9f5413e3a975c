"""A small language model that sees: SmolLM2-135M with the compact encoder's image trunk before it. Our design.

    pixels -> EfficientNet-Lite0 -> [T, 1280], T = (size / 32)^2 -> two linear layers -> T tokens of the language model

in the shape of LLaVA (Liu et al. 2023): the classes are ``transformers``' own, so whatever trains or serves such models
takes this one. Both towers come from packages (``weights``); only the projector is new. Needs ``moonshelf[vlm]``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from moonshelf.encoder.efficientnet import CHANNELS, GRID_STRIDE, EfficientNetLite0
from moonshelf.encoder.language import read_smol
from moonshelf.encoder.weights import lite0_state

SIZE = 128  # pixels: 16 tokens a picture
IMAGE = "<image>"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    + IMAGE
    + "{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's own form of a chat, with a place for pictures."""


class TrunkConfig(PreTrainedConfig):
    """The image trunk as ``transformers`` names it; there is nothing to choose but the size of pictures."""

    model_type = "moonshelf_trunk"

    def __init__(self, image_size: int = SIZE, **kwargs: Any) -> None:
        self.image_size = image_size
        self.hidden_size = CHANNELS
        self.patch_size = GRID_STRIDE
        super().__init__(**kwargs)


class TrunkTower(PreTrainedModel):
    """``pixel_values [B, 3, S, S]``, normalised as ``(pixel - 127) / 128`` -> hidden state ``[B, T, 1280]``."""

    config_class = TrunkConfig
    base_model_prefix = "trunk"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["MBConv"]  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__(config)
        self.trunk = EfficientNetLite0()
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Convolutions keep torch's start: the published weights are loaded by :func:`build_smol`."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """One hidden state: the trunk's last grid, row by row."""
        grid = self.trunk(pixel_values.to(self.dtype).contiguous(memory_format=torch.channels_last))
        tokens = grid.flatten(2).transpose(1, 2)
        return BaseModelOutputWithPooling(
            last_hidden_state=tokens, pooler_output=tokens.mean(1), hidden_states=(tokens,)
        )


AutoConfig.register("moonshelf_trunk", TrunkConfig, exist_ok=True)
AutoModel.register(TrunkConfig, TrunkTower, exist_ok=True)


def build_smol(
    language: Any, tokenizer: Any, *, size: int = SIZE, published: bool = True, seed: int = 0
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Put the trunk before a language model.

    Args:
        language: a causal language model of ``transformers`` with a decoder under ``model``; its weights are taken.
        tokenizer: of it; gets the token ``<image>`` if it lacks one.
        size: of pictures, a multiple of 32.
        published: with the trunk's published weights; False leaves it random.
        seed: of the projector.

    Returns:
        The model, and the processor that makes its inputs.

    Raises:
        ValueError: a size that is no multiple of 32.
    """
    if size % GRID_STRIDE or size <= 0:
        raise ValueError(f"pictures of {size} pixels; the trunk takes multiples of {GRID_STRIDE}")
    if tokenizer.convert_tokens_to_ids(IMAGE) in (None, tokenizer.unk_token_id):
        tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    if len(tokenizer) > language.get_input_embeddings().num_embeddings:
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    text = language.config
    config = LlavaConfig(
        vision_config=TrunkConfig(size),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=(size // GRID_STRIDE) ** 2,
        tie_word_embeddings=text.tie_word_embeddings,
    )
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(config, name, getattr(tokenizer, name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.tie_weights()
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    if published:
        model.model.vision_tower.trunk.load_published(lite0_state())
    images = CLIPImageProcessorPil(
        size={"height": size, "width": size}, do_center_crop=False, crop_size={"height": size, "width": size},
        image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3,
    )  # fmt: skip
    processor = LlavaProcessor(
        images, tokenizer, patch_size=GRID_STRIDE, vision_feature_select_strategy="full", chat_template=TEMPLATE,
        image_token=IMAGE,
    )  # fmt: skip
    tokenizer.chat_template = TEMPLATE
    return model, processor


def load_smol(
    *, size: int = SIZE, seed: int = 0, short: bool = False
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """SmolLM2-135M-Instruct from its package, with the trunk before it.

    Args:
        short: hold the language model in bfloat16; trunk and projector stay in float32.

    Raises:
        InputError: the package with the weights is missing, or holds others.

    Cost: some 20 s; 540 MB in float32, 270 MB in bfloat16.
    """
    language, tokenizer = read_smol()
    model, processor = build_smol(language, tokenizer, size=size, seed=seed)
    if short:
        model.model.language_model.to(torch.bfloat16)
        model.lm_head.to(torch.bfloat16)
    return model, processor
