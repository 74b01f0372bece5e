"""At which layers and positions a behavior is carried: activations of another run patched in, place by place.

A cell is a hook point and a selector of positions; patching it sets those activations to the source's, x <- x'. Base
into tuned, tuned into base, or another prompt's run (`interp.attribution.source`). The screen is attribution patching,
<x' - x, dM/dx> summed over the cell's tokens (Nanda 2023; https://arxiv.org/abs/2310.10348), all cells in two passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from interp.attribution.confirmation import Confirmation, confirm, top
from interp.attribution.gradients import backward
from interp.attribution.metric import Metric, Part, forward
from interp.attribution.source import Source, record_source
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import ANSWER, Positions


@dataclass(frozen=True, eq=False)
class PatchMap:
    """`effect[i, p, c]`: the change of item i's value when columns[c] at points[p] is patched, exact or estimated; 0
    where the item has no such token. `clean` is the metric without patch, `source` in the run that is patched in."""

    method: str
    points: tuple[HookPoint, ...]
    columns: tuple[Positions, ...]
    effect: Float64[Tensor, "items points columns"]
    clean: Float64[Tensor, " items"]
    source: Float64[Tensor, " items"]

    @property
    def recovered(self) -> Float64[Tensor, "points columns"]:
        """The mean effect as a share of the mean difference between the two runs: 1 where the patch makes up all of
        it."""
        difference = float((self.source - self.clean).mean())
        if difference == 0:
            raise AnachronError("the two runs have the same mean, so nothing is there to be recovered")
        return self.effect.mean(0) / difference


def prompt_columns(metric: Metric, last: int | None = None) -> tuple[Positions, ...]:
    """A column for each of the prompt's `last` tokens (None: all of the longest prompt), counted from its end, then one
    for the answer's tokens."""
    longest = max(len(prompt) for prompt in metric.prompts)
    if last is not None and not 0 <= last <= longest:
        raise AnachronError(f"the last {last} tokens of prompts of at most {longest}; ask for fewer")
    tokens = range(-longest if last is None else -last, 0)
    return (*(Positions(str(t), ("answer", t), ("answer", t + 1), generated=False) for t in tokens), ANSWER)


def patch_map(
    lm: LanguageModel, metric: Metric, source: Source, points: Sequence[HookPoint], columns: Sequence[Positions]
) -> PatchMap:
    """Every cell patched alone: a forward pass each."""
    effect, clean = _empty(metric, points, columns)
    for p, part in enumerate(metric.parts):
        items = list(part.items)
        with torch.no_grad():
            values = forward(lm, metric, part, {})
            clean[items] = values
            for c, mask in enumerate(_masks(source, part, p, columns)):
                if not bool(mask.any()):
                    continue
                for q, point in enumerate(points):
                    effect[items, q, c] = _patched(lm, metric, part, source, p, point, mask) - values
    return PatchMap("patched", tuple(points), tuple(columns), effect, clean, source.values)


def patch_screen(
    lm: LanguageModel, metric: Metric, source: Source, points: Sequence[HookPoint], columns: Sequence[Positions]
) -> PatchMap:
    """Estimates for all cells, by one forward and one backward pass."""
    effect, clean = _empty(metric, points, columns)
    for p, part in enumerate(metric.parts):
        items = list(part.items)
        found = backward(lm, metric, part, points)
        clean[items] = found.values
        masks = _masks(source, part, p, columns)
        for q, point in enumerate(points):
            x = found.activations[point].float()
            change = source.of(p, point).to(x) - x
            per_token = (change * found.gradients[point].float()).sum(-1)
            for c, mask in enumerate(masks):
                # where, not a product: a token without counterpart may hold anything
                own = torch.where(mask.to(per_token.device), per_token, 0.0).sum(-1)
                effect[items, q, c] = part.by_item(own)
    return PatchMap("attribution patching", tuple(points), tuple(columns), effect, clean, source.values)


def confirmed_patches(lm: LanguageModel, metric: Metric, source: Source, found: PatchMap, k: int = 20) -> Confirmation:
    """The k cells of largest mean estimated effect, patched exactly."""
    mean = found.effect.mean(0)
    chosen = [divmod(cell, mean.shape[1]) for cell in top(mean.flatten(), k)]
    exact = torch.zeros(len(metric.ids), len(chosen), dtype=torch.float64)
    for n, (q, c) in enumerate(chosen):
        cell = patch_map(lm, metric, source, [found.points[q]], [found.columns[c]])
        exact[:, n] = cell.effect[:, 0, 0]
    labels = [f"{found.points[q]} at {found.columns[c].name}" for q, c in chosen]
    return confirm(labels, torch.stack([mean[q, c] for q, c in chosen]), exact)


def both_ways(
    pair: ModelPair,
    metric: Metric,
    tuned: str,
    points: Sequence[HookPoint],
    columns: Sequence[Positions],
    base: str = BASE,
) -> tuple[PatchMap, PatchMap]:
    """Maps of the tuned run patched into the base (what brings the behavior), and of the base into the tuned (what
    takes it away)."""
    sources = {}
    for name in (base, tuned):
        with pair.using(name) as lm:
            sources[name] = record_source(lm, metric, points)
    with pair.using(base) as lm:
        into_base = patch_map(lm, metric, sources[tuned], points, columns)
    with pair.using(tuned) as lm:
        into_tuned = patch_map(lm, metric, sources[base], points, columns)
    return into_base, into_tuned


def _empty(metric: Metric, points: Sequence[HookPoint], columns: Sequence[Positions]) -> tuple[Tensor, Tensor]:
    if not points or not columns:
        raise AnachronError("nothing to patch; give at least one point and one column")
    shape = (len(metric.ids), len(points), len(columns))
    return torch.zeros(shape, dtype=torch.float64), torch.full(shape[:1], torch.nan, dtype=torch.float64)


def _masks(source: Source, part: Part, p: int, columns: Sequence[Positions]) -> list[Bool[Tensor, "batch pos"]]:
    return [part.selected(column) & source.known[p] for column in columns]


def _patched(
    lm: LanguageModel,
    metric: Metric,
    part: Part,
    source: Source,
    p: int,
    point: HookPoint,
    mask: Bool[Tensor, "batch pos"],
) -> Float64[Tensor, " items"]:
    new = source.of(p, point)

    def function(x: Tensor, offset: int) -> Tensor:
        return torch.where(mask.to(x.device)[..., None], new.to(x), x)

    return forward(lm, metric, part, {point: function})
