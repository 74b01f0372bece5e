"""Answers to questions, whatever gives them: a model in this process or an endpoint."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from interp.behavior.identity import active_adapter, edits_as_data, model_identity
from interp.behavior.sampling import stream
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Messages, encode_prompt
from interp.steering import Edit


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: `n` a prompt, each token from softmax(logits / temperature); temperature 0 takes the most
    probable. The same seed gives the same answers from a model in this process; of an endpoint it is asked, not sure.

    The samples of a prompt are numbered; these are `first` to `first + n - 1`, and sample i is the same whatever `n`.
    """

    n: int = 1
    temperature: float | int = 1.0
    max_new_tokens: int = 200
    seed: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_new_tokens < 1 or self.first < 0 or not 0 <= self.temperature < float("inf"):
            raise AnachronError(
                f"sampling n={self.n}, max_new_tokens={self.max_new_tokens}, temperature={self.temperature}, "
                f"first={self.first}; they need to be >= 1, >= 1, finite and >= 0, and >= 0"
            )


OnAnswers = Callable[[int, Sequence[str]], None]
"""Called with the number of a prompt and its answers as soon as they are there, so that they can be kept."""


@runtime_checkable
class Answerer(Protocol):
    """Gives answers to prompts: `LocalAnswerer`, `EndpointAnswerer`."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain JSON data of everything its answers depend on (model, revision, adapter digest, edits),
        but for prompt and sampling. No keys, no host names."""
        ...

    def answer(self, prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers) -> None:
        """`sampling.n` answers to each prompt, given to `on_answers` prompt by prompt, in any order. A prompt that
        comes again in the list gets its next `n` samples (`sample_numbers`), not the same once more."""
        ...


@dataclass(frozen=True)
class Answer:
    """Sample number `sample` of a model's answers to a question; `identity` is the answerer's."""

    question: str
    topic: str
    messages: Messages
    sample: int
    text: str
    sampling: Sampling
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """What answering took. `uncounted` are replies that came without token counts; they are missing in the sums."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    seconds: float = 0.0

    def cost(self, prompt_price: float | int, completion_price: float | int) -> float:
        """In the currency of the prices, which are per million tokens."""
        return (self.prompt_tokens * prompt_price + self.completion_tokens * completion_price) / 1e6

    def __str__(self) -> str:
        pace = f", {self.completion_tokens / self.seconds:.0f} tokens/s" if self.seconds > 0 else ""
        uncounted = f" ({self.uncounted} replies uncounted)" if self.uncounted else ""
        return (
            f"{self.answers} answers, {self.prompt_tokens} prompt and {self.completion_tokens} answer tokens"
            f"{uncounted}, {self.seconds:.1f} s{pace}"
        )


Say = Callable[[str], None]


def sample_numbers(prompts: Sequence[Messages], sampling: Sampling) -> list[list[int]]:
    """For each prompt the numbers of the samples it gets: further ones each time it comes again."""
    seen: Counter[tuple[tuple[str, str], ...]] = Counter()
    numbers = []
    for messages in prompts:
        key = tuple((m["role"], m["content"]) for m in messages)
        first = sampling.first + seen[key] * sampling.n
        numbers.append(list(range(first, first + sampling.n)))
        seen[key] += 1
    return numbers


class LocalAnswerer:
    """A model in this process, under edits if there are any. Of a ModelPair: make and ask it inside `using`.

    A batch of answers is handed out when it is done; `max_tokens` bounds rows x (prompt + new tokens) of a batch.
    `usage` sums up all calls; `say` is told it after every batch.
    """

    def __init__(
        self, lm: LanguageModel, edits: Sequence[Edit] = (), *, max_tokens: int = 8192, say: Say | None = None
    ) -> None:
        self._lm, self._edits, self._max_tokens, self._say = lm, tuple(edits), max_tokens, say
        self._identity = {"kind": "local", **model_identity(lm), "edits": edits_as_data(edits)}
        self.usage = Usage()

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._identity

    def answer(self, prompts: Sequence[Messages], sampling: Sampling, on_answers: OnAnswers) -> None:
        """As `Answerer`. A prompt's answers are handed out together, once the last of them is there.

        Errors: those of `interp.behavior.sampling.stream`; AnachronError outside of the context the model is from.
        """
        active_adapter(self._lm)
        started, before, total = time.monotonic(), self.usage, len(prompts) * sampling.n
        rows = [encoded for messages in prompts for encoded in [encode_prompt(self._lm, messages)] * sampling.n]
        numbers = [number for several in sample_numbers(prompts, sampling) for number in several]
        waiting: dict[int, dict[int, str]] = {}
        for part in stream(
            self._lm,
            rows,
            numbers,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            edits=self._edits,
            max_tokens=self._max_tokens,
        ):
            for row, text in zip(part.rows, part.texts, strict=True):
                prompt = row // sampling.n
                said = waiting.setdefault(prompt, {})
                said[row] = text
                if len(said) == sampling.n:
                    on_answers(prompt, [said[i] for i in sorted(waiting.pop(prompt))])
            self.usage = replace(
                self.usage,
                answers=self.usage.answers + len(part.rows),
                prompt_tokens=self.usage.prompt_tokens + sum(len(rows[i].ids) for i in part.rows),
                completion_tokens=self.usage.completion_tokens + part.n_tokens,
                seconds=before.seconds + time.monotonic() - started,
            )
            if self._say is not None:
                done = self.usage.answers - before.answers
                pace = (self.usage.completion_tokens - before.completion_tokens) / (time.monotonic() - started)
                self._say(f"{done} of {total} answers, {pace:.0f} tokens/s")
