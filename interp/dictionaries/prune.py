"""An SAE without the latents that are never active."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from interp.dictionaries.weights import Sae
from interp.errors import AnachronError


def pruned(sae: Sae, keep: Bool[Tensor, " d_sae"]) -> Sae:
    """The SAE of the latents in `keep` alone, in their order. Where the others are off, latents and reconstruction are
    those of the whole one.

    Errors: AnachronError for a mask of another length, and if fewer latents are left than the SAE needs (1, or k).
    """
    if len(keep) != sae.d_sae:
        raise AnachronError(f"{sae.name}: a mask of {len(keep)} for {sae.d_sae} latents; give one entry a latent")
    least, left = sae.k or 1, int(keep.sum())
    if left < least:
        raise AnachronError(f"{sae.name}: {left} latents are left and {least} are needed; keep more")
    rows = {"W_dec": sae.W_dec[keep], "b_enc": sae.b_enc[keep], "W_enc": sae.W_enc[:, keep]}
    for name in ("threshold", "b_gate", "r_mag"):
        value = getattr(sae, name)
        if value is not None and value.shape == (sae.d_sae,):
            rows[name] = value[keep]
    weights: dict[str, Tensor] = {name: torch.Tensor.contiguous(value) for name, value in rows.items()}
    return replace(sae, **weights)  # type: ignore[arg-type]
