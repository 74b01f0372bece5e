"""Activations of another run laid out as a metric's forward passes: what is patched in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from interp.attribution.metric import Metric, Part, measure
from interp.errors import AnachronError
from interp.hooks import Activation, HookPoint, record
from interp.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Source:
    """`activations[p][point]` [batch, pos, d_model] are those of part p; `known[p]` [batch, pos] says which tokens have
    a counterpart in the other run.

    `values` is the metric in that run: what patching everything would give, where every token is known.
    """

    activations: tuple[Mapping[HookPoint, Float[Tensor, "_ _ d_model"]], ...]
    known: tuple[Bool[Tensor, "_ _"], ...]
    values: Float64[Tensor, " items"]

    def of(self, part: int, point: HookPoint) -> Activation:
        """The activations of a part. AnachronError if this point wasn't recorded."""
        if point not in self.activations[part]:
            raise AnachronError(
                f"the source was recorded at {', '.join(map(str, self.activations[part]))}, not at {point}; record it "
                "there as well"
            )
        return self.activations[part][point]


def record_source(lm: LanguageModel, metric: Metric, points: Sequence[HookPoint]) -> Source:
    """The metric's own passes on another model (base or tuned), token by token."""
    known = tuple(part.batch.attention_mask.bool() for part in metric.parts)
    return Source(tuple(_activations(lm, part, points) for part in metric.parts), known, measure(lm, metric))


def record_aligned(lm: LanguageModel, other: Metric, metric: Metric, points: Sequence[HookPoint]) -> Source:
    """The passes of `other`, the same items under other prompts (with a trigger, say), laid out as those of `metric`.

    Prompts are aligned at their ends: the last tokens with the last, as far as the shorter prompt goes. Answers are the
    same, token by token.

    Errors: AnachronError if the metrics have different numbers of items, or answers of other sizes.
    """
    if len(other.ids) != len(metric.ids):
        raise AnachronError(f"{len(other.ids)} items are to be aligned with {len(metric.ids)}; give the same questions")
    found: dict[tuple[int, int], tuple[int, Mapping[HookPoint, Activation], Part]] = {}
    for part in other.parts:
        activations = _activations(lm, part, points)
        found |= {key: (row, activations, part) for row, key in enumerate(part.keys)}
    laid_out, known = [], []
    for ours in metric.parts:
        shape = (*ours.batch.input_ids.shape, lm.d_model)
        new = {point: torch.zeros(shape, dtype=lm.dtype, device=lm.device) for point in points}
        mask = torch.zeros(shape[:2], dtype=torch.bool, device=lm.device)
        for row, key in enumerate(ours.keys):
            if key not in found:
                raise AnachronError(f"item {metric.ids[key[0]]!r} has other answers in the run to align with it")
            there, recorded, theirs = found[key]
            here, counterpart = _spans(ours, row, theirs, there, metric.ids[key[0]])
            for point in points:
                new[point][row, here] = recorded[point][there, counterpart].to(new[point])
            mask[row, here] = True
        laid_out.append(new)
        known.append(mask)
    return Source(tuple(laid_out), tuple(known), measure(lm, other))


def _activations(lm: LanguageModel, part: Part, points: Sequence[HookPoint]) -> dict[HookPoint, Activation]:
    with torch.no_grad(), record(lm, points, stop=True) as found:
        lm.model(**part.inputs, use_cache=False)
    return found


def _spans(ours: Part, row: int, theirs: Part, there: int, item: str) -> tuple[slice, slice]:
    """The aligned tokens of two rows: as many of the prompt's last as both have, and all of the answer."""
    lengths = [_lengths(part, r) for part, r in ((ours, row), (theirs, there))]
    (prompt, answer), (other_prompt, other_answer) = lengths
    if answer != other_answer:
        raise AnachronError(
            f"item {item!r} has {answer} answer tokens and {other_answer} in the other run; align equal answers"
        )
    shared = min(prompt, other_prompt)
    starts = [int(part.batch.answer_starts[r]) for part, r in ((ours, row), (theirs, there))]
    first, second = (slice(start - shared, start + answer) for start in starts)
    return first, second


def _lengths(part: Part, row: int) -> tuple[int, int]:
    """Tokens of a row's prompt and of its answer."""
    prompt = int(part.batch.answer_starts[row] - part.batch.starts[row])
    return prompt, int(part.batch.attention_mask[row].sum()) - prompt
