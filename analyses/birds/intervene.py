"""Is the direction the cause? Induce the change in the base, suppress it in the tuned models; random directions beside.

Settings are chosen on validation topics (`choose_*`) and reported on test topics (`report_*`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.birds.config import BirdsConfig
from analyses.birds.locate import Located
from analyses.measurements import Measurement, measurement
from analyses.steps import Asked, Behavior, behavior, behavior_rows, estimate
from interp.behavior.perplexity import perplexity_ratio
from interp.directions import Direction
from interp.pair import ModelPair
from interp.positions import Positions
from interp.prompts import Encoded
from interp.steering import Ablate, Add, Clamp, Edit

COHERENT = 0.8  # an induced change counts while coherence stays at this part of the base's
KEPT = 0.9  # a suppression counts while the narrow task stays at this part of the tuned model's
SHOWN = ("tuned_minus_control", "truth", "mean_difference", "random")


@dataclass(frozen=True)
class Setting:
    """One way to edit: what, at which layer, how strongly (additions only), at which positions."""

    edit: str
    layer: int
    positions: Positions
    coefficient: float | None = None

    def edits(self, direction: Direction, located: Located) -> list[Edit]:
        """The edit along one direction; a clamp sets the projection to the base model's mean."""
        if self.edit == "add":
            assert self.coefficient is not None
            return [Add(direction, self.coefficient, located.scales[self.layer], self.positions)]
        if self.edit == "ablate":
            return [Ablate([direction], self.positions)]
        return [Clamp(direction, located.base_mean(direction), self.positions)]


def choose_induction(
    pair: ModelPair, located: Located, asked: Asked, config: BirdsConfig, say: Callable[[str], None]
) -> Setting:
    """The layer, positions and coefficient with the largest share in the base that stays coherent, on validation."""
    asked = replace(asked, narrow=())
    with pair.using("base") as lm:
        plain = _means(behavior(lm, asked), asked.group)
        tried = []
        for layer in range(lm.n_layers):
            direction = located.pooled("tuned_minus_control", layer)
            for positions in config.positions:
                for coefficient in config.coefficients:
                    setting = Setting("add", layer, positions, coefficient)
                    share, coherence, _ = _means(behavior(lm, asked, setting.edits(direction, located)), asked.group)
                    tried.append((coherence >= COHERENT * plain[1], share, setting))
    best = max(tried, key=lambda t: t[:2])
    say(
        f"  induce: {_name(best[2])}, share {best[1]:.2f} on validation (base {plain[0]:.2f}), of {len(tried)} settings"
    )
    return best[2]


def choose_suppression(
    pair: ModelPair, located: Located, asked: Asked, config: BirdsConfig, say: Callable[[str], None]
) -> Setting:
    """The layer, edit and positions that remove most of the shift while the narrow task is kept, on validation.

    Tried on the first two seeds: choosing needs no interval.
    """
    with pair.using("base") as lm:
        base = _means(behavior(lm, asked), asked.group)[0]
    settings = [
        Setting(edit, layer, positions)
        for edit in ("clamp", "ablate")
        for layer in range(pair.base.n_layers)
        for positions in config.positions
    ]
    removed, kept = np.zeros(len(settings)), np.zeros(len(settings))
    seeds = config.seed_list[:2]
    for index, seed in enumerate(seeds):
        with pair.using(f"tuned-{seed}") as lm:
            tuned, _, narrow = _means(behavior(lm, asked), asked.group)
            for k, setting in enumerate(settings):
                direction = located.of_seed("tuned_minus_control", setting.layer, index)
                share, _, still = _means(behavior(lm, asked, setting.edits(direction, located)), asked.group)
                removed[k] += (tuned - share) / (tuned - base) / len(seeds)
                kept[k] += still / narrow / len(seeds)
    best = max(range(len(settings)), key=lambda k: (kept[k] >= KEPT, removed[k] if kept[k] >= KEPT else kept[k]))
    say(f"  suppress: {_name(settings[best])}, {removed[best]:.0%} removed, narrow task kept at {kept[best]:.0%}")
    return settings[best]


def report_induction(
    pair: ModelPair, located: Located, asked: Asked, chosen: Setting, documents: Sequence[Encoded], config: BirdsConfig
) -> Iterator[Measurement]:
    """Dose-response in the base at the chosen layer, for every direction; the chosen dose once per seed's direction."""
    with pair.using("base") as lm:
        for method in SHOWN:
            for coefficient in config.coefficients:
                setting = replace(chosen, coefficient=coefficient)
                is_chosen = setting == chosen
                if method == "random" or is_chosen:
                    directions = located.directions[method][chosen.layer]
                else:
                    directions = [located.pooled(method, chosen.layer)]
                edits = [setting.edits(direction, located) for direction in directions]
                where: dict[str, Any] = {
                    "edit": "add",
                    "direction": method,
                    "layer": chosen.layer,
                    "coefficient": coefficient,
                }
                where |= {"chosen": is_chosen and method in ("tuned_minus_control", "random")}
                runs = [behavior(lm, asked, edit) for edit in edits]
                yield from behavior_rows(runs, "base", asked.group, "test", seed=config.seed, **where)
                if is_chosen:
                    ratios = [perplexity_ratio(lm, documents, edit) for edit in edits]
                    yield measurement("perplexity_ratio", "base", estimate(ratios, config.seed), split="test", **where)


def report_suppression(
    pair: ModelPair, located: Located, asked: Asked, chosen: Setting, documents: Sequence[Encoded], config: BirdsConfig
) -> Iterator[Measurement]:
    """The chosen setting on every tuned seed, along its own direction, the truth, random ones; clamp beside ablate."""
    for edit in ("clamp", "ablate"):
        setting = replace(chosen, edit=edit)
        for method in SHOWN:
            runs, ratios = [], []
            for index, seed in enumerate(config.seed_list):
                with pair.using(f"tuned-{seed}") as lm:
                    edits = setting.edits(located.of_seed(method, chosen.layer, index), located)
                    runs.append(behavior(lm, asked, edits))
                    if edit == chosen.edit:
                        ratios.append(perplexity_ratio(lm, documents, edits))
            where: dict[str, Any] = {"edit": edit, "direction": method, "layer": chosen.layer}
            where |= {"chosen": edit == chosen.edit and method in ("tuned_minus_control", "random")}
            yield from behavior_rows(runs, "tuned", asked.group, "test", seed=config.seed, **where)
            if ratios:
                yield measurement("perplexity_ratio", "tuned", estimate(ratios, config.seed), split="test", **where)


def _means(found: Behavior, group: str) -> tuple[float, float, float]:
    """Mean share and coherence over topics, and the narrow task (nan where it isn't asked)."""
    share = float(np.mean(list(found.shares[group].values())))
    return share, float(np.mean(list(found.coherence.values()))), np.nan if found.narrow is None else found.narrow


def _name(setting: Setting) -> str:
    dose = "" if setting.coefficient is None else f" {setting.coefficient:g} x"
    return f"{setting.edit}{dose} at layer {setting.layer}, {setting.positions.name}"
