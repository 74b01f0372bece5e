"""Activations of two models written by sparse sources with known directions, some shared and some of one model only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from interp.dictionaries.crosscoder import Crosscoder
from interp.hooks import HookPoint

POINT = HookPoint(1)


@dataclass(eq=False)
class Sources:
    """Unit directions [n, d_model]: first the shared ones, then base's own, then the tuned model's own. Each source is
    on in a row with probability `p`, at a level drawn evenly from 1 to 2."""

    directions: Tensor
    shared: int
    private: int  # of each model
    p: float
    seed: int

    @property
    def base_only(self) -> Tensor:
        return self.directions[self.shared : self.shared + self.private]

    @property
    def tuned_only(self) -> Tensor:
        return self.directions[self.shared + self.private :]

    def chunk(self, i: int, rows: int = 8192) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + i)
        shape = (rows, len(self.directions))
        on = torch.rand(shape, generator=generator) < self.p
        levels = on * (1 + torch.rand(shape, generator=generator))
        base, tuned = levels.clone(), levels
        base[:, self.shared + self.private :] = 0
        tuned[:, self.shared : self.shared + self.private] = 0
        return base @ self.directions, tuned @ self.directions


def sources(seed: int = 0, p: float = 0.03, d_model: int = 48, shared: int = 60, private: int = 20) -> Sources:
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(shared + 2 * private, d_model, generator=generator)
    return Sources(directions / directions.norm(dim=1, keepdim=True), shared, private, p, seed)


def crosscoder(encoders: Tensor, decoders: Tensor, **fields) -> Crosscoder:
    """One with weights set by hand; biases zero, no threshold and mean norms sqrt(d_model) unless given."""
    d_sae, d_model = decoders.shape[1:]
    given = {
        "name": "planted",
        "point": POINT,
        "encoder_bias": torch.zeros(d_sae),
        "decoder_biases": torch.zeros(2, d_model),
        "threshold": 0.0,
        "mean_norms": (d_model**0.5, d_model**0.5),
        "alive": torch.ones(d_sae, dtype=torch.bool),
    }
    return Crosscoder(encoders=encoders, decoders=decoders, **(given | fields))


def random_crosscoder(d_model: int, d_sae: int, seed: int = 0, **fields) -> Crosscoder:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    given = {
        "encoder_bias": draw(d_sae),
        "decoder_biases": draw(2, d_model),
        "threshold": 1.5,
        "mean_norms": (3.0, 5.0),
    }
    return crosscoder(draw(2, d_sae, d_model), draw(2, d_sae, d_model), **(given | fields))
