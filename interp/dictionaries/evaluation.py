"""How well a dictionary stands in for the activations it was trained on: reconstruction, sparsity, and the model's loss
when the reconstruction takes the activation's place."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.behavior.perplexity import nats_per_token
from interp.capture import forward
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.hooks import edit, require_points
from interp.models import LanguageModel
from interp.positions import ALL, Positions
from interp.prompts import Encoded, batches

CELLS = 1 << 22  # entries of a dense [rows, d_sae] piece: 16 MiB in fp32


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Over n activations x with reconstructions y and the mean m of all x, sums in fp64:

    fvu = sum |x - y|^2 / sum |x - m|^2. l0: active latents of a row, on average. `frequency`: share of rows in which
    each latent is active. `cosine`: mean of cos(x, y). `norm_ratio`: sum |y| / sum |x|.
    `rows_at` and `fvu_at` have an entry for each position, counted from the first token: rows there, and fvu with both
    sums over them (m stays that of all; NaN where there is no row).
    """

    n: int
    fvu: float
    l0: float
    cosine: float
    norm_ratio: float
    frequency: Float64[Tensor, " d_sae"]
    rows_at: Int[Tensor, " pos"]
    fvu_at: Float64[Tensor, " pos"]

    @property
    def dead(self) -> float:
        """Share of latents that are active in none of the n rows."""
        return float((self.frequency == 0).double().mean())


@dataclass(frozen=True)
class Splice:
    """Nats per token of one set of texts: by the model as it is, with the reconstruction in place of the activation,
    with reconstruction plus error (the same activation again, so `plain` unless something is wrong), and with zeros.

    recovered = (zeroed - spliced) / (zeroed - plain).
    """

    plain: float
    spliced: float
    with_error: float
    zeroed: float

    @property
    def recovered(self) -> float:
        return (self.zeroed - self.spliced) / (self.zeroed - self.plain)


def reconstruction(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    positions: Positions = ALL,
    max_tokens: int = 4096,
) -> Reconstruction:
    """Encode and decode every selected activation of the texts; neither rows nor latents are kept.

    Errors: AnachronError for a dictionary of another width or a point the model lacks, and if nothing is selected.
    """
    require_fit(lm, dictionary)
    totals = _Totals(dictionary)
    for _, batch in batches(encoded, lm.pad_id, max_tokens):
        selected = positions.mask(batch)
        if not selected.any():
            continue
        position = (torch.arange(selected.shape[1])[None, :] - batch.starts[:, None])[selected]
        [(_, rows)] = forward(lm, batch, [dictionary.point], selected)
        step = max(1, CELLS // dictionary.d_sae)
        for x, at in zip(rows.split(step), position.split(step), strict=True):
            totals.add(x.float(), at)
    if not totals.n:
        raise AnachronError(f"positions {positions.name!r} select nothing in {len(encoded)} texts; choose others")
    return totals.result()


def splice(lm: LanguageModel, dictionary: Dictionary, error: bool = False) -> AbstractContextManager[None]:
    """Put decode(encode(x)) in place of x in every forward pass run inside; with `error`, plus x - decode(encode(x)).

    Arithmetic of the sum is fp64, in which it is exact: with the error the model computes its own bits.
    """
    require_fit(lm, dictionary)

    def replaced(x: Float[Tensor, "batch pos d_model"], offset: int) -> Tensor:
        y = dictionary.decode(dictionary.encode(x.float())).double()
        return y + (x.double() - y) if error else y

    return edit(lm, {dictionary.point: replaced})


def loss_recovered(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    tokens: str = "answer",
    max_tokens: int = 4096,
) -> Splice:
    """The model's loss on texts under `splice`, at every position. `tokens`: see `nats_per_token`."""

    def nats() -> float:
        return nats_per_token(lm, encoded, tokens=tokens, max_tokens=max_tokens)

    with splice(lm, dictionary):
        spliced = nats()
    with splice(lm, dictionary, error=True):
        with_error = nats()
    with edit(lm, {dictionary.point: lambda x, offset: torch.zeros_like(x)}):
        zeroed = nats()
    return Splice(nats(), spliced, with_error, zeroed)


def require_fit(lm: LanguageModel, dictionary: Dictionary) -> None:
    """AnachronError, with both numbers, unless the dictionary is of this model's width and of a point that it has."""
    if dictionary.d_model != lm.d_model:
        raise AnachronError(
            f"{dictionary.name} is of activations of {dictionary.d_model} numbers and {lm.name} has d_model "
            f"{lm.d_model}; take a dictionary of this model"
        )
    require_points(lm, [dictionary.point])


class _Totals:
    """Running sums of everything that `Reconstruction` states."""

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self.n = 0
        self.active: Tensor = torch.zeros(dictionary.d_sae, dtype=torch.float64)
        self.cosine = self.norm_x = self.norm_y = 0.0
        # per position: rows, sum of |x - y|^2, of |x|^2, and of x
        self.rows_at: Tensor = torch.zeros(0, dtype=torch.long)
        self.error_at: Tensor = torch.zeros(0, dtype=torch.float64)
        self.square_at: Tensor = torch.zeros(0, dtype=torch.float64)
        self.sum_at: Tensor = torch.zeros(0, dictionary.d_model, dtype=torch.float64)

    def add(self, x: Float[Tensor, "rows d_model"], position: Int[Tensor, " rows"]) -> None:
        f = self.dictionary.encode(x)
        y = self.dictionary.decode(f).double().cpu()
        self.active += (f > 0).sum(dim=0).double().cpu()
        x = x.double().cpu()
        self.n += len(x)
        self._make_room(int(position.max()) + 1)
        self.rows_at.index_add_(0, position, torch.ones_like(position))
        self.error_at.index_add_(0, position, (x - y).square().sum(dim=1))
        self.square_at.index_add_(0, position, x.square().sum(dim=1))
        self.sum_at.index_add_(0, position, x)
        norms = x.norm(dim=1), y.norm(dim=1)
        self.cosine += float(((x * y).sum(dim=1) / (norms[0] * norms[1]).clamp(min=1e-300)).sum())
        self.norm_x, self.norm_y = self.norm_x + float(norms[0].sum()), self.norm_y + float(norms[1].sum())

    def _make_room(self, positions: int) -> None:
        more = positions - len(self.rows_at)
        if more > 0:
            for name in ("rows_at", "error_at", "square_at", "sum_at"):
                old = getattr(self, name)
                setattr(self, name, torch.cat([old, old.new_zeros(more, *old.shape[1:])]))

    def result(self) -> Reconstruction:
        mean = self.sum_at.sum(dim=0) / self.n
        # sum |x - m|^2 = sum |x|^2 - 2 m.(sum x) + rows |m|^2
        around = self.square_at - 2 * self.sum_at @ mean + self.rows_at * mean.square().sum()
        if float(around.sum()) <= 1e-12 * float(self.square_at.sum()):
            raise AnachronError(f"all {self.n} activations are the same, so there is no variance; take more positions")
        return Reconstruction(
            n=self.n,
            fvu=float(self.error_at.sum() / around.sum()),
            l0=float(self.active.sum() / self.n),
            cosine=self.cosine / self.n,
            norm_ratio=self.norm_y / self.norm_x,
            frequency=self.active / self.n,
            rows_at=self.rows_at,
            fvu_at=torch.where(self.rows_at > 0, self.error_at / around, torch.nan),
        )
