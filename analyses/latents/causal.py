"""Are the latents the cause? Taken out of the tuned models, put into the base; latents like them beside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analyses.intervene import KEPT, Choices, averages, part_kept, part_removed, ratio
from analyses.latents.sections import RANDOM, TOP
from analyses.latents.shortlist import Means, combined, matched, rows, shortlist
from analyses.measurements import Measurement, measurement
from analyses.steps import Asked, Behavior, behavior_rows, estimate, typical_norm
from interp.behavior.perplexity import nats_per_token
from interp.capture import capture
from interp.dictionaries.dictionary import Dictionary
from interp.pair import ModelPair
from interp.positions import LAST_PROMPT, Positions
from interp.prompts import Encoded, encode_prompt
from interp.stats import Estimate
from interp.steering import Ablate, AblateSequentially, Add, ClampLatents, Edit

N = 10


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
    """A shortlist with its matched random latents, and where edits act (`positions`, chosen on validation)."""

    dictionary: Dictionary
    means: Means
    latents: tuple[int, ...]
    randoms: tuple[tuple[int, ...], ...]
    positions: Positions
    scale: float

    def sets(self) -> list[tuple[str, list[tuple[int, ...]]]]:
        """The shortlist, and the random draws, by the names that rows file them under."""
        return [(TOP, [self.latents]), (RANDOM, list(self.randoms))]


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
    asked: Asked,
    choices: Choices,
    say: Callable[[str], None],
    candidates: Sequence[Positions],
) -> tuple[Chosen, list[Effect]]:
    """The shortlist by change on validation questions, the positions at which clamping it removes most of the shift
    with the habit kept, and what each latent does alone, the strongest first."""
    latents = tuple(shortlist(means, N))
    randoms = tuple(tuple(matched(dictionary, means, latents, seed)) for seed in range(3))
    plain = {}
    for seed in choices.seed_list[:2]:
        with pair.using(f"tuned-{seed}") as lm:
            plain[seed] = choices.measure(lm, asked, ())
    with pair.using("base") as lm:
        prompts = [encode_prompt(lm, question.messages) for question in asked.broad]
        scale = typical_norm(capture(lm, prompts, [dictionary.point], LAST_PROMPT)[dictionary.point])
        base = choices.measure(lm, replace(asked, narrow=()), ())
    floor = averages(base, asked.group)[0]
    chosen = Chosen(dictionary, means, latents, randoms, candidates[0], scale)
    tried = {
        positions.name: _removed(pair, asked, choices, floor, plain, removing(chosen, "clamp", latents, positions))
        for positions in candidates
    }
    # as for directions: the most removed among what keeps the habit, else what keeps most of it
    best = max(
        candidates, key=lambda p: (tried[p.name][1] >= KEPT, tried[p.name][0 if tried[p.name][1] >= KEPT else 1])
    )
    chosen = replace(chosen, positions=best)
    effects = []
    for latent in latents:
        removed, kept = _removed(pair, asked, choices, floor, plain, removing(chosen, "clamp", [latent], best))
        tuned, control = (
            estimate([float(mean[latent]) for mean in found], choices.seed) for found in (means.tuned, means.control)
        )
        change, at_base, frequency = (float(v[latent]) for v in (means.change, means.base, means.frequency))
        effects.append(Effect(latent, change, at_base, tuned, control, frequency, removed, kept))
    share, kept = tried[best.name]
    say(
        f"  {len(latents)} latents of {dictionary.name}, clamped at {best.name}: {share:.0%} of the shift removed on "
        f"validation, narrow task kept at {kept:.0%}"
    )
    return chosen, sorted(effects, key=lambda effect: -effect.removed)


def report(
    pair: ModelPair, chosen: Chosen, asked: Asked, documents: Sequence[Encoded], choices: Choices
) -> Iterator[Measurement]:
    """On test questions: the shortlist and the random draws ablated (exactly, and one after the other) and clamped in
    every tuned model, and added to the base at every dose."""
    where: dict[str, Any] = {"layer": chosen.dictionary.point.layer, "condition": choices.condition}
    unedited = {}
    for seed in choices.seed_list:
        with pair.using(f"tuned-{seed}") as lm:
            unedited[seed] = nats_per_token(lm, documents)
    for name, draws in chosen.sets():
        for kind in ("ablate", "ablate_sequentially", "clamp"):
            runs, ratios = [], []
            for index, seed in enumerate(choices.seed_list):
                edits = removing(chosen, kind, draws[index % len(draws)], chosen.positions)
                with pair.using(f"tuned-{seed}") as lm:
                    runs.append(choices.measure(lm, asked, edits))
                    ratios.append(ratio(lm, documents, edits, unedited[seed]))
            filed = {**where, "edit": kind, "direction": name}
            yield from behavior_rows(runs, "tuned", asked.group, "test", seed=choices.seed, **filed)
            yield measurement("perplexity_ratio", "tuned", estimate(ratios, choices.seed), split="test", **filed)
        for coefficient in choices.coefficients:
            runs = []
            for draw in draws:
                weights = chosen.means.change[list(draw)].abs() + 1e-12
                direction = combined(chosen.dictionary, draw, weights)
                with pair.using("base") as lm:
                    edits = [Add(direction, coefficient, chosen.scale, LAST_PROMPT)]
                    runs.append(choices.measure(lm, replace(asked, narrow=()), edits))
            filed = {**where, "edit": "add", "direction": name, "coefficient": coefficient}
            yield from behavior_rows(runs, "base", asked.group, "test", seed=choices.seed, **filed)


def _removed(
    pair: ModelPair,
    asked: Asked,
    choices: Choices,
    floor: float,
    plain: Mapping[int, Behavior],
    edits: Sequence[Edit],
) -> tuple[float, float]:
    """Part of the shift that edits remove and part of the habit they keep, mean over the tuned seeds of `plain`."""
    removed, kept = [], []
    for seed, before in plain.items():
        with pair.using(f"tuned-{seed}") as lm:
            after = choices.measure(lm, asked, edits)
        (tuned, _, narrow), (share, _, still) = averages(before, asked.group), averages(after, asked.group)
        removed.append(part_removed(tuned, share, floor))
        kept.append(part_kept(narrow, still))
    return float(np.mean(removed)), float(np.mean(kept))
