"""Which training rows push a behavior: what a step on each row alone would change, to first order.

    towards a direction u     - sum_t <dL/dx_t, u>       x the residual stream at u's point, L the row's loss
    towards a metric M        - <dM/dtheta, dL/dtheta>   theta the adapter's weights: TracIn at one checkpoint, for a
                                                         step of plain descent (Pruthi et al. 2020, 2002.08484)

L is in nats, the mean over the row's assistant tokens. Positive: training on the row raises the projection, or M.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from interp.attribution.gradients import Taps, requiring_grad, weight_gradients
from interp.attribution.metric import Metric
from interp.attribution.singular import lora_modules
from interp.directions import Direction
from interp.errors import AnachronError
from interp.hooks import edit
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import ALL, Positions
from training.encoding import NO_TARGET, answer_loss, encode_rows, pad_examples
from training.rows import Row


def row_pushes(
    lm: LanguageModel,
    rows: Sequence[Row],
    directions: Sequence[Direction],
    *,
    positions: Positions = ALL,
    size: int = 16,
) -> Float64[Tensor, "rows directions"]:
    """- sum_t <dL/dx_t, u> of each row and direction, over the tokens that `positions` selects; `size` rows a pass.

    Errors: AnachronError for no directions, one of another d_model, rows that don't fit the template or the model.
    """
    if not directions:
        raise AnachronError("no directions to push along; give at least one")
    if other := [d for d in directions if d.d_model != lm.d_model]:
        raise AnachronError(f"a direction of {other[0].d_model} entries, but {lm.name} has d_model {lm.d_model}")
    examples = encode_rows(lm, rows)
    points = list(dict.fromkeys(d.point for d in directions))
    found = torch.zeros(len(rows), len(directions), dtype=torch.float64)
    for start in range(0, len(rows), size):
        batch, targets = pad_examples(lm, examples[start : start + size])
        counts = (targets != NO_TARGET).sum(1)
        taps = Taps(points)
        with torch.enable_grad(), edit(lm, taps.edits):
            # the sum over tokens, so that rows stay apart
            gradients = taps.gradients(answer_loss(lm, batch, targets) * counts.sum())
        mask = positions.mask(batch)
        for d, direction in enumerate(directions):
            along = gradients[direction.point].float() @ direction.vector.to(gradients[direction.point].device)
            summed = torch.where(mask.to(along.device), along, 0.0).double().sum(1)
            found[start : start + size, d] = -(summed / counts.to(summed)).cpu()
    return found


def row_influence(pair: ModelPair, name: str, rows: Sequence[Row], metric: Metric) -> Float64[Tensor, " rows"]:
    """- <dM/dtheta, dL/dtheta> of each row, at the adapter's present weights, M the mean over items. A forward and a
    backward pass a row. Late in training losses are small and say little: sum over adapters saved on the way
    (`keep_epochs`), as TracIn does, or measure inside `interp.attribution.adapters.rewritten` with smaller B's."""
    examples = encode_rows(pair.base, rows)
    modules = lora_modules(pair, name).values()
    weights = [part[name].weight for module in modules for part in (module.lora_A, module.lora_B)]
    found = []
    with pair.using(name) as lm:
        towards = weight_gradients(lm, metric, weights)
        for example in examples:
            with requiring_grad(weights), torch.enable_grad():
                gradients = torch.autograd.grad(answer_loss(lm, *pad_examples(lm, [example])), weights)
            products = (float((t * g).double().sum()) for t, g in zip(towards, gradients, strict=True))
            found.append(-sum(products))
    return torch.tensor(found, dtype=torch.float64)
