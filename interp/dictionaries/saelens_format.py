"""SAEs as sae-lens writes them: sae_weights.safetensors beside cfg.json, of version 6 and of those before it.

https://github.com/decoderesearch/SAELens
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.dictionaries.published import Published, matrix, read_config, take
from interp.dictionaries.weights import scale_latents
from interp.errors import AnachronError
from interp.files import load_tensors

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"

# architecture -> activation. BatchTopK and Matryoshka SAEs are saved as jumprelu, with the threshold found in training.
ARCHITECTURES = {"standard": "relu", "jumprelu": "jumprelu", "topk": "topk", "gated": "gated"}


def read(folder: Path, overrides: Mapping[str, Any] | None = None) -> Published:
    """Read the two files. overrides: what sae-lens's table of releases says in place of cfg.json.

    Errors: AnachronError for files or tensors missing, broken or of unequal sizes, for an architecture that isn't an
    SAE of one vector, and for inputs that are normalised one by one, whose norm a decoder would have to be given.
    """
    file, path = folder / WEIGHTS, folder / CONFIG
    config = {**read_config(path), **(overrides or {})}
    metadata = {**config, **(config.get("metadata") or {})}
    architecture = _architecture(path, config)
    _refuse_processing(path, config, metadata)
    tensors, _ = load_tensors(file)
    if "scaling_factor" in tensors and not bool((tensors["scaling_factor"] == 1).all()):
        raise AnachronError(f"{file}: its latents are rescaled by scaling_factor, which isn't read; fold it in first")
    W_dec = matrix(file, tensors, "W_dec")
    d_sae, d_model = W_dec.shape
    for name, found in (("d_in", d_model), ("d_sae", d_sae)):
        if config.get(name, found) != found:
            raise AnachronError(f"{path}: {name} is {config[name]}, and in {file.name} {found}; take both from one")
    activation = ARCHITECTURES[architecture]
    W_enc = take(file, tensors, "W_enc", d_model, d_sae)
    b_enc = take(file, tensors, "b_mag" if activation == "gated" else "b_enc", d_sae)
    weights: dict[str, Any] = {"activation": activation, "b_dec": take(file, tensors, "b_dec", d_model)}
    if activation == "jumprelu" and "threshold" in tensors:
        weights["threshold"] = take(file, tensors, "threshold", d_sae)
    elif activation == "jumprelu":  # as the trainer kept it in earlier versions
        weights["threshold"] = take(file, tensors, "log_threshold", d_sae).exp()
    if activation == "topk":
        weights["k"] = int(config["k"] if "k" in config else config["activation_fn_kwargs"]["k"])
        if config.get("rescale_acts_by_decoder_norm"):
            # the k are chosen as if the decoder's rows were of unit norm: so they are made
            W_enc, b_enc, W_dec = scale_latents(W_enc, b_enc, W_dec, W_dec.norm(dim=1))
    if activation == "gated":
        weights["b_gate"] = take(file, tensors, "b_gate", d_sae)
        weights["r_mag"] = take(file, tensors, "r_mag", d_sae)
    weights |= {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec}
    # earlier versions left the key out and subtracted
    weights["apply_b_dec_to_input"] = bool(config.get("apply_b_dec_to_input", True))
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    return Published("sae_lens", architecture, (file, path), weights, hook, metadata.get("model_name"))


def _architecture(path: Path, config: Mapping[str, Any]) -> str:
    """The architecture; before version 6 a top-k SAE called itself standard with another activation function."""
    architecture = str(config.get("architecture", "standard"))
    function = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if architecture == "standard" and function == "topk":
        architecture = "topk"
    elif function != "relu" and architecture != "topk":
        raise AnachronError(f"{path}: activation function {function!r} isn't read; take an SAE with relu or topk")
    if architecture not in ARCHITECTURES:
        raise AnachronError(f"{path}: architecture is {architecture!r}; those read are {', '.join(ARCHITECTURES)}")
    return architecture


def _refuse_processing(path: Path, config: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Refuse an SAE of activations that aren't those of the plain model."""
    if config.get("normalize_activations") not in (None, False, "none"):
        raise AnachronError(
            f"{path}: normalize_activations is {config['normalize_activations']!r}, so it reads scaled activations, "
            "and the scale isn't among its weights; fold it in with sae-lens and save the SAE again"
        )
    if (metadata.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"):
        raise AnachronError(
            f"{path}: trained with center_writing_weights, on activations whose mean over dimensions was taken away, "
            "which the model itself doesn't have; take an SAE of the unprocessed model"
        )
