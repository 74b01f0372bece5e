"""Crosscoders: one dictionary over the activations of a base and a tuned model at the same tokens.

    f_j    = ReLU(<W_j^base, x^base> + <W_j^tuned, x^tuned> + b_j), 0 unless f_j (n_j^base + n_j^tuned) > threshold
    xhat^m = sum_j f_j d_j^m + b^m                                                           for m = base, tuned
    n_j^m  = ||d_j^m|| sqrt(d_model) / mean ||x^m||, so that a model of larger activations hasn't larger norms
    r_j    = ((n_j^tuned - n_j^base) / max(n_j^base, n_j^tuned) + 1) / 2: 0 base-only, .5 shared, 1 tuned-only

Crosscoders: Lindsey et al. 2024, https://transformer-circuits.pub/2024/crosscoders. Latents kept by BatchTopK in place
of an L1 penalty, which shrinks the norms that r compares: Minder et al. 2025, https://arxiv.org/abs/2504.02922.
`training.crosscoder` makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.files import digest, load_tensors, read_json, save_tensors, write_json
from interp.hooks import HookPoint

MEMBERS = ("base", "tuned")
CLASSES = MappingProxyType({"base-only": (0.0, 0.1), "shared": (0.4, 0.6), "tuned-only": (0.9, 1.0)})
"""Bounds of r for each class, both included, as in Minder et al.; latents between them belong to none."""

_ARCHITECTURE = "crosscoder_batchtopk"
_TENSORS = ("encoders", "encoder_bias", "decoders", "decoder_biases", "alive")


@dataclass(frozen=True, eq=False)
class Crosscoder:
    """A trained crosscoder in residual-stream units; axis 0 of size 2 is base, tuned.

    `threshold` is on the score f_j (n_j^base + n_j^tuned), `mean_norms` are the mean ||x|| it was trained at, `alive`
    says which latents were kept at all near the end of training, `trained` (JSON data) how it was made.
    """

    name: str
    point: HookPoint
    encoders: Float[Tensor, "2 d_sae d_model"]
    encoder_bias: Float[Tensor, " d_sae"]
    decoders: Float[Tensor, "2 d_sae d_model"]
    decoder_biases: Float[Tensor, "2 d_model"]
    threshold: float
    mean_norms: tuple[float, float]
    alive: Bool[Tensor, " d_sae"]
    trained: Mapping[str, Any] = field(default_factory=dict)

    @property
    def d_model(self) -> int:
        return self.decoders.shape[2]

    @property
    def d_sae(self) -> int:
        return self.decoders.shape[1]

    @cached_property
    def norms(self) -> Float[Tensor, "2 d_sae"]:
        """n_j^m, the decoder norms in units of each model's mean activation norm / sqrt(d_model)."""
        mean_norms = torch.tensor(self.mean_norms, device=self.decoders.device)
        return self.decoders.norm(dim=2) * (self.d_model**0.5 / mean_norms)[:, None]

    @cached_property
    def relative_norms(self) -> Float[Tensor, " d_sae"]:
        """r_j, from 0 (written for the base model only) to 1 (for the tuned only)."""
        base, tuned = self.norms
        return ((tuned - base) / torch.maximum(base, tuned).clamp(min=1e-30) + 1) / 2

    def latents(self, kind: str, bounds: Mapping[str, tuple[float, float]] = CLASSES) -> Int[Tensor, " n"]:
        """The living latents of a class, by falling decoder norm."""
        if kind not in bounds:
            raise AnachronError(f"no class {kind!r} of latents; there are {', '.join(bounds)}")
        low, high = bounds[kind]
        chosen = (self.alive & (self.relative_norms >= low) & (self.relative_norms <= high)).nonzero().squeeze(1)
        return chosen[self.norms.sum(dim=0)[chosen].argsort(descending=True, stable=True)]

    def encode(
        self, base: Float[Tensor, "*rows d_model"], tuned: Float[Tensor, "*rows d_model"]
    ) -> Float[Tensor, "*rows d_sae"]:
        """f of both models' activations at the same tokens. AnachronError if they are of another width."""
        for member, x in zip(MEMBERS, (base, tuned), strict=True):
            if x.shape[-1] != self.d_model:
                raise AnachronError(
                    f"{self.name} encodes vectors of {self.d_model}, the {member} activations have {x.shape[-1]}; "
                    f"capture them at {self.point} of the models it was trained on"
                )
        device = self.encoders.device
        base, tuned = base.to(device, torch.float32), tuned.to(device, torch.float32)
        f = (base @ self.encoders[0].T + tuned @ self.encoders[1].T + self.encoder_bias).relu_()
        return f * (f * self.norms.sum(dim=0) > self.threshold)

    def decode(
        self, f: Float[Tensor, "*rows d_sae"]
    ) -> tuple[Float[Tensor, "*rows d_model"], Float[Tensor, "*rows d_model"]]:
        """The reconstructions of the base and of the tuned activations."""
        base, tuned = (f @ d + b for d, b in zip(self.decoders, self.decoder_biases, strict=True))
        return base, tuned

    def member(self, name: str) -> Sae:
        """The side of one model, "base" or "tuned", as an SAE: its decoder and bias write this model's activations.

        A crosscoder reads two models at once, an SAE one activation x. It encodes f(x, x), as if both models were in
        it: right for latents that read the models' sum; those that read their difference stay silent. With both
        activations at hand use `encode`.
        """
        if name not in MEMBERS:
            raise AnachronError(f"a crosscoder has the members {' and '.join(MEMBERS)}, not {name!r}")
        side = MEMBERS.index(name)
        identity = {
            "format": "anachron",
            "architecture": _ARCHITECTURE,
            "member": name,
            "digest": self.sha256,
            "trained": dict(self.trained),
        }
        return Sae(
            f"{self.name}:{name}",
            self.point,
            "batchtopk",
            W_enc=self.encoders.sum(dim=0).T.contiguous(),
            b_enc=self.encoder_bias,
            W_dec=self.decoders[side],
            b_dec=self.decoder_biases[side],
            threshold=self.threshold / self.norms.sum(dim=0).clamp(min=1e-30),
            identity=identity,
        )

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights, the threshold and the norms, wherever they are stored."""
        parts = [getattr(self, name).contiguous().cpu().numpy().tobytes() for name in _TENSORS]
        return digest(b"".join([*parts, repr((self.threshold, self.mean_norms)).encode()]))

    def save(self, path: str | Path) -> None:
        """Write `path` (.safetensors: the weights) and beside it the same name with .json (all else)."""
        path = Path(path).with_suffix(".safetensors")
        save_tensors(path, {name: getattr(self, name) for name in _TENSORS}, {})
        about = {
            "architecture": _ARCHITECTURE,
            "name": self.name,
            "point": str(self.point),
            "d_model": self.d_model,
            "d_sae": self.d_sae,
            "threshold": self.threshold,
            "mean_norms": list(self.mean_norms),
            "sha256": self.sha256,
            "trained": dict(self.trained),
        }
        write_json(path.with_suffix(".json"), about)  # last, and with the digest: a torn pair can't be read back


def load_crosscoder(path: str | Path, device: str | torch.device = "cpu") -> Crosscoder:
    """Read what `save` wrote. A missing, truncated or mismatched file is an AnachronError that names it."""
    path = Path(path).with_suffix(".safetensors")
    about = read_json(path.with_suffix(".json"))
    fields = {"architecture", "name", "point", "d_model", "d_sae", "threshold", "mean_norms", "sha256", "trained"}
    if not isinstance(about, dict) or set(about) != fields or about["architecture"] != _ARCHITECTURE:
        raise AnachronError(f"{path.with_suffix('.json')} doesn't describe a crosscoder; give one that save wrote")
    tensors, _ = load_tensors(path, device)
    if set(tensors) != set(_TENSORS):
        raise AnachronError(f"{path} holds {sorted(tensors)}, a crosscoder is {sorted(_TENSORS)}; save it again")
    base, tuned = about["mean_norms"]
    found = Crosscoder(
        about["name"],
        HookPoint.parse(about["point"]),
        **tensors,
        threshold=about["threshold"],
        mean_norms=(base, tuned),
        trained=about["trained"],
    )
    if found.sha256 != about["sha256"]:
        raise AnachronError(f"{path} isn't the file that {path.with_suffix('.json')} describes; copy both again")
    return found
