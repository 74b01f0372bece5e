"""Which latents are active where: sparse, pass by pass, so that [tokens, d_sae] never exists as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.capture import forward
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.positions import Positions
from interp.prompts import Encoded, pad

CELLS = 1 << 22
"""Entries that a dense [rows, d_sae] piece may have: 16 MiB in fp32, whatever the number of latents."""


@dataclass(frozen=True, eq=False)
class Active:
    """Latents above zero at the selected positions of some whole prompts, on the CPU.

    Row r is position `position[r]` (counted from the prompt's first token) of prompt number `prompt[r]`. Entry i:
    `latent[i]` has `value[i]` > 0 at row `row[i]`; entries are in order of row, then latent.
    """

    prompt: Int[Tensor, " rows"]
    position: Int[Tensor, " rows"]
    row: Int[Tensor, " entries"]
    latent: Int[Tensor, " entries"]
    value: Float[Tensor, " entries"]


def activity(
    lm: LanguageModel, dictionary: Dictionary, encoded: Sequence[Encoded], positions: Positions, max_tokens: int = 4096
) -> Iterator[Active]:
    """The active latents of all prompts, one `Active` a forward pass; a prompt is never split over two.

    Errors: AnachronError if nothing is selected, and those of `read`.
    """
    found = False
    for indices in groups([len(row.ids) for row in encoded], max_tokens):
        part = read(lm, dictionary, encoded, indices, positions)
        if len(part.prompt):
            found = True
            yield part
    if not found:
        raise AnachronError(f"positions {positions.name!r} select nothing in {len(encoded)} prompts; choose others")


def joined(parts: Sequence[Active]) -> Active:
    """Several passes as one, rows in their order."""
    before = torch.tensor([0] + [len(part.prompt) for part in parts]).cumsum(0)
    rows = [part.row + start for part, start in zip(parts, before[:-1], strict=True)]
    prompt, position, latent, value = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("prompt", "position", "latent", "value")
    )
    return Active(prompt, position, torch.cat(rows), latent, value)


def groups(lengths: Sequence[int], max_tokens: int, most: int | None = None) -> Iterator[list[int]]:
    """Numbers of prompts that share a pass: at most `max_tokens` tokens with padding and `most` prompts (or one prompt
    alone), the longest first. Their order over all groups doesn't depend on `max_tokens` and `most`."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    begin = 0
    while begin < len(order):
        size = max(1, max_tokens // max(1, lengths[order[begin]]))
        size = size if most is None else max(1, min(size, most))
        yield order[begin : begin + size]
        begin += size


def read(
    lm: LanguageModel,
    dictionary: Dictionary,
    encoded: Sequence[Encoded],
    indices: Sequence[int],
    positions: Positions,
) -> Active:
    """The active latents of the prompts `indices`, after one forward pass; no rows where nothing is selected.

    Errors: AnachronError for a dictionary of another width (both numbers) or of a layer the model hasn't, NaN.
    """
    if dictionary.d_model != lm.d_model:
        raise AnachronError(
            f"{dictionary.name} reads {dictionary.d_model} dimensions, the residual stream of {lm.name} has "
            f"{lm.d_model}; take a dictionary of this model"
        )
    batch = pad([encoded[i] for i in indices], lm.pad_id)
    selected = positions.mask(batch)
    which, at = selected.nonzero(as_tuple=True)
    numbers = torch.tensor(indices)[which]
    if not len(which):
        nothing = torch.empty(0, dtype=torch.long)
        return Active(numbers, at, nothing, nothing, torch.empty(0))
    [(_, rows)] = forward(lm, batch, [dictionary.point], selected)
    return Active(numbers, at - batch.starts[which], *above_zero(dictionary, rows))


def above_zero(
    dictionary: Dictionary, rows: Float[Tensor, "rows d_model"]
) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Float[Tensor, " entries"]]:
    """(row, latent, activation) of every latent above zero, encoded in pieces of `CELLS`."""
    step = max(1, CELLS // dictionary.d_sae)
    device = dictionary.decoder.device
    parts = []
    for begin in range(0, len(rows), step):
        f = dictionary.encode(rows[begin : begin + step].to(device, torch.float32))
        if not bool(torch.isfinite(f).all()):
            raise AnachronError(
                f"{dictionary.name} at {dictionary.point}: an activation is NaN or infinite; find out whether the "
                "model's or the dictionary's numbers are broken"
            )
        row, latent = (f > 0).nonzero(as_tuple=True)
        parts.append((row.cpu() + begin, latent.cpu(), f[row, latent].float().cpu()))
    row, latent, value = (torch.cat(column) for column in zip(*parts, strict=True))
    return row, latent, value
