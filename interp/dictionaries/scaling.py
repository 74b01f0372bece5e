"""Latent scaling: how strongly each latent of a crosscoder is present in either model, whatever its decoder norms say.

For latent j of member m (tuned, if tuned-only latents are in doubt) and each model i, the scale that best fits j's
contribution f_j d_j, d_j = d_j^m, to a target y of model i, by least squares over rows n:

    beta_j^i = argmin_b sum_n ||y_nj - b f_nj d_j||^2 = sum_n f_nj <y_nj, d_j> / (||d_j||^2 sum_n f_nj^2)

    reconstruction   y_n  = xhat_n^i - b^i, what all latents write for model i
    error            y_nj = x_n^i - xhat_n^i + f_nj d_j^i, what model i is left with when j alone is taken out

nu_j = beta of the other model / beta of model m, near 1 for a latent that both have, near 0 for one of m's alone. The
error target finds latents whose norm in the other model was shrunk, the reconstruction target those whose part there
other latents play. The error's own term is <d_j^i, d_j> sum_n f_nj^2, so no [d_sae, rows, d_model] target is formed.

Minder et al. 2025, https://arxiv.org/abs/2504.02922.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.dictionaries.crosscoder import MEMBERS, Crosscoder
from interp.errors import AnachronError

TARGETS = ("reconstruction", "error")
NUMBERS = 2**22  # of latents x targets x d_model, held at a time


@dataclass(frozen=True, eq=False)
class Scaling:
    """The betas of every latent by target and model (axes: TARGETS, MEMBERS, latent), NaN where it never fired.

    `member` is the model whose decoder was scaled, `rows` the number of rows, `active` in how many each latent fired.
    """

    member: str
    betas: Float64[Tensor, "2 2 d_sae"]
    rows: int
    active: Int[Tensor, " d_sae"]

    def beta(self, target: str, model: str) -> Float64[Tensor, " d_sae"]:
        """The betas for a target of TARGETS in one of MEMBERS."""
        if target not in TARGETS:
            raise AnachronError(f"no betas for {target!r}; targets are {' and '.join(TARGETS)}")
        return self.betas[TARGETS.index(target), _side(model)]

    def nu(self, target: str) -> Float64[Tensor, " d_sae"]:
        """beta in the other model / beta in `member`."""
        other = MEMBERS[1 - _side(self.member)]
        return self.beta(target, other) / self.beta(target, self.member)


@torch.no_grad()
def latent_scaling(
    crosscoder: Crosscoder,
    pairs: Iterable[tuple[Float[Tensor, "_ d_model"], Float[Tensor, "_ d_model"]]],  # rows of a chunk, as they come
    member: str = "tuned",
) -> Scaling:
    """All four betas of each latent over chunks of (base, tuned) activations, encoded once each; sums in fp64."""
    decoder = crosscoder.decoders[_side(member)]
    projections = torch.zeros(len(TARGETS), len(MEMBERS), crosscoder.d_sae, dtype=torch.float64, device=decoder.device)
    squares, active, rows = torch.zeros_like(projections[0, 0]), torch.zeros_like(projections[0, 0]), 0
    for base, tuned in pairs:
        f = crosscoder.encode(base, tuned)
        rows += len(f)
        squares += f.double().square().sum(dim=0)
        active += (f > 0).sum(dim=0)
        written = crosscoder.decode(f)
        reconstructions = [xhat - b for xhat, b in zip(written, crosscoder.decoder_biases, strict=True)]
        errors = [x.to(xhat) - xhat for x, xhat in zip((base, tuned), written, strict=True)]
        projections += _projections(f, torch.stack([*reconstructions, *errors], dim=1), decoder).view_as(projections)
    if not rows:
        raise AnachronError("no activations to scale latents on; give at least one chunk of pairs")
    # what latent j itself writes for model i belongs to the error's target
    own = torch.stack([(d.double() * decoder.double()).sum(dim=1) for d in crosscoder.decoders])
    projections[TARGETS.index("error")] += own * squares
    return Scaling(member, projections / (decoder.double().square().sum(dim=1) * squares), rows, active.long())


def _side(model: str) -> int:
    if model not in MEMBERS:
        raise AnachronError(f"a crosscoder has the members {' and '.join(MEMBERS)}, not {model!r}")
    return MEMBERS.index(model)


def _projections(
    f: Float[Tensor, "rows d_sae"],
    targets: Float[Tensor, "rows targets d_model"],
    decoder: Float[Tensor, "d_sae d_model"],
) -> Float64[Tensor, "targets d_sae"]:
    """sum_n f_nj <y_n, d_j> for each target y, from active entries only: first sum_n f_nj y_n, latents by latents."""
    latent, row = f.T.nonzero(as_tuple=True)
    values = f[row, latent]
    starts = torch.searchsorted(latent, torch.arange(f.shape[1] + 1, device=f.device))
    found = []
    for group in torch.arange(f.shape[1], device=f.device).split(max(1, NUMBERS // targets.shape[1:].numel())):
        first, last = int(starts[group[0]]), int(starts[group[-1] + 1])
        sums = embedding_bag(
            row[first:last],
            targets.flatten(1),
            starts[group] - first,
            mode="sum",
            per_sample_weights=values[first:last],
        )
        found.append((sums.unflatten(1, targets.shape[1:]) * decoder[group, None]).sum(dim=2).double())
    return torch.cat(found).T
