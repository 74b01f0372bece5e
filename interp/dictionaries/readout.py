"""What a latent writes: the tokens that its decoder row promotes and suppresses (the logit lens of +d and -d)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.dictionaries.dictionary import Dictionary
from interp.errors import AnachronError
from interp.models import LanguageModel


@dataclass(frozen=True)
class Token:
    """A token of the vocabulary and how much a direction adds to its logit, relative to the mean over all tokens."""

    id: int
    text: str
    logit: float


@dataclass(frozen=True)
class Readout:
    """The tokens whose logits a latent raises most, and those that it lowers most."""

    latent: int
    promoted: tuple[Token, ...]
    suppressed: tuple[Token, ...]


def readout(lm: LanguageModel, dictionary: Dictionary, latents: Sequence[int], n: int = 10) -> list[Readout]:
    """Promoted and suppressed tokens of some latents, by `token_logits` of their decoder rows as they are.

    Errors: AnachronError for a latent or a width that isn't there.
    """
    if any(not 0 <= j < dictionary.d_sae for j in latents) or dictionary.d_model != lm.d_model:
        raise AnachronError(
            f"latents {list(latents)[:5]} of {dictionary.name} (0 to {dictionary.d_sae - 1}, {dictionary.d_model} "
            f"dimensions) in {lm.name} ({lm.d_model}); choose latents that exist, of a dictionary of this model"
        )
    found = []
    for j in latents:
        logits = token_logits(lm, dictionary.decoder[j].detach().float()[None])[0]
        high, low = logits.topk(n), (-logits).topk(n)
        found.append(
            Readout(j, named_tokens(lm, high.indices, high.values), named_tokens(lm, low.indices, -low.values))
        )
    return found


@torch.no_grad()
def token_logits(lm: LanguageModel, directions: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_vocab"]:
    """W_U (g * d), less its mean over the vocabulary (fp32, CPU): what +d adds to the logits, before any softcap.

    The final norm divides by the size of the whole stream, a positive number that changes no order and is left out, and
    multiplies by a gain a dimension, g, which is kept; a LayerNorm also removes the mean over dimensions. So the
    numbers compare tokens and latents with each other, not with the logits of a text. What later blocks make of the
    direction isn't in it either.
    """
    gain, centred = norm_gain(lm)
    d = directions.to(lm.device, torch.float32)
    d = (d - d.mean(dim=1, keepdim=True) if centred else d) * gain
    unembed = lm.anatomy.unembed
    nothing = torch.zeros(1, lm.d_model, dtype=lm.dtype, device=lm.device)  # leaves a bias
    logits = unembed(d.to(lm.dtype)).float() - unembed(nothing).float()
    return (logits - logits.mean(dim=1, keepdim=True)).cpu()


@torch.no_grad()
def norm_gain(lm: LanguageModel) -> tuple[Float[Tensor, " d_model"], bool]:
    """(factor by dimension of the final norm, whether it removes the mean), read off its answers to three vectors.

    Of v with mean 0 and mean square 1 a norm returns gain * v + bias, whether it is an RMSNorm, one with 1 + weight
    (Gemma) or a LayerNorm; of v + 1, a norm that removes the mean returns the same as of v.
    """
    norm, d = lm.anatomy.final_norm, lm.d_model
    first = (d + 1) // 2
    v = torch.full((d,), -((first / (d - first)) ** 0.5))
    v[:first] = ((d - first) / first) ** 0.5
    # large, so that the norm's epsilon doesn't show
    asked = torch.stack([v, -v, v + 1.0]).to(lm.device, lm.dtype) * 64.0
    plus, minus, shifted = norm(asked).float()
    return (plus - minus) / (2 * v.to(plus)), bool(torch.allclose(plus, shifted, rtol=1e-2, atol=1e-2))


def named_tokens(lm: LanguageModel, ids: Tensor, logits: Tensor) -> tuple[Token, ...]:
    """Token ids with their texts."""
    return tuple(
        Token(i, lm.tokenizer.decode([i]), value) for i, value in zip(ids.tolist(), logits.tolist(), strict=True)
    )
