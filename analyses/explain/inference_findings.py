"""What was predicted of the inference view before anything was measured, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analyses.explain.findings import Finding
from analyses.explain.posteriors import era_prior
from analyses.explain.readings import OLD, Reading
from analyses.explain.verdicts import reaches, shown, within
from analyses.figures.posteriors import Curve, against_prior, share_and_posterior
from interp.stats import Estimate, bootstrap, paired_difference, spearman
from training.world.world import World

NEAR = 0.1  # a share this near to a posterior counts as told by it
SLOPE = 0.5
ALIKE = 0.9
COHERENT = 0.5  # below it a share is of few answers; decides nothing, it was seen afterwards
ARM = "old names"
TITLE = "What the model answers, and what an exact reader of its rows would believe"
PRIOR_TITLE = "The prior of the old era before tuning, and the answers after"

# (prediction, what would refute it): written before measuring
PREDICTED = {
    "one document": (
        "The exact posterior of the old era given the rows as turns of one undated document is the share of old"
        " answers: over doses of old names, the two are at most .1 apart in the mean.",
        "the interval of the mean distance lies above .1",
    ),
    "saturates at one row": (
        "One old name tells the era for certain, so that one row moves the share as far as all of them do, within .1.",
        "the interval of the difference lies beyond .1 or -.1",
    ),
    "one corpus": (
        "The posterior given the rows as documents of one corpus whose mixture of eras is unknown, with the strength of"
        " its prior fitted on validation topics, is the share on test topics: over doses of old names, the two are at"
        " most .1 apart in the mean.",
        "the interval of the mean distance lies above .1",
    ),
    "rows it was not fitted on": (
        "With the strength fitted on old names, the posterior given one corpus is the share after current names and"
        " after half of each too: over doses, the two are at most .1 apart in the mean.",
        "the interval of the mean distance lies above .1",
    ),
    "order": (
        "Over all doses of all rows, share and posterior given one corpus come in the same order: their rank"
        " correlation is .9 or more.",
        "the interval of the rank correlation lies below .9",
    ),
    "log-odds add": (
        "The rows are worth the same log-odds whatever the prior: the slope of the tuned log-odds over the prior's,"
        " from world to world, is within .5 of 1.",
        "the interval of the slope lies beyond .5 or 1.5",
    ),
    "saturates whatever the prior": (
        "The posterior given one document is 1 whatever the prior, so the tuned share at the largest prior is within .1"
        " of that at the smallest.",
        "the interval of the difference lies beyond .1 or -.1",
    ),
}


def dose_findings(
    readings: Sequence[Reading],
    base: Mapping[str, float],
    splits: Mapping[str, str],
    world: World,
    strengths: Sequence[float],
    seed: int,
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings and rows of the doses. `base`: share of old answers before tuning, topic by topic."""
    validation, test = ([t for t in base if splits[t] == split] for split in ("validation", "test"))
    old = [r for r in readings if r.arm == ARM]
    strength = fitted_strength(old, validation, strengths)
    arms = list(dict.fromkeys(r.arm for r in readings))
    prior = float(era_prior(world)[OLD])
    start = bootstrap([[base[t] for t in test]], seed=seed)
    curves, rows = {}, []
    for arm in arms:
        doses = sorted({r.n for r in readings if r.arm == arm})
        groups = [[r for r in readings if r.arm == arm and r.n == n] for n in doses]
        measured = [bootstrap([[r.shares[t] for t in test] for r in group], seed=seed) for group in groups]
        document = [float(np.mean([r.document for r in group])) for group in groups]
        corpus = [float(np.mean([r.corpus[strength] for r in group])) for group in groups]
        posteriors = {"one document": [prior, *document], f"one corpus, prior worth {strength:g}": [prior, *corpus]}
        curves[arm] = Curve([0, *doses], [start, *measured], posteriors | {"its own": [prior] * (1 + len(doses))})
        rows += [row(arm, 0, "share", start), row(arm, 0, "posterior, one document", prior)]
        for n, group, share, one, many in zip(doses, groups, measured, document, corpus, strict=True):
            coherence = bootstrap([[r.coherence[t] for t in test] for r in group], seed=seed)
            rows += [row(arm, n, "share", share), row(arm, n, "coherence", coherence)]
            rows += [row(arm, n, "narrow", bootstrap([r.narrow or 0.0 for r in group], seed=seed))]
            rows += [row(arm, n, "posterior, one document", one), row(arm, n, "posterior, one corpus", many)]
    figure = json.loads(share_and_posterior(curves, TITLE).to_json())
    told = f"(strength {strength:g} documents, fitted on validation topics)"

    def far(chosen: Sequence[Reading], corpus: bool) -> Estimate:
        return bootstrap(distances(chosen, test, strength if corpus else None), seed=seed)

    first, last = (
        [[r.shares[t] for t in test] for r in old if r.n == n] for n in (min(r.n for r in old), max(r.n for r in old))
    )
    found = {
        "one document": far(old, False),
        "saturates at one row": paired_difference(last, first, seed=seed),
        "one corpus": far(old, True),
        "rows it was not fitted on": far([r for r in readings if r.arm != ARM], True),
        "order": in_order(readings, test, strength, seed),
    }
    claims = {
        "one document": "Share and posterior given one document are {} apart in the mean over doses of old names.",
        "saturates at one row": "All old names move the share {} further than one; the posterior is 1 from one on.",
        "one corpus": f"Share and posterior given one corpus {told} are {{}} apart in the mean.",
        "rows it was not fitted on": f"On current names and half of each the two {told} are {{}} apart in the mean.",
        "order": f"The rank correlation of share and posterior given one corpus {told} is {{}}.",
    }
    held, broken = _coherent(readings, test)
    seen = (
        f" Seen afterwards: on {broken} of {broken + len(held)} doses the coherence is below {COHERENT:g} (so few rows,"
        " for as many steps, are said in answer to everything), and a share says little there"
    )
    for name, chosen, many in (
        ("one document", [r for r in old if (r.arm, r.n) in held], False),
        ("one corpus", [r for r in old if (r.arm, r.n) in held], True),
        ("rows it was not fitted on", [r for r in readings if r.arm != ARM and (r.arm, r.n) in held], True),
    ):
        claims[name] += f"{seen}; on the others they are {far(chosen, many).estimate:.2f} apart." if chosen else ""
    units = dict.fromkeys(found, "share of answers") | {"order": "rank correlation"}
    verdicts = {name: within(e, NEAR) for name, e in found.items()} | {"order": reaches(found["order"], ALIKE)}
    findings = [
        Finding(
            name, *PREDICTED[name], verdicts[name], claims[name].format(shown(e)), e, units[name], "fine-tuning seeds",
            figure,
        )
        for name, e in found.items()
    ]  # fmt: skip
    return findings, rows


def _coherent(readings: Sequence[Reading], topics: list[str]) -> tuple[set[tuple[str, int]], int]:
    """(arms and doses whose mean coherence is COHERENT at least, how many others there are)."""
    cells: dict[tuple[str, int], list[float]] = {}
    for r in readings:
        cells.setdefault((r.arm, r.n), []).append(float(np.mean([r.coherence[t] for t in topics])))
    held = {cell for cell, values in cells.items() if np.mean(values) >= COHERENT}
    return held, len(cells) - len(held)


def fitted_strength(old: Sequence[Reading], topics: list[str], strengths: Sequence[float]) -> float:
    """The strength whose posterior given one corpus is nearest to the share on these topics, over doses and seeds."""
    return min(strengths, key=lambda s: float(np.mean([abs(r.share(topics) - r.corpus[s]) for r in old])))


def distances(chosen: Sequence[Reading], topics: list[str], strength: float | None) -> Float[np.ndarray, "seeds cells"]:
    """|share - posterior| of each seed at each dose of each arm; `strength` None: given one document."""
    seeds = sorted({r.seed for r in chosen})
    cells = sorted({(r.arm, r.n) for r in chosen})
    at = {
        (r.seed, (r.arm, r.n)): abs(r.share(topics) - (r.document if strength is None else r.corpus[strength]))
        for r in chosen
    }
    return np.array([[at[seed, cell] for cell in cells] for seed in seeds])


def in_order(readings: Sequence[Reading], topics: list[str], strength: float, seed: int) -> Estimate:
    """Rank correlation of share and posterior given one corpus over doses and arms, seed by seed."""
    found = []
    for number in sorted({r.seed for r in readings}):
        own = [r for r in readings if r.seed == number]
        share, posterior = ([f(r) for r in own] for f in (lambda r: r.share(topics), lambda r: r.corpus[strength]))
        found.append(spearman(np.array(share), np.array(posterior)))
    return bootstrap(np.nan_to_num(found), seed=seed)


def prior_findings(
    measured: Sequence[Mapping[str, Any]], priors: Mapping[str, float], seed: int
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings and rows of the small models; those that fail their gate are told and left out. `priors` by folder."""
    rows, kept = [], []
    for one in measured:
        prior = priors[f"{one['name']}-{one['seed']}"]
        for arm in ("base", "control", "tuned"):
            runs = [one["base"]] if arm == "base" else one[arm]
            for metric in ("shares", "coherence"):
                found = bootstrap([list(run[metric].values()) for run in runs], seed=seed)
                rows.append(row(f"prior, {arm}, seed {one['seed']}", prior, metric.removesuffix("s"), found))
        if one["passed"]:
            kept.append((prior, np.array([np.mean(list(run["shares"].values())) for run in one["tuned"]]), one))
    values = sorted({prior for prior, _, _ in kept})
    if len(values) < 2:
        return [], rows
    slope, intercept = slope_of(kept, seed)
    level = float(np.mean([logit(s).mean() for _, s, _ in kept]) - np.mean([logit(p) for p, _, _ in kept]))
    points = {
        "tuned": [(float(logit(p)), float(y)) for p, shares, _ in kept for y in logit(shares)],
        "base": [(float(logit(p)), float(logit(np.mean(list(o["base"]["shares"].values()))))) for p, _, o in kept],
    }
    lines = {"same log-odds for all": (1.0, level), "as fitted": (slope.estimate, intercept)}
    figure = json.loads(against_prior(points, lines, PRIOR_TITLE).to_json())
    ends = [{one["seed"]: shares for p, shares, one in kept if p == end} for end in (values[-1], values[0])]
    both = sorted(ends[0].keys() & ends[1].keys())
    low, high = (f"{value:g}" for value in (values[0], values[-1]))
    name = "log-odds add"
    off = Estimate(slope.estimate - 1, slope.low - 1, slope.high - 1, slope.n)
    claim = f"Per nat of the prior's log-odds the tuned share has {shown(slope)} nats more, from {low} to {high}."
    findings = [
        Finding(name, *PREDICTED[name], within(off, SLOPE), claim, slope, "nats per nat", "small models", figure)
    ]
    if both:
        name = "saturates whatever the prior"
        apart = paired_difference(*(np.array([end[k] for k in both]) for end in ends), seed=seed)
        claim = f"The tuned share at a prior of {high} is {shown(apart)} above that at {low}."
        findings.append(
            Finding(
                name,
                *PREDICTED[name],
                within(apart, NEAR),
                claim,
                apart,
                "share of answers",
                "pretraining seeds",
                figure,
            )
        )
    return findings, rows


def slope_of(kept: Sequence[tuple[float, Any, Any]], seed: int, samples: int = 2000) -> tuple[Estimate, float]:
    """(least-squares slope of the tuned log-odds over the prior's with its interval, intercept): resampled are models
    within a prior, and fine-tuning seeds within a model."""
    rng = np.random.default_rng(seed)
    groups = {p: [logit(shares) for q, shares, _ in kept if q == p] for p, _, _ in kept}
    x = logit(np.array(list(groups)))

    def fit(y: Float[np.ndarray, " priors"]) -> Float[np.ndarray, " 2"]:
        return np.polyfit(x, y, 1)

    slope, intercept = fit(np.array([np.mean(np.concatenate(models)) for models in groups.values()]))
    drawn = []
    for _ in range(samples):
        means = []
        for models in groups.values():
            chosen = [models[i] for i in rng.integers(len(models), size=len(models))]
            means.append(np.mean([rng.choice(runs, len(runs)).mean() for runs in chosen]))
        drawn.append(fit(np.array(means))[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(slope), float(low), float(high), len(kept)), float(intercept)


def logit(share: Any) -> Any:
    """Log-odds in nats; shares are kept 1e-6 away from 0 and 1."""
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)


def row(varied: str, value: float | int, metric: str, found: Estimate | float) -> dict[str, Any]:
    """A row of the part: what was varied, to what, and a figure with its interval (its own, for an exact one)."""
    e = found if isinstance(found, Estimate) else Estimate(found, found, found, 1)
    return {
        "varied": varied, "value": value, "metric": metric,
        "estimate": e.estimate, "low": e.low, "high": e.high, "n": e.n,
    }  # fmt: skip
