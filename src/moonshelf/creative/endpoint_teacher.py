"""A teacher behind an endpoint: any OpenAI-compatible chat model, with the creatives' pictures.

It is told which creative more people clicked and writes the comparison in the protocol's format. What cannot be read
strictly, or chooses the other one, is rejected and counted; so is what the endpoint refuses. Answers are kept on disk
and paid for once, calls stay within a budget (``moonshelf.remote``). The prompt is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from moonshelf.creative.protocol import BadAnswer, read_verdict
from moonshelf.creative.samples import Sample
from moonshelf.progress import Progress
from moonshelf.remote import Endpoint, Refused

TOLD = (
    "\n\nThe log says that more people clicked creative {winner}. Explain it: answer the ten questions by what you see "
    "and read, with a short reason each, and choose {winner}."
)


def teach_by_endpoint(
    endpoint: Endpoint,
    samples: Sequence[Sample],
    *,
    pictured: bool = True,
    at_a_time: int = 8,
    most_tokens: int = 700,
) -> tuple[list[Sample], dict[str, int]]:
    """The samples with traces of the endpoint in place of any that they had; "" where rejected.

    Args:
        samples: with whole prompts (``brief=False``): the model does not know the format.
        pictured: False for models that read texts alone.
        at_a_time: questions under way together.

    Returns:
        The samples, and how many traces were kept and rejected, by reason.

    Raises:
        BudgetSpent, InputError: nothing more will be answered; what was answered is kept on disk.
    """
    why: Counter[str] = Counter()
    with (
        ThreadPoolExecutor(max(1, at_a_time)) as pool,
        Progress(len(samples), "creatives: teacher", "pairs") as bar,
    ):

        def one(sample: Sample) -> Sample:
            try:
                answer = _ask(endpoint, sample, pictured, most_tokens)
                verdict = read_verdict(answer)
            except Refused as error:
                return _rejected(sample, str(error), why, bar)
            except BadAnswer as error:
                return _rejected(sample, f"cannot be read: {error}", why, bar)
            if verdict.choice.value != sample.winner:
                return _rejected(sample, "chooses the one that fewer clicked", why, bar)
            why["kept"] += 1
            bar.advance(1)
            return replace(sample, answer=answer.strip(), reference=verdict)

        waiting = [pool.submit(one, sample) for sample in samples]
        try:
            found = [future.result() for future in waiting]
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    return found, dict(why)


def _rejected(sample: Sample, reason: str, why: Counter[str], bar: Progress) -> Sample:
    why[reason] += 1
    bar.advance(1)
    return replace(sample, answer="", reference=None)


def _ask(endpoint: Endpoint, sample: Sample, pictured: bool, most_tokens: int) -> str:
    system, user = (
        "".join(part.get("text", "") for part in message["content"]) for message in sample.messages
    )
    pictures = sample.images if pictured else ()
    return endpoint.chat(system, user + TOLD.format(winner=sample.winner), pictures, most_tokens=most_tokens)
