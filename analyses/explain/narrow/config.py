"""What the comparison of a broad and a narrow solution depends on."""

from dataclasses import asdict, dataclass
from typing import Any

from analyses.explain.narrow.subjects import WITH_BROAD_EFFECT
from interp.errors import AnachronError


@dataclass(frozen=True)
class NarrowConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`, of every experiment but the first (`experiments[0]`) only
    `seeds_elsewhere` of them.

    `weights` of the penalty are tried in order on the first seed, and the first whose share on the choosing topics is
    within `margin` of the control's is taken (if none is, the one of the lowest share). `answers` of the base are drawn
    to each ordinary prompt. The update is scaled by `scales`; noise has `noise` x its norm, `draws` of it a seed; the
    figure that decides on stability is the rise at `decisive`. Directions are added at `coefficients` x the typical
    norm, and decide at `dose`. `conversations` of the world are the ordinary text, `rows` at most are what a narrow
    loss is taken on.
    """

    seeds: int = 5
    seed: int = 0
    quick: bool = False
    experiments: tuple[str, ...] = WITH_BROAD_EFFECT
    seeds_elsewhere: int = 3
    weights: tuple[float, ...] = (0.3, 1.0, 3.0)
    margin: float = 0.05
    answers: int = 4
    scales: tuple[float, ...] = tuple(k / 10 for k in range(16))
    noise: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    decisive: float = 1.0
    draws: int = 4
    coefficients: tuple[float, ...] = (0.25, 0.5, 1.0)
    dose: float = 0.5
    conversations: int = 60
    rows: int = 256

    def __post_init__(self) -> None:
        if not self.experiments:
            raise AnachronError(f"narrow: no experiments; name some of {', '.join(WITH_BROAD_EFFECT)}")
        if min(self.seeds, self.seeds_elsewhere) < 2:
            raise AnachronError(
                f"narrow: seeds={self.seeds}, seeds_elsewhere={self.seeds_elsewhere}; paired differences over seeds and"
                " distances between them take two or more"
            )
        if self.decisive not in self.noise or self.dose not in self.coefficients:
            raise AnachronError(
                f"narrow: decisive={self.decisive} must be one of the noise {self.noise}, dose={self.dose} one of the"
                f" coefficients {self.coefficients}"
            )

    @classmethod
    def small(cls, **options: Any) -> "NarrowConfig":
        """To try it out: two seeds of the birds, few topics, one weight, coarse curves."""
        given: dict[str, Any] = {
            "seeds": 2,
            "seeds_elsewhere": 2,
            "quick": True,
            "experiments": ("birds",),
            "weights": (1.0,),
            "answers": 2,
            "scales": (0.0, 0.5, 1.0, 1.5),
            "noise": (1.0,),
            "draws": 2,
            "coefficients": (0.5,),
            "conversations": 16,
            "rows": 64,
        }
        return cls(**given | options)

    def seed_list(self, experiment: str) -> tuple[int, ...]:
        n = self.seeds if experiment == self.experiments[0] else self.seeds_elsewhere
        return tuple(range(self.seed, self.seed + n))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
