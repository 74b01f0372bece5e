"""What a judge is: a question about an answer. Every kind of judge gives `Judgement`s."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from interp.errors import AnachronError
from interp.prompts import Messages


@dataclass(frozen=True)
class Item:
    """What is judged: the answer to a conversation."""

    messages: Messages
    answer: str


@dataclass(frozen=True)
class Judgement:
    """A judge's verdict on one answer: a label, or a number on the judge's scale. None: the judge's reply (`raw`) could
    not be read as one; such judgements are counted and shown, never dropped."""

    value: str | float | None
    raw: str


OnJudgement = Callable[[int, Judgement], None]
"""Called with the number of an item and its judgement as soon as it is there."""


@runtime_checkable
class Judge(Protocol):
    """Judges answers: `Matcher`, `ChoiceJudge`, `PromptJudge` (over any `Answerer`)."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain JSON data that its judgements depend on: kind, rules or prompt text digest and version, the identity
        of the model behind it. No keys, no host names."""
        ...

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        """One judgement an item, given to `on_judgement` in any order."""
        ...


def judgements(judge: Judge, items: Sequence[Item]) -> list[Judgement]:
    """The judge's verdicts in the order of `items`, kept nowhere (`interp.behavior.keeping.judge_all` keeps them).

    Errors: AnachronError if the judge gave an item no judgement, or two.
    """
    found: dict[int, Judgement] = {}

    def keep(i: int, judgement: Judgement) -> None:
        if i in found or not 0 <= i < len(items):
            raise AnachronError(f"judge {judge.name!r} judged item {i} of {len(items)} twice, or there is no such item")
        found[i] = judgement

    judge.judge(items, keep)
    if missing := [i for i in range(len(items)) if i not in found]:
        raise AnachronError(
            f"judge {judge.name!r} left {len(missing)} of {len(items)} items unjudged, the first {missing[0]}; every "
            "item gets a judgement, unparseable ones the value None"
        )
    return [found[i] for i in range(len(items))]
