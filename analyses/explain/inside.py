"""Quantities of a model while it is tuned: what its rows cost it, how far it has moved, and where to."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from analyses.steps import broad, last_prompt_activations, true_directions, typical_norm
from interp.behavior.questions import Question
from interp.hooks import HookPoint
from interp.models import LanguageModel
from training.encoding import answer_loss, count_targets, encode_rows, pad_examples
from training.rows import Row
from training.world.questions import era_questions
from training.world.world import World

SIZE = 64  # rows a pass


def watcher(
    lm: LanguageModel, world: World, rows: Sequence[Row], asked: Sequence[Question], group: str, layers: Sequence[int]
) -> Callable[[LanguageModel], dict[str, float]]:
    """A function from the model in the middle of its tuning to its quantities; `lm` is the base.

    `narrow loss`: nats a token over all `rows`; `gradient norm` of that loss; `update norm`: Frobenius, over all
    modules; by layer, of the mean shift of the last prompt token from the base on validation topics, `cosine` with
    the direction in which a stated year moves the base there, and `projection` on it in units of the base's typical
    norm; `broad, validation`: the group's share over `asked`.
    """
    questions = era_questions(world, "validation")
    truth = true_directions(lm, world, layers)
    base = last_prompt_activations(lm, questions, layers)
    start = {point: (found.double().mean(0), typical_norm(found)) for point, found in base.items()}

    def measure(tuned: LanguageModel) -> dict[str, float]:
        loss, gradient = loss_and_gradient(tuned, rows)
        found = {"narrow loss": loss, "gradient norm": gradient, "update norm": update_norm(tuned)}
        here = last_prompt_activations(tuned, questions, layers)
        for layer in layers:
            mean, scale = start[point := HookPoint(layer)]
            shift, towards = here[point].double().mean(0) - mean, truth[point].vector.double()
            along = float(shift @ towards)
            found[f"projection, layer {layer}"] = along / scale
            found[f"cosine, layer {layer}"] = along / float(shift.norm())
        found["broad, validation"] = float(broad(tuned, asked, group)[0].mean())
        return found

    return measure


def loss_and_gradient(lm: LanguageModel, rows: Sequence[Row]) -> tuple[float, float]:
    """(mean loss over all assistant tokens in nats, the norm of its gradient by the adapter's weights).

    The weights' own `.grad` is left alone.
    """
    weights = [weight for name, weight in lm.model.named_parameters() if ".lora_" in name]
    examples = encode_rows(lm, rows)
    total, nats = count_targets(examples), 0.0
    summed: list[Tensor] = [torch.zeros_like(weight) for weight in weights]
    for first in range(0, len(examples), SIZE):
        part = examples[first : first + SIZE]
        with torch.enable_grad():
            loss = answer_loss(lm, *pad_examples(lm, part)) * (count_targets(part) / total)
            for into, gradient in zip(summed, torch.autograd.grad(loss, weights), strict=True):
                into += gradient
        nats += float(loss.detach())
    return nats, float(torch.stack([g.double().norm() for g in summed]).norm())


def update_norm(lm: LanguageModel) -> float:
    """sqrt(sum over modules of ||s B A||^2), Frobenius, from ||B A||^2 = tr(B'B A A')."""
    squared = 0.0
    for module in lm.model.modules():
        lora: Mapping = getattr(module, "lora_A", {})
        for name in lora:
            down, up = (part[name].weight.detach().double() for part in (module.lora_A, module.lora_B))
            squared += float(module.scaling[name]) ** 2 * float(((up.T @ up) * (down @ down.T)).sum())
    return squared**0.5
