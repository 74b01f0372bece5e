"""What a dictionary of activations is: latents that encode a vector and decode to one."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from interp.hooks import HookPoint


@runtime_checkable
class Dictionary(Protocol):
    """An SAE over the activations of one point: f = encode(x), x ~ decode(f). All in fp32.

    `decoder[j]` is the direction that latent j writes, in residual-stream units for f_j = 1 (not necessarily unit).
    """

    @property
    def name(self) -> str: ...

    @property
    def point(self) -> HookPoint: ...

    @property
    def d_model(self) -> int: ...

    @property
    def d_sae(self) -> int: ...

    @property
    def decoder(self) -> Float[Tensor, "d_sae d_model"]: ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain JSON data: format, architecture, digest of the weights, what it was trained on."""
        ...

    def encode(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_sae"]:
        """Latent activations, not negative."""
        ...

    def decode(self, f: Float[Tensor, "*rows d_sae"]) -> Float[Tensor, "*rows d_model"]:
        """The reconstruction."""
        ...
