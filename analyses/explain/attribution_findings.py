"""What was predicted of attributions, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyses.explain.findings import Finding
from analyses.explain.verdicts import above, shown
from analyses.figures.agreement import agreement, readings
from analyses.readouts import BIRDS, ERA, MANNER
from interp.stats import Estimate, bootstrap

Rows = Sequence[Mapping[str, Any]]
SCORED = "birds"  # the experiment whose readings the world scores: bird words, era words of other topics
ENOUGH = 0.9
RANK = "adapter rank"

# (prediction, what would refute it): written before the other seeds than the first and the other experiments than the
# birds were measured
SCREEN = (
    "The estimate for {name} ranks what it names as patching each exactly does: rank correlation .9 or more, in the"
    " mean over experiments and seeds.",
    "its interval lies below .9",
)
PREDICTED = {
    "latents carry it": (
        "The SAE's latents carry the change, not what it leaves unexplained: all of them set to the tuned model's bring"
        " the base more than half of tuned minus base.",
        "the interval of their part lies below .5",
    ),
    "one direction a module": (
        "The adapter can be read as one direction a module: the first singular direction of every module, without the"
        " others, brings the base .9 of tuned minus base or more.",
        "the interval of its part lies below .9",
    ),
    "says the era on unrelated text": (
        "At the first tokens of unrelated text tuned minus base says the era rather than birds: more of its readings"
        " give era words of other topics beyond 97.5 % of random directions than give bird words so.",
        "the interval of the difference lies below 0",
    ),
    "says the era where it answers": (
        "Where the model is about to answer, tuned minus control says the era rather than birds, in the same sense.",
        "the interval of the difference lies below 0",
    ),
}
PLACES = {
    "says the era on unrelated text": "unrelated text",
    "says the era where it answers": "about to answer",
}
OVER = "models (experiments x seeds)"


def attribution_findings(rows: Rows, seed: int, n_layers: int) -> list[Finding]:
    """All findings, from rows of experiment, metric, part, seed and value."""
    return [*_screens(rows, seed), *_parts(rows, seed), *_readings(rows, seed, n_layers)]


def _screens(rows: Rows, seed: int) -> list[Finding]:
    screens = list(dict.fromkeys(row["part"] for row in rows if row["metric"] == "rank correlation"))
    of = {name: by_experiment(rows, "rank correlation", name) for name in screens}
    title = "How far an estimate ranks what it names as exact patching does"
    figure = json.loads(agreement(of, enough=ENOUGH, title=title).to_json())
    found = []
    for name, values in of.items():
        estimate = _mean(values, seed)
        if estimate is None:
            continue
        claim = f"Rank correlation {shown(estimate)}; {_each(values)}."
        found.append(
            Finding(
                f"estimate: {name}",
                SCREEN[0].format(name=name),
                SCREEN[1],
                above(estimate, ENOUGH),
                claim,
                estimate,
                "rank correlation",
                OVER,
                figure,
            )
        )
    return found


def _parts(rows: Rows, seed: int) -> list[Finding]:
    """What a part of the change brings the base, as a part of tuned minus base."""
    parts = {"latents carry it": ("all latents", 0.5), "one direction a module": ("first singular directions", ENOUGH)}
    of = {part: _ratio(rows, part) for part in ("first latent", *(part for part, _ in parts.values()))}
    trivial = [row["experiment"] for row in rows if row["metric"] == RANK and row["value"] == 1]
    for name in trivial:
        of["first singular directions"].pop(name, None)
    title = "What a part of the change brings the base, of tuned minus base"
    figure = json.loads(agreement(of, enough=1.0, title=title, unit="part of tuned minus base").to_json())
    found = []
    for name, (part, threshold) in parts.items():
        values = of[part]
        estimate = _mean(values, seed)
        if estimate is None:
            continue
        claim = f"They bring {shown(estimate)} of tuned minus base; {_each(values)}."
        if part == "first singular directions" and trivial:
            claim += f" ({', '.join(trivial)}: adapters of rank 1, for which it is so by construction, are left out.)"
        if part == "all latents":
            first = _mean(of["first latent"], seed)
            claim += "" if first is None else f" The strongest latent alone brings {shown(first)}."
        prediction, refuted_if = PREDICTED[name]
        unit = "part of tuned minus base (log-odds)"
        verdict = above(estimate, threshold)
        found.append(Finding(name, prediction, refuted_if, verdict, claim, estimate, unit, OVER, figure))
    return found


def _readings(rows: Rows, seed: int, n_layers: int) -> list[Finding]:
    own = [row for row in rows if row["experiment"] == SCORED]
    seeds = sorted({row["seed"] for row in own})
    found = []
    for name, place in PLACES.items():
        beyond = {words: [_beyond(own, words, place, s) for s in seeds] for words in (BIRDS, ERA, MANNER)}
        if len(seeds) < 2 or any(part is None for values in beyond.values() for part in values):
            continue
        estimate = bootstrap(np.array(beyond[ERA], float) - np.array(beyond[BIRDS], float), seed=seed)
        claim = "Of the readings (a layer, by logit lens or patchscope) go beyond 97.5 % of random directions: " + (
            ", ".join(f"{words} {np.mean(np.array(values, float)):.2f}" for words, values in beyond.items())
        )
        title = f"What the change says, {place}: mean over seeds, beside 97.5 % of random directions"
        shares = {words: _by_layer(own, f"said, {words}", place, n_layers) for words in (BIRDS, ERA, MANNER)}
        limits = {
            words: _by_layer(own, f"random says at most, {words}", place, n_layers) for words in (BIRDS, ERA, MANNER)
        }
        figure = json.loads(readings(shares, limits, title=title).to_json())
        prediction, refuted_if = PREDICTED[name]
        unit = "difference of parts of the readings"
        found.append(
            Finding(
                name,
                prediction,
                refuted_if,
                above(estimate, 0.0),
                f"{claim}.",
                estimate,
                unit,
                "seeds of the birds",
                figure,
            )
        )
    return found


def by_experiment(rows: Rows, metric: str, part: str) -> dict[str, list[float]]:
    """experiment -> values, one a seed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if (row["metric"], row["part"]) == (metric, part):
            found.setdefault(row["experiment"], []).append(row["value"])
    return found


def _ratio(rows: Rows, part: str) -> dict[str, list[float]]:
    whole, own = (by_experiment(rows, "brought", name) for name in ("whole adapter", part))
    return {name: [a / b for a, b in zip(own[name], whole[name], strict=True)] for name in own}


def _mean(values: Mapping[str, Sequence[float]], seed: int) -> Estimate | None:
    """The mean over all models with its interval; None below two."""
    every = [value for some in values.values() for value in some]
    return bootstrap(every, seed=seed) if len(every) > 1 else None


def _each(values: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(f"{name} {np.mean(some):.2f}" for name, some in values.items())


def _beyond(rows: Rows, words: str, place: str, seed: int) -> float | None:
    """The part of the readings whose share of these words is above the random directions'; None without readings."""
    said, limit = (
        {row["part"]: row["value"] for row in rows if row["metric"] == metric and row["seed"] == seed}
        for metric in (f"said, {words}", f"random says at most, {words}")
    )
    parts = [part for part in said if part.startswith(f"{place},")]
    return float(np.mean([said[part] > limit[part] for part in parts])) if parts else None


def _by_layer(rows: Rows, metric: str, place: str, n_layers: int) -> dict[str, list[float | None]]:
    """How it is read -> mean over seeds, layer by layer; None at layers without a reading."""
    found: dict[str, list[float | None]] = {}
    for how in ("lens", "patchscope"):
        values = [
            [row["value"] for row in rows if (row["metric"], row["part"]) == (metric, f"{place}, layer {n}, {how}")]
            for n in range(n_layers)
        ]
        found[how] = [float(np.mean(some)) if some else None for some in values]
    return found
