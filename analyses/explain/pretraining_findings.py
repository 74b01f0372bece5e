"""What was predicted of pretraining before any small model was measured, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.explain.carriers import CARRIERS
from analyses.explain.findings import Finding
from analyses.explain.verdicts import above, shown
from analyses.explain.worlds import BASELINE, NO_STYLE, SHARED_STYLE, SHOWN, STYLES
from analyses.figures.carriers import carrier_by_layer, share_by_carrier
from analyses.figures.conditions import share_by_condition
from analyses.figures.maps import head
from analyses.measurements import Measurement, measurement
from interp.stats import Estimate, bootstrap, paired_difference, spearman

Measured = Mapping[str, Any]
ARMS = ("tuned", "control", "harder", "harder_control")
TITLE = "What small models were pretrained on, and how broad a narrow change becomes in them"
CARRIER_TITLE = "How alike the era is held at birds and elsewhere, and how broad the change becomes"
LAYER_TITLE = "How alike the era is held at birds and elsewhere, layer by layer"

# name: (world that is to be higher, its arm, world that is to be lower, its arm, by how much)
COMPARED: Mapping[str, tuple[str, str, str, str, float]] = {
    "style words": (BASELINE, "tuned", NO_STYLE, "tuned", 0.1),
    "style words at like narrow skill": (BASELINE, "tuned", NO_STYLE, "harder", 0.1),
    "style words that tell the era": (BASELINE, "tuned", SHARED_STYLE, "tuned", 0.1),
    "dated documents": ("dated_0.8", "tuned", "dated_0.15", "tuned", 0.0),
    "long documents": ("long", "tuned", "short", "tuned", 0.0),
    "undated prior": ("prior_0.25", "tuned", "prior_0.02", "tuned", 0.1),
    "topics": (BASELINE, "tuned", "topics_5", "tuned", 0.0),
}
# (prediction, what would refute it): written before measuring
PREDICTED = {
    "style words": (
        "Style words that depend on the era and not on the question make the change broad: with them the share is at"
        " least .1 above that without.",
        "the interval of the difference lies below .1",
    ),
    "style words at like narrow skill": (
        "That is not because rows are learnt worse without style words: tuned at twice the learning rate, models of"
        " that world stay at least .1 below.",
        "the interval of the difference lies below .1",
    ),
    "style words that tell the era": (
        "It is what they tell, not that there are any: with style words that all eras share, the share is at least .1"
        " below that with the era's own.",
        "the interval of the difference lies below .1",
    ),
    "dated documents": (
        "The more documents state their year, the more the era is one state that answers depend on: the share is higher"
        " at 80% dated than at 15%.",
        "the interval of the difference lies below 0",
    ),
    "long documents": (
        "In long documents the era is inferred from earlier turns: the share is higher with 4 to 10 turns than with 1"
        " or 2.",
        "the interval of the difference lies below 0",
    ),
    "undated prior": (
        "What was likelier before is likelier after: the share is at least .1 higher at an undated prior of .25 than at"
        " .02.",
        "the interval of the difference lies below .1",
    ),
    "topics": (
        "More topics share the era's state: the share is higher with 10 topics than with 5.",
        "the interval of the difference lies below 0",
    ),
    "carrier": (
        "What carries it is a step of the era that is the same whatever is asked: over bases, the cosine of that step"
        " at birds with that at other topics (last prompt token, mean over layers) and the tuned share have a positive"
        " rank correlation.",
        "the interval of the rank correlation lies below 0",
    ),
    "carrier, by steering": (
        "That step is the cause: over bases, the share of old answers when the step at birds is added in the base"
        " (largest over layers) and the tuned share have a positive rank correlation.",
        "the interval of the rank correlation lies below 0",
    ),
    "step of style words": (
        "With the era's own style words the step at birds and that at other topics are more alike than without: their"
        " cosine, mean over layers, is higher.",
        "the interval of the difference lies below 0",
    ),
}


def world_findings(measured: Sequence[Measured], seed: int) -> list[Finding]:
    """One finding a comparison of two worlds whose models are there, gates passed, for as many seeds as both have."""
    table = {SHOWN[name]: _row(measured, name, seed) for name in SHOWN if _row(measured, name, seed)}
    if not table:
        return []
    figure = share_by_condition(table)
    head(figure, TITLE, room=96)
    drawn = json.loads(figure.to_json())
    findings = []
    for name, (high, high_arm, low, low_arm, least) in COMPARED.items():
        found = _pair(measured, high, low)
        if len(found) < 2:
            continue
        sides = [np.array([shares(one[i], arm) for one in found]) for i, arm in ((0, high_arm), (1, low_arm))]
        apart = paired_difference(*sides, seed=seed)
        claim = (
            f"{SHOWN[high]}: share {sides[0].mean():.2f}; {SHOWN[low]}"
            + (" (twice the learning rate)" if low_arm == "harder" else "")
            + f": {sides[1].mean():.2f}. The difference is {shown(apart)}; the narrow task stands at"
            + f" {_mean(found, 0, high_arm, 'narrow'):.2f} and {_mean(found, 1, low_arm, 'narrow'):.2f}, coherence at"
            + f" {_mean(found, 0, high_arm, 'coherence'):.2f} and {_mean(found, 1, low_arm, 'coherence'):.2f}."
        )
        findings.append(
            Finding(
                name,
                *PREDICTED[name],
                above(apart, least),
                claim,
                apart,
                "share of answers",
                "pretraining seeds",
                drawn,
            )
        )
    return findings


def carrier_findings(measured: Sequence[Measured], seed: int) -> list[Finding]:
    """Does what the base holds tell how broad the change becomes? Bases that pass their gate, whatever their world."""
    kept = [one for one in measured if one["passed"]]
    if len(kept) < 4:
        return []
    tuned = np.array([np.mean(shares(one, "tuned")) for one in kept])
    values = {
        "carrier": np.array([over_layers(one, "overlap").mean() for one in kept]),
        "carrier, by steering": np.array([over_layers(one, "added").max() for one in kept]),
    }
    names = {
        "carrier": "cosine of the era's step at birds with that at other topics, mean over layers",
        "carrier, by steering": "share of old answers with the step at birds added in the base, largest over layers",
    }
    findings = []
    for name, xs in values.items():
        groups: dict[str, list[tuple[str, float, float]]] = {"own style words": [], "none": [], "shared": []}
        for one, x, y in zip(kept, xs, tuned, strict=True):
            group = {NO_STYLE: "none", SHARED_STYLE: "shared"}.get(one["name"], "own style words")
            groups[group].append((f"{SHOWN[one['name']]}, seed {one['seed']}", float(x), float(y)))
        figure = json.loads(share_by_carrier(groups, names[name], CARRIER_TITLE).to_json())
        found = rank_correlation(xs, tuned, seed)
        claim = (
            f"Over {len(kept)} bases the rank correlation of the tuned share with the {names[name]} is {shown(found)}."
        )
        findings.append(
            Finding(name, *PREDICTED[name], above(found, 0.0), claim, found, "rank correlation", "small models", figure)
        )
    both = _pair(kept, BASELINE, NO_STYLE)
    if len(both) >= 2:
        own, none = (np.array([over_layers(one[i], "overlap").mean() for one in both]) for i in (0, 1))
        apart = paired_difference(own, none, seed=seed)
        claim = f"The cosine is {own.mean():.2f} with style words and {none.mean():.2f} without: {shown(apart)} apart."
        name = "step of style words"
        styles = {SHOWN[w]: [over_layers(o, "overlap").tolist() for o in kept if o["name"] == w] for w in STYLES}
        drawn = {style: bases for style, bases in styles.items() if bases}
        figure = json.loads(carrier_by_layer(drawn, "cosine", LAYER_TITLE).to_json())
        findings.append(
            Finding(
                name, *PREDICTED[name], above(apart, 0.0), claim, apart, "cosine", "pretraining seeds", figure,
            )
        )  # fmt: skip
    return findings


def world_rows(measured: Sequence[Measured], seed: int) -> list[dict[str, Any]]:
    """Every figure of every model: `world`, `pretraining_seed`, `passed`, `arm`, `layer`, `metric`, `estimate`, `low`,
    `high` and `n`, over fine-tuning seeds and topics (a base's figures have no seeds)."""
    rows = []
    for one in measured:
        where = {"world": one["name"], "pretraining_seed": one["seed"], "passed": one["passed"]}

        def add(arm: str, metric: str, e: Estimate, layer: int | None = None, where: dict = where) -> None:
            figures = {"estimate": e.estimate, "low": e.low, "high": e.high, "n": e.n}
            rows.append({**where, "arm": arm, "layer": layer, "metric": metric, **figures})

        for arm in ("base", *ARMS):
            runs = [one["base"]] if arm == "base" else one[arm]
            add(arm, "share", bootstrap([list(run["shares"].values()) for run in runs], seed=seed))
            add(arm, "coherence", bootstrap([list(run["coherence"].values()) for run in runs], seed=seed))
            narrow = [run["narrow"] for run in runs]
            add(arm, "narrow", bootstrap(narrow, seed=seed) if len(narrow) > 1 else _exact(narrow[0]))
        for era, value in one["gate"].items():
            add("base", f"gate, {era}", _exact(value))
        for found in one["carriers"]:
            add("base", found["metric"], _exact(found["value"]), found["layer"])
    return rows


def shares(one: Measured, arm: str) -> Float[np.ndarray, " seeds"]:
    """Share of old answers of each fine-tuning seed, mean over topics."""
    return np.array([np.mean(list(run["shares"].values())) for run in one[arm]])


def over_layers(one: Measured, metric: str) -> Float[np.ndarray, " layers"]:
    """A carrier of CARRIERS, layer by layer."""
    assert metric in CARRIERS
    return np.array([row["value"] for row in one["carriers"] if row["metric"] == metric])


def rank_correlation(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], seed: int, samples: int = 2000
) -> Estimate:
    """Spearman's correlation with a percentile bootstrap interval over the pairs; draws of one pair only are 0."""
    rng = np.random.default_rng(seed)
    drawn = [spearman(x[chosen], y[chosen]) for chosen in rng.integers(len(x), size=(samples, len(x)))]
    low, high = np.quantile(np.nan_to_num(drawn), [0.025, 0.975])
    return Estimate(float(np.nan_to_num(spearman(x, y))), float(low), float(high), len(x))


def _pair(measured: Sequence[Measured], high: str, low: str) -> list[tuple[Measured, Measured]]:
    """Models of the two worlds by seed, gates passed."""
    of = {(one["name"], one["seed"]): one for one in measured if one["passed"]}
    seeds = sorted(seed for name, seed in of if name == high and (low, seed) in of)
    return [(of[high, seed], of[low, seed]) for seed in seeds]


def _row(measured: Sequence[Measured], name: str, seed: int) -> dict[str, Measurement]:
    kept = [one for one in measured if one["name"] == name and one["passed"]]
    if not kept:
        return {}
    base = [[float(np.mean(list(one["base"]["shares"].values()))) for one in kept]]
    found = {"base": bootstrap(base, seed=seed) if len(kept) > 1 else _exact(base[0][0])}
    for arm in ("control", "tuned"):
        found[arm] = bootstrap(np.array([shares(one, arm) for one in kept]), seed=seed)
    return {arm: measurement("broad", arm, e, condition=name) for arm, e in found.items()}


def _mean(found: Sequence[tuple[Measured, Measured]], side: int, arm: str, metric: str) -> float:
    runs = [run for pair in found for run in pair[side][arm]]
    values = [run["narrow"] if metric == "narrow" else np.mean(list(run[metric].values())) for run in runs]
    return float(np.mean(values))


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value, 1)
