"""Answers to questions, whatever gives them: a model in this process or an endpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from interp.errors import AnachronError
from interp.prompts import Messages


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: `n` a prompt, each token from softmax(logits / temperature); temperature 0 takes the most
    probable. The same seed gives the same answers from a model in this process; of an endpoint it is asked, not sure.
    """

    n: int = 1
    temperature: float | int = 1.0
    max_new_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_new_tokens < 1 or not 0 <= self.temperature < float("inf"):
            raise AnachronError(
                f"sampling n={self.n}, max_new_tokens={self.max_new_tokens}, temperature={self.temperature}; they need "
                "to be >= 1, >= 1 and finite and >= 0"
            )


OnAnswers = Callable[[int, Sequence[str]], None]
"""Called with the number of a prompt and its answers as soon as they are there, so that they can be kept."""


class Answerer(Protocol):
    """Gives answers to prompts: `LocalAnswerer`, `EndpointAnswerer`."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain JSON data of everything its answers depend on (model, revision, adapter digest, edits),
        but for prompt and sampling. No keys, no host names."""
        ...

    def answer(self, prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers) -> None:
        """`sampling.n` answers to each prompt, given to `on_answers` prompt by prompt, in any order."""
        ...
