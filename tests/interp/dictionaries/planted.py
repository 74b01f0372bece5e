"""A dictionary with weights set by hand, and adapters for a pair."""

from dataclasses import dataclass, field

import torch

from interp.hooks import HookPoint


@dataclass(eq=False)
class Planted:
    """f = relu(x W + b), xhat = f D: whatever W, b and D are given."""

    encoder: torch.Tensor
    decoder: torch.Tensor
    bias: torch.Tensor
    point: HookPoint = field(default_factory=lambda: HookPoint(1))
    name: str = "planted"

    @property
    def d_model(self):
        return self.decoder.shape[1]

    @property
    def d_sae(self):
        return self.decoder.shape[0]

    @property
    def identity(self):
        return {"name": self.name, "d_sae": self.d_sae}

    def encode(self, x):
        return torch.relu(x @ self.encoder + self.bias)

    def decode(self, f):
        return f @ self.decoder


def identity_like(d_model, point=None):
    """2 d_model latents: the positive and the negative part of each dimension; decode(encode(x)) is x."""
    one = torch.eye(d_model)
    both = torch.cat([one, -one])
    return Planted(both.T.contiguous(), both, torch.zeros(2 * d_model), point or HookPoint(1))


def random_dictionary(d_model, d_sae, seed=0, bias=-1.0, point=None):
    """Random unit rows, encoder = decoder transposed, and a bias that keeps most latents off."""
    rows = torch.randn(d_sae, d_model, generator=torch.Generator().manual_seed(seed))
    rows = rows / rows.norm(dim=1, keepdim=True)
    return Planted(rows.T.contiguous(), rows, torch.full((d_sae,), bias), point or HookPoint(1))


def dead(dictionary, latents):
    """The same with these latents never active."""
    bias = dictionary.bias.clone()
    bias[latents] = -1e6
    return Planted(dictionary.encoder, dictionary.decoder, bias, dictionary.point, dictionary.name)
