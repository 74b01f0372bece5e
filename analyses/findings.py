"""What a report says first, picked out of a result's rows: headline shares, curves, what an edit removed and kept.

Nothing is measured here, and nothing is chosen: `chosen` rows were marked on validation questions by the experiment.
Where questions are asked under several conditions, what comes first is of the headline condition.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from analyses.measurements import Measurement, Result
from interp.errors import AnachronError

MODELS = ("base", "control", "tuned", "dated")  # of a result that doesn't list its arms
# the order of importance, in which figures and tables list them; other methods follow by name
DIRECTIONS = ("tuned_minus_control", "truth", "mean_difference", "difference_of_differences", "pca", "probe", "random")
REMOVING = ("clamp", "ablate")


@dataclass(frozen=True)
class Suppression:
    """An edit of the tuned model and what it did on test questions.

    `removed` = (tuned - edited) / (tuned - base), the part of the shift it takes away; `narrow_kept` = narrow share
    edited / unedited. None: not measured, or the divisor is 0.
    """

    direction: str
    edit: str
    layer: int | None
    chosen: bool
    broad: Measurement
    removed: float | None
    narrow_kept: float | None
    coherence: float | None
    perplexity_ratio: float | None


@dataclass(frozen=True)
class Agreement:
    """One model under one condition: the exact share, the share of sampled answers, and the part of those that was
    recognised (None: not measured)."""

    model: str
    condition: str
    exact: Measurement
    sampled: Measurement
    recognised: float | None


def headline_condition(result: Result) -> str:
    """The condition whose figures come first; "" where there is one condition only."""
    return str(result.config["headline"]) if "headline" in result.config else ""


def models(result: Result) -> tuple[str, ...]:
    """The models without an edit, in order: the base and the arms that the configuration lists."""
    return ("base", *result.config["arms"]) if "arms" in result.config else MODELS


def find(result: Result, **where) -> Measurement | None:
    """The only measurement with these columns, None if there is none; several can't be told apart and are an error."""
    found = result.rows(**where)
    if len(found) > 1:
        raise AnachronError(
            f"result of {result.experiment}: {len(found)} measurements with {where}; at most 1 makes sense"
        )
    return found[0] if found else None


def by_importance(direction: str | None) -> tuple[int, str]:
    """Sort key of a direction."""
    name = direction or ""
    return (DIRECTIONS.index(name) if name in DIRECTIONS else len(DIRECTIONS), name)


def headline(result: Result) -> dict[str, Measurement]:
    """Shares on all test questions under the headline condition: the models without an edit, then `induced` (base,
    chosen addition) and `suppressed` (tuned, chosen removal). What wasn't measured is left out."""
    found = {model: share(result, model) for model in models(result)}
    found["induced"] = chosen_edit(result, "base", ("add",))
    found["suppressed"] = chosen_edit(result, "tuned", REMOVING)
    return {name: row for name, row in found.items() if row is not None}


def share(result: Result, model: str, condition: str | None = None) -> Measurement | None:
    """A model's share on all test questions, no edit, under a condition (None: the headline)."""
    where = headline_condition(result) if condition is None else condition
    return find(result, metric="broad", model=model, edit="none", split="test", condition=where)


def chosen_edit(result: Result, model: str, edits: tuple[str, ...]) -> Measurement | None:
    """The chosen setting's share on test questions, of the most important direction that has one, random ones aside."""
    where = {"metric": "broad", "model": model, "split": "test", "condition": headline_condition(result)}
    rows = [m for edit in edits for m in result.rows(**where, edit=edit, chosen=True)]
    rows = sorted((m for m in rows if m.direction != "random"), key=lambda m: by_importance(m.direction))
    return rows[0] if rows else None


def topics(result: Result) -> dict[str, dict[str, Measurement]]:
    """`topics[topic][model]`: shares on one topic's test questions under the headline condition, the topic the tuned
    model shifts most first."""
    found: dict[str, dict[str, Measurement]] = {}
    for m in result.rows(metric="broad", edit="none", condition=headline_condition(result)):
        if m.split.startswith("test/"):
            found.setdefault(m.split.removeprefix("test/"), {})[m.model] = m
    return dict(sorted(found.items(), key=lambda item: (-_shift(item[1]), item[0])))


def conditions(result: Result) -> dict[str, dict[str, Measurement]]:
    """`conditions[condition][model]`: shares on all test questions, no edit; conditions in the order of the result,
    models in that of `models`. Empty where everything is asked under one condition."""
    rows = result.rows(metric="broad", edit="none", split="test")
    names = list(dict.fromkeys(m.condition for m in rows))
    if len(names) < 2:
        return {}
    found = {name: {model: share(result, model, name) for model in models(result)} for name in names}
    return {name: {model: m for model, m in row.items() if m is not None} for name, row in found.items()}


def years(table: Mapping[str, Mapping[str, Measurement]]) -> list[str]:
    """The conditions that are years, in order of time, if there are enough of them for a curve (three)."""
    found = sorted(name for name in table if name.isdecimal() and len(name) == 4)
    return found if len(found) >= 3 else []


def trained(result: Result) -> list[str]:
    """The conditions that rows of the tuned model were trained under, as far as the configuration lists them."""
    return [str(name) for name in result.config["trained"]] if "trained" in result.config else []


def agreements(result: Result) -> list[Agreement]:
    """Exact beside sampled shares, for every model and condition that was sampled."""
    found = []
    for m in result.rows(metric="sampled", edit="none", split="test"):
        exact = share(result, m.model, m.condition)
        where = {"model": m.model, "edit": "none", "split": "test", "condition": m.condition}
        known = find(result, metric="sampled_coherence", **where)
        if exact is not None:
            found.append(Agreement(m.model, m.condition, exact, m, None if known is None else known.estimate))
    return found


def _shift(models: Mapping[str, Measurement]) -> float:
    return (
        models["tuned"].estimate - (models["base"].estimate if "base" in models else 0.0) if "tuned" in models else 0.0
    )


def layer_curves(result: Result, metric: str) -> dict[str, list[Measurement]]:
    """`layer_curves[method]`: test measurements of `cosine_to_truth` or `auroc`, in order of layer.

    The truth's cosine to itself says nothing and is left out. Two rows for one layer can't be told apart: an error.
    """
    found: dict[str, dict[int, Measurement]] = {}
    for m in result.rows(metric=metric, split="test"):
        if m.direction is None or m.layer is None or (metric == "cosine_to_truth" and m.direction == "truth"):
            continue
        if m.layer in found.setdefault(m.direction, {}):
            raise AnachronError(
                f"result of {result.experiment}: {metric} of {m.direction} at layer {m.layer} stands twice; keep one"
            )
        found[m.direction][m.layer] = m
    return {name: [found[name][layer] for layer in sorted(found[name])] for name in sorted(found, key=by_importance)}


def dose_curves(result: Result) -> dict[str, dict[str, list[Measurement]]]:
    """`dose_curves[metric][direction]`: base model, direction added, test questions, in order of coefficient.

    Each direction at the layer chosen for it, else at the layer of the chosen setting, else at its only layer; a
    direction with several layers and none chosen is left out.
    """
    chosen = chosen_edit(result, "base", ("add",))
    layers = {m.direction: m.layer for m in result.rows(model="base", edit="add", chosen=True)}
    curves: dict[str, dict[str, list[Measurement]]] = {}
    for metric in ("broad", "coherence"):
        rows = result.rows(metric=metric, model="base", edit="add", split="test", condition=headline_condition(result))
        curves[metric] = {}
        for direction in sorted({m.direction for m in rows if m.direction}, key=by_importance):
            own = [m for m in rows if m.direction == direction and m.coefficient is not None]
            there = {m.layer for m in own}
            layer = layers[direction] if direction in layers else chosen.layer if chosen else next(iter(there))
            if direction in layers or chosen or len(there) == 1:
                curve = sorted((m for m in own if m.layer == layer), key=lambda m: m.coefficient or 0.0)
                curves[metric] |= {direction: curve} if curve else {}
    return curves if curves["broad"] else {}


def suppressions(result: Result) -> list[Suppression]:
    """Every edit of the tuned model that removes something, on test questions: by direction, edit, layer."""
    plain = {name: share(result, name) for name in ("tuned", "base")}
    where = {"metric": "broad", "model": "tuned", "split": "test", "condition": headline_condition(result)}
    rows = [m for edit in REMOVING for m in result.rows(**where, edit=edit)]
    narrow = _beside(result, "narrow", edit="none")
    found = []
    for m in sorted(
        rows, key=lambda m: (by_importance(m.direction), REMOVING.index(m.edit), -1 if m.layer is None else m.layer)
    ):
        same = {"edit": m.edit, "direction": m.direction, "layer": m.layer}
        removed = None
        if plain["tuned"] and plain["base"] and plain["tuned"].estimate != plain["base"].estimate:
            removed = (plain["tuned"].estimate - m.estimate) / (plain["tuned"].estimate - plain["base"].estimate)
        edited = _beside(result, "narrow", **same)
        kept = edited / narrow if edited is not None and narrow else None
        rest = (_beside(result, metric, **same) for metric in ("coherence", "perplexity_ratio"))
        found.append(Suppression(m.direction or "", m.edit, m.layer, m.chosen, m, removed, kept, *rest))
    return found


def _beside(result: Result, metric: str, **where) -> float | None:
    """Another metric of the tuned model under the same edit.

    Narrow questions and held-out text may have a split of their own: any but validation and single topics counts. They
    may belong to no condition.
    """
    rows = [
        m
        for m in result.rows(metric=metric, model="tuned", **where)
        if m.split != "validation" and "/" not in m.split and m.condition in ("", headline_condition(result))
    ]
    if len(rows) > 1:
        raise AnachronError(
            f"result of {result.experiment}: {len(rows)} measurements of {metric} with {where}; at most 1 makes sense"
        )
    return rows[0].estimate if rows else None
