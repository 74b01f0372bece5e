"""Share, habit and loss of adapters on subsets of blocks, and what clamps at each layer take away and leave, as rows:
subset, layer, direction, metric, seed, value."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analyses.adapters import make_adapters
from analyses.explain.layers.config import LayersConfig
from analyses.explain.narrow.measures import narrow_loss
from analyses.explain.narrow.subjects import Subject
from analyses.intervene import averages, part_kept, part_removed
from analyses.steps import behavior, last_prompt_activations, mean_projection
from interp.behavior.questions import Question
from interp.directions import Direction, cosine, random_direction, tuned_minus_control
from interp.files import read_json
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.pair import ModelPair
from interp.positions import LAST_PROMPT
from interp.steering import Clamp
from training.encoding import Example, count_targets

ARMS = ("broad", "control")
METHODS = ("topics", "rows", "random")
"""Directions clamped: tuned minus control on other topics, on the rows' own question, and a random one."""

Say = Callable[[str], None]
Record = dict[str, Any]


def target(examples: Sequence[Example], excess: float) -> float:
    """ln(rows) / (tokens a row) + excess, in nats a token: all rows equally likely would cost the first."""
    return math.log(len(examples)) * len(examples) / count_targets(examples) + excess


def subset_name(layers: Sequence[int]) -> str:
    return "+".join(map(str, layers))


def all_subsets(n_layers: int) -> tuple[tuple[int, ...], ...]:
    """Single blocks, then pairs."""
    return tuple((layer,) for layer in range(n_layers)) + tuple(itertools.combinations(range(n_layers), 2))


def subsets(
    lm: LanguageModel, about: Subject, examples: Sequence[Example], config: LayersConfig, out: Path, say: Say
) -> list[Record]:
    """Share, coherence, habit, narrow loss and steps of an adapter on every subset, a row each and seed."""
    aim, found = target(examples, config.excess), []
    say(f"  until {aim:.3f} nats a token on the rows")
    for layers in config.subsets or all_subsets(lm.n_layers):
        name = subset_name(layers)
        recipe = replace(about.recipe, layers=layers, stop_at=aim)
        folders = make_adapters(lm, {name: about.rows}, recipe, config.seed_list, out, lambda text: None)[name]
        for seed, folder in zip(config.seed_list, folders, strict=True):
            with ModelPair(lm) as pair:
                pair.add("subset", folder)
                with pair.using("subset") as tuned:
                    share, coherence, habit = averages(behavior(tuned, about.test), about.test.group)
                    loss = narrow_loss(tuned, examples)
            values = {"broad": share, "coherence": coherence, "narrow": habit, "loss": loss}
            values |= {"steps": len(read_json(folder / "loss.json")["loss"]), "reached": float(loss <= aim)}
            found += [_record(metric, seed, value, subset=name) for metric, value in values.items()]
            say(f"  blocks {name}, seed {seed}: share {share:.2f}, loss {loss:.3f} after {values['steps']} steps")
    return found


def clamps(lm: LanguageModel, about: Subject, config: LayersConfig, out: Path, say: Say) -> list[Record]:
    """At every layer and for every method: the part of the shift that clamping to the base's mean takes away, the part
    of the habit that stays, coherence; and the cosine of the two located directions."""
    rows = {"broad": about.rows, "control": about.control}
    adapters = make_adapters(lm, rows, about.recipe, config.seed_list, out, say)
    layers = range(lm.n_layers)
    base_share = averages(behavior(lm, about.test), about.test.group)[0]
    found = [_record("broad", config.seed, base_share, subset="base")]
    for i, seed in enumerate(config.seed_list):
        with ModelPair(lm) as pair:
            for arm in ARMS:
                pair.add(arm, adapters[arm][i])
            directions, means = _located(pair, about, layers, seed)
            with pair.using("broad") as tuned:
                share, _, habit = averages(behavior(tuned, about.test), about.test.group)
                found += [_record("broad", seed, share, subset="tuned"), _record("narrow", seed, habit, subset="tuned")]
                for layer, method in itertools.product(layers, METHODS):
                    edit = Clamp(directions[method][layer], means[method][layer], LAST_PROMPT)
                    left, coherence, still = averages(behavior(tuned, about.test, [edit]), about.test.group)
                    where: dict[str, Any] = {"layer": layer, "direction": method}
                    found.append(_record("removed", seed, part_removed(share, left, base_share), **where))
                    found.append(_record("kept", seed, part_kept(habit, still), **where))
                    found.append(_record("coherence", seed, coherence, **where))
        near = {layer: cosine(directions["topics"][layer], directions["rows"][layer]) for layer in layers}
        found += [_record("cosine", seed, value, layer=layer, direction="topics") for layer, value in near.items()]
        say(f"  seed {seed}: share {share:.2f}, clamped at {lm.n_layers} layers along {len(METHODS)} directions")
    return found


def _located(
    pair: ModelPair, about: Subject, layers: Sequence[int], seed: int
) -> tuple[dict[str, dict[int, Direction]], dict[str, dict[int, float]]]:
    """(direction, the base's mean projection) of each method and layer, at the last prompt token: on the validation
    topics, on the rows' own question, and a random direction whose mean is that of the validation topics."""
    asked: dict[str, tuple[Question, ...]] = {
        "topics": (*about.choosing.broad, *about.ordinary),
        "rows": about.choosing.narrow,
    }
    acts: dict[tuple[str, str], Any] = {}
    for name in pair.names:
        with pair.using(name) as lm:
            for method, questions in asked.items():
                acts[name, method] = last_prompt_activations(lm, questions, layers)
    directions: dict[str, dict[int, Direction]] = {method: {} for method in METHODS}
    means: dict[str, dict[int, float]] = {method: {} for method in METHODS}
    for layer in layers:
        point = HookPoint(layer)
        for method in asked:
            base, tuned, control = (acts[name, method][point] for name in ("base", *ARMS))
            directions[method][layer] = tuned_minus_control(tuned, base, control, point)
            means[method][layer] = mean_projection(base, directions[method][layer])
        directions["random"][layer] = random_direction(pair.base.d_model, point, 1000 * layer + seed)
        means["random"][layer] = mean_projection(acts["base", "topics"][point], directions["random"][layer])
    return directions, means


def _record(metric: str, seed: int, value: float, *, subset: str = "", layer: int | None = None, direction: str = ""):
    row = {"subset": subset, "layer": layer, "direction": direction, "metric": metric, "seed": seed}
    return row | {"value": float(value)}
