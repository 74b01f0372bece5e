"""Which latents a direction is made of: cosines with the decoder's rows, and a sparse non-negative sum of them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.dictionaries.dictionary import Dictionary
from interp.directions import Direction
from interp.errors import AnachronError

_PIECE = 8192  # rows at a time: a decoder of gigabytes is never copied whole


@dataclass(frozen=True)
class Part:
    """A latent's share in a direction: coefficient of its unit row, its cosine with the direction, and the fraction of
    the direction's squared norm that this and the parts chosen before it explain together."""

    latent: int
    coefficient: float
    cosine: float
    explained: float


def cosines(direction: Direction, dictionary: Dictionary) -> Float[Tensor, " d_sae"]:
    """Cosine of a direction with every row of the decoder, the way of arXiv 2512.09742; 0 for a row of zeros.

    Errors: AnachronError for a dictionary of another width (both numbers).
    """
    if direction.d_model != dictionary.d_model:
        raise AnachronError(
            f"the direction has {direction.d_model} entries, the decoder of {dictionary.name} {dictionary.d_model}; "
            "take both from one model"
        )
    unit = direction.vector.to(dictionary.decoder.device)
    parts = []
    for rows in dictionary.decoder.split(_PIECE):
        rows = rows.detach().float()
        parts.append(rows @ unit / rows.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny))
    return torch.cat(parts).cpu()


def decompose(direction: Direction, dictionary: Dictionary, most: int = 10, explained: float = 0.99) -> list[Part]:
    """direction ~ sum of c_j d_j/|d_j| with c_j >= 0, by non-negative orthogonal matching pursuit.

    Each step takes the row of largest cosine with what is left and fits all coefficients anew (non-negative least
    squares), until `most` rows are taken, the share `explained` of the squared norm is reached, or no row points along
    what is left (Pati et al. 1993; Bruckstein et al. 2008). In the order taken; a row whose coefficient fell to zero
    is left out. A decoder of zeros, or a direction that every row points away from, gives no parts.
    """
    from scipy.optimize import nnls

    first = cosines(direction, dictionary)
    target = direction.vector.double().cpu().numpy()
    left, chosen = target.copy(), list[int]()
    basis = np.zeros((len(target), 0))
    shares: dict[int, float] = {}
    coefficients = np.zeros(0)
    scale = dictionary.decoder.detach().float().norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny).cpu()
    for _ in range(most):
        along = (dictionary.decoder.detach() @ torch.from_numpy(left).float().to(dictionary.decoder)).float().cpu()
        along = along / scale
        along[chosen] = -torch.inf
        best = int(along.argmax())
        if not float(along[best]) > 1e-6:
            break
        row = dictionary.decoder[best].detach().double().cpu().numpy()
        chosen.append(best)
        basis = np.column_stack([basis, row / np.linalg.norm(row)])
        coefficients, residual = nnls(basis, target)
        left = target - basis @ coefficients
        shares[best] = 1 - residual**2
        if shares[best] >= explained:
            break
    return [
        Part(j, float(c), float(first[j]), float(shares[j])) for j, c in zip(chosen, coefficients, strict=True) if c > 0
    ]
