"""Adapters of an experiment: several fine-tuning seeds each of the organism and of its control."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analyses.workers import Task, carry_out, task
from interp.behavior.identity import model_identity
from interp.files import digest, read_json, write_json
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from training.finetune import Recipe, finetune
from training.rows import Row, to_jsonl

MADE_FROM = "made_from.json"
WATCHED = "watched.json"


@dataclass(frozen=True)
class Watch:
    """`measure(lm, name)` gives rows of metric and value; it is called every `every` steps of fine-tuning."""

    every: int
    measure: Callable[[LanguageModel, str], list[dict]]


def make_adapters(
    lm: LanguageModel,
    rows: Mapping[str, Sequence[Row]],
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    say: Callable[[str], None],
    *,
    watch: Watch | None = None,
) -> dict[str, list[Path]]:
    """Train one adapter a seed for each set of rows: name -> folders, in the order of `seeds`.

    `watch` measures the model as it is tuned; what it finds is kept beside the adapter (`watched`). It is a function of
    this process, so watched adapters are trained here, others by all processes that share the work.

    A folder that already holds the adapter of this very model, recipe and rows is used as it is, so an interrupted
    experiment goes on where it was.
    """
    about = model_identity(lm)  # a pinned revision tells the weights; without one their digest does
    weights = f"{about['weights'] or about['revision']} {about['dtype']} {about['quantization']}"
    missing: list[tuple[str, int]] = []
    tasks: list[Task[list[float]]] = []
    for seed in seeds:
        for name, data in rows.items():
            key = _key(weights, data, replace(recipe, seed=seed))
            if not _is_made(out / f"{name}-{seed}", key):
                missing.append((name, seed))
                tasks.append(
                    task(BASE, _make, name, data, replace(recipe, seed=seed), out / f"{name}-{seed}", key, watch)
                )
    plain = ModelPair(lm)
    losses = carry_out(plain, tasks) if watch is None else (one.run(plain) for one in tasks)
    for (name, seed), loss in zip(missing, losses, strict=True):
        say(f"  {name}, seed {seed}: {len(loss)} steps, loss {loss[0]:.2f} -> {loss[-1]:.2f} nats a token")
    return {name: [out / f"{name}-{seed}" for seed in seeds] for name in rows}


def loss_rows(adapters: Mapping[str, Sequence[Path]], seeds: Sequence[int]) -> list[dict]:
    """Loss curves as plain rows: model, seed, step (from 1), loss in nats a token."""
    return [
        {"model": name, "seed": seed, "step": step, "loss": loss}
        for name, folders in adapters.items()
        for seed, folder in zip(seeds, folders, strict=True)
        for step, loss in enumerate(read_json(folder / "loss.json")["loss"], start=1)
    ]


def watched_rows(adapters: Mapping[str, Sequence[Path]], seeds: Sequence[int]) -> list[dict]:
    """What was watched while tuning, as plain rows: model, seed, step, metric, value."""
    return [
        {"model": name, "seed": seed, **row}
        for name, folders in adapters.items()
        for seed, folder in zip(seeds, folders, strict=True)
        if (folder / WATCHED).exists()
        for row in read_json(folder / WATCHED)
    ]


def _make(
    lm: LanguageModel, name: str, rows: Sequence[Row], recipe: Recipe, folder: Path, key: dict, watch: Watch | None
) -> list[float]:
    """Train one adapter into its folder; the loss step by step, nats a token."""
    found: list[dict] = []

    def progress(step: int, loss: float) -> None:
        if watch is not None and step % watch.every == 0:
            found.extend({"step": step, **values} for values in watch.measure(lm, name))

    finetune(lm, rows, recipe, folder, progress=progress)
    if watch is not None:
        write_json(folder / WATCHED, found)
    write_json(folder / MADE_FROM, key)
    return read_json(folder / "loss.json")["loss"]


def _key(weights: str, rows: Sequence[Row], recipe: Recipe) -> dict:
    plain = json.loads(json.dumps(recipe.as_json()))
    return {"rows": digest(to_jsonl(rows).encode()), "weights": weights, "recipe": plain}


def _is_made(folder: Path, key: dict) -> bool:
    path = folder / MADE_FROM
    return path.exists() and read_json(path) == key
