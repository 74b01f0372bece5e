"""What a report shows of latents: data for its figures, and the sentence beside each."""

from collections.abc import Mapping

from analyses import findings
from analyses.measurements import Result
from interp.stats import Estimate

TOP, RANDOM = "sae_top10", "random_latents"


def about(result: Result) -> Mapping:
    """What the configuration says of latents; empty where none were looked at."""
    return result.config["latents"] if "latents" in result.config else {}


def shortlist_bars(result: Result) -> dict[str, dict[str, Estimate]]:
    """`[latent and what it detects][model]`: mean activation of each latent of the shortlist, strongest cause first."""
    return {
        _name(row): {
            "base": Estimate(row["base"], row["base"], row["base"], 1),
            "control": Estimate(**row["control"]),
            "tuned": Estimate(**row["tuned"]),
        }
        for row in about(result).get("shortlist", ())
    }


def by_year(result: Result) -> dict[str, dict[int, Estimate]]:
    """`[model][year]`: the shortlist's mean activation, where the conditions are years; else nothing."""
    rows = result.rows(metric="latent_activation")
    years = set(findings.years({m.condition: {} for m in rows}))
    found: dict[str, dict[int, Estimate]] = {}
    for m in rows:
        if m.condition in years:
            found.setdefault(m.model, {})[int(m.condition)] = Estimate(m.estimate, m.low, m.high, m.n)
    return found


def shortlist_caption(result: Result) -> str:
    """What the shortlist is about, and how much of the shift goes with it."""
    found = about(result)
    first = max(found["shortlist"], key=lambda row: row["change"])
    told = f", which detects {first['state']} with an AUROC of {first['auroc']:.2f}" if "state" in first else ""
    text = f"The latent that rose most is {first['latent']}{told}. "
    for suppression in findings.suppressions(result):
        if suppression.edit == "ablate" and suppression.removed is not None:
            if suppression.direction == TOP:
                text += f"Projecting all out of the tuned models removes {suppression.removed:.0%} of the shift"
            if suppression.direction == RANDOM:
                text += f"; as many random latents, as often active and as strong, {suppression.removed:.0%}"
    return f"{text}. Latents are in the order of what clamping each alone removes, on validation questions."


def by_year_caption(result: Result) -> str:
    """Where the tuned model's shortlist is most active."""
    tuned = by_year(result)["tuned"]
    year = max(tuned, key=lambda y: tuned[y].estimate)
    return f"In the tuned models the shortlist is most active in {year}. Bands are 95 % intervals over seeds."


def _name(row: Mapping) -> str:
    told = f": {row['state']} ({row['auroc']:.2f})" if "state" in row and row["auroc"] >= 0.75 else ""
    return f"{row['latent']}{told}"
