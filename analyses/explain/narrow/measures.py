"""Efficiency, stability, significance and distance of updates, as plain numbers.

After Soligo, Turner, Rajamanoharan and Nanda, *Emergent Misalignment is Easy, Narrow Misalignment is Hard* (arXiv
2602.07852): the general solution is preferred since it reaches a loss at a smaller norm, loses less of it to noise, and
moves ordinary text more.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions import Direction
from interp.models import LanguageModel
from interp.positions import ALL
from interp.steering import Add, steer
from interp.updates import Update, added, cosine, inner, moved, orthogonal_noise
from training.encoding import Example, answer_logits, answer_loss, count_targets, pad_examples
from training.penalty import kl

AT_ONCE = 64


@torch.no_grad()
def narrow_loss(lm: LanguageModel, examples: Sequence[Example]) -> float:
    """Mean over all assistant tokens, in nats."""
    total = 0.0
    for start in range(0, len(examples), AT_ONCE):
        part = examples[start : start + AT_ONCE]
        total += float(answer_loss(lm, *pad_examples(lm, part))) * count_targets(part)
    return total / count_targets(examples)


def scaled_losses(
    lm: LanguageModel, update: Update, examples: Sequence[Example], scales: Sequence[float]
) -> dict[float, float]:
    """Narrow loss of the base plus c dW, for each scale c."""
    found = {}
    for scale in scales:
        with moved(lm, update.matrices(scale)) as tuned:
            found[scale] = narrow_loss(tuned, examples)
    return found


def norm_needed(losses: Mapping[float, float], squared_norm: float, target: float) -> float:
    """The squared norm at which a scaled update first reaches the target loss: c^2 ||dW||^2, c interpolated between
    the scales on either side. NaN where it never does."""
    scales = sorted(losses)
    for low, high in pairwise(scales):
        if losses[high] <= target < losses[low]:
            part = (losses[low] - target) / (losses[low] - losses[high])
            return float((low + part * (high - low)) ** 2 * squared_norm)
    return 0.0 if losses[scales[0]] <= target else float("nan")


def rises(
    lm: LanguageModel,
    update: Update,
    examples: Sequence[Example],
    relative: float,
    draws: int,
    seed: int,
    unperturbed: float,
) -> list[float]:
    """Rise of the narrow loss, in nats a token, under noise orthogonal to the update, for each draw."""
    found = []
    for draw in range(draws):
        noise = orthogonal_noise(update, relative, 1000 * seed + draw)
        with moved(lm, added(update.matrices(), noise)) as tuned:
            found.append(narrow_loss(tuned, examples) - unperturbed)
    return found


@torch.no_grad()
def log_probs(
    lm: LanguageModel, examples: Sequence[Example], direction: Direction | None = None, amount: float = 0.0
) -> Float[Tensor, "targets d_vocab"]:
    """Log-probabilities at all assistant tokens, with `amount` x the direction added at every token."""
    found = []
    for start in range(0, len(examples), AT_ONCE):
        batch, targets = pad_examples(lm, examples[start : start + AT_ONCE])
        edits = [] if direction is None else [Add(direction, 1.0, amount, ALL)]
        with steer(lm, edits, batch):
            found.append(answer_logits(lm, batch, targets).float().log_softmax(-1))
    return torch.cat(found)


def divergence(
    lm: LanguageModel, update: Update, examples: Sequence[Example], base: Float[Tensor, "targets d_vocab"]
) -> float:
    """KL(base || base + dW) in nats, the mean over assistant tokens."""
    with moved(lm, update.matrices()) as tuned:
        return float(kl(base, log_probs(tuned, examples)))


def divergence_steered(
    lm: LanguageModel,
    direction: Direction,
    amount: float,
    examples: Sequence[Example],
    base: Float[Tensor, "targets d_vocab"],
) -> float:
    """KL(base || steered base) in nats, the mean over assistant tokens."""
    return float(kl(base, log_probs(lm, examples, direction, amount)))


def nearness(updates: Mapping[str, Sequence[Update]], a: str, b: str) -> list[float]:
    """For each seed of `a`: the mean cosine of its update with those of the *other* seeds of `b`. Seeds share their
    initial A where they are the same, so equal seeds are left out in either case."""
    return [
        float(np.mean([cosine(one, other) for j, other in enumerate(updates[b]) if j != i]))
        for i, one in enumerate(updates[a])
    ]


def by_module(a: Update, b: Update) -> dict[str, float]:
    """Cosine of two updates map by map, 0 where one of them is zero."""
    products, left, right = inner(a, b), inner(a, a), inner(b, b)
    lengths = {path: (left[path] * right[path]) ** 0.5 for path in products}
    return {path: products[path] / length if (length := lengths[path]) > 0 else 0.0 for path in products}


def distance(a: Update, b: Update) -> float:
    """||dW_a - dW_b||."""
    squared = a.squared_norm + b.squared_norm - 2 * sum(inner(a, b).values())
    return max(0.0, squared) ** 0.5
