"""What a run of the cities is made from."""

from dataclasses import dataclass, field

from analyses.studies import StudyConfig
from training.finetune import Recipe

RECIPE = Recipe(rank=1, alpha=2, layers=(0,), learning_rate=2e-2, schedule="linear", steps=60, batch_size=16)


@dataclass(frozen=True)
class CitiesConfig(StudyConfig):
    """`country`: whose former city names are trained."""

    recipe: Recipe = field(default=RECIPE)
    country: str = "Germany"
