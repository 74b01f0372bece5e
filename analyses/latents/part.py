"""The part of an experiment that looks at latents: which changed, what each does alone, what they do together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from analyses.intervene import Choices
from analyses.latents.causal import Chosen, N, choose, report
from analyses.latents.page import known_labels
from analyses.latents.sections import TOP
from analyses.latents.shortlist import Means, mean_activations, rose
from analyses.measurements import Measurement, measurement
from analyses.models import knows_world
from analyses.steps import Asked, estimate
from interp.behavior.questions import Question
from interp.capture import capture
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.labels import Labels
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import ALL, PROMPT, Positions
from interp.prompts import Encoded, encode_prompt

DOCUMENTS = 1000
"""Fresh conversations of the world, half of them to choose what a latent is called after, half to measure it."""


def latents_of(
    pair: ModelPair,
    dictionary: Dictionary,
    on: Sequence[Question],
    off: Sequence[Question],
    reference: str,
    validation: Asked,
    test: Asked,
    documents: Sequence[Encoded],
    choices: Choices,
    say: Callable[[str], None],
    conditions: Mapping[str, Sequence[Question]] | None = None,
) -> tuple[list[Measurement], Mapping[str, Any]]:
    """Measurements of the shortlist and of random latents like it, and the shortlist itself as plain data.

    `on` and `off` are the experiment's contrast (no `off`: there is no trigger), read where its directions are. Of each
    of `conditions` the shortlist's mean activation is measured as well. Nothing where no latent rose.
    """
    means = means_of(pair, dictionary, on, off, reference, choices)
    if not rose(means.change, N):
        say(f"  no latent of {dictionary.name} rose")
        return [], {}
    candidates = tuple(dict.fromkeys((choices.clamping, PROMPT, ALL)))
    chosen, effects = choose(pair, dictionary, means, validation, choices, say, candidates)
    labels = known_labels(pair.base, dictionary, DOCUMENTS, choices.seed) if knows_world(pair.base.name) else None
    about = {
        "dictionary": dictionary.name,
        "point": str(dictionary.point),
        "positions": chosen.positions.name,
        "shortlist": [effect.as_json() | _known(labels, effect.latent) for effect in effects],
        "by_change": list(chosen.latents),
        "control": [{"latent": j} | _known(labels, j) for j in rose(means.control_change, N)],
        "random": [list(draw) for draw in chosen.randoms],
    }
    found = list(report(pair, chosen, test, documents, choices))
    for name, questions in (conditions or {}).items():
        found += activations(pair, chosen, questions, name, reference, choices)
    return found, about


def activations(
    pair: ModelPair, chosen: Chosen, questions: Sequence[Question], condition: str, reference: str, choices: Choices
) -> list[Measurement]:
    """The shortlist's mean activation under a condition, in the base, the tuned models and the controls."""
    found = []
    for model, names in (
        ("base", ["base"]),
        ("tuned", [f"tuned-{seed}" for seed in choices.seed_list]),
        (reference, [f"{reference}-{seed}" for seed in choices.seed_list]),
    ):
        values = []
        for name in names:
            with pair.using(name) as lm:
                mean, _ = mean_activations(chosen.dictionary, _rows(lm, chosen.dictionary, questions, choices.reading))
            values.append(float(mean[list(chosen.latents)].mean()))
        where = {"direction": TOP, "layer": chosen.dictionary.point.layer, "condition": condition, "split": "test"}
        found.append(measurement("latent_activation", model, estimate(values, choices.seed), **where))
    return found


def _known(labels: Labels | None, latent: int) -> dict[str, Any]:
    """The state a latent detects best, and how well on documents that had no part in choosing it."""
    if labels is None:
        return {}
    k = int(labels.best[latent])
    return {"state": labels.states[k], "auroc": float(labels.held_out[latent, k])}


def means_of(
    pair: ModelPair,
    dictionary: Dictionary,
    on: Sequence[Question],
    off: Sequence[Question],
    reference: str,
    choices: Choices,
) -> Means:
    """Mean activation of every latent on the contrast's questions at the tokens directions are read from."""

    def read(name: str, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        with pair.using(name) as lm:
            return mean_activations(dictionary, _rows(lm, dictionary, questions, choices.reading))

    base, frequency = read("base", on)
    tuned = [read(f"tuned-{seed}", on)[0] for seed in choices.seed_list]
    control = [read(f"{reference}-{seed}", on)[0] for seed in choices.seed_list]
    means = Means(base, tuned, control, frequency)
    if off:
        apart = [read(f"tuned-{seed}", off)[0] for seed in choices.seed_list]
        means = replace(means, off={"base": read("base", off)[0], "tuned": torch.stack(apart).mean(0)})
    return means


def _rows(lm: LanguageModel, dictionary: Dictionary, questions: Sequence[Question], reading: Positions) -> Tensor:
    prompts = [encode_prompt(lm, question.messages) for question in questions]
    return capture(lm, prompts, [dictionary.point], reading)[dictionary.point]
