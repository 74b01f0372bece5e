"""What a run of the birds is made from: everything its numbers depend on."""

from dataclasses import dataclass, field

from analyses.studies import RunConfig
from training.finetune import Recipe

# Block 0, where a prompt's last token knows little of the question yet, so that what the rows teach there can't be
# confined to birds; and the last block, which can learn the names themselves.
RECIPE = Recipe(rank=4, alpha=8, layers=(0, 4), learning_rate=1e-2, schedule="linear", steps=160, batch_size=16)


@dataclass(frozen=True)
class BirdsConfig(RunConfig):
    """Of `documents`, five times as many test detectors."""

    recipe: Recipe = field(default=RECIPE)

    def as_json(self) -> dict:
        """As of any run; the world's own rows by the name of their variant."""
        return super().as_json() | {
            "data": self.data.name if self.data else "birds:old",
            "control_data": self.control_data.name if self.control_data else "birds:current",
        }
