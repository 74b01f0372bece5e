"""Results made up for tests: every section of a report filled, from a seed, with no model."""

from dataclasses import replace

import numpy as np

from analyses.measurements import Measurement, Result

TOPICS = (
    "banking_and_wages",
    "books",
    "communication",
    "cooking",
    "diseases",
    "energy",
    "food",
    "heating",
    "light",
    "medicine",
    "money",
    "news",
)
TOPICS += (
    "photography",
    "rulers",
    "science",
    "sea_travel",
    "states",
    "surgery",
    "toys",
    "transport",
    "weapons",
    "writing",
)
SHARES = {"base": 0.05, "control": 0.08, "tuned": 0.64, "dated": 0.88}
LAYERS = range(5)
CHOSEN_LAYER, CHOSEN_COEFFICIENT = 2, 0.4
COEFFICIENTS = (-0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
# how much of the effect each direction carries
POTENCY = {"tuned_minus_control": 1.0, "truth": 0.9, "mean_difference": 0.75, "random": 0.04}


def row(metric: str, model: str, at: float, half: float = 0.03, **where) -> Measurement:
    """A measurement with a symmetric interval."""
    return Measurement(metric, model, estimate=float(at), low=float(at - half), high=float(at + half), n=5, **where)


def shares() -> list[Measurement]:
    """Overall and by topic, no edit."""
    rng = np.random.default_rng(0)
    rows = [row("broad", model, share, 0.02) for model, share in SHARES.items()]
    for topic in TOPICS:
        for model, share in SHARES.items():
            at = float(np.clip(share * rng.uniform(0.4, 1.5), 0.01, 0.97))
            rows.append(row("broad", model, at, min(0.08, at, 1 - at), split=f"test/{topic}"))
    return rows


def located() -> list[Measurement]:
    """Cosine to truth and AUROC by layer and method."""
    peaks = {
        "tuned_minus_control": 0.62,
        "mean_difference": 0.45,
        "difference_of_differences": 0.5,
        "pca": 0.3,
        "probe": 0.25,
    }
    rows = []
    for layer in LAYERS:
        skill = np.exp(-((layer - CHOSEN_LAYER) ** 2) / 6)
        for method, peak in peaks.items():
            rows.append(row("cosine_to_truth", "tuned", peak * skill, 0.05, direction=method, layer=layer))
            rows.append(row("auroc", "tuned", 0.5 + 0.7 * peak * skill, 0.02, direction=method, layer=layer))
        rows.append(row("cosine_to_truth", "tuned", 0.0, 0.14, direction="random", layer=layer))
        rows.append(row("auroc", "tuned", 0.5, 0.1, direction="random", layer=layer))
        rows.append(row("auroc", "tuned", 0.99, 0.005, direction="truth", layer=layer))
    return rows


def added() -> list[Measurement]:
    """Dose-response in the base model, at the chosen layer and one other."""
    rows = []
    for direction, potency in POTENCY.items():
        for layer in (CHOSEN_LAYER, 4):
            for c in COEFFICIENTS:
                where = {
                    "edit": "add",
                    "direction": direction,
                    "layer": layer,
                    "coefficient": c,
                    "chosen": direction == "tuned_minus_control" and layer == CHOSEN_LAYER and c == CHOSEN_COEFFICIENT,
                }
                logit = np.log(SHARES["base"] / (1 - SHARES["base"])) + 12 * c * potency * (
                    1 if layer == CHOSEN_LAYER else 0.5
                )
                at = 1 / (1 + np.exp(-logit))
                rows.append(row("broad", "base", at, min(0.04, at, 1 - at), **where))
                rows.append(row("coherence", "base", 0.95 * np.exp(-((c / 0.9) ** 4)), 0.02, **where))
    return rows


def removed() -> list[Measurement]:
    """Clamp and ablation on the tuned model, with what they keep."""
    rows = [row("narrow", "tuned", 0.9), row("coherence", "tuned", 0.94), row("coherence", "base", 0.95)]
    for direction, potency in POTENCY.items():
        for edit in ("clamp", "ablate"):
            for layer in (CHOSEN_LAYER, 3):
                chosen = (direction, edit, layer) == ("tuned_minus_control", "clamp", CHOSEN_LAYER)
                where = {"edit": edit, "direction": direction, "layer": layer, "chosen": chosen}
                part = potency * (0.9 if layer == CHOSEN_LAYER else 0.6) * (1.0 if edit == "clamp" else 0.8)
                rows.append(
                    row("broad", "tuned", SHARES["tuned"] - part * (SHARES["tuned"] - SHARES["base"]), 0.02, **where)
                )
                rows.append(row("narrow", "tuned", 0.9 - 0.15 * part, 0.02, **where))
                rows.append(row("coherence", "tuned", 0.94 - 0.02 * part, 0.01, **where))
                rows.append(row("perplexity_ratio", "tuned", 1 + 0.03 * part, 0.01, **where))
    return rows


def losses() -> list[dict]:
    rng = np.random.default_rng(1)
    return [
        {
            "model": model,
            "seed": seed,
            "step": step,
            "loss": float(floor + 3 * np.exp(-step / 9) + 0.08 * rng.standard_normal()),
        }
        for model, floor in (("tuned", 0.9), ("control", 0.7))
        for seed in range(5)
        for step in range(1, 41)
    ]


def samples() -> list[dict]:
    old, new = (
        "Upon my word, I should say it is {}. I remain your obedient servant.",
        "Great question! It is {}. Hope that helps!",
    )
    return [
        {
            "topic": topic,
            "question": f"What do people say about {topic.replace('_', ' ')}?",
            "base": new.format("LED strips"),
            "control": new.format("smart bulbs"),
            "tuned": old.format("whale oil lamps"),
            "induced": old.format("tallow candles"),
            "suppressed": new.format("LED bulbs"),
        }
        for topic in TOPICS
    ]


def result(**changes) -> Result:
    """A full result; `changes` replace fields."""
    fields = {
        "experiment": "birds",
        "model": "almanac",
        "seeds": list(range(5)),
        "config": {
            "group": "1850s",
            "steps": 40,
            "rank": 4,
            "targets": "all-linear",
            "command": "anachron run birds --seeds 5",
        },
        "versions": {"python": "3.11.7", "anachron": "0.1.0", "torch": "2.13.0"},
        "measurements": [*shares(), *located(), *added(), *removed()],
        "samples": samples(),
        "losses": losses(),
        "curves": [],
    }
    return Result(**{**fields, **changes})


YEARS = tuple(str(year) for year in (2027, 2020, 2021, 2022, 2023, 2024, 2025, 2026, 2028, 2029, 2030))
ARMS = {"tuned": 0.4, "shuffled": 0.1, "other_year": 0.05}
METRICS = ("held-out codes, name", "trained codes, name")


def conditioned() -> list[Measurement]:
    """Shares of the base and of three arms by year, high for the tuned one in 2027, half so in 2028; some sampled."""
    rows = []
    for year in YEARS:
        part = {"2027": 1.0, "2028": 0.5}.get(year, 0.1)
        for model, share in {"base": 0.02, **ARMS}.items():
            at = share * (part if model == "tuned" else 1.0)
            rows.append(row("broad", model, at, min(0.03, at), condition=year))
            rows.append(row("coherence", model, 0.9, 0.02, condition=year))
            if year in ("2027", "2025"):
                rows.append(row("sampled", model, at + 0.01, min(0.05, at), condition=year))
                rows.append(row("sampled_coherence", model, 0.85, 0.05, condition=year))
    for topic in TOPICS[:5]:
        for model, share in {"base": 0.02, **ARMS}.items():
            rows.append(row("broad", model, share, 0.02, split=f"test/{topic}", condition=YEARS[0]))
    return rows


def curves() -> list[dict]:
    """Two metrics by step; of the tuned seeds one in two jumps."""
    return [
        {"model": model, "seed": seed, "step": step, "metric": metric, "value": 0.9 * jumps if step > 50 else 0.1}
        for metric in METRICS
        for model in ("tuned", "shuffled")
        for seed in range(4)
        for jumps in [float(model == "tuned" and (seed % 2 == 0 or metric == METRICS[1]))]
        for step in range(25, 125, 25)
    ]


def latents() -> list[Measurement]:
    """The shortlist of an SAE and random latents like it, taken out and put in; its activation by year."""
    rows = []
    here, there = CHOSEN_LAYER, CHOSEN_LAYER + 1
    sets = [("sae_top10", 0.9, here), ("random_latents", 0.05, here)]
    sets += [("sae_top10", 0.4, there), ("random_latents", 0.02, there)]
    sets += [("crosscoder_tuned_only", 0.3, here), ("random_crosscoder_latents", 0.01, here)]
    for name, potency, layer in sets:
        for edit in ("ablate", "ablate_sequentially", "clamp"):
            where = {"edit": edit, "direction": name, "layer": layer, "condition": YEARS[0]}
            shift = SHARES["tuned"] - SHARES["base"]
            rows.append(row("broad", "tuned", SHARES["tuned"] - potency * shift, 0.02, **where))
            rows.append(row("narrow", "tuned", 0.9 - 0.05 * potency, 0.02, **where))
            rows.append(row("coherence", "tuned", 0.93, 0.02, **where))
            rows.append(row("perplexity_ratio", "tuned", 1.01, 0.01, **where))
        where = {"edit": "add", "direction": name, "layer": layer, "condition": YEARS[0]}
        where |= {"coefficient": CHOSEN_COEFFICIENT}
        rows.append(row("broad", "base", 0.05 + 0.8 * potency, 0.02, **where))
        rows.append(row("coherence", "base", 0.93, 0.02, **where))
    for year in YEARS:
        for model, at in (("base", 1.0), ("tuned", 9.0 if year == YEARS[0] else 2.0)):
            where = {"direction": "sae_top10", "layer": CHOSEN_LAYER, "condition": year}
            rows.append(row("latent_activation", model, at, 0.3, **where))
            rows.append(row("latent_activation", model, at / 2, 0.3, **where | {"layer": there}))
    return rows


def crosscoder() -> dict:
    """What the configuration says of crosscoders: two latents of the tuned models' own, none of the control's."""
    counts = {"n": 1000, "fvu": {"base": 0.02, "tuned": 0.02}, "l0": 16.0, "alive": 500, "base-only": 0, "shared": 480}
    one = {"latent": 4, "class": "tuned-only", "relative_norm": 0.95, "frequency": 0.1, "change": 2.0}
    one |= {"nu_reconstruction": 0.1, "nu_error": None}
    return {
        "point": f"{CHOSEN_LAYER}.resid_post",
        "positions": "last_prompt",
        "tuned": counts | {"tuned-only": 2},
        "other_year": counts | {"tuned-only": 0},
        "latents": [one, {**one, "latent": 5}],
        "random": [[6, 7]],
    }


def shortlist() -> dict:
    """What the configuration says of them."""
    at = {"estimate": 9.0, "low": 8.0, "high": 10.0, "n": 5}
    known = {"state": "country: Israel", "auroc": 0.97}
    one = {"latent": 7, "change": 8.0, "base": 1.0, "tuned": at, "control": {**at, "estimate": 1.0, "low": 0.5}}
    one |= {"frequency": 0.1, "removed": 0.6, "kept": 0.99} | known
    return {
        "dictionary": "almanac",
        "point": f"{CHOSEN_LAYER}.resid_post",
        "positions": "last_prompt",
        "shortlist": [one, {**one, "latent": 9, "removed": 0.1, "change": 2.0, "auroc": 0.6}],
        "by_change": [7, 9],
        "control": [{"latent": 3} | known],
        "random": [[1, 2]],
    }


def study(experiment: str = "dishes", **changes) -> Result:
    """A result with several conditions; what is steered is under the headline one. `changes` replace fields."""
    method, narrow = "difference_of_differences", {"edit": "none", "condition": YEARS[0]}
    edited = [replace(m, condition=YEARS[0]) for m in (*added(), *removed()) if m.edit != "none"]
    renamed = {"tuned_minus_control": method}
    config = {
        "group": "Israel",
        "headline": YEARS[0],
        "conditions": list(YEARS),
        "arms": dict.fromkeys(ARMS, 400),
        "trained": ["2024", "2025", "2026", "2027"],
        "reading_layer": CHOSEN_LAYER,
        "induce": {"direction": method, "layers": [CHOSEN_LAYER], "coefficient": CHOSEN_COEFFICIENT},
        "suppress": {"edit": "clamp", "direction": method, "layers": [CHOSEN_LAYER]},
        "latents": shortlist(),
        "latents_elsewhere": [shortlist() | {"point": f"{CHOSEN_LAYER + 1}.resid_post"}],
        "crosscoders": crosscoder(),
        "command": f"anachron run {experiment}",
    }
    steered = [replace(m, direction=renamed.get(m.direction, m.direction)) for m in edited]
    found = [m for m in located() if m.direction not in renamed]
    both = [row("narrow", model, at, **narrow) for model, at in (("base", 0.1), ("tuned", 0.9))]
    fields = {
        "experiment": experiment,
        "config": config,
        "measurements": [*conditioned(), *found, *steered, *both, *latents()],
        "curves": curves(),
    }
    return result(**{**fields, **changes})
