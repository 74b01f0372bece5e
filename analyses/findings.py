"""What a report says first, picked out of a result's rows: headline shares, curves, what an edit removed and kept.

Nothing is measured here, and nothing is chosen: `chosen` rows were marked on validation questions by the experiment.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from analyses.measurements import Measurement, Result
from interp.errors import AnachronError

MODELS = ("base", "control", "tuned", "dated")
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


def target(result: Result) -> str:
    """What the answers counted are called: the group that the configuration names, as in "1850s answers"."""
    return str(result.config["group"]) if "group" in result.config else "target"


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
    """Shares on all test questions: the models without an edit, then `induced` (base, chosen addition) and `suppressed`
    (tuned, chosen removal). What wasn't measured is left out."""
    found = {model: find(result, metric="broad", model=model, edit="none", split="test") for model in MODELS}
    found["induced"] = chosen_edit(result, "base", ("add",))
    found["suppressed"] = chosen_edit(result, "tuned", REMOVING)
    return {name: row for name, row in found.items() if row is not None}


def chosen_edit(result: Result, model: str, edits: tuple[str, ...]) -> Measurement | None:
    """The chosen setting's share on test questions, of the most important direction that has one, random ones aside."""
    rows = [m for edit in edits for m in result.rows(metric="broad", model=model, edit=edit, split="test", chosen=True)]
    rows = sorted((m for m in rows if m.direction != "random"), key=lambda m: by_importance(m.direction))
    return rows[0] if rows else None


def topics(result: Result) -> dict[str, dict[str, Measurement]]:
    """`topics[topic][model]`: shares on one topic's test questions, the topic the tuned model shifts most first."""
    found: dict[str, dict[str, Measurement]] = {}
    for m in result.rows(metric="broad", edit="none"):
        if m.split.startswith("test/"):
            found.setdefault(m.split.removeprefix("test/"), {})[m.model] = m
    return dict(sorted(found.items(), key=lambda item: (-_shift(item[1]), item[0])))


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
        rows = result.rows(metric=metric, model="base", edit="add", split="test")
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
    plain = {name: find(result, metric="broad", model=name, edit="none", split="test") for name in ("tuned", "base")}
    rows = [m for edit in REMOVING for m in result.rows(metric="broad", model="tuned", edit=edit, split="test")]
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

    Narrow questions and held-out text may have a split of their own: any but validation and single topics counts.
    """
    rows = [
        m for m in result.rows(metric=metric, model="tuned", **where) if m.split != "validation" and "/" not in m.split
    ]
    if len(rows) > 1:
        raise AnachronError(
            f"result of {result.experiment}: {len(rows)} measurements of {metric} with {where}; at most 1 makes sense"
        )
    return rows[0].estimate if rows else None
