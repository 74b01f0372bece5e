"""Gradients of a metric at hook points: one forward and one backward pass give those of all points and positions.

dM/dx is taken of the sum of a part's values; since a row belongs to one item, row i holds the gradient of its own item.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.attribution.metric import Edits, Metric, Part, forward
from interp.hooks import Activation, EditFunction, HookPoint
from interp.models import LanguageModel


class Taps:
    """Edits that change nothing, and through which gradients can be taken: each adds zeros that require them, so that
    the model's weights can stay frozen and the gradient at a point goes through all later points as well."""

    def __init__(self, points: Sequence[HookPoint]) -> None:
        self.activations: dict[HookPoint, Activation] = {}
        self._zeros: dict[HookPoint, Tensor] = {}
        self.edits: dict[HookPoint, EditFunction] = {point: self._tap(point) for point in points}

    def gradients(self, value: Float[Tensor, ""]) -> dict[HookPoint, Activation]:
        """Of a value computed under the edits, at each point."""
        points = list(self.edits)
        found = torch.autograd.grad(value, [self._zeros[point] for point in points])
        return dict(zip(points, found, strict=True))

    def _tap(self, point: HookPoint) -> EditFunction:
        def function(x: Activation, offset: int) -> Activation:
            self.activations[point] = x.detach()
            self._zeros[point] = torch.zeros_like(x, requires_grad=True)
            return x + self._zeros[point]

        return function


@dataclass(frozen=True, eq=False)
class Backward:
    """A part's values, and activations and gradients [batch, pos, d_model] at each point, as the pass met them."""

    values: Float64[Tensor, " items"]
    activations: Mapping[HookPoint, Activation]
    gradients: Mapping[HookPoint, Activation]


def backward(
    lm: LanguageModel, metric: Metric, part: Part, points: Sequence[HookPoint], before: Edits | None = None
) -> Backward:
    """One forward and one backward pass. `before`: edits that are made first; activations are those after them."""
    taps = Taps(points)
    edits = {point: _as_list(functions) for point, functions in (before or {}).items()}
    for point, tap in taps.edits.items():
        edits[point] = [*edits.get(point, []), tap]
    with torch.enable_grad():
        values = forward(lm, metric, part, edits)
        found = taps.gradients(values.sum())
    return Backward(values.detach(), taps.activations, found)


@contextmanager
def requiring_grad(weights: Sequence[Tensor]) -> Iterator[None]:
    """Frozen weights with gradients; frozen again afterwards, also on exceptions."""
    flags = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, flag in zip(weights, flags, strict=True):
            weight.requires_grad_(flag)


def weight_gradients(lm: LanguageModel, metric: Metric, weights: Sequence[Tensor]) -> list[Tensor]:
    """dM/dw of each of these weights, M the mean over items: a forward and a backward pass a part."""
    total = [torch.zeros_like(weight) for weight in weights]
    for part in metric.parts:
        with requiring_grad(weights), torch.enable_grad():
            value = forward(lm, metric, part, {}).sum() / len(metric.ids)
            found = torch.autograd.grad(value, list(weights))
        for sum_, gradient in zip(total, found, strict=True):
            sum_ += gradient
    return total


def along(
    lm: LanguageModel,
    metric: Metric,
    part: Part,
    point: HookPoint,
    shift: Activation,
    steps: int,
) -> tuple[Float64[Tensor, " items"], Float64[Tensor, " items"], Activation]:
    """Integrated gradients from x to x + shift: M at both ends, and dM/dx averaged over x + (k - .5)/steps shift,
    k = 1 ... steps (the midpoint rule; Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365)."""

    def moved(by: float) -> Callable[[Tensor, int], Tensor]:
        return lambda x, offset: x + by * shift.to(x)

    total = torch.zeros_like(shift, dtype=torch.float32)
    for k in range(steps):
        there = backward(lm, metric, part, [point], {point: moved((k + 0.5) / steps)})
        total += there.gradients[point].float().to(total.device)
    with torch.no_grad():
        start = forward(lm, metric, part, {})
        end = forward(lm, metric, part, {point: moved(1.0)})
    return start, end, total / steps


def _as_list(functions: EditFunction | Sequence[EditFunction]) -> list[EditFunction]:
    return [functions] if callable(functions) else list(functions)
