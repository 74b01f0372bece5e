"""An adapter's update of the weights as one vector: its length, its cosine with another, and the base with it added.

dW = s B A in every adapted linear map, s = alpha / rank (alpha / sqrt(rank) with rsLoRA); all maps together are one
vector, whose squared norm is the sum of squared Frobenius norms. Lengths and products come from the factors,
<B A, B' A'> = sum over entries of (B^T B') * (A A'^T), so that nothing larger than rank x rank is computed for them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp.adapters import PREFIX, read_adapter
from interp.errors import AnachronError
from interp.models import LanguageModel


@dataclass(frozen=True, eq=False)
class Update:
    """`up[m]` s B and `down[m]` A of every adapted map, by the map's path in the base model; fp64."""

    up: Mapping[str, Float[Tensor, "_ _"]]
    down: Mapping[str, Float[Tensor, "_ _"]]

    @property
    def squared_norm(self) -> float:
        """||dW||^2, the sum over maps."""
        return sum(inner(self, self).values())

    @property
    def norm(self) -> float:
        return self.squared_norm**0.5

    def matrices(self, scale: float = 1.0) -> dict[str, Float[Tensor, "_ _"]]:
        """scale x dW of every map, [outputs, inputs], fp32."""
        return {path: (scale * self.up[path] @ self.down[path]).float() for path in self.up}


def read_update(adapter: str | Path, base: LanguageModel) -> Update:
    """Read the update that an adapter makes to its base. Errors: those of `read_adapter`, and AnachronError for ranks
    or alphas that differ from map to map."""
    read = read_adapter(adapter, base)
    config = read.config
    if config.rank_pattern or config.alpha_pattern:
        raise AnachronError(f"{adapter}: rank or alpha differ from map to map; give an adapter with one of each")
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    paths = sorted({key.removeprefix(PREFIX).rpartition(".lora_")[0] for key in read.tensors})
    up, down = (
        {path: factor * read.tensors[f"{PREFIX}{path}.lora_{part}.weight"].double().cpu() for path in paths}
        for part, factor in (("B", scale), ("A", 1.0))
    )
    return Update(up, down)


def inner(a: Update, b: Update) -> dict[str, float]:
    """<dW_a, dW_b> of every map that both change."""
    return {
        path: float(((a.up[path].T @ b.up[path]) * (a.down[path] @ b.down[path].T)).sum())
        for path in a.up
        if path in b.up
    }


def cosine(a: Update, b: Update) -> float:
    """<dW_a, dW_b> / (||dW_a|| ||dW_b||) over all maps; a map that only one of them changes counts as 0 in the other.

    Errors: AnachronError for an update of zero, which has no direction.
    """
    length = a.norm * b.norm
    if not length > 0:
        raise AnachronError("an update is zero, so it has no direction; was the adapter trained at all?")
    return sum(inner(a, b).values()) / length


def orthogonal_noise(update: Update, relative: float, seed: int) -> dict[str, Float[Tensor, "outputs inputs"]]:
    """Gaussian noise in the maps that the update changes, orthogonal to it as one vector, of `relative` x its norm."""
    generator = torch.Generator().manual_seed(seed)
    own = {path: update.up[path] @ update.down[path] for path in update.up}
    noise = {path: torch.randn(dw.shape, generator=generator, dtype=torch.float64) for path, dw in own.items()}
    along = sum(float((noise[path] * own[path]).sum()) for path in own) / update.squared_norm
    noise = {path: noise[path] - along * own[path] for path in own}
    length = sum(float((matrix**2).sum()) for matrix in noise.values()) ** 0.5
    return {path: (matrix * (relative * update.norm / length)).float() for path, matrix in noise.items()}


def added(*parts: Mapping[str, Float[Tensor, "_ _"]]) -> dict[str, Float[Tensor, "_ _"]]:
    """The sum of changes to weights, map by map."""
    total: dict[str, Tensor] = {}
    for part in parts:
        for path, matrix in part.items():
            total[path] = total[path] + matrix if path in total else matrix
    return total


@contextmanager
def moved(lm: LanguageModel, change: Mapping[str, Float[Tensor, "_ _"]]) -> Iterator[LanguageModel]:
    """The model with `change` added to the weights of these maps; given back bit by bit, also after an exception.

    Errors: AnachronError for a path that is no linear map of the plain model (adapters must be taken out first), and
    for a matrix of another shape.
    """
    from transformers.pytorch_utils import Conv1D

    modules = dict(lm.model.named_modules())
    weights = {}
    for path, matrix in change.items():
        module = modules.get(path)
        if not isinstance(module, torch.nn.Linear | Conv1D) or module.weight.is_meta:
            raise AnachronError(f"{lm.name} has no linear map {path!r} whose weight is here; give the plain base model")
        turned = matrix.T if isinstance(module, Conv1D) else matrix  # GPT-2's maps are stored the other way round
        if turned.shape != module.weight.shape:
            raise AnachronError(
                f"{path}: a change of {list(matrix.shape)} for a map of {list(module.weight.shape)}; it is of another"
                " model"
            )
        weights[path] = (module.weight, turned)
    before = {path: weight.detach().clone() for path, (weight, _) in weights.items()}
    try:
        with torch.no_grad():
            for weight, turned in weights.values():
                weight += turned.to(weight)
        yield lm
    finally:
        with torch.no_grad():
            for path, (weight, _) in weights.items():
                weight.copy_(before[path])
