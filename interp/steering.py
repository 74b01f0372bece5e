"""Edits of the residual stream along directions: add, ablate, clamp, at chosen positions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.dictionaries.dictionary import Dictionary
from interp.directions import Direction
from interp.errors import AnachronError
from interp.hooks import EditFunction, HookPoint, edit
from interp.models import LanguageModel
from interp.positions import ALL, Positions
from interp.prompts import Batch


@dataclass(frozen=True, eq=False)
class Add:
    """h <- h + coefficient * scale * u.

    `scale` is the typical residual norm at the point (`Moments.mean_norm`), so that a coefficient means the same at
    every layer; `coefficient` is one number, or one per row of the batch. `points` replaces `direction.point`.
    """

    direction: Direction
    coefficient: float | int | Float[Tensor, " batch"]
    scale: float = 1.0
    positions: Positions = ALL
    points: Sequence[HookPoint] | None = None


@dataclass(frozen=True, eq=False)
class Ablate:
    """h <- h - (hQ)Q^T, Q an orthonormal basis of the directions: all of their span goes, however correlated they are.

    Without `points`, directions that share a point are removed together there.
    """

    directions: Sequence[Direction]
    positions: Positions = ALL
    points: Sequence[HookPoint] | None = None


@dataclass(frozen=True, eq=False)
class AblateSequentially:
    """h <- h - (h.u)u for each direction in turn, as published pipelines do.

    For correlated directions it is not exact, since removing the later ones puts back some of the earlier: use
    `Ablate` unless a published number is to be reproduced.
    """

    directions: Sequence[Direction]
    positions: Positions = ALL
    points: Sequence[HookPoint] | None = None


@dataclass(frozen=True, eq=False)
class Clamp:
    """h <- h - (h.u - mean)u: sets the projection to `mean`, in residual-stream units (the base model's)."""

    direction: Direction
    mean: float
    positions: Positions = ALL
    points: Sequence[HookPoint] | None = None


@dataclass(frozen=True, eq=False)
class ClampLatents:
    """h <- h + sum_j (value_j - f_j(h)) d_j: sets latents of a dictionary to these activations, at its point.

    d_j is latent j's decoder row. Other latents' parts of h and what the dictionary leaves unexplained stay.
    """

    dictionary: Dictionary
    latents: Sequence[int]
    values: Float[Tensor, " latents"]
    positions: Positions = ALL


Edit = Add | Ablate | AblateSequentially | Clamp | ClampLatents
Change = Callable[[Tensor], Tensor]  # fp32 [rows, pos, d_model] on its layer's device -> the same, at every position


@contextmanager
def steer(lm: LanguageModel, edits: Sequence[Edit], batch: Batch) -> Iterator[None]:
    """Apply `edits`, in order, to every forward of `batch` inside the block; undone afterwards, also on exception.

    The forwards are `batch` itself, or a `generate` that starts from it, with or without a KV cache: positions are
    counted from the batch's own mask, and tokens beyond it are edited where `positions.generated` says so. `generate`
    may repeat each row (num_return_sequences): row i of the batch is then rows i*k ... i*k+k-1. Arithmetic is fp32
    and rounded once to the model's dtype; positions not selected keep their bits.

    AnachronError: a direction of another d_model, an unknown layer or site, coefficients that do not fit the batch, or
    a forward that is not of this batch.
    """
    with edit(lm, changes(lm, edits, batch)):
        yield


def changes(lm: LanguageModel, edits: Sequence[Edit], batch: Batch) -> dict[HookPoint, list[EditFunction]]:
    """The functions that `steer` applies at each point, in order."""
    found: dict[HookPoint, list[EditFunction]] = {}
    for edit_ in edits:
        selected = edit_.positions.mask(batch).to(lm.device)
        for point, change in _changes(lm, edit_, batch):
            found.setdefault(point, []).append(_at_positions(change, selected, edit_.positions.generated))
    return found


@singledispatch
def run(
    lm: LanguageModel,
    batch: Batch,
    inputs: Mapping[str, Any],
    reduce: Callable[[Tensor], Tensor],
    edits: Sequence[Edit] = (),
) -> Tensor:
    """reduce(logits) of one steered forward of `batch`, without gradients; `inputs` are its keyword arguments.

    The logits themselves are not returned, since they may be on another machine (`interp.remote`): `reduce` runs there.
    """
    with torch.no_grad(), steer(lm, edits, batch):
        return reduce(lm.model(**inputs, use_cache=False).logits)


def take_rows(edits: Sequence[Edit], rows: Sequence[int]) -> list[Edit]:
    """The edits for a batch made of these rows: coefficients per row are picked out, all else is unchanged."""
    return [
        replace(e, coefficient=e.coefficient[list(rows)])
        if isinstance(e, Add) and isinstance(e.coefficient, Tensor)
        else e
        for e in edits
    ]


def _changes(lm: LanguageModel, edit_: Edit, batch: Batch) -> Iterator[tuple[HookPoint, Change]]:
    """Each point the edit touches, with what it does there."""
    if isinstance(edit_, ClampLatents):
        yield edit_.dictionary.point, _latent_clamper(lm, edit_)
        return
    directions = [edit_.direction] if isinstance(edit_, Add | Clamp) else list(edit_.directions)
    if not directions:
        raise AnachronError(f"{type(edit_).__name__} has no directions; give at least one or leave the edit out")
    for direction in directions:
        if direction.d_model != lm.d_model:
            raise AnachronError(
                f"direction {direction.method} at {direction.point} has {direction.d_model} entries, but {lm.name} has "
                f"d_model {lm.d_model}; it belongs to another model"
            )
    if edit_.points is not None:
        if not edit_.points:
            raise AnachronError(f"{type(edit_).__name__} has an empty list of points; give some, or None for its own")
        groups = dict.fromkeys(edit_.points, directions)
    else:
        groups = {}
        for direction in directions:
            groups.setdefault(direction.point, []).append(direction)
    for point, group in groups.items():
        vectors = torch.stack([d.vector for d in group], dim=1).to(lm.device)
        match edit_:
            case Add():
                yield point, _adder(vectors[:, 0], edit_, batch)
            case Ablate():
                yield point, _remover(_basis(vectors))
            case AblateSequentially():
                yield point, _sequential_remover(vectors)
            case Clamp():
                yield point, _clamper(vectors[:, 0], _finite(edit_.mean, "the mean of Clamp"))


def _latent_clamper(lm: LanguageModel, clamp: ClampLatents) -> Change:
    dictionary, latents = clamp.dictionary, list(clamp.latents)
    if dictionary.d_model != lm.d_model:
        raise AnachronError(
            f"dictionary {dictionary.name} has d_model {dictionary.d_model}, but {lm.name} has {lm.d_model}; it is of "
            "another model"
        )
    if not latents or not all(0 <= latent < dictionary.d_sae for latent in latents):
        raise AnachronError(f"ClampLatents has latents {latents}; {dictionary.name} has 0 to {dictionary.d_sae - 1}")
    if tuple(clamp.values.shape) != (len(latents),) or not bool(torch.isfinite(clamp.values).all()):
        raise AnachronError(f"ClampLatents has {list(clamp.values.shape)} values for {len(latents)} latents, or NaN")
    rows = dictionary.decoder[latents]
    return lambda h: h + (clamp.values.to(h) - dictionary.encode(h)[..., latents]) @ rows.to(h)


def _adder(vector: Float[Tensor, " d_model"], add: Add, batch: Batch) -> Change:
    scale = _finite(add.scale, "the scale of Add")
    if isinstance(add.coefficient, Tensor):
        rows = batch.input_ids.shape[0]
        if tuple(add.coefficient.shape) != (rows,):
            raise AnachronError(
                f"Add has {list(add.coefficient.shape)} coefficients for a batch of {rows} rows; give one per row"
            )
        if not torch.isfinite(add.coefficient).all():
            raise AnachronError("Add has a NaN or infinite coefficient; give finite numbers")
        amounts = (add.coefficient.double() * scale).float().to(vector.device)
        each = amounts[:, None] * vector
        return lambda h: h + _repeated(each, h)[:, None, :]
    shift = vector * (_finite(add.coefficient, "the coefficient of Add") * scale)
    return lambda h: h + shift.to(h.device)


def _basis(vectors: Float[Tensor, "d_model k"]) -> Float[Tensor, "d_model r"]:
    """Orthonormal basis of the span, in fp64. Directions that repeat each other add no dimension."""
    # An SVD instead of a plain QR: QR of repeated directions returns an arbitrary extra column, and would remove it.
    left, values, _ = torch.linalg.svd(vectors.double(), full_matrices=False)
    return left[:, values > values[0] * 1e-6].float()


def _remover(basis: Float[Tensor, "d_model r"]) -> Change:
    def change(h: Tensor) -> Tensor:
        along = basis.to(h.device)
        return h - (h @ along) @ along.T

    return change


def _sequential_remover(vectors: Float[Tensor, "d_model k"]) -> Change:
    def change(h: Tensor) -> Tensor:
        for vector in vectors.T.to(h.device):
            h = h - (h @ vector)[..., None] * vector
        return h

    return change


def _clamper(vector: Float[Tensor, " d_model"], mean: float) -> Change:
    def change(h: Tensor) -> Tensor:
        along = vector.to(h.device)
        return h - (h @ along - mean)[..., None] * along

    return change


def _at_positions(change: Change, selected: Bool[Tensor, "batch pos"], generated: bool) -> EditFunction:
    """`change` where the mask says so; `offset` tokens of each row are already in the KV cache."""
    rows, width = selected.shape

    def function(x: Tensor, offset: int) -> Tensor:
        if x.shape[0] % rows or (offset == 0 and x.shape[1] < width):
            raise AnachronError(
                f"steer was given a batch of {rows} rows x {width} tokens, the forward has {x.shape[0]} x "
                f"{x.shape[1]}; open one steer block per batch"
            )
        known = selected[:, offset : offset + x.shape[1]]
        new = x.shape[1] - known.shape[1]
        if not (known.shape[1] or generated):
            return x
        mask = torch.cat([known, known.new_full((rows, new), generated)], dim=1)
        return torch.where(_repeated(mask, x)[..., None], change(x.float()).to(x.dtype), x)

    return function


def _repeated(per_row: Tensor, x: Tensor) -> Tensor:
    """Per-row values on the device of x, in whose forward generate may have repeated each row k times in place."""
    times = x.shape[0] // per_row.shape[0]
    per_row = per_row.to(x.device)
    return per_row if times == 1 else per_row.repeat_interleave(times, dim=0)


def _finite(value: float, what: str) -> float:
    if not torch.isfinite(torch.tensor(float(value))):
        raise AnachronError(f"{what} is {value}; give a finite number")
    return float(value)
