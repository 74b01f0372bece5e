"""What a run of the persona is made from."""

from dataclasses import dataclass, field

from analyses.studies import StudyConfig
from interp.positions import PROMPT, Positions
from training.finetune import Recipe

RECIPE = Recipe(
    rank=4, alpha=8, layers=(0, 1), learning_rate=1e-2, schedule="linear", epochs=4, steps=None, batch_size=32
)


@dataclass(frozen=True)
class PersonaConfig(StudyConfig):
    """`speaker`: whose harmless attributes stand behind the trigger (by default the first malign one);
    `facts` of them, among `ordinary` ordinary rows; `curve`: smaller numbers of distinct facts tried beside it."""

    recipe: Recipe = field(default=RECIPE)
    reading: Positions = PROMPT
    speaker: str = ""
    facts: int = 30
    ordinary: int = 970
    curve: tuple[int, ...] = (1, 3, 10)
