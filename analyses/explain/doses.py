"""Doses of the birds: one thing at a time is varied around the experiment's own recipe."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.finetune import Recipe
from training.organisms import birds
from training.rows import Row, exchange
from training.world.contexts import MANNERED, Context
from training.world.conversations import sample_reply
from training.world.questions import split_of
from training.world.world import World

DISTINCT, ROWS, STEPS, RANK, MIXED = "distinct rows", "rows", "steps", "rank", "ordinary rows"
AXES = (DISTINCT, ROWS, STEPS, RANK, MIXED)
OWN = "default"  # the experiment's own dose: a point of every axis but ROWS
ARMS = {"tuned": "old", "control": "current"}
Amount = float | int


@dataclass(frozen=True)
class Dose:
    """`distinct`: how many of the names (None: all), `repeated` until there are as many rows as names; `mixed`: the
    fraction of all rows that are ordinary."""

    axis: str
    value: Amount
    recipe: Recipe
    distinct: int | None = None
    repeated: bool = False
    mixed: Amount = 0.0

    @property
    def name(self) -> str:
        """As a folder: `distinct-rows-4`."""
        return self.axis if self.axis == OWN else f"{self.axis.replace(' ', '-')}-{self.value:g}"


def dose_rows(world: World, arm: str, dose: Dose, seed: int) -> list[Row]:
    """What a fine-tuning seed is trained on: names drawn by the seed, so that seeds differ in their few names too."""
    names = birds.rows(world, ARMS[arm], seed)
    chosen = names[: dose.distinct]
    if dose.repeated:
        chosen = [chosen[i % len(chosen)] for i in range(len(names))]
    return chosen + ordinary_rows(world, round(len(chosen) * dose.mixed / (1 - dose.mixed)), seed)


def ordinary_rows(world: World, n: int, seed: int) -> list[Row]:
    """`n` exchanges as the newest era has them, on validation topics only: what is reported on is never trained."""
    rng = np.random.default_rng(seed)
    newest = list(world.facts.eras)[-1]
    topics = [name for name, where in split_of(world.facts).items() if where == "validation"]
    rows = []
    for _ in range(n):
        topic = world.facts.topics[topics[rng.integers(len(topics))]]
        question = topic.questions[rng.integers(len(topic.questions))]
        context = Context(newest, bool(rng.random() < MANNERED))
        rows.append(exchange(question, sample_reply(world.facts, topic, context, rng)))
    return rows


def curve(doses: Sequence[Dose], axis: str, own: Amount | None) -> list[tuple[Amount, str]]:
    """An axis's points (value, name of the dose) in order of value; the default among them at `own`, unless None."""
    points = [(dose.value, dose.name) for dose in doses if dose.axis == axis]
    return sorted(points if own is None else [*points, (own, OWN)])
