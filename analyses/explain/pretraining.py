"""What in pretraining makes a narrow change broad: small worlds that differ in one thing, and models of each.

Every model is pretrained on as many turns of conversation, tuned on old bird names, and asked about topics that no row
mentions. Then the base is looked at, before any tuning: does it hold the era in a way that does not depend on the
question, where it is about to answer (`analyses.explain.carriers`)?
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from analyses.explain.findings import Part, write_part
from analyses.explain.pretraining_findings import carrier_findings, world_findings, world_rows
from analyses.explain.small_effects import SMALL_RECIPE, measured_models, small_folder
from analyses.explain.worlds import BASELINE, NO_STYLE, WORLDS, small_models
from interp.errors import AnachronError
from training.finetune import Recipe
from training.small_models import Budget

QUESTION = "What must pretraining hold for a narrow change to become a broad one, and what in the base carries it?"


@dataclass(frozen=True)
class PretrainingConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`. Of each of `worlds` `pretraining_seeds` models are
    pretrained, `style_seeds` of those that tell what style words do, `jobs` at a time; without `begin` the part
    reports on those that are pretrained already. `quick`: two worlds, tiny models, few steps."""

    seeds: int = 3
    seed: int = 0
    quick: bool = False
    worlds: tuple[str, ...] = tuple(WORLDS)
    pretraining_seeds: int = 2
    style_seeds: int = 3
    budget: Budget = field(default_factory=Budget)
    recipe: Recipe = field(default=SMALL_RECIPE)
    begin: bool = True
    jobs: int = 1

    def __post_init__(self) -> None:
        if min(self.seeds, self.pretraining_seeds) < 2:
            raise AnachronError(
                f"pretraining: seeds={self.seeds} and pretraining_seeds={self.pretraining_seeds}; an interval needs at "
                "least 2 of each"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        numbers = {k: v for k, v in asdict(self).items() if k not in ("jobs", "begin")}
        worlds = {name: asdict(WORLDS[name]) for name in self.worlds}
        return numbers | {"worlds": worlds, "recipe": self.recipe.as_json()}


def quick(config: PretrainingConfig) -> PretrainingConfig:
    """The same way with little of everything, for trying out."""
    return replace(
        config,
        worlds=(BASELINE, NO_STYLE),
        style_seeds=2,
        budget=Budget(steps=12, turns=28, d_model=32, d_mlp=48, layers=2, heads=2, vocabulary=600),
        recipe=replace(config.recipe, steps=4),
    )


def run(config: PretrainingConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Measure everything and write `out/pretraining.json`; models, adapters and what was measured of each are kept in
    `out/small_models`, which the part `inference` shares."""
    if config.quick:
        config = quick(config)
    say("1. pretrain small models, tune them on old bird names and ask about other topics")
    models = small_models(config.worlds, config.pretraining_seeds, config.style_seeds)
    measured = measured_models(
        models, config.budget, config.recipe, config.seed_list, small_folder(out, config.quick), say,
        jobs=config.jobs, begin=config.begin,
    )  # fmt: skip
    say(
        f"2. {len(measured)} of {len(models)} models are measured, {sum(m['passed'] for m in measured)} pass their gate"
    )
    findings = [*world_findings(measured, config.seed), *carrier_findings(measured, config.seed)]
    part = Part(
        "pretraining",
        QUESTION,
        "anachron explain pretraining",
        config.as_json() | {"measured": [f"{m['name']}-{m['seed']}" for m in measured]},
        findings,
        world_rows(measured, config.seed),
    )
    for finding in findings:
        say(f"  {finding.name}: {finding.verdict}. {finding.claim}")
    write_part(part, out / "pretraining.json")
    return part
