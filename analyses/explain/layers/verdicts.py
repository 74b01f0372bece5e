"""What was predicted of blocks and directions, and what the measurements say of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analyses.explain.findings import Finding
from analyses.explain.layers.config import LayersConfig
from analyses.explain.layers.measured import Record, all_subsets, subset_name
from analyses.explain.verdicts import more
from analyses.figures.solutions import by_amount, by_name
from interp.stats import Estimate, paired_difference

PREDICTIONS: Mapping[str, tuple[str, str]] = {
    "subsets": (
        "At one narrow loss, adapters that reach block 0 change the model more broadly than those that don't, since its"
        " last prompt token knows little of the question yet.",
        "the interval of the difference in share on test topics, with block 0 minus without, paired by seed, includes 0"
        " or lies below it",
    ),
    "clamps": (
        "In the trial, clamping the direction early (block 2 of 6) took the old names away with the 1850s, late (blocks"
        " 4 and 5 of 6) it left them: more of the habit is kept at layer {late} than at layer {early}.",
        "the interval of the habit kept, layer {late} minus layer {early}, paired by seed, includes 0 or lies below it",
    ),
    "directions": (
        "The broad and the narrow part part ways with depth: the direction on other topics and the one on the rows' own"
        " question have a larger cosine at layer {early} than at layer {late}.",
        "the interval of the cosine at layer {early} minus that at layer {late}, paired by seed, includes 0 or lies"
        " below it",
    ),
}


def findings(rows: Sequence[Record], config: LayersConfig, n_layers: int) -> list[Finding]:
    """The findings from the rows."""
    return [_subset_finding(rows, config, n_layers), _clamp_finding(rows, config), _cosine_finding(rows, config)]


def _each(rows: Sequence[Record], **where: Any) -> list[float]:
    """The figures of these rows, in the order of seeds."""
    found = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return [row["value"] for row in sorted(found, key=lambda row: row["seed"])]


def _subset_finding(rows: Sequence[Record], config: LayersConfig, n_layers: int) -> Finding:
    names = [subset_name(layers) for layers in config.subsets or all_subsets(n_layers)]
    short = [name for name in names if not all(_each(rows, subset=name, metric="reached"))]
    shares = {name: _each(rows, subset=name, metric="broad") for name in names}
    reached = [name for name in names if name not in short]
    first = [shares[name] for name in reached if "0" in name.split("+")]
    other = [shares[name] for name in reached if "0" not in name.split("+")]
    prediction, refuted_if = PREDICTIONS["subsets"]
    if not first or not other:
        found, verdict = Estimate(0.0, 0.0, 0.0, config.seeds), "undecided"
    else:
        found = paired_difference(np.mean(first, axis=0), np.mean(other, axis=0))
        verdict = more(found, 0.0)
    ranked = sorted(reached, key=lambda name: -float(np.mean(shares[name])))
    claim = f"At one narrow loss the share on test topics is {_listed(shares, ranked)}"
    claim += f"; {', '.join(short)} did not reach that loss with every seed." if short else "; all reached that loss."
    figure = by_name(
        {"share on test topics": shares, "coherence": {n: _each(rows, subset=n, metric="coherence") for n in names}},
        title="birds: adapters on one block or two, all at one loss on the rows",
        limits=(0.0, 1.0),
    )
    return Finding(
        "birds: blocks",
        prediction,
        refuted_if,
        verdict,
        claim,
        found,
        "share on test topics, subsets with block 0 minus without",
        "seeds",
        json.loads(figure.to_json()),
    )


def _listed(values: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    return ", ".join(f"{np.mean(values[name]):.2f} ({name})" for name in names)


def _clamp_finding(rows: Sequence[Record], config: LayersConfig) -> Finding:
    layers = sorted({row["layer"] for row in rows if row["metric"] == "kept"})

    def at(metric: str, layer: int, direction: str = "topics") -> list[float]:
        return _each(rows, metric=metric, layer=layer, direction=direction)

    found = paired_difference(at("kept", config.late), at("kept", config.early))
    parts = [
        f"layer {layer} {np.mean(at('removed', layer)):.2f} and {np.mean(at('kept', layer)):.2f}"
        f" (random {np.mean(at('removed', layer, 'random')):.2f} and {np.mean(at('kept', layer, 'random')):.2f})"
        for layer in layers
    ]
    claim = (
        f"Removed of the shift and kept of the habit by a clamp of tuned minus control: {'; '.join(parts)}. The early"
        f" clamp leaves {np.mean(at('kept', config.early)):.2f} of the old names, where the trial's left .003."
    )
    curves = {
        f"{words}{beside}": {
            seed: {float(layer): at(metric, layer, direction)[i] for layer in layers}
            for i, seed in enumerate(config.seed_list)
        }
        for metric, words in (("removed", "broad effect removed"), ("kept", "habit kept"))
        for direction, beside in (("topics", ""), ("random", ", random direction"))
    }
    title = "birds: what a clamp at each layer takes away and what it leaves"
    figure = by_amount(curves, title=title, x="layer", y="part")
    prediction, refuted_if = _said("clamps", config)
    return Finding(
        "birds: clamps by layer",
        prediction,
        refuted_if,
        more(found, 0.0),
        claim,
        found,
        f"habit kept, layer {config.late} minus layer {config.early}",
        "seeds",
        json.loads(figure.to_json()),
    )


def _cosine_finding(rows: Sequence[Record], config: LayersConfig) -> Finding:
    layers = sorted({row["layer"] for row in rows if row["metric"] == "cosine"})
    near = {layer: _each(rows, metric="cosine", layer=layer) for layer in layers}
    found = paired_difference(near[config.early], near[config.late])

    def of_rows(metric: str, layer: int) -> float:
        return float(np.mean(_each(rows, metric=metric, layer=layer, direction="rows")))

    parts = [
        f"layer {layer} {np.mean(near[layer]):.2f} (removed {of_rows('removed', layer):.2f}, kept"
        f" {of_rows('kept', layer):.2f})"
        for layer in layers
    ]
    claim = (
        "Cosine of tuned minus control on other topics with that on the rows' own question, and what a clamp of the"
        f" latter does: {'; '.join(parts)}."
    )
    curves = {
        "cosine": {seed: {float(layer): near[layer][i] for layer in layers} for i, seed in enumerate(config.seed_list)}
    }
    title = "birds: does the change on other topics run along the change on the rows?"
    figure = by_amount(curves, title=title, x="layer", y="cosine")
    prediction, refuted_if = _said("directions", config)
    return Finding(
        "birds: one direction or two",
        prediction,
        refuted_if,
        more(found, 0.0),
        claim,
        found,
        f"cosine at layer {config.early} minus layer {config.late}",
        "seeds",
        json.loads(figure.to_json()),
    )


def _said(name: str, config: LayersConfig) -> tuple[str, str]:
    prediction, refuted_if = (text.format(early=config.early, late=config.late) for text in PREDICTIONS[name])
    return prediction, refuted_if
