"""Judging by multiple choice: which reply to a judge prompt a model gives with the highest probability."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interp.behavior.identity import model_identity
from interp.behavior.judges.prompt import JudgePrompt
from interp.behavior.judging import Item, Judgement, OnJudgement
from interp.behavior.questions import Question
from interp.behavior.scoring import score
from interp.errors import AnachronError
from interp.models import LanguageModel

ENDS = (".", ",", "/")
"""One of these or the end of the turn must follow an option that another option continues, as 1 does 10 and 100."""

TOGETHER = 32  # items scored before their judgements are given

SHOWN = 1e-4  # of the options' mass: options with less of it aren't listed in `raw`


@dataclass(frozen=True)
class ChoiceJudge:
    """Value: the most probable option, for a score the expected number, sum k P(k) / sum P(k) over the whole numbers k
    of its range (or an extra value more probable than all numbers together). None where the options hold less than
    `minimum_mass` of the probability: then the model is about to say something else.

    `raw`: JSON of that mass and of the options' probabilities (not normalised), exact up to the model's rounding.
    """

    prompt: JudgePrompt
    lm: LanguageModel
    minimum_mass: float | int = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.minimum_mass < 1:
            raise AnachronError(f"judge {self.name!r}: minimum_mass {self.minimum_mass}; it is a probability below 1")
        low, high = self.prompt.limits
        if self.prompt.kind == "score" and not (float(low).is_integer() and float(high).is_integer() and low >= 0):
            raise AnachronError(f"judge {self.name!r}: range {low:g} to {high:g}; a choice is among whole numbers >= 0")

    @property
    def name(self) -> str:
        return self.prompt.name

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "choice",
            "prompt": dict(self.prompt.identity),
            "minimum_mass": self.minimum_mass,
            "ends": ENDS,
            "model": model_identity(self.lm),
        }

    @property
    def options(self) -> tuple[str, ...]:
        """The replies that are scored."""
        low, high = self.prompt.limits
        numbers = map(str, range(int(low), int(high) + 1)) if self.prompt.kind == "score" else ()
        return (*self.prompt.words, *numbers)

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        options = self.options
        nested = any(a != b and b.startswith(a) for a in options for b in options)
        answers = {option: (option,) for option in options}
        ends = ENDS if nested else ()
        for start in range(0, len(items), TOGETHER):
            questions = [
                Question(f"{self.name}/{i}", self.name, self.prompt.messages(item), answers, terminators=ends)
                for i, item in enumerate(items[start : start + TOGETHER], start)
            ]
            for i, row in enumerate(score(self.lm, questions).probability.tolist(), start):
                on_judgement(i, self._verdict(dict(zip(options, row, strict=True))))

    def _verdict(self, probability: Mapping[str, float]) -> Judgement:
        mass = sum(probability.values())
        listed = {option: float(f"{p:.4g}") for option, p in probability.items() if p >= SHOWN * mass}
        raw = json.dumps({"mass": float(f"{mass:.4g}"), "probability": listed}, ensure_ascii=False)
        if mass < self.minimum_mass or mass == 0:
            return Judgement(None, raw)
        words = {word: probability[word] for word in self.prompt.words}
        numbers = {int(option): p for option, p in probability.items() if option not in words}
        total = sum(numbers.values())
        likeliest = max(words, key=words.__getitem__, default=None)
        if likeliest is not None and words[likeliest] >= total:
            return Judgement(likeliest, raw)
        return Judgement(sum(k * p for k, p in numbers.items()) / total, raw)
