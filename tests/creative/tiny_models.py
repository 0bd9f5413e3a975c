"""Real model classes at the size of a test: random weights, a tokenizer trained here, nothing downloaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

WORDS = (
    "<think> </think> <answer> A B 1. identical: no 2. similar: no 3. queries: equal 4. title: 5. copy: 6. people: "
    "7. layout: A - A is longer: 15 words against 4 words 8. subject: 9. background: 10. choice: {measured selector}"
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@lru_cache(maxsize=1)
def _trained() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
        "<|video_pad|>",
    ]  # fmt: skip
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator([WORDS] * 20, trainer)
    return str(made.to_str())


def tokenizer() -> Any:
    """Byte-level BPE of 420 pieces."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )


def tiny_smol(seed: int = 0) -> tuple[Any, Any]:
    """The embedded class: the real trunk at 64 px before a random Llama of two layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from moonshelf.encoder.smol import build_smol

    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=8192, initializer_range=0.3,
        pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(seed)
    return build_smol(LlamaForCausalLM(config), words, size=64, seed=seed)


def write_tiny_qwen(folder: Path, family: str = "qwen2_5_vl") -> Path:
    """A random Qwen2.5-VL or Qwen3-VL with its processor, saved as its own kind is."""
    import torch
    import transformers as tf
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    words = tokenizer()
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in
           ("image_pad", "video_pad", "vision_start", "vision_end")}  # fmt: skip
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id, "bos_token_id": None,
        "tie_word_embeddings": False,
    }  # fmt: skip
    tokens = {
        "image_token_id": ids["image_pad"], "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"], "vision_end_token_id": ids["vision_end"],
    }  # fmt: skip
    torch.manual_seed(0)
    if family == "qwen2_5_vl":
        vision = {
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32,
            "patch_size": 14, "spatial_merge_size": 2, "window_size": 28, "fullatt_block_indexes": [1],
        }  # fmt: skip
        config: Any = tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
        model: Any = tf.Qwen2_5_VLForConditionalGeneration(config)
    else:
        vision = {
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "out_hidden_size": 32,
            "patch_size": 14, "spatial_merge_size": 2, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
        }  # fmt: skip
        text |= {"head_dim": 8}
        config = tf.Qwen3VLConfig(text_config=text, vision_config=vision, **tokens)
        model = tf.Qwen3VLForConditionalGeneration(config)
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)

    from moonshelf.creative.backbones import pictures_only

    images = Qwen2VLImageProcessorPil(
        patch_size=14, merge_size=2, size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56}
    )
    pictures_only(family)(image_processor=images, tokenizer=words, chat_template=CHAT).save_pretrained(folder)
    return folder
