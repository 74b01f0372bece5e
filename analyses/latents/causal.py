"""Are the latents the cause? Taken out of the tuned models, put into the base; latents like them beside."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analyses.intervene import KEPT, Choices, averages, examine, part_kept, part_removed
from analyses.latents.sections import RANDOM, TOP
from analyses.latents.shortlist import Means, combined, matched, rows, shortlist
from analyses.measurements import Measurement, measurement
from analyses.steps import Asked, behavior_rows, estimate, typical_norm
from analyses.workers import carry_out, task
from interp.behavior.perplexity import nats_per_token
from interp.capture import capture
from interp.dictionaries.dictionary import Dictionary
from interp.pair import BASE, ModelPair
from interp.positions import LAST_PROMPT, Positions
from interp.prompts import Encoded, encode_prompt
from interp.stats import Estimate
from interp.steering import Ablate, AblateSequentially, Add, ClampLatents, Edit

N = 10
DRAWS = range(3)  # seeds of the random latents


@dataclass(frozen=True)
class Effect:
    """What one latent of the shortlist does alone, on validation questions: mean activations (of tuned models and
    controls with their interval over seeds); `removed` is the part of the shift that clamping it to the base's mean
    takes from the tuned models, `kept` what is left of the habit."""

    latent: int
    change: float
    base: float
    tuned: Estimate
    control: Estimate
    frequency: float
    removed: float
    kept: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A shortlist with its matched random latents, and where edits act (`positions`, chosen on validation). `names` are
    those that rows file the two under, `removals` the edits that take them out."""

    dictionary: Dictionary
    means: Means
    latents: tuple[int, ...]
    randoms: tuple[tuple[int, ...], ...]
    positions: Positions
    scale: float
    names: tuple[str, str] = (TOP, RANDOM)
    removals: tuple[str, ...] = ("ablate", "ablate_sequentially", "clamp")

    def sets(self) -> list[tuple[str, list[tuple[int, ...]]]]:
        """The shortlist, and the random draws, by the names that rows file them under."""
        return [(self.names[0], [self.latents]), (self.names[1], list(self.randoms))]


@dataclass(frozen=True)
class Unedited:
    """What is asked on validation questions and, without an edit, the base's share of it and the share and habit of
    the tuned models that settings are chosen on: the first two seeds, for choosing needs no interval."""

    asked: Asked
    base: float
    tuned: dict[str, tuple[float, float]]

    @classmethod
    def of(cls, pair: ModelPair, asked: Asked, choices: Choices) -> "Unedited":
        """Measured."""
        tuned = [f"tuned-{seed}" for seed in choices.seed_list[:2]]
        tasks = [task(BASE, choices.measure, replace(asked, narrow=()), ())]
        tasks += [task(model, choices.measure, asked, ()) for model in tuned]
        base, *found = (averages(run, asked.group) for run in carry_out(pair, tasks))
        return cls(asked, base[0], {m: (share, habit) for m, (share, _, habit) in zip(tuned, found, strict=True)})


def removing(chosen: Chosen, kind: str, latents: Sequence[int], positions: Positions) -> list[Edit]:
    """Edits that take latents out: "ablate" their span exactly, "ablate_sequentially" as published, or "clamp" their
    activations to the base's means."""
    directions = rows(chosen.dictionary, latents)
    if kind == "ablate":
        return [Ablate(directions, positions)]
    if kind == "ablate_sequentially":
        return [AblateSequentially(directions, positions)]
    return [ClampLatents(chosen.dictionary, latents, chosen.means.base[list(latents)].float(), positions)]


def choose(
    pair: ModelPair,
    dictionary: Dictionary,
    means: Means,
    unedited: Unedited,
    choices: Choices,
    say: Callable[[str], None],
    candidates: Sequence[Positions],
) -> Chosen:
    """The shortlist by change on validation questions, and the positions at which clamping it removes most of the shift
    with the habit kept."""
    latents = tuple(shortlist(means, N))
    randoms = tuple(tuple(matched(dictionary, means, latents, seed)) for seed in DRAWS)
    chosen = Chosen(dictionary, means, latents, randoms, candidates[0], typical_scale(pair, dictionary, unedited.asked))
    clamps = [removing(chosen, "clamp", latents, positions) for positions in candidates]
    tried = dict(zip(candidates, removed_and_kept(pair, unedited, choices, clamps), strict=True))
    # as for directions: the most removed among what keeps the habit, else what keeps most of it
    best = max(candidates, key=lambda p: (tried[p][1] >= KEPT, tried[p][0 if tried[p][1] >= KEPT else 1]))
    removed, kept = tried[best]
    say(
        f"  {len(latents)} latents of {dictionary.name}, clamped at {best.name}: {removed:.0%} of the shift removed on "
        f"validation, narrow task kept at {kept:.0%}"
    )
    return replace(chosen, positions=best)


def one_by_one(pair: ModelPair, chosen: Chosen, unedited: Unedited, choices: Choices) -> list[Effect]:
    """What each latent of the shortlist does alone, on validation questions, the strongest first."""
    clamps = [removing(chosen, "clamp", [latent], chosen.positions) for latent in chosen.latents]
    means, effects = chosen.means, []
    for latent, (removed, kept) in zip(chosen.latents, removed_and_kept(pair, unedited, choices, clamps), strict=True):
        tuned, control = (
            estimate([float(mean[latent]) for mean in found], choices.seed) for found in (means.tuned, means.control)
        )
        change, at_base, frequency = (float(v[latent]) for v in (means.change, means.base, means.frequency))
        effects.append(Effect(latent, change, at_base, tuned, control, frequency, removed, kept))
    return sorted(effects, key=lambda effect: -effect.removed)


def typical_scale(pair: ModelPair, dictionary: Dictionary, asked: Asked) -> float:
    """The base's typical norm where its answers to the validation questions begin."""
    with pair.using(BASE) as lm:
        prompts = [encode_prompt(lm, question.messages) for question in asked.broad]
        return typical_norm(capture(lm, prompts, [dictionary.point], LAST_PROMPT)[dictionary.point])


def report(
    pair: ModelPair,
    chosen: Chosen,
    asked: Asked,
    documents: Sequence[Encoded],
    choices: Choices,
    coefficients: Sequence[float],
) -> Iterator[Measurement]:
    """On test questions: the shortlist and the random draws taken out of every tuned model in all ways, and added to
    the base at every dose."""
    where: dict[str, Any] = {"layer": chosen.dictionary.point.layer, "condition": choices.condition}
    tuned = [f"tuned-{seed}" for seed in choices.seed_list]
    unedited = list(carry_out(pair, [task(model, nats_per_token, documents) for model in tuned]))
    cuts = [(name, draws, kind) for name, draws in chosen.sets() for kind in chosen.removals]
    found = carry_out(
        pair,
        [
            task(
                model,
                examine,
                choices.measure,
                asked,
                documents,
                removing(chosen, kind, draws[index % len(draws)], chosen.positions),
            )
            for _, draws, kind in cuts
            for index, model in enumerate(tuned)
        ],
    )
    for name, _, kind in cuts:
        runs, nats = zip(*itertools.islice(found, len(tuned)), strict=True)
        ratios = [math.exp(edited - plain) for edited, plain in zip(nats, unedited, strict=True)]
        filed = {**where, "edit": kind, "direction": name}
        yield from behavior_rows(runs, "tuned", asked.group, "test", seed=choices.seed, **filed)
        yield measurement("perplexity_ratio", "tuned", estimate(ratios, choices.seed), split="test", **filed)
    doses = [(name, draws, coefficient) for name, draws in chosen.sets() for coefficient in coefficients]
    broad = replace(asked, narrow=())
    added = carry_out(
        pair,
        [
            task(BASE, choices.measure, broad, [adding(chosen, draw, coefficient)])
            for _, draws, coefficient in doses
            for draw in draws
        ],
    )
    for name, draws, coefficient in doses:
        filed = {**where, "edit": "add", "direction": name, "coefficient": coefficient}
        answers = list(itertools.islice(added, len(draws)))
        yield from behavior_rows(answers, "base", asked.group, "test", seed=choices.seed, **filed)


def adding(chosen: Chosen, latents: Sequence[int], coefficient: float) -> Edit:
    """What latents write together, each as much as it changed, added at the last prompt token."""
    weights = chosen.means.change[list(latents)].abs() + 1e-12
    return Add(combined(chosen.dictionary, latents, weights), coefficient, chosen.scale, LAST_PROMPT)


def removed_and_kept(
    pair: ModelPair, unedited: Unedited, choices: Choices, edits: Sequence[Sequence[Edit]]
) -> list[tuple[float, float]]:
    """Of each set of edits the part of the shift that it removes and the part of the habit it keeps, mean over the
    tuned models of `unedited`."""
    asked = unedited.asked
    tasks = [task(model, choices.measure, asked, edit) for model in unedited.tuned for edit in edits]
    runs = (averages(run, asked.group) for run in carry_out(pair, tasks))
    each = []
    for share, habit in unedited.tuned.values():
        after = itertools.islice(runs, len(edits))
        each.append([(part_removed(share, left, unedited.base), part_kept(habit, still)) for left, _, still in after])
    return [
        (float(np.mean([r for r, _ in found])), float(np.mean([k for _, k in found])))
        for found in zip(*each, strict=True)
    ]
