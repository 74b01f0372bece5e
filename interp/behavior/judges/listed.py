"""Judging by a question's own lists of answers. No model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from interp.behavior.judges.matcher import Matcher, question_matcher
from interp.behavior.judging import Item, OnJudgement
from interp.behavior.questions import Question
from interp.errors import AnachronError
from interp.files import digest
from interp.prompts import Messages


@dataclass(frozen=True)
class ListedAnswers:
    """Value: the group of the listed answers, of the question that was asked, that an answer begins with; "other" if it
    begins with none. `raw`: the text that was matched. It agrees with `interp.behavior.sampling.classify`.

    Errors: AnachronError for two questions of the same messages; when judging, for an item that is none of them.
    """

    questions: tuple[Question, ...]
    name: str = "listed answers"

    def __post_init__(self) -> None:
        if len(self._matchers) < len(self.questions):
            raise AnachronError(f"judge {self.name!r}: two of its questions have the same messages; give each once")

    @property
    def identity(self) -> Mapping[str, Any]:
        rules = repr([asdict(matcher) for matcher in self._matchers.values()])
        return {"kind": "listed", "name": self.name, "digest": digest((repr(list(self._matchers)) + rules).encode())}

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        for i, item in enumerate(items):
            matcher = self._matchers.get(_key(item.messages))
            if matcher is None:
                asked = item.messages[-1]["content"][:60]
                raise AnachronError(
                    f"item {i}: {asked!r} is none of the questions of judge {self.name!r}; leave it out"
                )
            on_judgement(i, matcher.match(item.answer))

    @cached_property
    def _matchers(self) -> dict[tuple[tuple[str, str], ...], Matcher]:
        return {_key(question.messages): question_matcher(question) for question in self.questions}


def _key(messages: Messages) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in messages)
