"""Pairs of activations to train on: chunks of rows, base and tuned at the same tokens, and batches drawn from them."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from interp.capture import capture_pair
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import Positions
from training.corpus import Corpus

Chunk = tuple[Float[Tensor, "rows d_model"], Float[Tensor, "rows d_model"]]
Pairs = Callable[[int], Chunk]
"""Chunk i = 0, 1, 2, ... of base and tuned activations, row by row of the same token. There is no last one, and the
same i gives the same chunk whenever it is asked for: an interrupted run goes on from there."""


def from_tensors(base: Float[Tensor, "n d_model"], tuned: Float[Tensor, "n d_model"], chunk_rows: int = 2**17) -> Pairs:
    """Pairs that lie in memory, over and over, in chunks of about `chunk_rows`."""
    n = max(1, round(len(base) / chunk_rows))
    parts = list(zip(base.tensor_split(n), tuned.tensor_split(n), strict=True))
    return lambda i: parts[i % n]


def captured(
    pair: ModelPair,
    names: tuple[str, str],
    corpus: Corpus,
    point: HookPoint,
    positions: Positions,
    max_tokens: int = 4096,
) -> Pairs:
    """Pairs captured when they are needed, chunk i from block i of the corpus; `names` are the members of the pair to
    compare, as in ("base", "tuned")."""

    def chunk(i: int) -> Chunk:
        found = capture_pair(pair, names, corpus.block(i), [point], positions, max_tokens)
        base, tuned = (found[name][point] for name in names)
        return base, tuned

    return chunk


def batches(pairs: Pairs, size: int, seed: int, chunk: int = 0, used: int = 0) -> Iterator[tuple[int, int, Chunk]]:
    """(chunk, rows of it used by then, batch), on from `used` rows of `chunk`. Each chunk is shuffled by the seed; the
    rows over that fill no batch are left out."""
    while True:
        base, tuned = whole_chunk(pairs, chunk, size)
        order = torch.randperm(len(base), generator=torch.Generator().manual_seed((seed << 32) + chunk))
        for start in range(used, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield chunk, start + size, (base[rows], tuned[rows])
        chunk, used = chunk + 1, 0


def whole_chunk(pairs: Pairs, i: int, size: int) -> Chunk:
    """Chunk i, checked: both sides of one shape, and enough for a batch of `size`."""
    base, tuned = pairs(i)
    if base.shape != tuned.shape:
        raise AnachronError(
            f"chunk {i} has base activations {tuple(base.shape)} and tuned ones {tuple(tuned.shape)}; give the same "
            "tokens of two models of one width"
        )
    if len(base) < size:
        raise AnachronError(
            f"chunk {i} has {len(base)} rows, fewer than a batch of {size}; give more prompts, or more of them a "
            "chunk, or take smaller batches"
        )
    return base, tuned
