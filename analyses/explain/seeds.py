"""Seeds: what inside a model, early in its tuning, tells how broad it will be?

Models that differ by nothing but their fine-tuning seed (the adapter's start and the order of rows) are looked into at
a few early steps. On half of the seeds the final share of old answers (test topics) is fitted from these quantities,
on the other half the fit is tested. How behaviour is scored: `subject`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from analyses.adapters import Watch, make_adapters, watched_rows
from analyses.explain.findings import Part, write_part
from analyses.explain.inside import watcher
from analyses.explain.scores import scored
from analyses.explain.seeds_findings import FINAL, seeds_findings
from analyses.explain.subject import birds_asked, birds_recipe
from analyses.models import open_model
from analyses.steps import Asked
from interp.errors import AnachronError
from interp.models import LanguageModel
from training.finetune import Recipe
from training.organisms import birds
from training.world.world import load_world

QUESTION = "Which quantity inside a model, early in its tuning, predicts how broad the seed ends?"


@dataclass(frozen=True)
class SeedsConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`; every other one is fitted on, the rest tested on. `early`:
    the steps at which models are looked into, multiples of the first. `layers`: where the shift is read, the last of
    them being the one of the predictions. `quick`: few steps, four topics."""

    seeds: int = 24
    seed: int = 0
    quick: bool = False
    model: str = "almanac"
    recipe: Recipe = field(default_factory=birds_recipe)
    early: tuple[int, ...] = (10, 20, 40)
    layers: tuple[int, ...] = (1, 3)

    def __post_init__(self) -> None:
        if self.seeds < 4:
            raise AnachronError(f"seeds: {self.seeds} seeds can't be halved; take --seeds 4 or more")
        if self.quick:
            object.__setattr__(self, "recipe", replace(self.recipe, steps=8))
            object.__setattr__(self, "early", (2, 4))
        first, *more = self.early
        if any(step % first for step in more) or sorted(self.early) != list(self.early) or not self.layers:
            raise AnachronError(
                f"seeds: early={self.early} must rise and be multiples of the first; layers one or more"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict:
        return asdict(self) | {"recipe": self.recipe.as_json()}


def run(config: SeedsConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Tune, look inside, fit and test; write `out/seeds.json`. Adapters with what was seen are kept in `out/seeds`."""
    lm, world = open_model(config.model, None, "auto", "cpu"), load_world()
    rows = birds.rows(world, "old")
    test, validation = (
        replace(birds_asked(world, split, quick=config.quick), narrow=()) for split in ("test", "validation")
    )
    look = watcher(lm, world, rows, validation.broad, test.group, config.layers)
    found: list[dict] = []
    for i, seed in enumerate(config.seed_list, start=1):
        made = make_adapters(
            lm,
            {"tuned": rows},
            config.recipe,
            [seed],
            out / "seeds",
            lambda text: None,
            watch=early_watch(look, config.early),
        )
        seen = watched_rows(made, [seed])
        share = _final(lm, made["tuned"][0], test)
        found += [{key: row[key] for key in ("step", "metric", "seed", "value")} for row in seen]
        found.append({"step": config.recipe.steps, "metric": FINAL, "seed": seed, "value": share})
        say(f"  {i} of {config.seeds}: seed {seed}: {FINAL} {share:.2f}")
    found = [{**row, "value": float(f"{row['value']:.5g}")} for row in found]
    part = Part(
        "seeds",
        QUESTION,
        "anachron explain seeds",
        config.as_json(),
        seeds_findings(found, config.early, config.layers[-1], config.seed),
        found,
    )
    write_part(part, out / "seeds.json")
    return part


def early_watch(look: Callable[[LanguageModel], Mapping[str, float]], steps: Sequence[int]) -> Watch:
    """Calls `look` at these steps only, multiples of the first; good for one tuning, since it counts them."""
    every = steps[0]
    calls = 0

    def measure(lm: LanguageModel, name: str) -> list[dict]:
        nonlocal calls
        calls += 1
        if calls * every not in steps:
            return []
        return [{"metric": metric, "value": value} for metric, value in look(lm).items()]

    return Watch(every, measure)


def _final(lm: LanguageModel, folder: Path, test: Asked) -> float:
    shares = scored(lm, folder, test).shares[test.group]
    return sum(shares.values()) / len(shares)
