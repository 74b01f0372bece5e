"""The latents that a fine-tune changed most, and latents like them that it didn't, as a control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.dictionaries.dictionary import Dictionary
from interp.directions import Direction, normalised
from interp.errors import AnachronError


@dataclass(frozen=True, eq=False)
class Means:
    """Mean activation of every latent over some prompts, in the models compared: the base, and by fine-tuning seed the
    tuned ones and their controls. `frequency`: share of the base's prompts at which a latent is active."""

    base: Float64[Tensor, " d_sae"]
    tuned: Sequence[Float64[Tensor, " d_sae"]]
    control: Sequence[Float64[Tensor, " d_sae"]]
    frequency: Float64[Tensor, " d_sae"]
    off: Mapping[str, Float64[Tensor, " d_sae"]] = field(default_factory=dict)

    @property
    def change(self) -> Float64[Tensor, " d_sae"]:
        """Mean over seeds of tuned minus control; with a trigger (`off`: base and tuned without it, mean over seeds)
        the difference of differences."""
        tuned = torch.stack(list(self.tuned)).mean(0)
        if self.off:
            return (tuned - self.off["tuned"]) - (self.base - self.off["base"])
        return tuned - torch.stack(list(self.control)).mean(0)

    @property
    def control_change(self) -> Float64[Tensor, " d_sae"]:
        """Mean over seeds of control minus base: what any tuning of that form does."""
        return torch.stack(list(self.control)).mean(0) - self.base


def shortlist(means: Means, n: int) -> list[int]:
    """The `n` latents whose activation rose most, the largest change first; fewer if fewer rose."""
    return rose(means.change, n)


def rose(change: Float64[Tensor, " d_sae"], n: int) -> list[int]:
    """The `n` latents of largest positive change."""
    best = change.topk(min(n, len(change)))
    return [int(j) for j, value in zip(best.indices, best.values, strict=True) if value > 0]


def matched(
    dictionary: Dictionary,
    means: Means,
    latents: Sequence[int],
    seed: int,
    pool: int = 20,
    never: Sequence[int] = (),
) -> list[int]:
    """For each latent another one, drawn from the `pool` that come nearest to it in how often the base has them on and
    in the norm of what they write: none twice, and none of `latents` or of `never`.

    Distance: |log10 frequency ratio| + |log2 norm ratio| of decoder row times mean activation where active.

    Errors: AnachronError if the dictionary has not enough latents that are ever active.
    """
    frequency = means.frequency.clamp(min=1e-6)
    written = dictionary.decoder.double().norm(dim=1) * torch.stack([means.base, *means.tuned]).amax(0)
    alive = (written > 0) & (means.frequency > 0)
    alive[[*latents, *never]] = False
    if int(alive.sum()) < max(len(latents), 1):
        raise AnachronError(
            f"{dictionary.name}: {int(alive.sum())} other latents are ever active, {len(latents)} are to be matched; "
            "take fewer"
        )
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = []
    for latent in latents:
        apart = (frequency / frequency[latent]).log10().abs()
        apart = apart + (written.clamp(min=1e-9) / written[latent].clamp(min=1e-9)).log2().abs()
        near = apart.where(alive, torch.inf).topk(min(pool, int(alive.sum())), largest=False).indices
        chosen = int(near[torch.randint(len(near), (1,), generator=generator)])
        alive[chosen] = False
        found.append(chosen)
    return found


def combined(dictionary: Dictionary, latents: Sequence[int], weights: Float64[Tensor, " latents"]) -> Direction:
    """The direction that latents write together, each as much as `weights` says."""
    vector = weights @ dictionary.decoder[list(latents)].double()
    return normalised(vector, dictionary.point, "latent")


def rows(dictionary: Dictionary, latents: Sequence[int]) -> list[Direction]:
    """The decoder row of each latent as a direction."""
    return [normalised(dictionary.decoder[j], dictionary.point, "latent") for j in latents]


def mean_activations(
    dictionary: Dictionary, activations: Float[Tensor, "n d_model"]
) -> tuple[Float64[Tensor, " d_sae"], Float64[Tensor, " d_sae"]]:
    """Mean activation and frequency of every latent over rows, a block of rows at a time."""
    total = torch.zeros(dictionary.d_sae, dtype=torch.float64)
    active = torch.zeros_like(total)
    for block in activations.float().split(512):
        f = dictionary.encode(block)
        total += f.double().sum(0)
        active += (f > 0).double().sum(0)
    return total / len(activations), active / len(activations)
