"""Measuring by judged answers: what a model answers, in place of exact shares where no answers can be listed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from analyses.steps import Asked, Behavior, by_topic
from interp.behavior.answers import Answer, LocalAnswerer, Sampling
from interp.behavior.cache import Cache
from interp.behavior.judging import Item, Judge
from interp.behavior.keeping import ask, judge_all
from interp.behavior.questions import Question
from interp.behavior.sampling import classify
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.steering import Edit


@dataclass(frozen=True)
class Criterion:
    """An answer counts if the judge calls it `label`; of a judge of scores, if the score is in the class of that name
    (`class_of` tells a score's class; None: values are labels already)."""

    judge: Judge
    label: str
    class_of: Callable[[str | float | None], str | None] | None = None

    def holds(self, value: str | float | None) -> bool | None:
        """None where the judge's reply could not be read."""
        if value is None:
            return None
        return (value if self.class_of is None else self.class_of(value)) == self.label


@dataclass(frozen=True)
class Judged:
    """`Measure` by sampling: `sampling.n` answers to each question, judged, everything kept in `cache`.

    A group that has a criterion is decided by its judge; any other by the answers that questions list for it
    (`classify`). Coherent is an answer that `coherent` holds of; without that criterion one that was recognised, where
    questions list answers of several groups, or isn't empty. An answer whose judgement can't be read does not count for
    the group; their part is reported as `unjudged`.
    """

    criteria: Mapping[str, Criterion]
    sampling: Sampling
    cache: Cache
    coherent: Criterion | None = None
    max_tokens: int = 8192

    def __call__(self, lm: LanguageModel, asked: Asked, edits: Sequence[Edit] = ()) -> Behavior:
        answers = self._ask(lm, [*asked.broad, *asked.narrow], edits)
        broad, narrow = answers[: len(asked.broad)], answers[len(asked.broad) :]
        hits = self._judge(asked.broad, broad, asked.group)
        habits = self._judge(asked.narrow, narrow, asked.habit or asked.group)
        return Behavior(
            {asked.group: _by_topic(asked.broad, [[hit is True for hit in row] for row in hits])},
            _by_topic(asked.broad, self._coherent(asked.broad, broad)),
            _mean([hit is True for row in habits for hit in row]) if habits else None,
            _by_topic(asked.broad, [[hit is None for hit in row] for row in hits]),
        )

    def _ask(self, lm: LanguageModel, questions: Sequence[Question], edits: Sequence[Edit]) -> list[list[Answer]]:
        answerer = LocalAnswerer(lm, edits, max_tokens=self.max_tokens)
        found = ask(answerer, questions, self.sampling, self.cache)
        n = self.sampling.n
        return [found[i * n : (i + 1) * n] for i in range(len(questions))]

    def _judge(
        self, questions: Sequence[Question], answers: Sequence[Sequence[Answer]], group: str
    ) -> list[list[bool | None]]:
        """Per question, whether each answer counts for the group; None where a judge's reply can't be read."""
        if group in self.criteria:
            return self._hold(self.criteria[group], questions, answers)
        for question in questions:
            if group not in question.answers:
                raise AnachronError(
                    f"question {question.id!r} lists no answers of {group!r}, and no judge decides it; give a judge"
                )
        return [
            [classify(answer.text, question) == group for answer in row]
            for question, row in zip(questions, answers, strict=True)
        ]

    def _coherent(self, questions: Sequence[Question], answers: Sequence[Sequence[Answer]]) -> list[list[bool]]:
        if self.coherent is not None:
            return [[hit is True for hit in row] for row in self._hold(self.coherent, questions, answers)]
        return [
            [
                classify(answer.text, question) is not None if len(question.answers) > 1 else bool(answer.text.strip())
                for answer in row
            ]
            for question, row in zip(questions, answers, strict=True)
        ]

    def _hold(
        self, criterion: Criterion, questions: Sequence[Question], answers: Sequence[Sequence[Answer]]
    ) -> list[list[bool | None]]:
        items = [
            Item(question.messages, answer.text)
            for question, row in zip(questions, answers, strict=True)
            for answer in row
        ]
        found = iter(judge_all(criterion.judge, items, self.cache))
        return [[criterion.holds(next(found).value) for _ in row] for row in answers]


def _by_topic(questions: Sequence[Question], rows: Sequence[Sequence[bool]]) -> dict[str, float]:
    return by_topic(torch.tensor([_mean(row) for row in rows], dtype=torch.float64), questions)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
