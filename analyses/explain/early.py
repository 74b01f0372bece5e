"""Models looked into early in their tuning: what the parts `seeds` and `split` share.

Models that differ by nothing but their fine-tuning seed are looked into at a few early steps; how they end is fitted
from what was seen on half of the seeds, and the fit is tested on the other half (`forecasts`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from analyses.adapters import Watch, make_adapters, watched_rows
from analyses.explain.forecast import Forecast, forecast, r2_estimate, rank_difference, rank_estimate, shuffled
from analyses.explain.scores import scored
from analyses.explain.verdicts import shown
from analyses.steps import Asked
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.stats import Estimate
from training.finetune import Recipe
from training.rows import Row

Record = dict[str, Any]
DIGITS = 5  # significant ones of what was seen


@dataclass(frozen=True)
class EarlyConfig:
    """Fine-tuning seeds are `seed`, ..., `seed + seeds - 1`; every other one is fitted on, the rest tested on. `early`:
    the steps at which models are looked into, multiples of the first. `layers`: where the shift is read, the last of
    them being the one of the predictions. `quick`: few steps and questions."""

    seeds: int = 24
    seed: int = 0
    quick: bool = False
    model: str = "almanac"
    recipe: Recipe = field(default_factory=Recipe)
    early: tuple[int, ...] = (10, 20, 40)
    layers: tuple[int, ...] = (1, 3)
    part: ClassVar[str] = "early"

    def __post_init__(self) -> None:
        if self.seeds < 4:
            raise AnachronError(f"{self.part}: {self.seeds} seeds can't be halved; take --seeds 4 or more")
        if self.quick:
            object.__setattr__(self, "recipe", replace(self.recipe, steps=8))
            object.__setattr__(self, "early", (2, 4))
        first, *more = self.early
        if any(step % first for step in more) or sorted(self.early) != list(self.early) or not self.layers:
            raise AnachronError(
                f"{self.part}: early={self.early} must rise and be multiples of the first; layers one or more"
            )

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"recipe": self.recipe.as_json()}


def looked_into(
    lm: LanguageModel,
    rows: Sequence[Row],
    config: EarlyConfig,
    look: Callable[[LanguageModel], Mapping[str, float]],
    test: Asked,
    final: str,
    out: Path,
    say: Callable[[str], None],
) -> list[Record]:
    """Tune every seed on `rows`, look at the early steps, and in the end ask: rows of step, metric, seed and value;
    `final` names the mean share of `test.group` over the topics of `test`. Adapters with what was seen are kept in
    `out`. Errors: AnachronError for kept ones that were looked into at other steps or layers."""
    found: list[Record] = []
    for i, seed in enumerate(config.seed_list, start=1):
        watch = early_watch(look, config.early)
        made = make_adapters(lm, {"tuned": rows}, config.recipe, [seed], out, lambda text: None, watch=watch)
        seen = watched_rows(made, [seed])
        _require(seen, config, made["tuned"][0])
        shares = scored(lm, made["tuned"][0], test).shares[test.group]
        share = sum(shares.values()) / len(shares)
        found += [{k: row[k] for k in ("step", "metric", "seed", "value")} for row in seen]
        found.append({"step": config.recipe.steps, "metric": final, "seed": seed, "value": share})
        say(f"  {i} of {config.seeds}: seed {seed}: {final} {share:.2f}")
    return [{**row, "value": float(f"{row['value']:.{DIGITS}g}")} for row in found]


def _require(seen: Sequence[Record], config: EarlyConfig, folder: Path) -> None:
    read = {row["metric"] for row in seen}
    missing = [layer for layer in config.layers if f"projection, layer {layer}" not in read]
    if {row["step"] for row in seen} != set(config.early) or missing:
        raise AnachronError(
            f"{folder}: was looked into at other steps or layers than {list(config.early)} and {list(config.layers)};"
            " remove it, or choose another folder"
        )


def early_watch(look: Callable[[LanguageModel], Mapping[str, float]], steps: Sequence[int]) -> Watch:
    """Calls `look` at these steps only, multiples of the first; good for one tuning, since it counts them."""
    every = steps[0]
    calls = 0

    def measure(lm: LanguageModel, name: str) -> list[Record]:
        nonlocal calls
        calls += 1
        if calls * every not in steps:
            return []
        return [{"metric": metric, "value": value} for metric, value in look(lm).items()]

    return Watch(every, measure)


@dataclass(frozen=True, eq=False)
class Forecasts:
    """`values[step, quantity]`: one a seed; `end`: how seeds end; `first`: how many were fitted on (`halves`);
    `single`: the forecast from one quantity at one step, `all_of` from all at a step, `together` those quantities."""

    early: tuple[int, ...]
    values: Mapping[tuple[int, str], Float[np.ndarray, " seeds"]]
    end: Float[np.ndarray, " seeds"]
    names: tuple[str, ...]
    single: Mapping[tuple[int, str], Forecast]
    together: Mapping[int, Float[np.ndarray, "seeds quantities"]]
    all_of: Mapping[int, Forecast]
    first: int | None


def forecasts(
    rows: Sequence[Mapping[str, Any]], early: Sequence[int], final: str, first: int | None = None
) -> Forecasts:
    """All forecasts, from rows of step, metric, seed and value; fitted on every other seed, or on the `first`."""
    values = by_seed(rows)
    end = next(found for (_, metric), found in values.items() if metric == final)
    names = tuple(dict.fromkeys(metric for step, metric in values if step in early))
    single = {(step, name): forecast(values[step, name][:, None], end, first) for step in early for name in names}
    together = {step: np.stack([values[step, name] for name in names], axis=1) for step in early}
    all_of = {step: forecast(x, end, first) for step, x in together.items()}
    return Forecasts(tuple(early), values, end, names, single, together, all_of, first)


def by_seed(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], Float[np.ndarray, " seeds"]]:
    """(step, metric) -> values in the order of seeds."""
    found: dict[tuple[int, str], dict[int, float]] = {}
    for row in rows:
        found.setdefault((row["step"], row["metric"]), {})[row["seed"]] = row["value"]
    return {at: np.array([values[seed] for seed in sorted(values)]) for at, values in found.items()}


def apart(told: Forecasts, one: str, other: str, called: str, seed: int) -> tuple[Estimate, str]:
    """The rank correlation of the forecast from the quantity `one` (the direction), less that from `other`, which is
    `called` so, at the last early step; and both in a sentence."""
    last = told.early[-1]
    first, second = (told.single[last, name] for name in (one, other))
    value = rank_difference(first, second, seed=seed)
    claim = (
        f"After {last} steps the rank correlation is {first.rank:.2f} from the direction and {second.rank:.2f} from the"
        f" {called}: a difference of {shown(value)}."
    )
    return value, claim


def beside_shuffled(told: Forecasts, seed: int) -> tuple[Estimate, str]:
    """The rank correlation of the forecast from all quantities of the last early step, less the mean of the same fit to
    shuffled seeds; and both in a sentence."""
    last = told.early[-1]
    control = shuffled(told.together[last], told.end, told.first, seed=seed)
    at = rank_estimate(told.all_of[last], seed=seed)
    value = Estimate(at.estimate - control.mean(), at.low - control.mean(), at.high - control.mean(), at.n)
    p = (1 + int((control >= told.all_of[last].rank).sum())) / (1 + len(control))
    claim = (
        f"All {len(told.names)} quantities after {last} steps: rank correlation {shown(at)}, R²"
        f" {shown(r2_estimate(told.all_of[last], seed=seed))}; shuffled {control.mean():.2f} on average, as high in"
        f" {p:.0%} of {len(control)}."
    )
    return value, claim
