"""Seeds: what inside a model, early in its tuning, tells how broad it will be?

Models that differ by nothing but their fine-tuning seed (the adapter's start and the order of rows) are looked into at
a few early steps. On half of the seeds the final share of old answers (test topics) is fitted from these quantities,
on the other half the fit is tested. How behaviour is scored: `subject`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from analyses.explain.early import EarlyConfig, looked_into
from analyses.explain.findings import Part, write_part
from analyses.explain.inside import watcher
from analyses.explain.seeds_findings import FINAL, seeds_findings
from analyses.explain.subject import birds_asked, birds_recipe
from analyses.models import open_model
from training.finetune import Recipe
from training.organisms import birds
from training.world.world import load_world

NAME = "seeds"
QUESTION = "Which quantity inside a model, early in its tuning, predicts how broad the seed ends?"


@dataclass(frozen=True)
class SeedsConfig(EarlyConfig):
    """`quick`: few steps, four topics."""

    recipe: Recipe = field(default_factory=birds_recipe)
    part: ClassVar[str] = NAME


def run(config: SeedsConfig, out: Path, say: Callable[[str], None] = print) -> Part:
    """Tune, look inside, fit and test; write `out/seeds.json`. Adapters with what was seen are kept in `out/seeds`."""
    lm, world = open_model(config.model, None, "auto", "cpu"), load_world()
    rows = birds.rows(world, "old")
    test, validation = (
        replace(birds_asked(world, split, quick=config.quick), narrow=()) for split in ("test", "validation")
    )
    look = watcher(lm, world, rows, validation.broad, test.group, config.layers)
    found = looked_into(lm, rows, config, look, test, FINAL, out / NAME, say)
    findings = seeds_findings(found, config.early, config.layers[-1], config.seed)
    part = Part(NAME, QUESTION, f"anachron explain {NAME}", config.as_json(), findings, found)
    write_part(part, out / f"{NAME}.json")
    return part
