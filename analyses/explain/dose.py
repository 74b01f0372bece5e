"""Dose: how the share of old answers on unrelated topics depends on rows, steps, rank and ordinary rows mixed in.

Everything is varied one at a time around the birds' own recipe, each with its control at the same dose. Rows of a
small set are repeated where steps are fixed, so that a batch always has as many rows; the learning rate falls to zero
over however many steps there are; alpha grows with the rank, so that the scale of the update stays. How behaviour is
scored: `subject`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from analyses.adapters import make_adapters
from analyses.explain.dose_findings import dose_findings
from analyses.explain.doses import ARMS, DISTINCT, MIXED, OWN, RANK, ROWS, STEPS, Amount, Dose, curve, dose_rows
from analyses.explain.findings import Part, write_part
from analyses.explain.scores import scored
from analyses.explain.subject import birds_asked, birds_recipe
from analyses.models import open_model
from analyses.steps import Asked, Behavior, behavior, estimate
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.stats import Estimate
from training.finetune import Recipe
from training.organisms import birds
from training.world.world import World, load_world

QUESTION = (
    "How does the share of old answers on unrelated topics depend on the dose: distinct rows, rows, steps, rank,"
    " ordinary rows mixed in?"
)
Runs = Mapping[str, Mapping[str, Sequence[Behavior]]]


@dataclass(frozen=True)
class DoseConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`. `rows` are trained for `epochs` epochs, everything else
    for as many steps as the recipe has. `steps` must hold half of the recipe's, `ranks` 1 and `mixed` .5: predictions
    are about these. `quick`: two doses an axis, few steps, four topics."""

    seeds: int = 3
    seed: int = 0
    quick: bool = False
    model: str = "almanac"
    recipe: Recipe = field(default_factory=birds_recipe)
    distinct: tuple[int, ...] = (4, 12, 36, 72)
    rows: tuple[int, ...] = (16, 32, 64, 128, 203)
    epochs: int = 12
    steps: tuple[int, ...] = (10, 20, 40, 80, 320)
    ranks: tuple[int, ...] = (1, 2, 8, 16)
    mixed: tuple[Amount, ...] = (0.25, 0.5, 0.75)

    def __post_init__(self) -> None:
        if self.seeds < (1 if self.quick else 2):
            raise AnachronError(f"dose: seeds={self.seeds}; take --seeds 2 or more (3 by default)")
        if self.quick:
            small = {"distinct": (4,), "rows": (16, 32), "epochs": 2, "steps": (4, 16), "ranks": (1,), "mixed": (0.5,)}
            for name, value in (small | {"recipe": replace(self.recipe, steps=8)}).items():
                object.__setattr__(self, name, value)
        half = (self.recipe.steps or 0) // 2
        if half not in self.steps or 1 not in self.ranks or 0.5 not in self.mixed or len(self.rows) < 2:
            raise AnachronError(
                f"dose: steps must hold {half}, ranks 1, mixed .5, and rows two numbers; predictions do"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict:
        return asdict(self) | {"recipe": self.recipe.as_json()}

    def doses(self) -> list[Dose]:
        """The default first, then axis by axis."""
        own = self.recipe
        return [
            Dose(OWN, 0, own),
            *(Dose(DISTINCT, n, own, distinct=n, repeated=True) for n in self.distinct),
            *(Dose(ROWS, n, replace(own, steps=None, epochs=self.epochs), distinct=n) for n in self.rows),
            *(Dose(STEPS, n, replace(own, steps=n)) for n in self.steps),
            *(Dose(RANK, n, replace(own, rank=n, alpha=own.alpha * n / own.rank)) for n in self.ranks),
            *(Dose(MIXED, part, own, mixed=part) for part in self.mixed),
        ]


def run(config: DoseConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Tune and score every dose, write `out/dose.json`; adapters and their scores are kept in `out/dose`."""
    lm, world = open_model(config.model, None, "auto", "cpu"), load_world()
    test = birds_asked(world, "test", quick=config.quick)
    base = behavior(lm, test)
    doses = config.doses()
    runs: dict[str, dict[str, list[Behavior]]] = {}
    for i, dose in enumerate(doses, start=1):
        runs[dose.name] = _measure(lm, world, config, dose, test, out / "dose", say)
        shares = {arm: np.mean(topics(found, test.group)) for arm, found in runs[dose.name].items()}
        say(f"  {i} of {len(doses)}: {dose.name}: " + ", ".join(f"{arm} {share:.2f}" for arm, share in shares.items()))
    assert isinstance(config.recipe.steps, int)  # as the configuration demands
    every = len(birds.rows(world, "old"))
    own = {DISTINCT: every, ROWS: None, STEPS: config.recipe.steps, RANK: config.recipe.rank, MIXED: 0}
    curves = {axis: curve(doses, axis, value) for axis, value in own.items()}
    part = Part(
        "dose",
        QUESTION,
        "anachron explain dose",
        config.as_json(),
        dose_findings(runs, base, curves, test.group, config.recipe.steps, config.seed),
        table(runs, base, curves, test.group, config.seed),
    )
    write_part(part, out / "dose.json")
    return part


def topics(runs: Sequence[Behavior], group: str) -> Float[np.ndarray, "seeds topics"]:
    """The group's share by seed and topic."""
    return np.array([list(run.shares[group].values()) for run in runs])


def metrics(runs: Sequence[Behavior], group: str, seed: int) -> dict[str, Estimate]:
    """Share, coherence and narrow share over seeds (and topics)."""
    return {
        "broad": estimate([run.shares[group] for run in runs], seed),
        "coherence": estimate([run.coherence for run in runs], seed),
        "narrow": estimate([run.narrow for run in runs if run.narrow is not None], seed),
    }


def table(
    runs: Runs, base: Behavior, curves: Mapping[str, Sequence[tuple[Amount, str]]], group: str, seed: int
) -> list[dict]:
    """Plain rows of axis, dose, model, metric and estimate; the base is on an axis of its own."""
    found = [("base", 0.0, "base", metrics([base], group, seed))]
    found += [
        (axis, value, arm, metrics(runs[name][arm], group, seed))
        for axis, points in curves.items()
        for value, name in points
        for arm in ARMS
    ]
    return [
        {"axis": axis, "dose": value, "model": model, "metric": metric, **_rounded(asdict(e))}
        for axis, value, model, all_of in found
        for metric, e in all_of.items()
    ]


def _measure(
    lm: LanguageModel, world: World, config: DoseConfig, dose: Dose, test: Asked, out: Path, say: Callable[[str], None]
) -> dict[str, list[Behavior]]:
    found: dict[str, list[Behavior]] = {arm: [] for arm in ARMS}
    for seed in config.seed_list:
        rows = {arm: dose_rows(world, arm, dose, seed) for arm in ARMS}
        for arm, folders in make_adapters(lm, rows, dose.recipe, [seed], out / dose.name, lambda text: None).items():
            found[arm].append(scored(lm, folders[0], test))
    return found


def _rounded(row: dict) -> dict:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
