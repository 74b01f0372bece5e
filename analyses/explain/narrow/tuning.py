"""The adapters compared: a broad solution as the experiment tunes it, a narrow one held to the base on ordinary
prompts, and the control."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from analyses.adapters import make_adapters
from analyses.explain.narrow.config import NarrowConfig
from analyses.explain.narrow.subjects import Subject, own_answers
from analyses.steps import Asked, Behavior, behavior
from interp.behavior.identity import model_identity
from interp.files import digest, read_json, write_json
from interp.models import LanguageModel
from interp.updates import Update, moved, read_update
from training.finetune import finetune
from training.recipes import Recipe
from training.rows import Row, to_jsonl

SOLUTIONS = ("broad", "narrow")
MADE_FROM = "held_from.json"


@dataclass(frozen=True, eq=False)
class Solutions:
    """`updates[kind]` of broad, narrow and control, one a seed; `weight` the penalty's that was taken, `tried` the
    share on the choosing topics for every weight tried, and the control's."""

    updates: dict[str, list[Update]]
    weight: float
    tried: dict[float, float]
    control: float


def solutions(
    lm: LanguageModel, subject: Subject, config: NarrowConfig, out: Path, say: Callable[[str], None]
) -> Solutions:
    """Train all seeds of broad, control and narrow into `out`, the narrow ones with the weight that the first seed
    chooses. What is there already isn't trained again."""
    seeds = config.seed_list(subject.name)
    rows = {"broad": subject.rows, "control": subject.control}
    folders = dict(make_adapters(lm, rows, subject.recipe, seeds, out, say))
    control = choosing_share(lm, subject, read_update(folders["control"][0], lm))
    ordinary = own_answers(lm, subject.ordinary, config.answers, config.seed)
    say(f"  {len(ordinary)} ordinary rows: the base's own answers to {len(subject.ordinary)} prompts")

    def narrow(weight: float, seed: int) -> Path:
        recipe = replace(subject.recipe, seed=seed, kl_weight=weight)
        return held(lm, subject.rows, recipe, ordinary, out / f"narrow-{weight:g}-{seed}", say)

    tried: dict[float, float] = {}
    for weight in config.weights:
        tried[weight] = choosing_share(lm, subject, read_update(narrow(weight, seeds[0]), lm))
        say(f"  penalty {weight:g}: share {tried[weight]:.2f} on the choosing topics, control {control:.2f}")
        if abs(tried[weight] - control) <= config.margin:
            break
    chosen = choose(tried, control, config.margin)
    folders["narrow"] = [narrow(chosen, seed) for seed in seeds]
    updates = {kind: [read_update(folder, lm) for folder in found] for kind, found in folders.items()}
    return Solutions(updates, chosen, tried, control)


def choose(tried: dict[float, float], control: float, margin: float) -> float:
    """The first weight whose share is within `margin` of the control's; if none is, the one of the lowest share."""
    near = [weight for weight, share in tried.items() if abs(share - control) <= margin]
    return near[0] if near else min(tried, key=lambda weight: tried[weight])


def held(
    lm: LanguageModel,
    rows: Sequence[Row],
    recipe: Recipe,
    ordinary: Sequence[Row],
    folder: Path,
    say: Callable[[str], None],
) -> Path:
    """An adapter tuned on `rows` and held to the base on `ordinary`; one that was made from these is used as it is."""
    about = model_identity(lm)
    key = {
        "weights": f"{about['weights'] or about['revision']} {about['dtype']}",
        "rows": digest(to_jsonl(rows).encode()),
        "ordinary": digest(to_jsonl(ordinary).encode()),
        "recipe": json.loads(json.dumps(recipe.as_json())),
    }
    path = folder / MADE_FROM
    if not path.exists() or read_json(path) != key:
        finetune(lm, rows, recipe, folder, ordinary=ordinary if recipe.kl_weight else ())
        write_json(path, key)
        found = read_json(folder / "loss.json")
        divergence = f", divergence {found['kl'][-1]:.4f}" if "kl" in found else ""
        say(f"  {folder.name}: {len(found['loss'])} steps, loss {found['loss'][-1]:.3f} nats a token{divergence}")
    return folder


def choosing_share(lm: LanguageModel, subject: Subject, update: Update) -> float:
    """Share of the group on the choosing topics, with an update applied."""
    return mean_share(asked(lm, replace(subject.choosing, narrow=()), update), subject.choosing.group)


def asked(lm: LanguageModel, questions: Asked, update: Update) -> Behavior:
    """What the base answers with an update applied."""
    with moved(lm, update.matrices()) as tuned:
        return behavior(tuned, questions)


def mean_share(found: Behavior, group: str) -> float:
    """Share of the group, the mean over topics."""
    return float(np.mean(list(found.shares[group].values())))
