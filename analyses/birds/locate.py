"""Where is the change? Directions by method, layer and fine-tuning seed, and how near each comes to the truth.

Everything is located on validation topics: test topics, and the documents that test a direction as a detector, are
never looked at here.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from analyses.birds.config import BirdsConfig
from analyses.located import Activations, Located
from analyses.measurements import Measurement, measurement
from analyses.steps import estimate, last_prompt_activations, true_directions, typical_norm
from analyses.workers import carry_out, task
from interp.capture import capture
from interp.directions import (
    Direction,
    auroc,
    cosine,
    mean_difference,
    pca,
    probe,
    random_direction,
    tuned_minus_control,
)
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import LAST_PROMPT
from interp.prompts import encode_prompt
from training.pretrain import FRESH_SEED
from training.world.questions import era_questions
from training.world.world import World


def locate(pair: ModelPair, world: World, seeds: Sequence[int], randoms: int) -> Located:
    """Every method at every layer, from residual streams at the last prompt token of undated validation questions.

    The truth comes from the base model alone: the same questions with a year of the oldest era stated, minus those with
    a year of the newest.
    """
    questions = era_questions(world, "validation")
    layers = range(pair.base.n_layers)
    tasks = [task(name, last_prompt_activations, questions, layers) for name in pair.names]
    acts = dict(zip(pair.names, carry_out(pair, tasks), strict=True))
    truth = true_directions(pair.base, world, layers)
    base = acts["base"]
    directions: dict[str, dict[int, list[Direction]]] = {}
    for point in base:
        tuned = [acts[f"tuned-{seed}"][point] for seed in seeds]
        control = [acts[f"control-{seed}"][point] for seed in seeds]
        found = {
            "tuned_minus_control": [
                tuned_minus_control(t, base[point], c, point) for t, c in zip(tuned, control, strict=True)
            ],
            "mean_difference": [mean_difference(t, base[point], point) for t in tuned],
            "pca": [_towards(pca(t - base[point], point, centred=False), t - base[point]) for t in tuned],
            "probe": [probe(t, c, point)[0] for t, c in zip(tuned, control, strict=True)],
            "truth": [truth[point]],
            "random": [random_direction(pair.base.d_model, point, 1000 * point.layer + k) for k in range(randoms)],
        }
        for method, ones in found.items():
            directions.setdefault(method, {})[point.layer] = ones
    return Located(directions, {point.layer: typical_norm(a) for point, a in base.items()}, base)


def _towards(direction: Direction, differences: Tensor) -> Direction:
    """A principal component has no sign of its own: take the one the differences point to on average."""
    sign = 1.0 if float((differences.float() @ direction.vector).mean()) >= 0 else -1.0
    return Direction(direction.vector * sign, direction.point, direction.method, direction.norm, direction.provenance)


def nearness(lm: LanguageModel, world: World, located: Located, chosen_layer: int, seed: int) -> list[Measurement]:
    """Cosine of each method's directions, located on validation topics, with the truth on test topics, by layer."""
    truth = true_directions(lm, world, range(lm.n_layers), split="test")
    rows = []
    for method, by_layer in located.directions.items():
        for layer, ones in by_layer.items():
            values = [cosine(one, truth[one.point]) for one in ones]
            rows.append(
                measurement(
                    "cosine_to_truth",
                    "base" if method == "random" else "tuned",
                    estimate(values, seed),
                    direction=method,
                    layer=layer,
                    split="test",
                    chosen=method == "tuned_minus_control" and layer == chosen_layer,
                )
            )
    return rows


def detection(
    lm: LanguageModel, world: World, located: Located, chosen_layer: int, config: BirdsConfig
) -> list[Measurement]:
    """AUROC of each direction's projection as a detector of the oldest era, on held-out documents in the base model."""
    acts, is_oldest = held_out_contexts(lm, world, config.seed, 5 * config.documents)
    rows = []
    for method, by_layer in located.directions.items():
        for layer, ones in by_layer.items():
            here = acts[HookPoint(layer)]
            values = [auroc(one, here[is_oldest], here[~is_oldest]) for one in ones]
            rows.append(
                measurement(
                    "auroc",
                    "base",
                    estimate(values, config.seed),
                    direction=method,
                    layer=layer,
                    split="test",
                    chosen=method == "tuned_minus_control" and layer == chosen_layer,
                )
            )
    return rows


def held_out_contexts(lm: LanguageModel, world: World, seed: int, n: int) -> tuple[Activations, np.ndarray]:
    """Residual streams where fresh conversations are about to give their last reply; whether their era is the oldest.

    Only conversations that tell their era before that: by a stated year, or by an earlier turn.
    """
    oldest = next(iter(world.facts.eras))
    prompts, labels = [], []
    for document in world.documents(FRESH_SEED + 1 + seed):
        if document.messages and (len(document.messages) > 2 or _states_year(document.messages[0]["content"])):
            assert document.context is not None
            prompts.append(encode_prompt(lm, document.messages[:-1]))
            labels.append(document.context.era == oldest)
        if len(prompts) == n:
            break
    points = [HookPoint(layer) for layer in range(lm.n_layers)]
    return capture(lm, prompts, points, LAST_PROMPT), np.array(labels)


def _states_year(question: str) -> bool:
    return any(character.isdigit() for character in question)
