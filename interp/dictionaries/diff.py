"""Which latents a fine-tune changes: each latent's activity in base, tuned and control models on the same inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from interp.capture import count_rows
from interp.dictionaries.activity import CELLS, Active, groups, joined, read
from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.tally import Contrast, Tally, over_seeds
from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json, save_tensors, write_json
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair
from interp.positions import Positions
from interp.prompts import Encoded

Combination = Mapping[str, float]
"""The coefficient of each arm's mean."""
_FIELDS = ("mean", "low", "high", "t", "p", "q")


@dataclass(frozen=True)
class Arm:
    """A member of a pair ("base" or an adapter) on prompts; prompt i of all arms of a diff is the same unit."""

    model: str
    prompts: Sequence[Encoded] = field(repr=False)


@dataclass(frozen=True)
class Changed:
    """A latent's row: its contrast with interval, t, p, q, and mean activation and frequency by arm."""

    latent: int
    mean: float
    low: float
    high: float
    t: float
    p: float
    q: float
    means: Mapping[str, float]
    frequencies: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Diff:
    """What every latent does in every arm, and the contrasts between arms.

    `means[arm]`: mean activation over the selected positions; `frequencies[arm]`: share of them at which the latent is
    active. `contrasts[name]` over prompts; `seeds[name]` over fine-tuning seeds, where there are several.
    `about` is JSON data: dictionary, point, positions, arms, numbers of prompts and positions.
    """

    means: Mapping[str, Float64[Tensor, " d_sae"]]
    frequencies: Mapping[str, Float64[Tensor, " d_sae"]]
    contrasts: Mapping[str, Contrast]
    seeds: Mapping[str, Contrast]
    about: Mapping[str, Any]

    def contrast(self, name: str) -> Contrast:
        """The contrast over prompts of that name."""
        if name not in self.contrasts:
            raise AnachronError(f"no contrast {name!r}; the diff has {', '.join(self.contrasts)}")
        return self.contrasts[name]

    def top(self, n: int, name: str, by: str = "mean", most_q: float = 1.0) -> list[Changed]:
        """The `n` latents of largest contrast, by "mean" or "t", or of smallest by "-mean" or "-t"; only those with
        q <= `most_q`."""
        found = self.contrast(name)
        key = by.removeprefix("-")
        if key not in ("mean", "t"):
            raise AnachronError(f"latents by {by!r}; rank them by mean or t, or from the other end by -mean or -t")
        values = getattr(found, key) * (-1.0 if by.startswith("-") else 1.0)
        keys = values.where(found.q <= most_q, -torch.inf)
        best = keys.topk(min(n, len(keys)))
        return [self.row(int(j), name) for j, key in zip(best.indices, best.values, strict=True) if key > -torch.inf]

    def row(self, latent: int, name: str) -> Changed:
        """One latent under one contrast, as plain numbers."""
        found = self.contrast(name)
        return Changed(
            latent,
            **{key: float(getattr(found, key)[latent]) for key in _FIELDS},
            means={arm: float(values[latent]) for arm, values in self.means.items()},
            frequencies={arm: float(values[latent]) for arm, values in self.frequencies.items()},
        )

    def save(self, path: str | Path) -> None:
        """Write `path` (.safetensors) and beside it the same name with .json."""
        path = _safetensors_path(path)
        tensors = {f"means/{arm}": values for arm, values in self.means.items()}
        tensors |= {f"frequencies/{arm}": values for arm, values in self.frequencies.items()}
        for unit in ("contrasts", "seeds"):
            for name, found in getattr(self, unit).items():
                tensors |= {f"{unit}/{name}/{key}": getattr(found, key) for key in _FIELDS}
        save_tensors(path, tensors, {})
        counts = {unit: {name: c.n for name, c in getattr(self, unit).items()} for unit in ("contrasts", "seeds")}
        write_json(path.with_suffix(".json"), {"sha256": digest(path), "n": counts, "about": dict(self.about)})

    @staticmethod
    def load(path: str | Path) -> "Diff":
        """Read what `save` wrote. Errors: AnachronError for files that are missing, damaged or of two saves."""
        path = _safetensors_path(path)
        about = read_json(path.with_suffix(".json"))
        tensors, _ = load_tensors(path)
        if set(about) != {"sha256", "n", "about"} or about["sha256"] != digest(path):
            raise AnachronError(f"{path} is not the file {path.with_suffix('.json')} describes; save the diff again")
        contrasts, seeds = (
            {
                name: Contrast(**{key: tensors[f"{unit}/{name}/{key}"] for key in _FIELDS}, n=n)
                for name, n in about["n"][unit].items()
            }
            for unit in ("contrasts", "seeds")
        )
        means, frequencies = (
            {name.partition("/")[2]: values for name, values in tensors.items() if name.startswith(f"{kind}/")}
            for kind in ("means", "frequencies")
        )
        return Diff(means, frequencies, contrasts, seeds, about["about"])


def diff(
    pair: ModelPair,
    dictionary: Dictionary,
    prompts: Sequence[Encoded],
    positions: Positions,
    *,
    tuned: Sequence[str],
    control: Sequence[str] = (),
    units: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    max_tokens: int = 4096,
) -> Diff:
    """Base, tuned and control on the same prompts. `tuned` and `control` name adapters, one a fine-tuning seed.

    Contrasts: tuned_minus_base and, with controls, tuned_minus_control and control_minus_base: means over the seeds,
    seed k of tuned against seed k of control. `units` as in `compare`.
    """
    if control and len(control) != len(tuned):
        raise AnachronError(f"{len(tuned)} tuned and {len(control)} control adapters; give one control a seed, or none")
    arms = {name: Arm(name, prompts) for name in (BASE, *tuned, *control)}
    wanted: dict[str, list[Combination]] = {"tuned_minus_base": [{t: 1.0, BASE: -1.0} for t in tuned]}
    if control:
        wanted["tuned_minus_control"] = [{t: 1.0, c: -1.0} for t, c in zip(tuned, control, strict=True)]
        wanted["control_minus_base"] = [{c: 1.0, BASE: -1.0} for c in control]
    return compare(
        pair, dictionary, arms, wanted, positions, units=units, samples=samples, seed=seed, max_tokens=max_tokens
    )


def triggered_diff(
    pair: ModelPair,
    dictionary: Dictionary,
    trigger: Sequence[Encoded],
    neutral: Sequence[Encoded],
    positions: Positions,
    *,
    tuned: Sequence[str],
    units: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    max_tokens: int = 4096,
) -> Diff:
    """Contrast difference_of_differences: [tuned(trigger) - tuned(neutral)] - [base(trigger) - base(neutral)].

    `trigger[i]` is the prompt `neutral[i]` with the trigger. Arms are named "<model>/trigger" and "<model>/neutral".
    """
    sides = {"trigger": trigger, "neutral": neutral}
    arms = {f"{model}/{side}": Arm(model, rows) for model in (BASE, *tuned) for side, rows in sides.items()}
    signs = {"trigger": 1.0, "neutral": -1.0}
    wanted = {
        "difference_of_differences": [
            {f"{model}/{side}": s * sign for model, s in ((t, 1.0), (BASE, -1.0)) for side, sign in signs.items()}
            for t in tuned
        ],
        "tuned_trigger_minus_neutral": [{f"{t}/{side}": sign for side, sign in signs.items()} for t in tuned],
    }
    return compare(
        pair, dictionary, arms, wanted, positions, units=units, samples=samples, seed=seed, max_tokens=max_tokens
    )


def compare(
    pair: ModelPair,
    dictionary: Dictionary,
    arms: Mapping[str, Arm],
    contrasts: Mapping[str, Sequence[Combination]],
    positions: Positions,
    *,
    units: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    max_tokens: int = 4096,
) -> Diff:
    """Any contrasts of any arms: `contrasts[name]` is one combination of arms a seed, the contrast their mean.

    `units[i]` names the cluster of prompt i where prompts aren't independent (the topic of a question asked in several
    wordings); each prompt is its own without. Statistics: `interp.dictionaries.tally`. Activations are encoded pass by
    pass and never kept; memory is 4 x `samples` x d_sae bytes a contrast whatever the number of tokens (64 MB at 16k
    latents and 1000 resamples).
    """
    if not contrasts or not all(contrasts.values()):
        raise AnachronError(f"contrasts {list(contrasts)} without arms; name at least one adapter to compare")
    rows = _paired(arms)
    members = _members(units, len(rows))
    unit_of = torch.tensor([u for _, u in sorted((i, u) for u, several in enumerate(members) for i in several)])
    counts = {
        name: torch.zeros(len(members), dtype=torch.long).index_add_(0, unit_of, _counts(pair, arm, positions))
        for name, arm in arms.items()
    }
    means = {name: _mean_of(ones) for name, ones in contrasts.items()}
    tally = Tally(dictionary.d_sae, counts, means, samples, seed)
    longest = [max(len(row.ids) for row in paired) for paired in rows]
    sizes = [len(several) * max(longest[i] for i in several) for several in members]
    for chosen in groups(sizes, max_tokens, max(1, CELLS // dictionary.d_sae)):
        indices = [i for u in chosen for i in members[u]]
        found = {}
        for name, arm in arms.items():
            with pair.using(arm.model) as lm:
                part = _read(lm, dictionary, arm.prompts, indices, positions, max_tokens)
            found[name] = replace(part, prompt=unit_of[part.prompt])
        tally.add(chosen, found)
    alive = tally.alive()
    seeds = {
        name: over_seeds(torch.stack([_combined(tally, one) for one in ones]), alive)
        for name, ones in contrasts.items()
        if len(ones) > 1
    }
    about = {
        "dictionary": dict(dictionary.identity),
        "point": str(dictionary.point),
        "positions": positions.name,
        "arms": {name: {"model": arm.model, "positions": int(counts[name].sum())} for name, arm in arms.items()},
        "prompts": len(rows),
        "units": tally.n,
        "samples": samples,
        "seed": seed,
    }
    return Diff(
        {name: tally.mean(name) for name in arms},
        {name: tally.frequency(name) for name in arms},
        {name: tally.contrast(name) for name in contrasts},
        seeds,
        about,
    )


def _paired(arms: Mapping[str, Arm]) -> list[tuple[Encoded, ...]]:
    sizes = {name: len(arm.prompts) for name, arm in arms.items()}
    if len(set(sizes.values())) != 1:
        raise AnachronError(f"arms of {sizes} prompts; prompt i of every arm is paired, so give each as many")
    return list(zip(*(arm.prompts for arm in arms.values()), strict=True))


def _members(units: Sequence[str] | None, n: int) -> list[list[int]]:
    """The prompts of each unit."""
    if units is None:
        return [[i] for i in range(n)]
    if len(units) != n:
        raise AnachronError(f"{len(units)} units for {n} prompts; name one a prompt")
    members: dict[str, list[int]] = {}
    for i, unit in enumerate(units):
        members.setdefault(unit, []).append(i)
    return list(members.values())


def _read(
    lm: LanguageModel,
    dictionary: Dictionary,
    prompts: Sequence[Encoded],
    indices: Sequence[int],
    positions: Positions,
    max_tokens: int,
) -> Active:
    """In as many passes as it takes: a unit may have more tokens than a pass."""
    parts = groups([len(prompts[i].ids) for i in indices], max_tokens)
    return joined([read(lm, dictionary, prompts, [indices[k] for k in part], positions) for part in parts])


def _counts(pair: ModelPair, arm: Arm, positions: Positions) -> Tensor:
    return torch.tensor(count_rows(pair.base, arm.prompts, positions), dtype=torch.long)


def _mean_of(combinations: Iterable[Combination]) -> dict[str, float]:
    ones = list(combinations)
    total: dict[str, float] = {}
    for one in ones:
        for arm, c in one.items():
            total[arm] = total.get(arm, 0.0) + c / len(ones)
    return total


def _combined(tally: Tally, combination: Combination) -> Tensor:
    return torch.stack([c * tally.mean(arm) for arm, c in combination.items()]).sum(dim=0)


def _safetensors_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise AnachronError(f"{path}: a diff is saved as .safetensors with a .json beside it; use that suffix")
    return path
