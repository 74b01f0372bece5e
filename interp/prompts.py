"""From messages to token ids and padded batches, with the boundary between prompt and answer kept.

A chat template is rendered to text and tokenised with add_special_tokens=False (the template writes its own BOS, so
a second one can't appear). An answer is never tokenised alone: its ids are those of prompt + answer after the
prompt's, since what a template puts between role tag and answer (a space, a newline) may be part of the answer's
first token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.templates import PLAIN_TEMPLATE as PLAIN_TEMPLATE  # what concerns prompts can be had from here
from interp.templates import Messages, as_messages, render, render_answered
from interp.templates import with_system as with_system


@dataclass(frozen=True)
class Encoded:
    """Token ids of one row. The answer is ids[prompt_len:]; prompt_len == len(ids) if there is none."""

    ids: tuple[int, ...]
    prompt_len: int


def encode_prompt(lm: LanguageModel, messages: str | Messages) -> Encoded:
    """The prompt up to where the model answers (prompt_len == len(ids))."""
    ids = _tokenise(lm, [render(lm, messages, generation_prompt=True)])[0]
    return Encoded(ids, len(ids))


def encode_chat(lm: LanguageModel, messages: Messages) -> Encoded:
    """A conversation whose last message, the assistant's, is the answer; the answer's ids include its end-of-turn
    token.

    Errors: AnachronError if the last message isn't the assistant's, or if the rendered prompt isn't a prefix of the
    conversation.
    """
    messages = as_messages(messages)
    if messages[-1]["role"] != "assistant":
        raise AnachronError(
            f"last message has role {messages[-1]['role']!r}; a chat to encode ends with the assistant's answer"
        )
    if len(messages) == 1:
        raise AnachronError("a chat of one message, the assistant's; an answer needs a prompt before it")
    prompt, ids = _tokenise(lm, list(render_answered(lm, messages)))
    _require_prefix(lm, prompt, ids, messages[-1]["content"])
    return Encoded(ids, len(prompt))


def encode_answers(lm: LanguageModel, messages: str | Messages, answers: Sequence[str]) -> list[tuple[int, ...]]:
    """Ids of each answer as a continuation of the prompt, without end-of-turn tokens.

    ids = tokens(template(prompt + answer), cut after the answer's text) minus tokens(template(prompt)); the prompt
    is checked to be a prefix. The template is rendered once and the answers put in its place, so thousands of
    answers cost one tokenizer call.
    """
    before, after = _answer_frame(lm, messages)
    prompt = encode_prompt(lm, messages)
    for i, answer in enumerate(answers):
        if not answer or answer != answer.strip():
            raise AnachronError(
                f"answer {i} is {answer!r}; answers are non-empty and neither start nor end with white space"
            )
    whole = _tokenise(lm, [before + answer + after for answer in answers])
    cut = _tokenise(lm, [before + answer for answer in answers])
    for answer, ids, full in zip(answers, cut, whole, strict=True):
        _require_prefix(lm, prompt.ids, ids, answer)
        if full[: len(ids)] != ids:
            raise AnachronError(
                f"{lm.name}: the last token of answer {answer!r} merges with what the template writes after it"
            )
    return [ids[prompt.prompt_len :] for ids in cut]


def end_of_turn(lm: LanguageModel) -> int:
    """Id of the token that ends an assistant's answer: the first that the template writes after one."""
    _, after = _answer_frame(lm, "Hello")
    return _tokenise(lm, [after])[0][0]


def encode_text(lm: LanguageModel, text: str) -> Encoded:
    """A plain document, after BOS if the tokenizer has one; there is no prompt (prompt_len 0)."""
    ids = _tokenise(lm, [text])[0]
    bos = lm.tokenizer.bos_token_id
    return Encoded(ids if bos is None or ids[:1] == (bos,) else (bos, *ids), 0)


def _tokenise(lm: LanguageModel, texts: list[str]) -> list[tuple[int, ...]]:
    if not texts:
        return []
    return [
        tuple(ids) for ids in lm.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    ]


_PROBE = "Probe"


def _answer_frame(lm: LanguageModel, messages: str | Messages) -> tuple[str, str]:
    """The text around an answer: (prompt and whatever precedes the answer, whatever follows it)."""
    messages = as_messages(messages)
    prompt, text = render_answered(lm, [*messages, {"role": "assistant", "content": _PROBE}])
    before, probe, after = text[len(prompt) :].partition(_PROBE)
    if not text.startswith(prompt) or not probe or not after:
        raise AnachronError(
            f"{lm.name}: its chat template doesn't render an answer as prompt + answer + end of turn, so answers "
            "can't be scored; set tokenizer.chat_template to one that does"
        )
    return prompt + before, after


def _require_prefix(lm: LanguageModel, prompt: tuple[int, ...], ids: tuple[int, ...], answer: str) -> None:
    if ids[: len(prompt)] != prompt or len(ids) == len(prompt):
        raise AnachronError(
            f"{lm.name}: the tokens of the prompt aren't a prefix of those of prompt + answer {answer!r}; the chat "
            "template changes the prompt once it is answered, or opens reasoning that it can't leave off, or its last "
            "token merges with the answer: set tokenizer.chat_template to one that doesn't"
        )


@dataclass(frozen=True)
class Batch:
    """Rows padded to one length.

    `starts`: index of each row's first real token. `answer_starts`: padded index of the first answer token, so the
    prompt's last token stands at answer_starts - 1; for a row without answer it is one past the row's last token.
    """

    input_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    starts: Int[Tensor, " batch"]
    answer_starts: Int[Tensor, " batch"]

    @property
    def position_ids(self) -> Int[Tensor, "batch pos"]:
        """0, 1, 2, ... from each row's first real token (0 on left padding): without them left padding changes
        GPT-2's results."""
        return (self.attention_mask.cumsum(-1) - 1).clamp(min=0)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The keyword arguments of a forward pass: `lm.model(**batch.inputs)`."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "position_ids": self.position_ids}


def pad(encoded: Sequence[Encoded], pad_id: int, side: str = "left", device: str | torch.device = "cpu") -> Batch:
    """Pad rows to the longest, on the left (to generate) or right."""
    if side not in ("left", "right"):
        raise AnachronError(f"padding side {side!r}; use left or right")
    if not encoded:
        raise AnachronError("no rows to pad; give at least one")
    lengths = np.array([len(row.ids) for row in encoded])
    if not lengths.all():
        raise AnachronError(f"row {int(lengths.argmin())} has no tokens; drop it")
    width = int(lengths.max())
    starts = width - lengths if side == "left" else np.zeros_like(lengths)
    index = np.arange(width)
    mask = (index >= starts[:, None]) & (index < (starts + lengths)[:, None])
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.fromiter(chain.from_iterable(row.ids for row in encoded), dtype=np.int64, count=int(lengths.sum()))
    answer_starts = starts + np.array([row.prompt_len for row in encoded])
    arrays = (ids, mask.astype(np.int64), starts, answer_starts)
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def batches(
    encoded: Sequence[Encoded],
    pad_id: int,
    max_tokens: int = 4096,
    side: str = "left",
    device: str | torch.device = "cpu",
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most `max_tokens` tokens, padding counted (one row may exceed it alone), longest rows first.

    Yields (indices into `encoded`, batch). Rows of like length share a batch, and the first batch is the largest
    one, so a machine too small for it says so at once.
    """
    order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i].ids))
    begin = 0
    while begin < len(order):
        size = max(1, max_tokens // max(1, len(encoded[order[begin]].ids)))
        indices = order[begin : begin + size]
        yield indices, pad([encoded[i] for i in indices], pad_id, side, device)
        begin += size
