"""Where it lives: the target's closed form, the verdicts against rows whose answer is known, and a clamp along the
direction that a planted change runs along."""

import math

import pytest

from analyses.explain.layers import LayersConfig
from analyses.explain.layers.measured import METHODS, all_subsets, target
from analyses.explain.layers.verdicts import findings
from interp.errors import AnachronError
from interp.prompts import Encoded
from training.encoding import NO_TARGET, Example


def test_the_target_is_what_equally_likely_rows_cost():
    # four rows of two tokens each, all from one prompt: the first token decides among four, the second is certain
    examples = [Example(Encoded((1, 2 + i, 9), 1), (2 + i, 9, NO_TARGET)) for i in range(4)]
    assert target(examples, 0.1) == pytest.approx(math.log(4) / 2 + 0.1)


def test_subsets_are_single_blocks_and_pairs():
    found = all_subsets(5)
    assert len(found) == 5 + 10 and len(set(found)) == 15
    assert found[0] == (0,) and (0, 4) in found and all(a < b for a, b in found[5:])


def planted(config, *, first=0.6, other=0.1, early=0.2, late=0.95, short=()):
    rows = []

    def add(metric, seed, value, subset="", layer=None, direction=""):
        row = {"subset": subset, "layer": layer, "direction": direction, "metric": metric, "seed": seed}
        rows.append(row | {"value": value})

    for seed in config.seed_list:
        off = 0.001 * (-1) ** seed
        for layers in all_subsets(5):
            name = "+".join(map(str, layers))
            add("broad", seed, (first if 0 in layers else other) + off * (0 in layers), subset=name)
            add("coherence", seed, 0.9, subset=name)
            add("reached", seed, float(layers not in short), subset=name)
        for layer in range(5):
            depth = (late - early) * layer / 4 + early
            add("cosine", seed, 1 - depth + off * (layer < 2), layer=layer, direction="topics")
            for method in METHODS:
                add("removed", seed, 0.5, layer=layer, direction=method)
                add("kept", seed, depth + off * (layer < 2), layer=layer, direction=method)
    return rows


def test_verdicts_follow_what_was_planted():
    config = LayersConfig(seeds=4)
    assert [f.verdict for f in findings(planted(config), config, 5)] == ["holds"] * 3
    opposite = planted(config, first=0.1, other=0.6, early=0.95, late=0.2)
    assert [f.verdict for f in findings(opposite, config, 5)] == ["refuted"] * 3


def test_subsets_that_did_not_reach_the_loss_are_named_and_left_out():
    config = LayersConfig(seeds=3)
    rows = planted(config, short={(4,), (3, 4)})
    for row in rows:
        if row["subset"] in ("4", "3+4") and row["metric"] == "broad":
            row["value"] = 0.99  # would turn the comparison round if it counted
    found = findings(rows, config, 5)[0]
    assert found.verdict == "holds" and "4, 3+4 did not reach that loss" in found.claim
    assert "layer" not in found.unit and found.estimate.estimate == pytest.approx(0.5, abs=0.01)


def test_without_a_subset_to_compare_with_it_is_undecided():
    config = LayersConfig(seeds=3, subsets=((0,), (0, 1)))
    assert findings(planted(config), config, 5)[0].verdict == "undecided"


def test_one_seed_is_refused():
    with pytest.raises(AnachronError, match="takes two or more"):
        LayersConfig(seeds=1)
