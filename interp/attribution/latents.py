"""Which latents of a dictionary a behavior comes from.

With the dictionary's error kept, x = sum_j f_j d_j + b + (x - xhat), where the last term stays as it is, M is a
function of latents: dM/df_j = <d_j, dM/dx>, and one backward pass serves all of them. Patching latent j, f_j to f'_j,
changes M by about
    (f'_j - f_j) dM/df_j            attribution patching, at the clean run (Nanda 2023; Syed et al. 2023, 2310.10348)
    (f'_j - f_j) mean_a dM/df_j     integrated gradients, over f + a (f' - f) (Marks et al. 2024, 2403.19647)
f' is another run's, or 0: the first is then minus gradient x activation. The second's sum over j is exactly the change
of M when all latents are patched together, as the number of steps grows; what one latent does alone is another
question, which the first answers better (`confirmed` says how well). `exact` patches one latent at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.attribution.confirmation import Confirmation, confirm, top
from interp.attribution.gradients import along, backward
from interp.attribution.metric import Metric, Part, forward
from interp.attribution.source import Source
from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.hooks import Activation, record
from interp.models import LanguageModel
from interp.positions import ALL, Positions

# Latent activations held at once, a quarter of a gigabyte in fp32: a wide dictionary's of few tokens.
MAX_LATENTS = 2**26


@dataclass(frozen=True, eq=False)
class LatentPatch:
    """What patching means: at `positions`, f_j <- f'_j, the source's activation of latent j at the same token, or 0
    without a source. Tokens that have no counterpart in the source are left alone."""

    dictionary: Dictionary
    source: Source | None = None
    positions: Positions = ALL


@dataclass(frozen=True, eq=False)
class LatentAttribution:
    """`effect[i, j]`: the estimated change of item i's value if latent j alone is patched, summed over tokens.

    `error` is the same for what the dictionary leaves unexplained. `clean` is the metric as it is and `patched` with
    all latents patched (None for a gradient at one point, which doesn't promise their difference).
    """

    method: str
    effect: Float64[Tensor, "items d_sae"]
    error: Float64[Tensor, " items"]
    clean: Float64[Tensor, " items"]
    patched: Float64[Tensor, " items"] | None

    @property
    def gap(self) -> Float64[Tensor, " items"]:
        """How far the effects' sum is from the change of the metric with all latents patched: completeness."""
        if self.patched is None:
            raise AnachronError(f"{self.method} doesn't promise completeness; give steps, for integrated gradients")
        return self.effect.sum(1) - (self.patched - self.clean)


def screen(lm: LanguageModel, metric: Metric, patch: LatentPatch, *, steps: int | None = None) -> LatentAttribution:
    """Estimates for all latents: one forward and one backward pass, or with `steps` integrated gradients over so many
    of each."""
    _require(lm, patch, steps)
    point = patch.dictionary.point
    n = len(metric.ids)
    effect = torch.zeros(n, patch.dictionary.d_sae, dtype=torch.float64)
    error, clean, patched = (torch.full((n,), torch.nan, dtype=torch.float64) for _ in range(3))
    for p, part in enumerate(metric.parts):
        items = list(part.items)
        if steps is None:
            found = backward(lm, metric, part, [point])
            x, gradient = found.activations[point], found.gradients[point].float()
            clean[items] = found.values
            tokens = _Tokens(patch, part, p, x)
        else:
            x = _clean(lm, part, patch)
            tokens = _Tokens(patch, part, p, x)
            clean[items], patched[items], gradient = along(lm, metric, part, point, tokens.shift(), steps)
        effect[items], error[items] = tokens.contract(gradient)
    method = "attribution patching" if steps is None else f"integrated gradients, {steps} steps"
    return LatentAttribution(method, effect, error, clean, None if steps is None else patched)


def gradient_x_activation(
    lm: LanguageModel, metric: Metric, dictionary: Dictionary, positions: Positions = ALL
) -> LatentAttribution:
    """f_j dM/df_j: what a latent contributes as it is, minus the effect of a zero patch."""
    found = screen(lm, metric, LatentPatch(dictionary, None, positions))
    return LatentAttribution("gradient x activation", -found.effect, -found.error, found.clean, None)


def exact(
    lm: LanguageModel, metric: Metric, patch: LatentPatch, latents: Sequence[int]
) -> Float64[Tensor, "items latents"]:
    """The change of each item's value if one of these latents is patched: a forward pass a latent."""
    _require(lm, patch, None)
    if not latents or not all(0 <= latent < patch.dictionary.d_sae for latent in latents):
        raise AnachronError(
            f"latents {list(latents)[:5]} to patch; {patch.dictionary.name} has 0 to {patch.dictionary.d_sae - 1}"
        )
    found = torch.zeros(len(metric.ids), len(latents), dtype=torch.float64)
    for p, part in enumerate(metric.parts):
        items = list(part.items)
        tokens = _Tokens(patch, part, p, _clean(lm, part, patch))
        changes = tokens.changes_of(latents)
        with torch.no_grad():
            clean = forward(lm, metric, part, {})
            for k, latent in enumerate(latents):
                shift = tokens.placed(changes[:, k, None] * tokens.decoder[latent])
                edits = {patch.dictionary.point: lambda x, offset, shift=shift: x + shift.to(x)}
                found[items, k] = forward(lm, metric, part, edits) - clean
    return found


def confirmed(
    lm: LanguageModel, metric: Metric, patch: LatentPatch, found: LatentAttribution, k: int = 20
) -> Confirmation:
    """The k latents of largest mean estimated effect, patched exactly."""
    mean = found.effect.mean(0)
    chosen = top(mean, k)
    return confirm([str(j) for j in chosen], mean[chosen], exact(lm, metric, patch, chosen))


class _Tokens:
    """The tokens of a part that are patched, and how their latents change."""

    def __init__(self, patch: LatentPatch, part: Part, p: int, x: Activation) -> None:
        self.dictionary, self.part = patch.dictionary, part
        self.decoder = patch.dictionary.decoder
        self.mask: Bool[Tensor, "batch pos"] = part.selected(patch.positions).to(x.device)
        self.other: Float[Tensor, "n d_model"] | None = None
        if patch.source is not None:
            self.mask = self.mask & patch.source.known[p].to(x.device)
            self.other = patch.source.of(p, patch.dictionary.point)[self.mask].float().to(self.decoder.device)
        self.x: Float[Tensor, "n d_model"] = x[self.mask].float().to(self.decoder.device)
        self.rows: Int[Tensor, " n"] = self.mask.nonzero()[:, 0].cpu()

    def changes(self) -> Iterator[tuple[slice, Float[Tensor, "n d_sae"]]]:
        """f' - f, some tokens at a time."""
        size = max(1, MAX_LATENTS // (2 * self.dictionary.d_sae))
        for start in range(0, len(self.x), size):
            some = slice(start, start + size)
            with torch.no_grad():
                f = self.dictionary.encode(self.x[some])
                yield some, -f if self.other is None else self.dictionary.encode(self.other[some]) - f

    def changes_of(self, latents: Sequence[int]) -> Float[Tensor, "n latents"]:
        parts = [change[:, list(latents)] for _, change in self.changes()]
        return torch.cat(parts) if parts else self.x.new_zeros(0, len(latents))

    def placed(self, vectors: Float[Tensor, "n d_model"]) -> Activation:
        """Vectors of the tokens in a tensor of the part's shape, 0 elsewhere."""
        whole = torch.zeros(*self.mask.shape, vectors.shape[1], device=self.mask.device)
        whole[self.mask] = vectors.to(whole)
        return whole

    def shift(self) -> Activation:
        """sum_j (f'_j - f_j) d_j."""
        parts = [change @ self.decoder for _, change in self.changes()]
        return self.placed(torch.cat(parts) if parts else self.x)

    def contract(self, gradient: Activation) -> tuple[Float64[Tensor, "items d_sae"], Float64[Tensor, " items"]]:
        """(f'_j - f_j) <d_j, gradient> of each latent, and <change of the error, gradient>, summed over tokens."""
        g = gradient[self.mask].to(self.x)
        row_items = self.part.row_items[self.rows].to(g.device)
        n = len(self.part.items)
        effect = torch.zeros(n, self.dictionary.d_sae, dtype=torch.float64, device=g.device)
        error = torch.zeros(n, dtype=torch.float64, device=g.device)
        with torch.no_grad():
            empty = self.dictionary.decode(self.x.new_zeros(self.dictionary.d_sae))
            whole = (empty if self.other is None else self.other) - self.x
        for some, change in self.changes():
            effect.index_add_(0, row_items[some], (change * (g[some] @ self.decoder.T)).double())
            unexplained = whole[some] - change @ self.decoder
            error.index_add_(0, row_items[some], (unexplained * g[some]).sum(1).double())
        return effect.cpu(), error.cpu()


def _clean(lm: LanguageModel, part: Part, patch: LatentPatch) -> Activation:
    point = patch.dictionary.point
    with torch.no_grad(), record(lm, [point], stop=True) as found:
        lm.model(**part.inputs, use_cache=False)
    return found[point]


def _require(lm: LanguageModel, patch: LatentPatch, steps: int | None) -> None:
    if patch.dictionary.d_model != lm.d_model:
        raise AnachronError(
            f"dictionary {patch.dictionary.name} has d_model {patch.dictionary.d_model}, but {lm.name} has "
            f"{lm.d_model}; it is of another model"
        )
    if steps is not None and steps < 1:
        raise AnachronError(f"integrated gradients over {steps} steps; take at least one")
