"""What was predicted of the presidents' split before any seed was measured, and what the held-out seeds say of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analyses.explain.early import apart, beside_shuffled, forecasts
from analyses.explain.findings import Finding
from analyses.explain.forecast import halves, r2_estimate, rank_estimate, spread
from analyses.explain.seeds_findings import ranks_figure
from analyses.explain.verdicts import above, below, reaches, shown
from analyses.figures.forecasts import forecast_scatter
from interp.stats import Estimate

FINAL = "held-out codes, test attributes, in the end"
ASKED, LOSS = "held-out codes, validation attributes", "narrow loss"
READ = "held-out codes taken for their president inside"
SIDE = 0.5  # the share from which on a seed has taken the rule

# (prediction, what would refute it): written before any seed was measured. They were first looked at on seeds 0 to 15,
# every other one fitted on, where eight seeds a half left the signs to the halving; since then the first 16 are fitted
# on, and tested are 12 that had not been trained when that was decided. "The direction" is the projection, on the
# direction in which stating the ordinal moves the base, of the shift of a held-out code (044) less that of trained ones
PREDICTED = {
    "seeds differ": (
        "Seeds that differ in nothing but chance end differently: the standard deviation of their shares is above .05.",
        "its interval lies below .05",
    ),
    "reading the code does not tell": (
        "Whether a held-out code is taken for its president inside does not tell seeds apart, since all read it: its"
        " rank correlation with the end is below .5.",
        "the interval of the rank correlation lies above .5",
    ),
    "the direction foretells": (
        "How far held-out codes have moved in the direction of their president at the last early step foretells the"
        " end: rank correlation of .5 or more on held-out seeds.",
        "the interval of the rank correlation lies below .5",
    ),
    "asking foretells": (
        "So does asking at that step, on validation attributes: rank correlation of .5 or more.",
        "the interval of the rank correlation lies below .5",
    ),
    "better than the loss": (
        "The direction foretells it better than the loss on the trained rows does, as in the paper, whose training"
        " curves tell nothing.",
        "the interval of the difference of the rank correlations lies below 0",
    ),
    "all quantities": (
        "All quantities of the last early step together foretell better than the same fit to shuffled seeds.",
        "the interval of the rank correlation minus the mean shuffled one lies below 0",
    ),
}
RANK = "rank correlation on held-out seeds"


def split_findings(
    rows: Sequence[Mapping[str, Any]], early: Sequence[int], layer: int, seed: int, first: int
) -> list[Finding]:
    """All findings, from rows of step, metric, seed and value; `layer` is where the direction is read, the `first`
    seeds are fitted on."""
    direction, last = f"projection, layer {layer}", early[-1]
    told = forecasts(rows, early, FINAL, first)
    values, end, single = told.values, told.end, told.single
    ranks = ranks_figure(told.names, early, single, told.all_of, seed)
    scatter = _scatter(values[last, direction], end, f"projection at layer {layer}, in typical norms", last, first)
    found: list[Finding] = []

    def add(name: str, verdict: str, claim: str, value: Estimate, unit: str, figure: Mapping[str, Any]) -> None:
        prediction, refuted_if = PREDICTED[name]
        found.append(Finding(name, prediction, refuted_if, verdict, claim, value, unit, "seeds", figure))

    value = spread(end, seed=seed)
    sides = f"{int((end > SIDE).sum())} end above {SIDE:g}, {int((end <= SIDE).sum())} do not"
    claim = (
        f"Final shares of {len(end)} seeds go from {end.min():.2f} to {end.max():.2f} (mean {end.mean():.2f}; {sides});"
        f" standard deviation {shown(value)}."
    )
    add("seeds differ", above(value, 0.05), claim, value, "standard deviation of shares", scatter)

    predictors: tuple[tuple[str, str, str, Callable[[Estimate], str]], ...] = (
        ("reading the code does not tell", READ, f"of the {READ}", lambda e: below(e, 0.5)),
        ("the direction foretells", direction, "of the direction", lambda e: reaches(e, 0.5)),
        ("asking foretells", ASKED, "of the share on validation attributes", lambda e: reaches(e, 0.5)),
    )
    for name, quantity, what, verdict in predictors:
        one = single[last, quantity]
        value = rank_estimate(one, seed=seed)
        start, stop = values[last, quantity].min(), values[last, quantity].max()
        claim = (
            f"Rank correlation {what} after {last} steps (from {start:.2f} to {stop:.2f} over seeds) with the end,"
            f" held-out seeds: {shown(value)}; R² of the fit there {shown(r2_estimate(one, seed=seed))}."
        )
        add(name, verdict(value), claim, value, RANK, scatter if quantity == direction else ranks)

    value, claim = apart(told, direction, LOSS, "loss on the trained rows", seed)
    add("better than the loss", above(value, 0.0), claim, value, f"difference of {RANK}", ranks)

    value, claim = beside_shuffled(told, seed)
    add("all quantities", above(value, 0.0), claim, value, f"{RANK}, minus shuffled", ranks)
    return found


def _scatter(early: Any, end: Any, x: str, last: int, first: int) -> dict[str, Any]:
    fitted, held_out = halves(len(end), first)
    sides = {name: (early[at].tolist(), end[at].tolist()) for name, at in (("fitted", fitted), ("held out", held_out))}
    title = f"How far held-out codes have gone towards their president after {last} steps, and where seeds end"
    return json.loads(
        forecast_scatter(sides, title=title, x=x, y="final share of the president, test attributes").to_json()
    )
