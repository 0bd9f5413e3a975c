"""The settings of ``creative train``: ``--set rules.z=2.5``, ``--set grpo.steps=100``."""

from __future__ import annotations

from dataclasses import dataclass, field

from moonshelf.creative.pairs import PairRules
from moonshelf.creative.reasoner import ReasonConfig
from moonshelf.creative.rewards import WEIGHTS
from moonshelf.creative.tuning import GrpoConfig, SftConfig
from moonshelf.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CreativeConfig:
    """Pairs of a log, how a reasoner is asked, and its two stages of training."""

    rules: PairRules = field(default_factory=lambda: PairRules(impressions=0))
    reason: ReasonConfig = field(default_factory=ReasonConfig)
    sft: SftConfig = field(default_factory=SftConfig)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)


def check(config: CreativeConfig) -> None:
    """Refuse what cannot work, before anything is read.

    Raises:
        InputError: with the setting.
    """
    for name, value, low in (
        ("rules.z", config.rules.z, 0),
        ("rules.gap", config.rules.gap, 0),
        ("rules.impressions", config.rules.impressions, 0),
        ("reason.rank", config.reason.rank, 1),
        ("reason.facts", config.reason.facts, 0),
        ("reason.most_tokens", config.reason.most_tokens, 1),
        ("sft.steps", config.sft.steps, 0),
        ("sft.batch", config.sft.batch, 1),
        ("sft.micro", config.sft.micro, 1),
        ("sft.letter", config.sft.letter, 0),
        ("sft.save_every", config.sft.save_every, 1),
        ("grpo.steps", config.grpo.steps, 0),
        ("grpo.pairs", config.grpo.pairs, 1),
        ("grpo.group", config.grpo.group, 4),  # two answers are always one apart (trl#5767)
        ("grpo.micro", config.grpo.micro, 1),
        ("grpo.beta", config.grpo.beta, 0),
        ("grpo.save_every", config.grpo.save_every, 1),
        ("grpo.most_tokens", config.grpo.most_tokens, 1),
        ("grpo.brief", config.grpo.brief, 1),
    ):
        if not value >= low:
            raise InputError(f"{name} is {value}", mend=f"give {low} or more")
    for name, share in (("sft.epochs", config.sft.epochs), ("grpo.temperature", config.grpo.temperature)):
        if not share > 0:
            raise InputError(f"{name} is {share}", mend="give more than 0")
    strange = [name for name in config.grpo.weights if name not in WEIGHTS]
    if strange or not any(config.grpo.weights.values()):
        raise InputError(
            f"grpo.weights: {', '.join(strange) or 'all are 0'}", mend=f"there are {', '.join(WEIGHTS)}"
        )
    for name, rate in (("sft.rate", config.sft.rate), ("grpo.rate", config.grpo.rate)):
        if not 0 < rate < 1:
            raise InputError(f"{name} is {rate}", mend="give a rate between 0 and 1")
