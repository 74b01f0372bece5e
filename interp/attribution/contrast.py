"""A behavior as a function of the next token's logits: the log-odds of the tokens by which two answer sets differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.prompts import Encoded, encode_answers, encode_prompt
from interp.templates import Messages

NextToken = Callable[[Float[Tensor, "prompts d_vocab"]], Float[Tensor, " prompts"]]
"""A number a prompt from the logits of its last token; differentiable, each prompt's from its own row."""


@dataclass(frozen=True)
class Contrast:
    """A prompt and the next tokens by which two sets of answers first differ."""

    encoded: Encoded
    first: tuple[int, ...]
    second: tuple[int, ...]


def contrast(lm: LanguageModel, messages: str | Messages, first: Sequence[str], second: Sequence[str]) -> Contrast:
    """The prompt, longer by the tokens that all answers begin with, and each set's next tokens that the other lacks.

    Errors: AnachronError if a set has no token of its own there.
    """
    prompt = encode_prompt(lm, messages)
    ids = encode_answers(lm, messages, [*first, *second])
    shared = 0
    while min(map(len, ids)) > shared and len({row[shared] for row in ids}) == 1:
        shared += 1
    a, b = ({row[shared] for row in part if len(row) > shared} for part in (ids[: len(first)], ids[len(first) :]))
    if not a - b or not b - a:
        raise AnachronError(
            f"answers {list(first)[:2]} and {list(second)[:2]} don't differ in their token {shared + 1}; "
            "give answers that begin differently, or put what they share into the prompt"
        )
    row = (*prompt.ids, *ids[0][:shared])
    return Contrast(Encoded(row, len(row)), tuple(sorted(a - b)), tuple(sorted(b - a)))


def next_token_log_odds(contrasts: Sequence[Contrast]) -> NextToken:
    """log P(a token of `first`) - log P(one of `second`), in nats, a prompt each, in the order of `contrasts`."""

    def metric(logits: Float[Tensor, "prompts d_vocab"]) -> Float[Tensor, " prompts"]:
        if len(logits) != len(contrasts):
            raise AnachronError(f"{len(logits)} prompts for a metric of {len(contrasts)}; give it its own prompts")
        pairs = zip(logits, contrasts, strict=True)
        return torch.stack([row[list(c.first)].logsumexp(0) - row[list(c.second)].logsumexp(0) for row, c in pairs])

    return metric
