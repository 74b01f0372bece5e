"""An adapter's updates as singular directions, and how they lie to directions of the residual stream.

The update of a module is s B A = sum_i sigma_i u_i v_i^T. Where the module writes to the stream, u_i are directions of
it: |<u_i, direction>| beside what random unit vectors reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from interp.directions import Direction
from interp.errors import AnachronError
from interp.pair import BASE, ModelPair


@dataclass(frozen=True, eq=False)
class SingularMap:
    """The update of one module, left @ diag(values) @ right.T; values fall. `writes`: its output is what attention or
    MLP hands to the stream (before the norm that some models put there)."""

    module: str
    layer: int | None
    writes: bool
    left: Float64[Tensor, "outputs rank"]
    values: Float64[Tensor, " rank"]
    right: Float64[Tensor, "inputs rank"]

    @property
    def first_share(self) -> float:
        """sigma_1^2 / sum sigma_i^2: 1 where the update is of rank 1. NaN for an update of 0."""
        return float(self.values[0] ** 2 / (self.values**2).sum())


@dataclass(frozen=True, eq=False)
class Alignment:
    """`cosine[m][i, d]`: |<u_i, direction d>| in module m; `span[m][d]`: the length of direction d's projection on all
    its u_i. `band[m]` and `span_band[m]`: what 95 % of random unit vectors stay below."""

    modules: tuple[str, ...]
    cosine: tuple[Float64[Tensor, "_ directions"], ...]
    band: Float64[Tensor, " modules"]
    span: Float64[Tensor, "modules directions"]
    span_band: Float64[Tensor, " modules"]


def lora_modules(pair: ModelPair, name: str) -> dict[str, Any]:
    """The modules that an adapter changes, by their path in the base model. AnachronError for "base"."""
    from peft.tuners.lora import LoraLayer

    if pair.adapter(name) is None:
        raise AnachronError(
            f'"{BASE}" has no adapter to look into; name one of {", ".join(pair.names[1:]) or "none yet"}'
        )
    modules = pair.base.model.named_modules()
    return {path: m for path, m in modules if isinstance(m, LoraLayer) and name in m.lora_A}


def singular_maps(pair: ModelPair, name: str) -> tuple[SingularMap, ...]:
    """The exact SVD of each module's update, from its factors: never a matrix larger than rank x rank."""
    writers = _writers(pair)
    found = []
    for path, module in lora_modules(pair, name).items():
        A, B = (part[name].weight.detach().double().cpu() for part in (module.lora_A, module.lora_B))
        (left, up), (right, down) = torch.linalg.qr(B), torch.linalg.qr(A.T)
        u, values, vh = torch.linalg.svd(up @ down.T)
        left, right, values = left @ u, right @ vh.T, values * float(module.scaling[name])
        layer = next((i for i, block in enumerate(pair.base.anatomy.layers) if module in set(block.modules())), None)
        n = len(values)
        found.append(SingularMap(path, layer, path in writers, left[:, :n], values, right[:, :n]))
    return tuple(found)


def alignment(
    maps: Sequence[SingularMap], directions: Sequence[Direction], *, samples: int = 2000, seed: int = 0
) -> Alignment:
    """Left singular vectors of the modules that write to the stream against directions of it.

    Errors: AnachronError if no module writes to the stream, no directions, or directions of another d_model.
    """
    writing = [m for m in maps if m.writes]
    if not writing or not directions:
        raise AnachronError(
            f"{len(writing)} modules that write to the stream and {len(directions)} directions; give some of both"
        )
    d_model = writing[0].left.shape[0]
    if other := [d.d_model for d in directions if d.d_model != d_model]:
        raise AnachronError(f"a direction of {other[0]} entries for a stream of {d_model}; it belongs to another model")
    vectors = torch.stack([d.vector.double().cpu() for d in directions], dim=1)
    random = torch.randn(d_model, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    random = random / random.norm(dim=0)
    cosines = [m.left.T @ vectors for m in writing]
    bands = [m.left.T @ random for m in writing]
    return Alignment(
        tuple(m.module for m in writing),
        tuple(c.abs() for c in cosines),
        torch.stack([b[0].abs().quantile(0.95) for b in bands]),
        torch.stack([c.norm(dim=0) for c in cosines]),
        torch.stack([b.norm(dim=0).quantile(0.95) for b in bands]),
    )


def _writers(pair: ModelPair) -> set[str]:
    """Paths of the last linear map that each attention and each MLP holds, which is the one that writes: true of all
    families tested. A block without such parts has none."""
    paths = {module: path for path, module in pair.base.model.named_modules()}
    anatomy = pair.base.anatomy
    found = set()
    for part in (*anatomy.attentions, *anatomy.mlps):
        linear = [m for m in part.modules() if _is_adapted(m) or (_is_map(m) and not _inside(paths[m]))]
        if linear:
            found.add(paths[linear[-1]])
    return found


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "base_layer")


def _is_map(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _inside(path: str) -> bool:
    """Is this a part of an adapted layer: its own weight, or a LoRA matrix?"""
    return ".base_layer" in path or ".lora_" in path
