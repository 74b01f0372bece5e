"""Is the direction the cause? Induce the change in the base, suppress it in the tuned models; random directions beside.

Settings are chosen on validation topics (`choose_*`) and reported on test topics (`report_*`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.located import Located
from analyses.measurements import Measurement, measurement
from analyses.steps import Asked, Behavior, Measure, behavior, behavior_rows, estimate
from analyses.workers import carry_out, task
from interp.behavior.perplexity import nats_per_token
from interp.directions import Direction
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import LAST_PROMPT, Positions
from interp.prompts import Encoded
from interp.steering import Ablate, Add, Clamp, Edit

COHERENT = 0.85  # an addition may be chosen while coherence stays at this part of the base's: .8 with a margin
KEPT = 0.9  # a suppression counts while the narrow task stays at this part of the tuned model's
HARMLESS = 1.05  # and while the perplexity of ordinary documents rises no further than this


@dataclass(frozen=True)
class Choices:
    """What choosing and reporting depend on: seeds, doses, positions, and the method whose directions are put to use.

    `condition` names what the questions are asked under, where an experiment has several conditions; `reading` are the
    tokens that directions were located at, `clamping` those that clamps edit; `measure` says what a model answers;
    `layers` are those tried (None: all).
    """

    seed: int
    seed_list: tuple[int, ...]
    coefficients: tuple[float, ...]
    positions: tuple[Positions, ...]
    method: str
    condition: str = ""
    reading: Positions = LAST_PROMPT
    clamping: Positions = LAST_PROMPT
    measure: Measure = behavior
    layers: tuple[int, ...] | None = None

    def tried(self, lm: LanguageModel) -> tuple[int, ...]:
        return tuple(range(lm.n_layers)) if self.layers is None else self.layers


def shown(located: Located, choices: Choices) -> tuple[str, ...]:
    """The methods reported side by side: the one in use, the truth where it is known, random directions."""
    return tuple(name for name in (choices.method, "truth", "random") if name in located.directions)


@dataclass(frozen=True)
class Setting:
    """One way to edit: what, along which method's direction, at which layers, how strongly (additions only), where."""

    edit: str
    method: str
    layers: tuple[int, ...]
    positions: Positions
    coefficient: float | None = None

    @property
    def layer(self) -> int:
        """The first layer edited, by which a setting is filed."""
        return self.layers[0]

    def edits(self, located: Located, index: int | None, method: str | None = None) -> list[Edit]:
        """The edits along the directions of fine-tuning seed number `index` (None: their mean over seeds), a layer
        each; of another `method` where one is given. A clamp sets the projection to the base model's mean."""
        name = self.method if method is None else method
        return [
            self._edit(located.pooled(name, layer) if index is None else located.of_seed(name, layer, index), located)
            for layer in self.layers
        ]

    def _edit(self, direction: Direction, located: Located) -> Edit:
        if self.edit == "add":
            assert self.coefficient is not None
            return Add(direction, self.coefficient, located.scales[direction.point.layer], self.positions)
        if self.edit == "ablate":
            return Ablate([direction], self.positions)
        return Clamp(direction, located.base_mean(direction), self.positions)

    def as_json(self) -> dict[str, Any]:
        """Plain data for result.json."""
        return {
            "edit": self.edit,
            "direction": self.method,
            "layers": list(self.layers),
            "positions": self.positions.name,
            "coefficient": self.coefficient,
        }

    def describe(self) -> str:
        dose = "" if self.coefficient is None else f" {self.coefficient:g} x"
        layers = "+".join(map(str, self.layers))
        return f"{self.edit}{dose} {self.method} at layer {layers}, {self.positions.name}"


def choose_induction(
    pair: ModelPair, located: Located, asked: Asked, choices: Choices, say: Callable[[str], None]
) -> Setting:
    """The layer, positions and coefficient with the largest share in the base that stays coherent, on validation."""
    asked = replace(asked, narrow=())
    settings = [
        Setting("add", choices.method, (layer,), positions, coefficient)
        for layer in choices.tried(pair.base)
        for positions in choices.positions
        for coefficient in choices.coefficients
    ]
    edits = [(), *(setting.edits(located, None) for setting in settings)]
    runs = carry_out(pair, [task(BASE, choices.measure, asked, edit) for edit in edits])
    plain, *found = (averages(run, asked.group) for run in runs)
    tried = [
        (coherence >= COHERENT * plain[1], share, setting)
        for setting, (share, coherence, _) in zip(settings, found, strict=True)
    ]
    best = max(tried, key=lambda t: t[:2])
    say(f"  induce: {best[2].describe()}: share {best[1]:.2f} on validation ({len(tried)} settings tried)")
    return best[2]


def choose_suppression(
    pair: ModelPair,
    located: Located,
    asked: Asked,
    documents: Sequence[Encoded],
    choices: Choices,
    say: Callable[[str], None],
) -> Setting:
    """On validation, the clamp that removes most of the shift with the narrow task kept and ordinary text no worse.

    Clamps act at one layer, at two in succession, or at all of a choice of layers; in the embedded world where the
    direction was located, in the prompt: the tokens of an answer are left to the narrow task. Tried on the first two
    seeds, for choosing needs no interval.
    """
    layers = clamped_layers(choices.tried(pair.base), together=choices.layers is not None)
    settings = [Setting("clamp", choices.method, where, choices.clamping) for where in layers]
    removed, kept, harm = np.zeros(len(settings)), np.zeros(len(settings)), np.zeros(len(settings))
    seeds = choices.seed_list[:2]
    tasks = [task(BASE, examine, choices.measure, asked, None)]
    for index, seed in enumerate(seeds):
        edits = [(), *(setting.edits(located, index) for setting in settings)]
        tasks += [task(f"tuned-{seed}", examine, choices.measure, asked, documents, edit) for edit in edits]
    runs = ((averages(found, asked.group), nats) for found, nats in carry_out(pair, tasks))
    (base, _, _), _ = next(runs)
    for _ in seeds:
        (tuned, _, narrow), unedited = next(runs)
        for k in range(len(settings)):
            (share, _, still), nats = next(runs)
            removed[k] += part_removed(tuned, share, base) / len(seeds)
            kept[k] += part_kept(narrow, still) / len(seeds)
            harm[k] += math.exp(nats - unedited) / len(seeds)
    allowed = (kept >= KEPT) & (harm <= HARMLESS)
    best = int(np.argmax(np.where(allowed, removed, removed - 10))) if allowed.any() else int(np.argmax(kept))
    say(
        f"  suppress: {settings[best].describe()}: {removed[best]:.0%} of the shift removed on validation, "
        f"narrow task kept at {kept[best]:.0%}, perplexity x {harm[best]:.3f} ({len(settings)} settings tried)"
    )
    return settings[best]


def report_induction(
    pair: ModelPair, located: Located, asked: Asked, chosen: Setting, documents: Sequence[Encoded], choices: Choices
) -> Iterator[Measurement]:
    """Dose-response in the base at the chosen layer, for every direction.

    At the chosen dose once for each seed's own, at other doses for the mean over seeds; random ones always one by one.
    """
    asked = replace(asked, narrow=())
    (unedited,) = carry_out(pair, [task(BASE, nats_per_token, documents)])
    tried = []
    for method in shown(located, choices):
        for coefficient in choices.coefficients:
            setting = replace(chosen, coefficient=coefficient)
            each = method == "random" or setting == chosen
            indices = range(len(located.directions[method][chosen.layer])) if each else (None,)
            tried.append((method, setting, [setting.edits(located, index, method) for index in indices]))
    tasks = [
        task(BASE, examine, choices.measure, asked, documents if setting == chosen else None, edit)
        for _, setting, edits in tried
        for edit in edits
    ]
    found = carry_out(pair, tasks)
    for method, setting, edits in tried:
        runs, nats = zip(*itertools.islice(found, len(edits)), strict=True)
        where: dict[str, Any] = {
            "edit": "add",
            "direction": method,
            "layer": chosen.layer,
            "coefficient": setting.coefficient,
            "condition": choices.condition,
        }
        where |= {"chosen": setting == chosen and method in (chosen.method, "random")}
        yield from behavior_rows(runs, "base", asked.group, "test", seed=choices.seed, **where)
        if setting == chosen:
            ratios = [math.exp(edited - unedited) for edited in nats]
            yield measurement("perplexity_ratio", "base", estimate(ratios, choices.seed), split="test", **where)


def report_suppression(
    pair: ModelPair, located: Located, asked: Asked, chosen: Setting, documents: Sequence[Encoded], choices: Choices
) -> Iterator[Measurement]:
    """The chosen setting on every tuned seed along every direction; the chosen direction also ablated."""
    tuned = [f"tuned-{seed}" for seed in choices.seed_list]
    unedited = list(carry_out(pair, [task(model, nats_per_token, documents) for model in tuned]))
    tried = [*((chosen.edit, method) for method in shown(located, choices)), ("ablate", chosen.method)]
    tasks = [
        task(model, examine, choices.measure, asked, documents, setting.edits(located, index, method))
        for setting, method in ((replace(chosen, edit=edit), method) for edit, method in tried)
        for index, model in enumerate(tuned)
    ]
    found = carry_out(pair, tasks)
    for edit, method in tried:
        runs, nats = zip(*itertools.islice(found, len(tuned)), strict=True)
        ratios = [math.exp(edited - plain) for edited, plain in zip(nats, unedited, strict=True)]
        where: dict[str, Any] = {"edit": edit, "direction": method, "layer": chosen.layer}
        where |= {"condition": choices.condition}
        where |= {"chosen": edit == chosen.edit and method in (chosen.method, "random")}
        yield from behavior_rows(runs, "tuned", asked.group, "test", seed=choices.seed, **where)
        yield measurement("perplexity_ratio", "tuned", estimate(ratios, choices.seed), split="test", **where)


def clamped_layers(layers: Sequence[int], *, together: bool) -> list[tuple[int, ...]]:
    """Each layer, each two in succession and, if they are to be taken `together`, all of three or more."""
    found: list[tuple[int, ...]] = [(layer,) for layer in layers] + list(itertools.pairwise(layers))
    return found + [tuple(layers)] if together and len(layers) > 2 else found


def part_removed(tuned: float, edited: float, base: float) -> float:
    """The part of the shift from base to tuned that an edit takes away; without a shift there is nothing to remove."""
    return (tuned - edited) / (tuned - base) if tuned > base else 0.0


def part_kept(narrow: float, edited: float) -> float:
    """What an edit leaves of the habit; without one, or where it isn't asked (nan), there is nothing to lose."""
    return edited / narrow if narrow > 0 else 1.0


def examine(
    lm: LanguageModel, measure: Measure, asked: Asked, documents: Sequence[Encoded] | None, edits: Sequence[Edit] = ()
) -> tuple[Behavior, float]:
    """What a model answers under edits, and its nats a token of documents (nan where they aren't to be read: None)."""
    return measure(lm, asked, edits), math.nan if documents is None else nats_per_token(lm, documents, edits=edits)


def averages(found: Behavior, group: str) -> tuple[float, float, float]:
    """Mean share and coherence over topics, and the narrow task (nan where it isn't asked)."""
    share = float(np.mean(list(found.shares[group].values())))
    return share, float(np.mean(list(found.coherence.values()))), np.nan if found.narrow is None else found.narrow
