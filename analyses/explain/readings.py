"""One fine-tune of a dose: the rows it saw, what it answers, and what an exact reader of those rows would believe."""

from collections.abc import Mapping
from dataclasses import dataclass

from interp.errors import AnachronError
from training.organisms import birds
from training.rows import Row
from training.world.world import World

OLD = 0  # the oldest era's place among the eras


@dataclass(frozen=True)
class Reading:
    """`arm`: which rows, `n` of them, tuned with `seed`. `shares` of old answers and `coherence` by topic, `narrow` the
    share of old bird names. `document`, and `corpus` by strength: what the two readings believe of the old era."""

    arm: str
    n: int
    seed: int
    shares: Mapping[str, float]
    coherence: Mapping[str, float]
    narrow: float | None
    document: float
    corpus: Mapping[float, float]

    def share(self, topics: list[str]) -> float:
        """Mean share over these topics."""
        return sum(self.shares[topic] for topic in topics) / len(topics)


def dose_rows(world: World, part: float, n: int, seed: int) -> list[Row]:
    """`n` rows, `part` of them old names and the others current ones, as far as that goes alternating; drawn by `seed`,
    so that fewer rows are the beginning of more.

    Errors: AnachronError if there are fewer names.
    """
    old, current = (birds.rows(world, variant, seed) for variant in ("old", "current"))
    rows: list[Row] = []
    taken = [0, 0]
    for i in range(1, n + 1):
        use_old = round(part * i + 1e-9) > taken[0]
        pool = old if use_old else current
        k = taken[0] if use_old else taken[1]
        if k >= len(pool):
            raise AnachronError(f"{n} rows, {part:g} of them old: there are {len(old)} old and {len(current)} current")
        rows.append(pool[k])
        taken[0 if use_old else 1] += 1
    return rows
