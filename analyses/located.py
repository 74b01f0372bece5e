"""Directions that were located: by method, layer and fine-tuning seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from analyses.steps import mean_projection
from interp.directions import Direction, cosine, normalised
from interp.files import save_tensors
from interp.hooks import HookPoint

FILE = "directions.safetensors"  # in the folder of a run

Activations = Mapping[HookPoint, Float[Tensor, "n d_model"]]


@dataclass(frozen=True, eq=False)
class Located:
    """`directions[method][layer]`: one a fine-tuning seed (one in all for `truth`, several draws for `random`).

    `scales[layer]`: typical norm of the base model's residual stream at the last prompt token; `base` its activations
    where directions were located, from which clamps take their means.
    """

    directions: Mapping[str, Mapping[int, Sequence[Direction]]]
    scales: Mapping[int, float]
    base: Activations

    def of_seed(self, method: str, layer: int, index: int) -> Direction:
        """The direction to use with fine-tuning seed number `index`."""
        found = self.directions[method][layer]
        return found[index % len(found)]

    def pooled(self, method: str, layer: int) -> Direction:
        """Mean over seeds of the directions before normalising: one direction for a sweep."""
        found = self.directions[method][layer]
        return normalised(torch.stack([d.vector * d.norm for d in found]).mean(0), found[0].point, method)

    def base_mean(self, direction: Direction) -> float:
        """The base model's mean projection on a direction."""
        return mean_projection(self.base[direction.point], direction)

    def reading_layer(self, method: str) -> int:
        """The layer at which the method's directions are nearest to the truth, mean over seeds; it must be known."""
        found, truth = self.directions[method], self.directions["truth"]
        return max(found, key=lambda layer: sum(cosine(one, truth[layer][0]) for one in found[layer]))

    def save(self, path: Path, method: str) -> None:
        """Write the method's directions, mean over seeds, and the true ones if known, as `<method>.<layer>`,
        `truth.<layer>`."""
        tensors = {
            f"{name}.{layer}": self.pooled(name, layer).vector.contiguous()
            for name in (method, "truth")
            if name in self.directions
            for layer in self.directions[name]
        }
        save_tensors(path, tensors, {"method": method})
