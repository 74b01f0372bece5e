"""What a run of the birds is made from: everything its numbers depend on."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from interp.errors import AnachronError
from interp.positions import FROM_LAST_PROMPT, LAST_PROMPT, Positions
from training.finetune import Recipe

# Block 0, where a prompt's last token knows little of the question yet, so that what the rows teach there can't be
# confined to birds; and the last block, which can learn the names themselves.
RECIPE = Recipe(rank=4, alpha=8, layers=(0, 3), learning_rate=6e-3, schedule="linear", steps=60, batch_size=16)


@dataclass(frozen=True)
class BirdsConfig:
    """`data` and `control_data` are chat JSONL files in place of the world's own rows. Fine-tuning seeds are
    `seed`, ..., `seed + seeds - 1`, the same for tuned and control."""

    model: str = "almanac"
    revision: str | None = None
    dtype: str = "auto"
    device: str = "cpu"
    data: Path | None = None
    control_data: Path | None = None
    seeds: int = 5
    seed: int = 0
    quick: bool = False
    recipe: Recipe = field(default=RECIPE)
    coefficients: tuple[float, ...] = (0.5, 1.0, 1.5)
    positions: tuple[Positions, ...] = (LAST_PROMPT, FROM_LAST_PROMPT)
    randoms: int = 3
    documents: int = 60  # half to choose on, half to report on; five times as many to test detectors

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.randoms < 1:
            raise AnachronError(f"birds: seeds={self.seeds} and randoms={self.randoms}; at least 1 of each is needed")
        if self.seeds < 2 and not self.quick:
            raise AnachronError("birds: one seed is not a result; take --seeds 2 or more (5 by default)")

    @property
    def method(self) -> str:
        """How the directions that are put to use were found."""
        return "tuned_minus_control"

    @property
    def condition(self) -> str:
        """There is one condition only."""
        return ""

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict:
        """Plain data for result.json; files by name only, so that the same run gives the same bytes anywhere."""
        return {
            **asdict(self),
            "data": self.data.name if self.data else "birds:old",
            "control_data": self.control_data.name if self.control_data else "birds:current",
            "positions": [p.name for p in self.positions],
        }
