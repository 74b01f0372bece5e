"""Which tokens of a batch a measurement reads or an edit touches.

A selector is the half-open range between two anchors of each row, so it means the same under either padding side.
"""

import re
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.errors import AnachronError
from interp.prompts import Batch

ANCHORS = ("first", "answer", "end")


@dataclass(frozen=True)
class Positions:
    """The tokens from `begin` up to and without `end`, each an (anchor, offset in tokens).

    Anchors: "first" is the row's first real token, "answer" the first token of the answer (one past the prompt),
    "end" the end of the row. `generated` says whether tokens produced after the batch (by generate) are selected as
    well.
    """

    name: str
    begin: tuple[str, int]
    end: tuple[str, int]
    generated: bool

    def mask(self, batch: Batch) -> Bool[Tensor, "batch pos"]:
        """True where a token is selected. Padding never is; a row may have none (LAST_PROMPT of a text without
        prompt)."""
        index = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)[None, :]
        begin, end = (_resolve(edge, batch)[:, None] for edge in (self.begin, self.end))
        return (index >= begin) & (index < end) & batch.attention_mask.bool()


def _resolve(edge: tuple[str, int], batch: Batch) -> Tensor:
    anchor, offset = edge
    if anchor == "first":
        return batch.starts + offset
    if anchor == "answer":
        return batch.answer_starts + offset
    if anchor == "end":
        return torch.full_like(batch.starts, batch.input_ids.shape[1] + offset)
    raise AnachronError(f"unknown anchor {anchor!r}; use one of {', '.join(ANCHORS)}")


ALL = Positions("all", ("first", 0), ("end", 0), generated=True)
PROMPT = Positions("prompt", ("first", 0), ("answer", 0), generated=False)
LAST_PROMPT = Positions("last_prompt", ("answer", -1), ("answer", 0), generated=False)
FROM_LAST_PROMPT = Positions("from_last_prompt", ("answer", -1), ("end", 0), generated=True)
ANSWER = Positions("answer", ("answer", 0), ("end", 0), generated=True)

_NAMED = {p.name: p for p in (ALL, PROMPT, LAST_PROMPT, FROM_LAST_PROMPT, ANSWER)}


def span(start: int, stop: int) -> Positions:
    """Tokens start <= i < stop, counted from each row's first real token."""
    if not 0 <= start < stop:
        raise AnachronError(
            f"span({start}, {stop}) selects nothing; it needs 0 <= start < stop, counted from the first token"
        )
    return Positions(f"span({start},{stop})", ("first", start), ("first", stop), generated=False)


def by_name(name: str) -> Positions:
    """The selector of that name: all, prompt, last_prompt, from_last_prompt, answer, or span(start,stop)."""
    if name in _NAMED:
        return _NAMED[name]
    match = re.fullmatch(r"span\((\d+),\s*(\d+)\)", name)
    if match:
        return span(int(match[1]), int(match[2]))
    raise AnachronError(f"unknown positions {name!r}; use one of {', '.join(_NAMED)}, or span(start,stop)")
