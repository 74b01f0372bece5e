"""Activations of a corpus as a stream of batches, taken by `interp.capture` when they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.capture import capture
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import LanguageModel
from interp.positions import Positions
from training.corpus import Corpus


@dataclass
class Rows(Iterator[Tensor]):
    """Batches without end, in fp32: block after block of the corpus, the rows of each shuffled by seed and number.

    What a block leaves that fills no batch is dropped. `place` is (block, batches taken of it); a stream that is put
    at another's place goes on as that one does.
    """

    lm: LanguageModel
    corpus: Corpus
    point: HookPoint
    positions: Positions
    batch_size: int
    seed: int
    place: tuple[int, int] = (0, 0)
    _held: tuple[int, Tensor] | None = field(default=None, repr=False)

    def __next__(self) -> Float[Tensor, "batch d_model"]:
        number, taken = self.place
        rows = self.block(number)
        if (taken + 1) * self.batch_size > len(rows):
            number, taken = number + 1, 0
            rows = self.block(number)
        self.place = (number, taken + 1)
        return rows[taken * self.batch_size : (taken + 1) * self.batch_size]

    def block(self, number: int) -> Float[Tensor, "rows d_model"]:
        """All rows of a block, shuffled; the latest one is kept."""
        if self._held is None or self._held[0] != number:
            self._held = None  # so that two are never in memory
            rows = capture(self.lm, self.corpus.block(number), [self.point], self.positions)[self.point].float()
            if len(rows) < self.batch_size:
                raise AnachronError(
                    f"block {number} of the corpus has {len(rows)} activations for a batch of {self.batch_size}; take "
                    "larger blocks, other positions or a smaller batch"
                )
            order = np.random.default_rng([self.seed, number]).permutation(len(rows))
            self._held = (number, rows[torch.from_numpy(order)])
        return self._held[1]
