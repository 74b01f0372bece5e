"""How probable given text is: log-probability per token, and how an edit changes it."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from interp.behavior.scoring import require_context
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Encoded, batches
from interp.steering import Edit, run, take_rows

# Logits held at once, whatever max_tokens says: half a gigabyte in fp32.
MAX_LOGITS = 2**27


def log_probs(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    *,
    edits: Sequence[Edit] = (),
    tokens: str = "answer",
    max_tokens: int = 4096,
) -> list[Float64[Tensor, " tokens"]]:
    """Natural log of the probability of each token given those before it, row by row, in the order of `encoded`.

    `tokens` "answer": ids[prompt_len:], of a plain text all but the first token, which nothing predicts. "all": the
    prompt as well. Errors: AnachronError for NaN logits, for a row longer than the model has positions.
    """
    rows: list[Tensor] = [torch.empty(0)] * len(encoded)
    for indices, values in _stream(lm, encoded, edits, tokens, max_tokens):
        for i, value in zip(indices, values, strict=True):
            rows[i] = value
    return rows


def nats_per_token(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    *,
    edits: Sequence[Edit] = (),
    tokens: str = "answer",
    max_tokens: int = 4096,
) -> float:
    """Mean negative log-probability over all tokens of all rows (tokens weigh the same), in nats, summed in fp64."""
    total, count = 0.0, 0
    for _, values in _stream(lm, encoded, edits, tokens, max_tokens):
        total -= sum(float(value.sum()) for value in values)
        count += sum(len(value) for value in values)
    if count == 0:
        raise AnachronError(
            f"no tokens to predict in {len(encoded)} rows; encode text or chats with an answer, or use tokens='all'"
        )
    return total / count


def perplexity(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    *,
    edits: Sequence[Edit] = (),
    tokens: str = "answer",
    max_tokens: int = 4096,
) -> float:
    """exp(nats_per_token)."""
    return math.exp(nats_per_token(lm, encoded, edits=edits, tokens=tokens, max_tokens=max_tokens))


def perplexity_ratio(
    lm: LanguageModel,
    encoded: Sequence[Encoded],
    edits: Sequence[Edit],
    *,
    tokens: str = "answer",
    max_tokens: int = 4096,
) -> float:
    """Perplexity with the edits over perplexity without: 1 if they do no harm to this text."""
    edited, plain = (nats_per_token(lm, encoded, edits=e, tokens=tokens, max_tokens=max_tokens) for e in (edits, ()))
    return math.exp(edited - plain)


def _stream(
    lm: LanguageModel, encoded: Sequence[Encoded], edits: Sequence[Edit], tokens: str, max_tokens: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Batch by batch (indices, log-probabilities of each row), fp64 on the CPU."""
    if tokens not in ("answer", "all"):
        raise AnachronError(f"tokens {tokens!r}; use answer or all")
    for i, row in enumerate(encoded):
        require_context(lm, len(row.ids), f"row {i}")
    budget = min(max_tokens, MAX_LOGITS // lm.model.config.get_text_config().vocab_size)
    for indices, batch in batches(encoded, lm.pad_id, budget, "right", lm.device):
        reduce = partial(_next_tokens, targets=batch.input_ids[:, 1:])
        values = run(lm, batch, batch.inputs, reduce, take_rows(edits, indices))
        rows = []
        for i, value in zip(indices, values.cpu().double(), strict=True):
            # value[t] is the log-probability of token t + 1
            begin = 1 if tokens == "all" else max(1, encoded[i].prompt_len)
            row = value[begin - 1 : len(encoded[i].ids) - 1]
            if bool(row.isnan().any()):
                raise AnachronError(
                    f"row {i}: the model's logits are NaN; look for non-finite weights, or for an edit too strong"
                )
            rows.append(row)
        yield indices, rows


def _next_tokens(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability [batch, pos - 1] of each token of a row but the first."""
    targets = targets.to(logits.device)
    chosen = logits[:, :-1].gather(-1, targets[..., None])[..., 0].float()
    return chosen - torch.logsumexp(logits[:, :-1].float(), dim=-1)
