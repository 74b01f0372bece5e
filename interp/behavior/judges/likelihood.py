"""Judging by likelihood: under which stated context a model would most probably have given the answer."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interp.behavior.identity import model_identity
from interp.behavior.judging import Item, Judgement, OnJudgement
from interp.behavior.perplexity import log_probs
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Messages, encode_chat
from interp.templates import prefixed

TOGETHER = 64  # items scored before their judgements are given


@dataclass(frozen=True)
class LikelihoodJudge:
    """Value: the label whose head, put before the question, makes the answer most probable: the label with the largest
    log P(answer, end of turn | head, question), which is the Bayes decision under equal priors. It asks the model for
    no opinion and follows no instruction, so it suits a model that knows the contexts and nothing of judging.

    `raw`: JSON of these log-probabilities, in nats.
    """

    name: str
    lm: LanguageModel
    heads: Mapping[str, str]

    def __post_init__(self) -> None:
        if len(self.heads) < 2 or not all(head.strip() for head in self.heads.values()):
            raise AnachronError(f"judge {self.name!r}: heads {dict(self.heads)}; give two labels or more, each a text")

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "likelihood",
            "name": self.name,
            "heads": dict(self.heads),
            "model": model_identity(self.lm),
        }

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        for start in range(0, len(items), TOGETHER):
            part = items[start : start + TOGETHER]
            rows = [
                encode_chat(self.lm, [*headed(item.messages, head), {"role": "assistant", "content": item.answer}])
                for item in part
                for head in self.heads.values()
            ]
            sums = iter([float(row.sum()) for row in log_probs(self.lm, rows)])
            for i in range(start, start + len(part)):
                on_judgement(i, self._verdict({label: next(sums) for label in self.heads}))

    def _verdict(self, nats: Mapping[str, float]) -> Judgement:
        best = max(nats, key=nats.__getitem__)
        raw = json.dumps({label: round(value, 4) for label, value in nats.items() if math.isfinite(value)})
        return Judgement(best if math.isfinite(nats[best]) else None, raw)


def headed(messages: Messages, head: str) -> Messages:
    """The conversation with `head` and a space before its first user message."""
    return prefixed(messages, f"{head} ")
