"""What a latent is about, where the truth is known: its AUROC as a detector of each known state.

AUROC of latent j for a state = P(a unit in the state has a larger score than one that isn't), ties counting one half
(Mann & Whitney 1947). Units are prompts (a latent's mean or largest activation over the prompt's selected positions) or
single positions. With midranks r over all units it is (sum of r over the P units in the state - P (P + 1) / 2) / (P N),
N the other units. Zeros share one rank, so the sum runs over active entries alone: one product of a sparse matrix
[d_sae, units] with the masks gives all latents and states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.dictionaries.activity import activity, joined
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import Positions
from interp.prompts import Encoded

REDUCTIONS = ("mean", "max")


@dataclass(frozen=True, eq=False)
class Scores:
    """Sparse scores of latents over units: `latent[i]` has `value[i]` > 0 at unit `unit[i]`, and 0 wherever it isn't
    listed. `prompt[u]` is the prompt that unit u belongs to; `positions[u]` its position, None for whole prompts."""

    d_sae: int
    unit: Int[Tensor, " entries"]
    latent: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]
    prompt: Int[Tensor, " units"]
    position: Int[Tensor, " units"] | None = None

    @property
    def frequency(self) -> Float[Tensor, " d_sae"]:
        """Share of units at which each latent is active."""
        return torch.bincount(self.latent, minlength=self.d_sae).float() / len(self.prompt)


@dataclass(frozen=True, eq=False)
class State:
    """A known state of units: where it holds, and among which units it is told from others (None: all).

    Narrow `among` where a state means nothing elsewhere: an era is told from other eras, not from texts without one.
    """

    holds: Bool[Tensor, " units"]
    among: Bool[Tensor, " units"] | None = None


@dataclass(frozen=True)
class Label:
    """The state that a latent detects best. `auroc` is from units that had no part in choosing the state; `chosen` from
    those it was chosen on. `n`: units in the state where `auroc` was measured."""

    latent: int
    state: str
    auroc: float
    chosen: float
    n: int
    frequency: float


@dataclass(frozen=True, eq=False)
class Labels:
    """AUROC of every latent for every state, on two halves of the prompts: states are chosen on `choosing` and
    reported from `held_out`, so that the best of many isn't the luckiest. 1/2 for a latent that is never active."""

    states: tuple[str, ...]
    choosing: Float[Tensor, "d_sae states"]
    held_out: Float[Tensor, "d_sae states"]
    n: Int[Tensor, " states"]
    frequency: Float[Tensor, " d_sae"]
    best: Int[Tensor, " d_sae"] = field(repr=False)

    def label(self, latent: int, least: float = 0.75) -> Label | None:
        """The state chosen for a latent; None if its held-out AUROC is below `least`: nothing known is detected."""
        if not 0 <= latent < len(self.best):
            raise AnachronError(f"latent {latent}; the dictionary has 0 to {len(self.best) - 1}")
        k = int(self.best[latent])
        found = Label(
            latent,
            self.states[k],
            float(self.held_out[latent, k]),
            float(self.choosing[latent, k]),
            int(self.n[k]),
            float(self.frequency[latent]),
        )
        return found if found.auroc >= least else None

    def detectors(self, state: str, n: int = 10) -> list[Label]:
        """The `n` best detectors of a state, chosen and ordered by `choosing`, with their held-out AUROC."""
        if state not in self.states:
            raise AnachronError(f"no state {state!r}; there are {', '.join(self.states)}")
        k = self.states.index(state)
        best = self.choosing[:, k].topk(min(n, len(self.best))).indices
        return [
            Label(
                int(j),
                state,
                float(self.held_out[j, k]),
                float(self.choosing[j, k]),
                int(self.n[k]),
                float(self.frequency[j]),
            )
            for j in best
        ]


def prompt_scores(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    positions: Positions,
    reduction: str = "max",
    max_tokens: int = 4096,
) -> Scores:
    """Unit = prompt: the "max" or "mean" of each latent over the prompt's selected positions. Unit u is prompt u.

    Errors: AnachronError for a prompt without selected positions, which has no score.
    """
    if reduction not in REDUCTIONS:
        raise AnachronError(f"reduction {reduction!r}; use {' or '.join(REDUCTIONS)}")
    columns = []
    seen = torch.zeros(len(encoded), dtype=torch.bool)
    for part in activity(lm, dictionary, encoded, positions, max_tokens):
        seen[part.prompt] = True
        keys, index = torch.unique(part.prompt[part.row] * dictionary.d_sae + part.latent, return_inverse=True)
        value = torch.zeros(len(keys))
        if reduction == "max":
            value.scatter_reduce_(0, index, part.value, "amax")
        else:
            size = torch.bincount(part.prompt, minlength=len(encoded))
            value.index_add_(0, index, part.value / size[part.prompt[part.row]])
        columns.append((keys // dictionary.d_sae, keys % dictionary.d_sae, value))
    if not bool(seen.all()):
        raise AnachronError(
            f"positions {positions.name!r} select nothing in prompt {int((~seen).nonzero()[0])}; choose others, or "
            "drop it"
        )
    unit, latent, value = (torch.cat(column) for column in zip(*columns, strict=True))
    return Scores(dictionary.d_sae, unit, latent, value, torch.arange(len(encoded)))


def position_scores(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    positions: Positions,
    max_tokens: int = 4096,
) -> Scores:
    """Unit = selected position, ordered by prompt and then position, as rows of `interp.capture.capture` are."""
    found = joined(list(activity(lm, dictionary, encoded, positions, max_tokens)))
    order = (found.prompt * (int(found.position.max()) + 1) + found.position).argsort()
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    unit = place[found.row]
    return Scores(dictionary.d_sae, unit, found.latent, found.value, found.prompt[order], found.position[order])


def auroc(scores: Scores, states: Mapping[str, State], units: Bool[Tensor, " units"] | None = None) -> Tensor:
    """AUROC [d_sae, states] in fp64, exact with ties, over `units` (default all) that are `among` a state's.

    Errors: AnachronError for a mask of another length, a state that holds nowhere or everywhere.
    """
    everywhere = torch.ones(len(scores.prompt), dtype=torch.bool)
    units = everywhere if units is None else units
    columns: dict[str, Tensor] = {}
    kinds: dict[bytes, list[str]] = {}
    universes: dict[bytes, Tensor] = {}
    for name, state in states.items():
        _check(name, state, len(everywhere))
        universe = units & (everywhere if state.among is None else state.among)
        mark = universe.numpy().tobytes()
        universes[mark] = universe
        kinds.setdefault(mark, []).append(name)
    for mark, names in kinds.items():
        universe = universes[mark]
        holds = torch.stack([states[name].holds for name in names], dim=1) & universe[:, None]
        found = _auroc(scores, universe, holds, names)
        columns |= {name: found[:, k] for k, name in enumerate(names)}
    return torch.stack([columns[name] for name in states], dim=1)


def label_latents(scores: Scores, states: Mapping[str, State], *, seed: int = 0) -> Labels:
    """AUROC on two random halves of the prompts (all positions of a prompt on one side), and each latent's state.

    Errors: AnachronError for a state that holds for no unit, or for all, in a half: too rare to say anything.
    """
    prompts = torch.unique(scores.prompt)
    generator = torch.Generator().manual_seed(seed)
    first = prompts[torch.randperm(len(prompts), generator=generator)[: len(prompts) // 2]]
    half = torch.isin(scores.prompt, first)
    choosing, held_out = auroc(scores, states, half), auroc(scores, states, ~half)
    n = torch.stack([(state.holds & ~half & _among(state)).sum() for state in states.values()])
    best = choosing.argmax(dim=1)
    return Labels(tuple(states), choosing.float(), held_out.float(), n, scores.frequency, best)


def _among(state: State) -> Tensor:
    return torch.ones_like(state.holds) if state.among is None else state.among


def _auroc(
    scores: Scores, universe: Bool[Tensor, " units"], holds: Bool[Tensor, "units states"], names: Sequence[str]
) -> Tensor:
    from scipy.sparse import csr_array

    total = int(universe.sum())
    positive = holds.sum(dim=0).double().numpy()
    for name, p in zip(names, positive, strict=True):
        if not 0 < p < total:
            raise AnachronError(
                f"state {name!r} holds for {int(p)} of {total} units; it needs some in it and some out of it, in both "
                "halves if there are two: add documents or drop the state"
            )
    kept = universe[scores.unit]
    unit, latent, value = (getattr(scores, key)[kept].numpy() for key in ("unit", "latent", "value"))
    order = np.lexsort((value, latent))
    unit, latent, value = unit[order], latent[order], value[order]
    active = np.bincount(latent, minlength=scores.d_sae)
    zeros = total - active
    start = np.cumsum(active) - active
    # midrank of an active entry: the zeros below it, then its place among the active ones, ties sharing theirs
    fresh = np.ones(len(latent), dtype=bool)
    fresh[1:] = (latent[1:] != latent[:-1]) | (value[1:] != value[:-1])
    group = np.cumsum(fresh) - 1
    size = np.bincount(group)
    first = np.flatnonzero(fresh)
    middle = first + (size + 1) / 2
    rank = zeros[latent] + middle[group] - start[latent]
    masks = holds.numpy().astype(np.float64)
    # measured from the zeros' midrank, so that entries that aren't listed add nothing
    above = rank - ((zeros + 1) / 2)[latent]
    pointers = np.concatenate([start, [len(latent)]])
    summed = csr_array((above, unit, pointers), shape=(scores.d_sae, len(universe))) @ masks
    summed += ((zeros + 1) / 2)[:, None] * positive
    return torch.from_numpy((summed - positive * (positive + 1) / 2) / (positive * (total - positive)))


def _check(name: str, state: State, units: int) -> None:
    for what, mask in (("holds", state.holds), ("among", state.among)):
        if mask is not None and len(mask) != units:
            raise AnachronError(f"state {name!r}: {what!r} has {len(mask)} entries for {units} units; make one a unit")
