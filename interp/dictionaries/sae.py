"""SAEs by name, and SAEs written: sae-lens's two files, which sae-lens itself reads as well."""

from collections.abc import Mapping
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from interp.dictionaries.saelens_format import CONFIG, WEIGHTS
from interp.dictionaries.weights import Sae
from interp.files import save_tensors, write_json

ENTRY_POINTS = "anachron.dictionaries"
"""Entry-point group of registered SAEs; the value is a callable that returns the path of a folder."""

_ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "batchtopk": "jumprelu", "topk": "topk", "gated": "gated"}


def registered() -> dict[str, Path]:
    """The folders of the SAEs that installed packages bring, by name ("almanac": of the embedded model)."""
    return {entry.name: Path(entry.load()()) for entry in entry_points(group=ENTRY_POINTS)}


def write_sae(sae: Sae, folder: str | Path, metadata: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> Path:
    """Write cfg.json and sae_weights.safetensors into `folder`, which is returned. Same SAE and metadata, same bytes.

    metadata: plain data to keep in cfg.json beside point and version, such as model_name and what it was trained on.
    dtype: of the two matrices; whatever it is, they are read and used as fp32.
    """
    folder = Path(folder)
    architecture = _ARCHITECTURES[sae.activation]
    tensors: dict[str, Tensor] = {"W_enc": sae.W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    tensors["b_mag" if architecture == "gated" else "b_enc"] = sae.b_enc
    if sae.b_gate is not None and sae.r_mag is not None:
        tensors |= {"b_gate": sae.b_gate, "r_mag": sae.r_mag}
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold.expand(sae.d_sae)
    kept = {name: tensor.to(dtype if tensor.dim() == 2 else torch.float32) for name, tensor in tensors.items()}
    save_tensors(folder / WEIGHTS, kept, {})
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if architecture == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    hook = {"hook_name": f"blocks.{sae.point.layer}.hook_{sae.point.site}", "sae_lens_version": version("sae-lens")}
    # written last: a folder without it is not an SAE
    write_json(folder / CONFIG, config | {"metadata": hook | dict(metadata)})
    return folder
