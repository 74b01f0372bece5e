"""The broad effect in one small model: its gate, its answers tuned and untuned, and what could carry the change."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from analyses.adapters import make_adapters
from analyses.explain.carriers import carriers
from analyses.steps import Asked, Behavior, behavior
from interp.behavior.scoring import score, share
from interp.files import read_json, write_json
from interp.models import LanguageModel, load_model
from interp.pair import ModelPair
from training.finetune import Recipe
from training.organisms import birds
from training.small_models import Budget, SmallModel, make_models
from training.small_worlds import small_world
from training.world.questions import era_questions, narrow_question
from training.world.world import World

SMALL_RECIPE = Recipe(rank=4, alpha=8, layers=(0, 1), learning_rate=1.5e-3, schedule="linear", steps=40, batch_size=16)
# chosen on the validation topics of one model of the baseline (seed 100, which no part uses): not at the ceiling there
HARDER = 2.0
# which rows, and at how much of the recipe's learning rate
ARMS = {
    "tuned": ("old", 1.0),
    "control": ("current", 1.0),
    "harder": ("old", HARDER),
    "harder_control": ("current", HARDER),
}
GATE = 0.9  # a stated year gives its era: least mean share


def small_folder(out: Path, quick: bool) -> Path:
    """Where a run's small models are, which several parts share; the tiny ones of a quick run stand apart."""
    return out / ("quick_small_models" if quick else "small_models")


def measured_models(
    models: Sequence[SmallModel],
    budget: Budget,
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    say: Callable[[str], None],
    *,
    jobs: int = 1,
    begin: bool = True,
) -> list[dict[str, Any]]:
    """Pretrain, tune and measure each model, `jobs` pretrained at a time; what is there already is not made again.

    Models go in the order given, so that the first are whole when the last aren't begun; without `begin` no model
    is pretrained: those that are already are all there is. One row a model: `name`, `seed`, `gate`, `passed`, `base`,
    `tuned`, `control`, `harder`, `harder_control`, `carriers` (see `measure`).
    """
    found = []
    for start in range(0, len(models), jobs):
        group = models[start : start + jobs]
        if not begin:
            group = [model for model in group if (out / "models" / model.folder / "pretraining.json").exists()]
        folders = make_models(group, budget, out / "models", say, jobs=jobs)
        for model, folder in zip(group, folders, strict=True):
            kept = _kept(model, budget, recipe, seeds, out)
            if kept is None:
                kept = measure(model, folder, recipe, seeds, out / "adapters" / model.folder, say)
                write_json(_path(model, out), {"key": _key(model, budget, recipe, seeds), "measured": kept})
            tuned = float(np.mean([list(run["shares"].values()) for run in kept["tuned"]]))
            untuned = float(np.mean(list(kept["base"]["shares"].values())))
            say(f"  {model.folder}: {untuned:.2f} -> {tuned:.2f}" + ("" if kept["passed"] else " (fails its gate)"))
            found.append(kept)
    return found


def measure(
    model: SmallModel, folder: Path, recipe: Recipe, seeds: Sequence[int], out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything of one model, as plain data, on the unrelated test topics.

    `gate`: share of each era with a year of it stated; `passed`: all at least GATE. `base`, and each of ARMS seed by
    seed: `shares` of the oldest era and `coherence` by topic, `narrow` the share of its bird names. `carriers`: rows of
    `analyses.explain.carriers` of the base, on the validation topics' questions where it steers.
    """
    world, lm = small_world(model.world), load_model(folder)
    oldest = next(iter(world.facts.eras))
    asked = Asked(tuple(era_questions(world, "test", phrasings=2)), (narrow_question(world),), oldest)
    gate = stated(lm, world)
    adapters: dict[str, list[Path]] = {}
    for arm, (variant, part) in ARMS.items():
        own = replace(recipe, learning_rate=recipe.learning_rate * part)
        adapters |= make_adapters(lm, {arm: birds.rows(world, variant)}, own, seeds, out, lambda _: None)
    say(f"  {model.folder}: tuned {len(seeds)} times, and as many controls")
    base = behavior(lm, asked)
    runs: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    with ModelPair(lm) as pair:
        for arm, folders in adapters.items():
            for k, adapter in enumerate(folders):
                pair.add(f"{arm}-{k}", adapter)
                with pair.using(f"{arm}-{k}") as tuned:
                    runs[arm].append(plain(behavior(tuned, asked), oldest))
    return {
        "name": model.name,
        "seed": model.seed,
        "gate": gate,
        "passed": min(gate.values()) >= GATE,
        "base": plain(base, oldest),
        **runs,
        "carriers": carriers(lm, world, era_questions(world, "validation", phrasings=2), oldest, seed=model.seed),
    }


def stated(lm: LanguageModel, world: World) -> dict[str, float]:
    """Mean share of each era on the unrelated test topics with a year in its middle stated."""
    return {
        name: share(score(lm, era_questions(world, "test", phrasings=1, year=sum(era.years) // 2)), name).mean().item()
        for name, era in world.facts.eras.items()
    }


def plain(found: Behavior, group: str) -> dict[str, Any]:
    """A behaviour as plain data: shares of one group only."""
    return {"shares": dict(found.shares[group]), "coherence": dict(found.coherence), "narrow": found.narrow}


def _path(model: SmallModel, out: Path) -> Path:
    return out / "measured" / f"{model.folder}.json"


def _key(model: SmallModel, budget: Budget, recipe: Recipe, seeds: Sequence[int]) -> dict[str, Any]:
    made_from = {"model": asdict(model), "budget": asdict(budget), "recipe": recipe.as_json(), "seeds": list(seeds)}
    return json.loads(json.dumps(made_from))  # as it is read back


def _kept(model: SmallModel, budget: Budget, recipe: Recipe, seeds: Sequence[int], out: Path) -> dict[str, Any] | None:
    """What was measured of this very model, None if nothing was."""
    path = _path(model, out)
    kept = read_json(path) if path.exists() else None
    return kept["measured"] if kept and kept["key"] == _key(model, budget, recipe, seeds) else None
