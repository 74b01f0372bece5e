"""SAEs of dictionary_learning: ae.pt beside config.json. So are the SAEs of the weird-generalization paper stored.

https://github.com/saprmarks/dictionary_learning. Latents keep the scale in the file; its own loader of `AutoEncoder`
divides the decoder's columns by their norms first, which changes no reconstruction.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from interp.anatomy import SITES
from interp.dictionaries.published import Published, matrix, need, read_config, read_pt, take
from interp.errors import AnachronError

WEIGHTS, CONFIG = "ae.pt", "config.json"

# dict_class -> activation. Of the classes with a threshold AutoEncoderTopK doesn't use it.
CLASSES = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "batchtopk",
    "JumpReluAutoEncoder": "jumprelu",
    "GatedAutoEncoder": "gated",
}


def read(folder: Path) -> Published:
    """Read ae.pt and config.json.

    Errors: AnachronError for files or tensors missing, broken, of unequal sizes, or of an unknown class.
    """
    file, config = folder / WEIGHTS, folder / CONFIG
    trainer = need(config, read_config(config), "trainer")
    architecture = need(config, trainer, "dict_class")
    if architecture not in CLASSES:
        raise AnachronError(f"{config}: dict_class is {architecture!r}; those read are {', '.join(CLASSES)}")
    tensors = read_pt(file)
    weights = _weights(file, tensors, architecture)
    if CLASSES[architecture] in ("topk", "batchtopk"):
        weights["k"] = int(tensors["k"]) if "k" in tensors else int(need(config, trainer, "k"))
    d_sae, d_model = weights["W_dec"].shape
    for name, found in (("activation_dim", d_model), ("dict_size", d_sae)):
        if trainer.get(name, found) != found:
            raise AnachronError(f"{config}: {name} is {trainer[name]}, and in {file.name} {found}; take both from one")
    hook = _hook(config, trainer)
    return Published("dictionary_learning", architecture, (file, config), weights, hook, trainer.get("lm_name"))


def layer_of(config: Path) -> int | None:
    """The block that a config.json of dictionary_learning names; None without the file, or where it names none."""
    if not config.is_file():
        return None
    trainer = read_config(config).get("trainer", {})
    return trainer.get("layer") if isinstance(trainer, dict) else None


def _hook(config: Path, trainer: Mapping[str, Any]) -> str:
    """ "blocks.19.hook_resid_post", from the layer and the module's name, such as resid_post_layer_19."""
    module = trainer.get("submodule_name") or "resid_post"
    site = next((site for site in SITES if re.match(rf"{site}(_|$)", module)), None)
    return module if site is None else f"blocks.{need(config, trainer, 'layer')}.hook_{site}"


def _weights(file: Path, tensors: Mapping[str, Tensor], architecture: str) -> dict[str, Any]:
    # Matryoshka and JumpReLU keep matrices as parameters [in, out], the others as linear layers [out, in]
    if "W_dec" in tensors:
        W_dec = matrix(file, tensors, "W_dec")
        d_sae, d_model = W_dec.shape
        W_enc = take(file, tensors, "W_enc", d_model, d_sae)
        b_enc, b_dec = "b_enc", "b_dec"
    else:
        W_dec = matrix(file, tensors, "decoder.weight").T.contiguous()
        d_sae, d_model = W_dec.shape
        W_enc = take(file, tensors, "encoder.weight", d_sae, d_model).T
        b_enc = "mag_bias" if architecture == "GatedAutoEncoder" else "encoder.bias"
        b_dec = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}.get(
            architecture, "b_dec"
        )
    activation = CLASSES[architecture]
    weights: dict[str, Any] = {
        "activation": activation,
        "W_enc": W_enc,
        "b_enc": take(file, tensors, b_enc, d_sae),
        "W_dec": W_dec,
        "b_dec": take(file, tensors, b_dec, d_model),
        "apply_b_dec_to_input": architecture not in ("JumpReluAutoEncoder", "AutoEncoderNew"),
    }
    if activation in ("batchtopk", "jumprelu"):
        weights["threshold"] = take(file, tensors, "threshold", *([d_sae] if activation == "jumprelu" else []))
    if activation == "batchtopk" and float(weights["threshold"]) < 0:
        # the value before training has estimated one, with which every positive latent would count
        raise AnachronError(
            f"{file}: threshold is {float(weights['threshold']):g}, so it hasn't been estimated yet; take a later "
            "checkpoint"
        )
    if activation == "gated":
        weights["b_gate"] = take(file, tensors, "gate_bias", d_sae)
        weights["r_mag"] = take(file, tensors, "r_mag", d_sae)
    return weights
