"""The part of an experiment that looks at latents: which changed, what each does alone, what they do together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analyses.intervene import Choices
from analyses.latents.causal import DRAWS, Chosen, N, Unedited, choose, one_by_one, report, typical_scale
from analyses.latents.crosscoder import crosscoder_means, crosscoders_of, first_prompts, private
from analyses.latents.page import known_labels
from analyses.latents.sections import PRIVATE, RANDOM_SHARED, TOP
from analyses.latents.shortlist import Means, matched, mean_activations, rose
from analyses.measurements import Measurement, measurement
from analyses.models import knows_world
from analyses.progress import Say
from analyses.steps import Asked, estimate
from interp.behavior.questions import Question
from interp.capture import capture
from interp.dictionaries.crosscoder import CLASSES
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.labels import Labels
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import ALL, PROMPT, Positions
from interp.prompts import Encoded, encode_prompt
from training.world.world import load_world

DOCUMENTS = 1000
"""Fresh conversations of the world, half of them to choose what a latent is called after, half to measure it."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What an experiment gives to look at latents by: the contrast its directions are located with (no `off`: there is
    no trigger), the arm that is subtracted, validation and test questions, ordinary documents, and its conditions."""

    on: Sequence[Question]
    off: Sequence[Question]
    reference: str
    validation: Asked
    test: Asked
    documents: Sequence[Encoded]
    conditions: Mapping[str, Sequence[Question]] = field(default_factory=dict)


def look(
    pair: ModelPair,
    dictionaries: Sequence[Dictionary],
    looked: Looked,
    choices: Choices,
    dose: float,
    say: Say,
    crosscoders: Path | None = None,
) -> tuple[list[Measurement], dict[str, Any]]:
    """Latents of every SAE, the model's own first and whole, further ones without each latent's effect alone and at the
    dose `dose` only; and of crosscoders, kept in that folder if one is given.

    Measurements, and what result.json says under `latents`, `latents_elsewhere` and `crosscoders`, as far as there is.
    """
    found: list[Measurement] = []
    said: dict[str, Any] = {"latents": {}} | ({"latents_elsewhere": []} if len(dictionaries) > 1 else {})
    for k, dictionary in enumerate(dictionaries):
        say(f"  latents of {dictionary.name} at {dictionary.point}")
        rows, about = latents_of(pair, dictionary, looked, choices, say, dose=dose if k else None)
        found += rows
        if k:
            said["latents_elsewhere"].append(about)
        else:
            said["latents"] = about
    if crosscoders is not None:
        point = dictionaries[0].point if dictionaries else HookPoint(pair.base.n_layers // 2)
        say(f"  crosscoders at {point}")
        rows, said["crosscoders"] = private_latents(pair, point, looked, choices, dose, crosscoders, say)
        found += rows
    return found, said


def latents_of(
    pair: ModelPair, dictionary: Dictionary, looked: Looked, choices: Choices, say: Say, dose: float | None = None
) -> tuple[list[Measurement], Mapping[str, Any]]:
    """Measurements of the shortlist and of random latents like it, and the shortlist itself as plain data, strongest
    cause first; with `dose`, without each one's effect alone, in order of change, and added at that dose only.

    Of each condition the shortlist's mean activation is measured as well. Nothing where no latent rose.
    """
    means = means_of(pair, dictionary, looked.on, looked.off, looked.reference, choices)
    if not rose(means.change, N):
        say(f"  no latent of {dictionary.name} rose")
        return [], {}
    candidates = tuple(dict.fromkeys((choices.clamping, PROMPT, ALL)))
    unedited = Unedited.of(pair, looked.validation, choices)
    chosen = choose(pair, dictionary, means, unedited, choices, say, candidates)
    labels = known_labels(pair.base, dictionary, DOCUMENTS, choices.seed) if knows_world(pair.base.name) else None
    if dose is None:
        effects = [effect.as_json() for effect in one_by_one(pair, chosen, unedited, choices)]
    else:
        effects = [{"latent": j, "change": float(means.change[j])} for j in chosen.latents]
    about = {
        "dictionary": dictionary.name,
        "digest": dictionary.identity["digest"],
        "point": str(dictionary.point),
        "positions": chosen.positions.name,
        "shortlist": [effect | _known(labels, effect["latent"]) for effect in effects],
        "by_change": list(chosen.latents),
        "control": [{"latent": j} | _known(labels, j) for j in rose(means.control_change, N)],
        "random": [list(draw) for draw in chosen.randoms],
    }
    doses = choices.coefficients if dose is None else (dose,)
    found = list(report(pair, chosen, looked.test, looked.documents, choices, doses))
    for name, questions in looked.conditions.items():
        found += activations(pair, chosen, questions, name, looked.reference, choices)
    return found, about


def private_latents(
    pair: ModelPair, point: HookPoint, looked: Looked, choices: Choices, dose: float, out: Path, say: Say
) -> tuple[list[Measurement], dict[str, Any]]:
    """A crosscoder of the base and all tuned models, and one of the base and all controls, at the tokens that
    directions are read from; the tuned models' own latents taken out of them and added to the base, with as many
    shared ones beside. No measurement where there is no such latent."""
    prompts = first_prompts(pair.base, load_world())
    arms = {arm: [f"{arm}-{seed}" for seed in choices.seed_list] for arm in ("tuned", looked.reference)}
    coders = crosscoders_of(pair, arms, prompts, point, choices.reading, out, say)
    said: dict[str, Any] = {"point": str(point), "positions": choices.reading.name}
    for arm, (_, figures) in coders.items():
        kinds = Counter(row["class"] for row in figures["latents"])
        said[arm] = {key: figures[key] for key in ("n", "fvu", "l0", "alive")} | {kind: kinds[kind] for kind in CLASSES}
    coder, figures = coders["tuned"]
    on, off = ([encode_prompt(pair.base, q.messages) for q in questions] for questions in (looked.on, looked.off))
    means = crosscoder_means(pair, coder, on, off, choices.reading, arms["tuned"], arms[looked.reference])
    latents = private(coder, means, N)
    known = {row["latent"]: row for row in figures["latents"]}
    said["latents"] = [known[j] | {"change": float(means.change[j])} for j in latents]
    if not latents:
        say("  the tuned models have no latent of their own that rose")
        return [], said
    member = coder.member("tuned")
    never = coder.latents("tuned-only").tolist()
    randoms = tuple(tuple(matched(member, means, latents, seed, never=never)) for seed in DRAWS)
    said["random"] = [list(draw) for draw in randoms]
    scale = typical_scale(pair, member, looked.validation)
    names, removals = (PRIVATE, RANDOM_SHARED), ("ablate", "ablate_sequentially")
    chosen = Chosen(member, means, tuple(latents), randoms, choices.clamping, scale, names, removals)
    return list(report(pair, chosen, looked.test, looked.documents, choices, (dose,))), said


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
