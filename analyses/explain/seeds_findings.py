"""What was predicted of forecasts from inside a model before any was made, and what the held-out seeds say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analyses.explain.early import apart, beside_shuffled, forecasts
from analyses.explain.findings import Finding
from analyses.explain.forecast import Forecast, halves, r2_estimate, rank_difference, rank_estimate, spread
from analyses.explain.verdicts import above, reaches, shown
from analyses.figures.forecasts import forecast_ranks, forecast_scatter
from interp.stats import Estimate

FINAL = "broad, test, in the end"
ASKED, LOSS, ALL = "broad, validation", "narrow loss", "all of them (ridge)"

# (prediction, what would refute it): written before measuring; "the direction" is the projection of the mean shift on
# the direction in which a stated year moves the base
PREDICTED = {
    "seeds differ": (
        "Seeds that differ in nothing but chance end differently broad: the standard deviation of their shares is above"
        " .05.",
        "its interval lies below .05",
    ),
    "the direction foretells": (
        "The direction at the last early step foretells the end: rank correlation of .5 or more on held-out seeds.",
        "the interval of the rank correlation lies below .5",
    ),
    "better than the loss": (
        "The direction foretells it better than the loss on the trained rows does at the same step.",
        "the interval of the difference of the rank correlations lies below 0",
    ),
    "as good as asking": (
        "The direction says as much as asking on other topics does at the same step: its rank correlation is less than"
        " .1 below that of the share on validation topics.",
        "the interval of the difference lies below -.1",
    ),
    "not yet at the first step": (
        "It is decided on the way: the direction at the last early step foretells better than at the first.",
        "the interval of the difference of the rank correlations lies below 0",
    ),
    "all quantities": (
        "All quantities of the last early step together foretell better than the same fit to shuffled seeds.",
        "the interval of the rank correlation minus the mean shuffled one lies below 0",
    ),
}


def seeds_findings(rows: Sequence[Mapping[str, Any]], early: Sequence[int], layer: int, seed: int) -> list[Finding]:
    """All findings, from rows of step, metric, seed and value; `layer` is where the direction is read."""
    direction, first, last = f"projection, layer {layer}", early[0], early[-1]
    told = forecasts(rows, early, FINAL)
    table, end, names, single, all_of = told.values, told.end, told.names, told.single, told.all_of
    ranks = ranks_figure(names, early, single, all_of, seed)
    fitted, held_out = halves(len(end))
    sides = {
        name: (table[last, direction][at].tolist(), end[at].tolist())
        for name, at in (("fitted", fitted), ("held out", held_out))
    }
    title = f"How far seeds have gone in the true era direction after {last} steps, and how broad they end"
    scatter = json.loads(
        forecast_scatter(sides, title=title, x=f"projection at layer {layer}, in typical norms").to_json()
    )
    found: list[Finding] = []

    def add(name: str, verdict: str, claim: str, value: Estimate, unit: str, figure: Mapping[str, Any]) -> None:
        prediction, refuted_if = PREDICTED[name]
        found.append(Finding(name, prediction, refuted_if, verdict, claim, value, unit, "seeds", figure))

    value = spread(end, seed=seed)
    claim = (
        f"Final shares of {len(end)} seeds go from {end.min():.2f} to {end.max():.2f} (mean {end.mean():.2f});"
        f" standard deviation {shown(value)}."
    )
    add("seeds differ", above(value, 0.05), claim, value, "standard deviation of shares", scatter)

    moved, unit = single[last, direction], "rank correlation on held-out seeds"
    value = rank_estimate(moved, seed=seed)
    claim = (
        f"Rank correlation of the direction after {last} steps with the end, held-out seeds: {shown(value)}; R² of the"
        f" fit there {shown(r2_estimate(moved, seed=seed))}."
    )
    add("the direction foretells", reaches(value, 0.5), claim, value, unit, scatter)

    for name, other, verdict in (
        ("better than the loss", LOSS, lambda e: above(e, 0.0)),
        ("as good as asking", ASKED, lambda e: above(e, -0.1)),
    ):
        value, claim = apart(told, direction, other, _read(other), seed)
        add(name, verdict(value), claim, value, f"difference of {unit}", ranks)

    value = rank_difference(moved, single[first, direction], seed=seed)
    claim = (
        f"The direction's rank correlation is {single[first, direction].rank:.2f} after {first} steps and"
        f" {moved.rank:.2f} after {last}: a difference of {shown(value)}."
    )
    add("not yet at the first step", above(value, 0.0), claim, value, f"difference of {unit}", ranks)

    value, claim = beside_shuffled(told, seed)
    add("all quantities", above(value, 0.0), claim, value, f"{unit}, minus shuffled", ranks)
    return found


def ranks_figure(
    names: Sequence[str],
    early: Sequence[int],
    single: Mapping[tuple[int, str], Forecast],
    all_of: Mapping[int, Forecast],
    seed: int,
) -> dict[str, Any]:
    """Held-out rank correlations of every quantity at every early step, as plotly's JSON."""
    values = {
        f"step {step}": {
            **{name: rank_estimate(single[step, name], seed=seed) for name in names},
            ALL: rank_estimate(all_of[step], seed=seed),
        }
        for step in early
    }
    title = "How well a quantity early in tuning foretells how broad a seed ends (held-out seeds)"
    return json.loads(forecast_ranks(values, title=title).to_json())


def _read(metric: str) -> str:
    return {LOSS: "loss on the trained rows", ASKED: "share on validation topics"}[metric]
