"""What a judge is: a question about an answer. Every kind of judge gives `Judgement`s."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
