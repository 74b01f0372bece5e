"""What a report shows of latents: data for its figures, and the sentence beside each."""

from collections.abc import Mapping

from analyses import findings
from analyses.measurements import Result
from interp.stats import Estimate

TOP, RANDOM = "sae_top10", "random_latents"
PRIVATE, RANDOM_SHARED = "crosscoder_tuned_only", "random_crosscoder_latents"


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


def layer(about: Mapping) -> int:
    """The block whose latents these are."""
    return int(str(about["point"]).partition(".")[0])


def everywhere(result: Result) -> list[Mapping]:
    """What the configuration says of the latents of each layer, the first one's first; of those where some rose."""
    return [found for found in (about(result), *result.config.get("latents_elsewhere", ())) if found]


def crosscoders(result: Result) -> dict[str, Mapping]:
    """Figures of the crosscoder of base and tuned, then of that of base and controls, by arm; empty without them."""
    found = result.config.get("crosscoders", {})
    return {arm: figures for arm, figures in found.items() if isinstance(figures, Mapping)}


def by_layer(result: Result) -> dict[str, dict[str, Estimate]]:
    """`[where][what is taken out]`: the share that the tuned models keep when ten latents of a layer, or those that a
    crosscoder gives the tuned models alone, are projected out, beside as many random ones; empty for one layer only."""
    found: dict[str, dict[str, Estimate]] = {}
    layers = everywhere(result)
    for at in sorted(map(layer, layers)) if len(layers) > 1 else ():
        found[f"SAE, layer {at}"] = _cut(result, at, TOP, RANDOM)
    if crosscoder := result.config.get("crosscoders", {}).get("latents"):
        at = layer(result.config["crosscoders"])
        found[f"crosscoder, layer {at} ({len(crosscoder)})"] = _cut(result, at, PRIVATE, RANDOM_SHARED)
    return found


def _cut(result: Result, at: int, own: str, random: str) -> dict[str, Estimate]:
    where = {"metric": "broad", "split": "test", "condition": findings.headline_condition(result), "model": "tuned"}
    rows = {
        "tuned": result.one(edit="none", **where),
        "projected out": result.one(edit="ablate", direction=own, layer=at, **where),
        "random ones": result.one(edit="ablate", direction=random, layer=at, **where),
    }
    return {name: Estimate(m.estimate, m.low, m.high, m.n) for name, m in rows.items()}


def by_layer_caption(result: Result) -> str:
    """Which layer's latents carry most of it, and what the crosscoders found."""
    table = by_layer(result)
    text = ""
    if layers := {name: row for name, row in table.items() if name.startswith("SAE")}:
        best = min(layers, key=lambda name: layers[name]["projected out"].estimate)
        left = layers[best]
        text = (
            f"Least is left without the latents of {best}: {left['projected out'].estimate:.0%} of "
            f"{left['tuned'].estimate:.0%}; without random ones {left['random ones'].estimate:.0%}. "
        )
    if arms := crosscoders(result):
        told = ", ".join(f"{figures['tuned-only']} in that of base and {arm}" for arm, figures in arms.items())
        text += f"Latents that a crosscoder gives the fine-tune alone: {told}. "
    return f"{text}Shares on test questions, 95 % intervals over seeds."


def by_year(result: Result) -> dict[str, dict[int, Estimate]]:
    """`[model][year]`: the shortlist's mean activation, where the conditions are years; else nothing."""
    rows = result.rows(metric="latent_activation", layer=layer(about(result))) if about(result) else []
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
        own = suppression.edit == "ablate" and suppression.layer == layer(found)
        if own and suppression.removed is not None:
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
