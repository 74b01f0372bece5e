"""Judging by asking a model: a judge prompt put to any `Answerer`, in this process or behind an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.behavior.answers import Answerer, Sampling
from interp.behavior.judges.prompt import JudgePrompt
from interp.behavior.judges.replies import READING, read_reply
from interp.behavior.judging import Item, Judgement, OnJudgement
from interp.errors import AnachronError

REPLY = Sampling(n=1, temperature=0, max_new_tokens=64)
"""One reply, the most probable, long enough for a verdict."""


@dataclass(frozen=True)
class PromptJudge:
    """Value: the label or number that the model's reply gives (`replies`); `raw`: the reply."""

    prompt: JudgePrompt
    answerer: Answerer
    sampling: Sampling = REPLY

    def __post_init__(self) -> None:
        if self.sampling.n != 1:
            raise AnachronError(f"judge {self.name!r}: {self.sampling.n} replies an item; a judgement takes one, n=1")

    @property
    def name(self) -> str:
        return self.prompt.name

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "kind": "prompt",
            "prompt": dict(self.prompt.identity),
            "reading": READING,
            "sampling": asdict(self.sampling),
            "answerer": dict(self.answerer.identity),
        }

    def judge(self, items: Sequence[Item], on_judgement: OnJudgement) -> None:
        def read(i: int, replies: Sequence[str]) -> None:
            on_judgement(i, Judgement(read_reply(self.prompt, replies[0]), replies[0]))

        self.answerer.answer([self.prompt.messages(item) for item in items], self.sampling, read)
