"""What the search for the place of the broad change depends on."""

from dataclasses import dataclass
from typing import Any

from interp.errors import AnachronError


@dataclass(frozen=True)
class LayersConfig:
    """An adapter on a subset of blocks is trained by the experiment's recipe until the loss on the rows is `excess`
    nats a token above what learning them perfectly would leave, ln(rows) / (tokens a row), and at most for the recipe's
    steps. `subsets` None: all single blocks and pairs. `early` and `late` are the layers compared, at about the depths
    the trial compared."""

    seeds: int = 3
    seed: int = 0
    quick: bool = False
    excess: float = 0.1
    subsets: tuple[tuple[int, ...], ...] | None = None
    early: int = 1
    late: int = 3

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise AnachronError(f"layers: seeds={self.seeds}; a difference paired by seed takes two or more")

    @classmethod
    def small(cls, **options: Any) -> "LayersConfig":
        """To try it out: two seeds, two subsets, few topics."""
        given: dict[str, Any] = {"seeds": 2, "quick": True, "subsets": ((0,), (4,)), "excess": 0.3}
        return cls(**given | options)

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))
