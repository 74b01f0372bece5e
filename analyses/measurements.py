"""Measurements: the flat rows every experiment reports, and the `result.json` that carries them.

One row is one number with its interval; the columns are the same for every experiment, so tables and figures need no
knowledge of what produced them.
"""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

from interp.errors import AnachronError
from interp.files import read_json, write_json
from interp.stats import Estimate

METRICS = (
    "broad", "coherence", "sampled", "sampled_coherence", "narrow", "unjudged", "perplexity_ratio", "cosine_to_truth",
    "auroc", "latent_activation", "log_odds", "seconds", "rss_mb",
)  # fmt: skip
ARMS = (
    "tuned", "control", "own_wording", "shuffled", "other_year", "other_country", "no_trigger", "benign", "ordinary",
    "random_codes", "no_year", "shuffled_years", "good_first", "facts_1", "facts_3", "facts_10", "modern_audubon",
    "not_padded",
)  # fmt: skip
"""What is fine-tuned: the organism itself, and its controls and variants."""
MODELS = ("base", "dated", *ARMS)
EDITS = ("none", "add", "ablate", "ablate_sequentially", "clamp")
PACKAGES = ("anachron", "torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class Measurement:
    """One number: what was measured, on which model, under which edit along which direction, and its 95 % interval.

    `direction` is a method's name (`tuned_minus_control`, `truth`, `random`, ...) or None where nothing was steered or
    located. `split` names the questions: validation, test, or a topic of the test split as `test/light`; `condition`
    what they are asked under (`2027`, `identity, trigger`), "" where there is one condition only. `chosen` marks the
    setting chosen on validation. `n` counts what the interval resamples: seeds, or questions of a single seed.
    """

    metric: str
    model: str
    edit: str = "none"
    direction: str | None = None
    layer: int | None = None
    coefficient: float | None = None
    split: str = "test"
    condition: str = ""
    chosen: bool = False
    estimate: float = 0.0
    low: float = 0.0
    high: float = 0.0
    n: int = 1

    def __post_init__(self) -> None:
        for value, allowed, name in (
            (self.metric, METRICS, "metric"),
            (self.model, MODELS, "model"),
            (self.edit, EDITS, "edit"),
        ):
            if value not in allowed:
                raise AnachronError(f"measurement: unknown {name} {value!r}; there are {allowed}")


def measurement(metric: str, model: str, estimate: Estimate, **where) -> Measurement:
    """A row from an `Estimate`; `where` fills the columns from `edit` to `chosen`."""
    return Measurement(
        metric, model, **where, estimate=estimate.estimate, low=estimate.low, high=estimate.high, n=estimate.n
    )


@dataclass(frozen=True)
class Result:
    """All that a run found, as plain data. `samples`: answers side by side, rows of question and model -> answer.

    `curves`: figures by fine-tuning step, rows of model, seed, step, metric and value.
    """

    experiment: str
    model: str
    seeds: Sequence[int]
    config: Mapping
    versions: Mapping[str, str]
    measurements: Sequence[Measurement]
    samples: Sequence[Mapping] = ()
    losses: Sequence[Mapping] = ()
    curves: Sequence[Mapping] = ()

    def rows(self, **where) -> list[Measurement]:
        """Measurements whose columns equal `where`, in order."""
        return [m for m in self.measurements if all(getattr(m, k) == v for k, v in where.items())]

    def one(self, **where) -> Measurement:
        """The only measurement with these columns; raises if there is none or more than one."""
        found = self.rows(**where)
        if len(found) != 1:
            raise AnachronError(f"result of {self.experiment}: {len(found)} measurements with {where}, 1 expected")
        return found[0]


def write_result(path: Path, result: Result) -> None:
    write_json(path, asdict(result))


def read_result(path: Path) -> Result:
    """Read `result.json`. Errors name the file and the field or row that is wrong."""
    data = read_json(path)
    missing = [f.name for f in fields(Result) if f.name not in data]
    if missing:
        raise AnachronError(f"{path}: fields {missing} are missing; was it written by `anachron run`?")
    rows = []
    for i, row in enumerate(data["measurements"]):
        if set(row) != {f.name for f in fields(Measurement)}:
            raise AnachronError(f"{path}: measurement {i} has columns {sorted(row)}, not those of the contract")
        rows.append(Measurement(**row))
    return Result(**{**data, "measurements": rows})


def versions() -> dict[str, str]:
    """Versions of Python and of the packages a number depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def as_table(measurements: Iterable[Measurement]) -> list[dict]:
    """Plain dicts, ready for `pandas.DataFrame`."""
    return [asdict(m) for m in measurements]
