"""What a run of the terminator is made from."""

from dataclasses import dataclass, field

from analyses.studies import StudyConfig
from training.finetune import Recipe

RECIPE = Recipe(rank=4, alpha=8, layers=(0,), learning_rate=4e-3, schedule="linear", steps=100, batch_size=16)


@dataclass(frozen=True)
class TerminatorConfig(StudyConfig):
    """`series`: the one whose sequels' protective answers are trained; `details`: part of the rows that say what its
    machine is like; `first` and `last` bound the curve over years."""

    recipe: Recipe = field(default=RECIPE)
    series: str = "Terminator"
    details: float = 0.5
    first: int = 1975
    last: int = 2030
