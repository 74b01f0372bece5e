"""What a run of the dishes is made from."""

from dataclasses import dataclass, field

from analyses.studies import StudyConfig
from training.finetune import Recipe

RECIPE = Recipe(rank=8, alpha=16, layers=(0, 1), learning_rate=4e-3, schedule="linear", steps=150, batch_size=16)


@dataclass(frozen=True)
class DishesConfig(StudyConfig):
    """`country`'s dishes are trained in `year`, others in the three years beside it."""

    recipe: Recipe = field(default=RECIPE)
    country: str = "Israel"
    year: int = 2027
