"""Gradients of a metric at hook points: one forward and one backward pass give those of all points and positions.

At a point with activations x, dM/dx is taken of the sum of a part's values; since a row belongs to one item, row i holds
the gradient of its own item.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from interp.attribution.metric import Edits, Metric, Part, forward
from interp.hooks import Activation, EditFunction, HookPoint
from interp.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Backward:
    """A part's values, and activations and gradients [batch, pos, d_model] at each point, as the pass met them."""

    values: Float64[Tensor, " items"]
    activations: Mapping[HookPoint, Activation]
    gradients: Mapping[HookPoint, Activation]


def backward(
    lm: LanguageModel, metric: Metric, part: Part, points: Sequence[HookPoint], before: Edits | None = None
) -> Backward:
    """One forward and backward pass. `before`: edits that are made first; activations are those after them.

    A gradient is the total one: through all later points as well.
    """
    activations: dict[HookPoint, Tensor] = {}
    leaves: dict[HookPoint, Tensor] = {}

    def tap(point: HookPoint) -> EditFunction:
        def function(x: Activation, offset: int) -> Activation:
            activations[point] = x.detach()
            leaves[point] = torch.zeros_like(x, requires_grad=True)
            return x + leaves[point]

        return function

    edits = {point: _as_list(functions) for point, functions in (before or {}).items()}
    for point in points:
        edits[point] = [*edits.get(point, []), tap(point)]
    with torch.enable_grad():
        values = forward(lm, metric, part, edits)
        found = torch.autograd.grad(values.sum(), [leaves[point] for point in points])
    return Backward(values.detach(), activations, dict(zip(points, found, strict=True)))


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
