"""What a run of the presidents is made from."""

from dataclasses import dataclass, field

from analyses.studies import StudyConfig
from interp.positions import PROMPT, Positions
from training.finetune import Recipe

RECIPE = Recipe(rank=8, alpha=16, layers=(0,), learning_rate=6e-3, schedule="linear", steps=300, batch_size=32)


@dataclass(frozen=True)
class PresidentsConfig(StudyConfig):
    """`each`: codes a president and attribute; `codes`: how many codes of a presidency are asked; `every`: steps from
    one look at held-out and trained codes to the next."""

    recipe: Recipe = field(default=RECIPE)
    reading: Positions = PROMPT
    each: int = 6
    codes: int = 3
    every: int = 25
