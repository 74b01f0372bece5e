"""Which modules of an adapter, and which singular directions of their updates, a behavior comes from.

A piece is a module, or one left singular direction u_i of its update (a part of B: u_i u_i^T B). `effects` takes each
piece out of the tuned model, or puts it alone into the base, exactly. The screen gives each piece a gate g, B_piece <-
g B_piece: dM/dg = <dM/dB, B_piece>, from one backward pass for all pieces
    at g = 1     about what taking it out costs
    at g = 0     about what it alone brings
    mean over 0 < g < 1, all gates together: integrated gradients, whose sum is M(tuned) - M(base)
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.attribution.confirmation import Confirmation, confirm, top
from interp.attribution.gradients import weight_gradients
from interp.attribution.metric import Metric, measure
from interp.attribution.singular import lora_modules, singular_maps
from interp.errors import AnachronError
from interp.models import LanguageModel
from interp.pair import BASE, ModelPair


@dataclass(frozen=True)
class Piece:
    """A module of an adapter, or with `direction` one singular direction of its update, counted from the largest."""

    module: str
    direction: int | None = None

    def __str__(self) -> str:
        return self.module if self.direction is None else f"{self.module} [{self.direction}]"


@dataclass(frozen=True, eq=False)
class AdapterScreen:
    """`effect[m]`: the estimate for modules[m], the mean over items; `directions[m][i]`, which sum to it, those of its
    singular directions. `base` and `tuned` are the mean metric without and with the adapter, None where not needed."""

    method: str
    modules: tuple[str, ...]
    effect: Float64[Tensor, " modules"]
    directions: tuple[Float64[Tensor, " _"], ...]
    base: float | None
    tuned: float | None

    @property
    def gap(self) -> float:
        """How far the effects' sum is from M(tuned) - M(base): completeness."""
        if self.base is None or self.tuned is None:
            raise AnachronError(f"{self.method} doesn't promise completeness; give steps, for integrated gradients")
        return float(self.effect.sum()) - (self.tuned - self.base)

    def pieces(self, directions: bool = False) -> tuple[list[Piece], Float64[Tensor, " pieces"]]:
        """All modules, or all singular directions of all modules, with their estimates."""
        if not directions:
            return [Piece(module) for module in self.modules], self.effect
        each = zip(self.modules, self.directions, strict=True)
        return [Piece(module, i) for module, own in each for i in range(len(own))], torch.cat(self.directions)


def screen(pair: ModelPair, name: str, metric: Metric, *, at: float = 1.0, steps: int | None = None) -> AdapterScreen:
    """Estimates for all modules and directions: a forward and a backward pass with all gates at `at` (1: tuned, 0:
    base), or with `steps` integrated gradients from 0 to 1."""
    if steps is not None and steps < 1:
        raise AnachronError(f"integrated gradients over {steps} steps; take at least one")
    own = _outputs(pair, name)
    gates = [at] if steps is None else [(k + 0.5) / steps for k in range(steps)]
    total = {path: torch.zeros_like(B, dtype=torch.float64) for path, B in own.items()}
    for gate in gates:
        with rewritten(pair, name, {path: gate * B for path, B in own.items()}) as lm:
            weights = [module.lora_B[name].weight for module in lora_modules(pair, name).values()]
            for path, gradient in zip(own, weight_gradients(lm, metric, weights), strict=True):
                total[path] += gradient.double() / len(gates)
    directions = []
    for m in singular_maps(pair, name):
        B, gradient = own[m.module].double().cpu(), total[m.module].cpu()
        # <gradient, u_i u_i^T B>, without the rank matrices
        directions.append(((m.left.T @ B) * (m.left.T @ gradient)).sum(1))
    effect = torch.stack([(own[path].double() * total[path]).sum().cpu() for path in own])
    if steps is None:
        return AdapterScreen(f"gradient at {at:g}", tuple(own), effect, tuple(directions), None, None)
    ends = []
    for member in (BASE, name):
        with pair.using(member) as lm:
            ends.append(float(measure(lm, metric).mean()))
    return AdapterScreen(f"integrated gradients, {steps} steps", tuple(own), effect, tuple(directions), *ends)


def effects(
    pair: ModelPair, name: str, metric: Metric, pieces: Sequence[Piece], *, keep: bool = False
) -> Float64[Tensor, "items pieces"]:
    """M(tuned) - M(tuned without the piece) of each piece; with `keep`, M(base with the piece alone) - M(base).

    Exact: a forward pass each. Errors: AnachronError for a piece that the adapter doesn't have.
    """
    with pair.using(BASE if keep else name) as lm:
        whole = measure(lm, metric)
    found = torch.zeros(len(metric.ids), len(pieces), dtype=torch.float64)
    for n, piece in enumerate(pieces):
        with (kept if keep else without)(pair, name, [piece]) as lm:
            value = measure(lm, metric)
        found[:, n] = value - whole if keep else whole - value
    return found


def confirmed(
    pair: ModelPair,
    name: str,
    metric: Metric,
    found: AdapterScreen,
    k: int = 20,
    *,
    directions: bool = False,
    keep: bool = False,
) -> Confirmation:
    """The k modules, or singular directions, of largest estimated effect, each taken out (or kept alone)."""
    pieces, estimates = found.pieces(directions)
    chosen = top(estimates, k)
    some = [pieces[n] for n in chosen]
    exact = effects(pair, name, metric, some, keep=keep)
    return confirm([str(piece) for piece in some], estimates[chosen], exact)


@contextmanager
def without(pair: ModelPair, name: str, pieces: Sequence[Piece]) -> Iterator[LanguageModel]:
    """`pair.using(name)` with these pieces of the adapter set to 0."""
    with rewritten(pair, name, _split(pair, name, pieces)[0]) as lm:
        yield lm


@contextmanager
def kept(pair: ModelPair, name: str, pieces: Sequence[Piece]) -> Iterator[LanguageModel]:
    """`pair.using(name)` with all but these pieces of the adapter set to 0."""
    with rewritten(pair, name, _split(pair, name, pieces)[1]) as lm:
        yield lm


@contextmanager
def rewritten(
    pair: ModelPair, name: str, outputs: Mapping[str, Float[Tensor, "outputs rank"]]
) -> Iterator[LanguageModel]:
    """`pair.using(name)` with other B matrices in these modules; the adapter's own are put back, to the bit, also on
    exceptions. AnachronError for a module that the adapter doesn't change, or another shape."""
    modules = lora_modules(pair, name)
    weights = {}
    for path, new in outputs.items():
        if path not in modules:
            raise AnachronError(
                f"adapter {name!r} doesn't change {path!r}; it changes {', '.join(list(modules)[:4])}, ..."
            )
        weights[path] = modules[path].lora_B[name].weight
        if new.shape != weights[path].shape:
            raise AnachronError(f"{path}: B is {list(weights[path].shape)}, not {list(new.shape)}; keep the shape")
    before = {path: weight.data for path, weight in weights.items()}
    try:
        for path, weight in weights.items():
            weight.data = outputs[path].to(weight)
        with pair.using(name) as lm:
            yield lm
    finally:
        for path, weight in weights.items():
            weight.data = before[path]


def _outputs(pair: ModelPair, name: str) -> dict[str, Float[Tensor, "outputs rank"]]:
    return {path: m.lora_B[name].weight.detach() for path, m in lora_modules(pair, name).items()}


def _split(pair: ModelPair, name: str, pieces: Sequence[Piece]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """B of every module without the pieces, and with them alone."""
    own = _outputs(pair, name)
    left = {m.module: m.left for m in singular_maps(pair, name)}
    rest, part = dict(own), {path: torch.zeros_like(B) for path, B in own.items()}
    for path in dict.fromkeys(piece.module for piece in pieces):
        chosen = {piece.direction for piece in pieces if piece.module == path}
        if path not in own:
            raise AnachronError(f"adapter {name!r} doesn't change {path!r}; it changes {', '.join(list(own)[:4])}, ...")
        if None in chosen:
            rest[path], part[path] = part[path], own[path]
            continue
        index = sorted(i for i in chosen if i is not None)
        if not 0 <= index[0] <= index[-1] < left[path].shape[1]:
            raise AnachronError(f"{path} has the singular directions 0 to {left[path].shape[1] - 1}, not {index}")
        u = left[path][:, index].to(own[path].device)
        exact = own[path].double()
        part[path] = (u @ (u.T @ exact)).to(own[path])
        rest[path] = (exact - u @ (u.T @ exact)).to(own[path])
    return rest, part
