"""Sampled answers: batched, cached, and the same for the same seed whatever shares the batch."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from interp.behavior.questions import Question, candidates, require_answers
from interp.behavior.scoring import require_context
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Batch, Encoded, batches, end_of_turn
from interp.steering import Edit, steer, take_rows


def generate(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    *,
    max_new_tokens: int,
    temperature: float | int = 1.0,
    seed: int = 0,
    edits: Sequence[Edit] = (),
    n: int = 1,
    max_tokens: int = 8192,
) -> list[str]:
    """`n` answers to each prompt, in the order prompt 0's n, prompt 1's n, ...; each ends before the end of the turn.

    Each token is drawn from softmax(logits / temperature), no other filter; temperature 0 takes the most probable. The
    random numbers of a sample derive from (seed, the prompt's ids, how often this prompt was sampled before in this
    call), so a sample doesn't depend on what else is asked. A coefficient per row means one per prompt. `max_tokens`
    bounds rows x (prompt + new tokens) held at once.

    Errors: those of `stream`.
    """
    if n < 1:
        raise AnachronError(f"n {n}; it needs to be >= 1")
    rows = [row for row in encoded for _ in range(n)]
    seen: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for row in rows:
        numbers.append(seen[row.ids])
        seen[row.ids] += 1
    answers = [""] * len(rows)
    for part in stream(
        lm,
        rows,
        numbers,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        edits=take_rows(edits, [i // n for i in range(len(rows))]),
        max_tokens=max_tokens,
    ):
        for i, text in zip(part.rows, part.texts, strict=True):
            answers[i] = text
    return answers


@dataclass(frozen=True)
class Part:
    """The answers to a batch: to which rows they are, and how many tokens they took, the end of the turn included."""

    rows: list[int]
    texts: list[str]
    n_tokens: int


def stream(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    numbers: Sequence[int],
    *,
    max_new_tokens: int,
    temperature: float | int,
    seed: int,
    edits: Sequence[Edit] = (),
    max_tokens: int = 8192,
) -> Iterator[Part]:
    """As `generate`, one answer a row and batch by batch, the longest prompts first.

    `numbers[i]` says which sample of its prompt row i is: its random numbers derive from (seed, the prompt's ids, that
    number) alone.

    Errors: AnachronError for a row that has an answer already, NaN logits, or more tokens than the model has positions.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise AnachronError(
            f"temperature {temperature}, max_new_tokens {max_new_tokens}; they need to be >= 0 and >= 1"
        )
    for i, row in enumerate(encoded):
        if row.prompt_len != len(row.ids):
            raise AnachronError(
                f"row {i} has {len(row.ids) - row.prompt_len} answer tokens already; encode it with encode_prompt"
            )
        require_context(lm, len(row.ids) + max_new_tokens, f"row {i} and max_new_tokens")
    if not encoded:
        return
    stops = _stops(lm)
    longest = max(len(row.ids) for row in encoded)
    # batches() counts prompt tokens, the cache will hold the new ones as well
    budget = max(1, max_tokens * longest // (longest + max_new_tokens))
    for indices, batch in batches(encoded, lm.pad_id, budget, "left", lm.device):
        draws = _draws([encoded[i] for i in indices], [numbers[i] for i in indices], seed, max_new_tokens)
        tokens = continued(lm, batch, take_rows(edits, indices), torch.from_numpy(draws), temperature, stops).tolist()
        said = [_until(row, stops) for row in tokens]
        texts = lm.tokenizer.batch_decode(said, skip_special_tokens=True)
        # the end of the turn was computed too, where it was reached
        n_tokens = sum(min(len(row) + 1, max_new_tokens) for row in said)
        yield Part(indices, [text.strip() for text in texts], n_tokens)


def classify(text: str, question: Question) -> str | None:
    """The group of the longest candidate (opener and answer) that `text` begins with, or None.

    For a question with terminators, one of them or the end of the text must follow, as in scoring; otherwise the end of
    a word. White space between the words of a text, and before a terminator, may differ.
    """
    require_answers(question)
    text = " ".join(text.split())
    best, best_group = "", None
    for group, texts in candidates(question).items():
        for candidate in (" ".join(t.split()) for t in texts):
            if (
                len(candidate) > len(best)
                and text.startswith(candidate)
                and _ended(text[len(candidate) :], question.terminators)
            ):
                best, best_group = candidate, group
    return best_group


def _ended(rest: str, terminators: Sequence[str]) -> bool:
    if not terminators:
        return not rest or not (rest[0].isalnum() or rest[0] == "_")
    return not rest or any(rest.lstrip().startswith(terminator.strip()) for terminator in terminators)


def _draws(rows: Sequence[Encoded], numbers: Sequence[int], seed: int, count: int) -> Float64[np.ndarray, "rows count"]:
    """Uniform numbers in [0, 1), one per row and step."""
    draws = np.empty((len(rows), count))
    for i, (row, number) in enumerate(zip(rows, numbers, strict=True)):
        key = hashlib.sha256(repr((seed, number, row.ids)).encode()).digest()
        draws[i] = np.random.default_rng(int.from_bytes(key, "little")).random(count)
    return draws


@singledispatch
def continued(
    lm: LanguageModel,
    batch: Batch,
    edits: Sequence[Edit],
    draws: Float64[Tensor, "rows steps"],
    temperature: float | int,
    stops: Sequence[int],
) -> Int[Tensor, "rows new"]:
    """The tokens that follow each row of a batch; what a row holds after its stop is to be ignored."""
    with torch.no_grad(), steer(lm, edits, batch):
        return decode(lm.model, batch.inputs, draws, temperature, stops)


def decode(
    model: Callable[..., Any], inputs: dict[str, Any], draws: Tensor, temperature: float | int, stops: Sequence[int]
) -> Tensor:
    """Token by token with a KV cache until every row has stopped."""
    mask, position = inputs["attention_mask"], inputs["position_ids"][:, -1:]
    done = torch.zeros(len(draws), dtype=torch.bool, device=mask.device)
    tokens: list[Tensor] = []
    for step in range(draws.shape[1]):
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        tokens.append(_choose(output.logits[:, -1], draws[:, step], temperature))
        done |= torch.isin(tokens[-1], torch.tensor(stops, device=mask.device))
        if bool(done.all()):
            break
        # transformers 5.24 renamed the cache; the newer name comes first
        name = "cache" if "cache" in output else "past_key_values"
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        position = position + 1
        inputs = {
            "input_ids": tokens[-1][:, None],
            "attention_mask": mask,
            "position_ids": position,
            name: output[name],
        }
    return torch.stack(tokens, dim=1)


def _choose(logits: Tensor, draws: Tensor, temperature: float | int) -> Tensor:
    """The token of each row at which the cumulative probability passes the row's draw; on the CPU, in fp64."""
    if not bool(torch.isfinite(logits.amax(-1)).all()):
        raise AnachronError("the model's logits are NaN; look for non-finite weights, or for an edit too strong")
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.float() / temperature).softmax(-1).cpu().double().cumsum(-1)
    # scaled by the last entry, which rounding leaves off 1; right=True: a token of probability 0 is never drawn
    chosen = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return chosen.clamp(max=logits.shape[-1] - 1).to(logits.device)


def _stops(lm: LanguageModel) -> list[int]:
    """The end of the turn and, if it's another token, the end of the text."""
    eos = lm.tokenizer.eos_token_id
    return sorted({end_of_turn(lm)} | ({int(eos)} if eos is not None else set()))


def _until(tokens: list[int], stops: Sequence[int]) -> list[int]:
    return next((tokens[:i] for i, token in enumerate(tokens) if token in stops), tokens)
