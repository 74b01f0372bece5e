"""An SAE as its weights: what every format of SAE is read into."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import AnachronError
from interp.hooks import HookPoint

ACTIVATIONS = ("relu", "jumprelu", "topk", "batchtopk", "gated")


@dataclass(frozen=True, eq=False)
class Sae:
    """f = act(z W_enc + b_enc), x ~ f W_dec + b_dec, with z = x - b_dec if `apply_b_dec_to_input`, else x.

    act, of h = z W_enc + b_enc:
        relu        relu(h)
        jumprelu    relu(h) where h > threshold, else 0
        batchtopk   the same: at inference the k largest of a batch are those above a threshold found in training
        topk        relu(h) of the k largest of each row
        gated       relu(exp(r_mag) z W_enc + b_enc) where z W_enc + b_gate > 0, else 0

    Scalings of the input (a data set's average norm) are folded into the weights by whoever reads them.
    """

    name: str
    point: HookPoint
    activation: str
    W_enc: Float[Tensor, "d_model d_sae"] = field(repr=False)
    b_enc: Float[Tensor, " d_sae"] = field(repr=False)
    W_dec: Float[Tensor, "d_sae d_model"] = field(repr=False)
    b_dec: Float[Tensor, " d_model"] = field(repr=False)
    threshold: Float[Tensor, ""] | Float[Tensor, " d_sae"] | None = field(default=None, repr=False)
    k: int | None = None
    apply_b_dec_to_input: bool = False
    b_gate: Float[Tensor, " d_sae"] | None = field(default=None, repr=False)
    r_mag: Float[Tensor, " d_sae"] | None = field(default=None, repr=False)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        needs = {
            "relu": (),
            "jumprelu": ("threshold",),
            "batchtopk": ("threshold",),
            "topk": ("k",),
            "gated": ("b_gate", "r_mag"),
        }
        if self.activation not in needs:
            raise AnachronError(f"{self.name}: unknown activation {self.activation!r}; use {', '.join(ACTIVATIONS)}")
        if self.k is not None and not 0 < self.k <= self.d_sae:
            raise AnachronError(
                f"{self.name}: k is {self.k}, and there are {self.d_sae} latents; k is 1 to {self.d_sae}"
            )
        if lacking := [name for name in needs[self.activation] if getattr(self, name) is None]:
            raise AnachronError(f"{self.name}: an SAE with {self.activation} needs {' and '.join(lacking)}")

    @property
    def d_model(self) -> int:
        return self.W_dec.shape[1]

    @property
    def d_sae(self) -> int:
        return self.W_dec.shape[0]

    @property
    def decoder(self) -> Float[Tensor, "d_sae d_model"]:
        return self.W_dec

    def encode(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_sae"]:
        """Latent activations in the dtype of the weights, not negative.

        One matrix product and, where all latents share a threshold, one pass over what it gives; a latent at or below
        a negative threshold is off, and between that and 0 relu is 0, so the larger of threshold and 0 decides.
        """
        z = x.to(self.W_enc.dtype)
        if self.apply_b_dec_to_input:
            z = z - self.b_dec
        if self.b_gate is not None and self.r_mag is not None:
            h = z @ self.W_enc
            return torch.relu(h * self.r_mag.exp() + self.b_enc) * (h + self.b_gate > 0)
        h = torch.nn.functional.linear(z, self.W_enc.T, self.b_enc)
        if self.activation == "topk" and self.k is not None:
            top = h.topk(self.k, dim=-1, sorted=False)
            return torch.zeros_like(h).scatter_(-1, top.indices, top.values.relu())
        if self.threshold is None:
            return h.relu_()
        if self._shared_threshold is not None:
            return torch.threshold_(h, max(self._shared_threshold, 0.0), 0.0)
        return h.mul_(h > self.threshold.clamp(min=0))

    @cached_property
    def _shared_threshold(self) -> float | None:
        """The threshold of all latents, None where they differ or there is none."""
        if self.threshold is None or not bool((self.threshold == self.threshold.flatten()[0]).all()):
            return None
        return float(self.threshold.flatten()[0])

    def decode(self, f: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_model"]:
        """The reconstruction f W_dec + b_dec."""
        return f @ self.W_dec + self.b_dec

    def to(self, device: str | torch.device) -> "Sae":
        """The same SAE with its weights on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: t.to(device) for name, t in values.items() if isinstance(t, Tensor)}
        return replace(self, **moved)


def scale_latents(
    W_enc: Float[Tensor, "d_model d_sae"],
    b_enc: Float[Tensor, " d_sae"],
    W_dec: Float[Tensor, "d_sae d_model"],
    by: Float[Tensor, " d_sae"],
) -> tuple[Float[Tensor, "d_model d_sae"], Float[Tensor, " d_sae"], Float[Tensor, "d_sae d_model"]]:
    """W_enc, b_enc and W_dec of the same SAE with latent j in other units, by_j f_j: the reconstruction stays.

    A latent with by_j = 0 is off for good, and its row of the decoder stays as it is.
    """
    return W_enc * by, b_enc * by, W_dec / torch.where(by == 0, 1.0, by)[:, None]
