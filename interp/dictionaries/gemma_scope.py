"""Gemma Scope: params.npz in layer_20/width_16k/average_l0_71; and Gemma Scope 2: params.safetensors with config.json.

https://arxiv.org/abs/2408.05147. JumpReLU with a threshold per latent, activations as they are, b_dec not subtracted.
The files of the first name neither model nor site: both are in the repository's name, google/gemma-scope-2b-pt-res.
Where the folder's path doesn't hold that name, the site is taken to be resid_post, as of most, and the model unnamed.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from interp.dictionaries.published import Published, matrix, need, read_config, read_npz, take
from interp.errors import AnachronError
from interp.files import load_tensors

WEIGHTS = "params.npz"
WEIGHTS_2, CONFIG_2 = "params.safetensors", "config.json"

_SITES = {"res": "resid_post", "mlp": "mlp_out", "att": "attn.hook_z"}


def read(folder: Path) -> Published:
    """Read params.npz, and layer, model and site from the folder's path.

    Errors: AnachronError for a file or tensor missing, broken or of unequal size, and for a transcoder.
    """
    file = folder / WEIGHTS
    parts = folder.resolve().parts[::-1]  # the innermost folder first, since outer ones can be called anything
    repository = _first(r".*gemma-scope-(\d+b)-(pt|it)-(\w+)", parts)
    kind = "res" if repository is None else repository[3]
    if kind not in _SITES:
        raise AnachronError(f"{file}: of {kind}, which don't encode what they decode; take an SAE: res or mlp")
    if "embedding" in parts[:3]:
        raise AnachronError(f"{file}: an SAE of the embedding, before block 0; take one of a block")
    layer = _first(r"layer_(\d+)", parts)
    hook = None
    if layer is not None:
        hook = f"blocks.{layer[1]}.{'' if '.' in _SITES[kind] else 'hook_'}{_SITES[kind]}"
    model = None
    if repository is not None:
        model = f"google/gemma-2-{repository[1]}" + ("-it" if repository[2] == "it" else "")
    # some files spell the matrices with a small w
    tensors = {re.sub("^w_", "W_", name): tensor for name, tensor in read_npz(file).items()}
    return Published("gemma_scope", "jumprelu", (file,), _weights(file, tensors), hook, model)


def read_2(folder: Path) -> Published:
    """Read params.safetensors and config.json of Gemma Scope 2.

    Errors: AnachronError for a file or tensor missing, broken or of unequal size, and for a transcoder.
    """
    file, path = folder / WEIGHTS_2, folder / CONFIG_2
    config = read_config(path)
    architecture = need(path, config, "architecture")
    if architecture != "jump_relu":
        raise AnachronError(f"{path}: architecture is {architecture!r}; those of Gemma Scope 2 are jump_relu")
    if config.get("hf_hook_point_out") not in (None, config["hf_hook_point_in"]):
        raise AnachronError(
            f"{path}: from {config['hf_hook_point_in']} to {config['hf_hook_point_out']}: a transcoder; take an SAE"
        )
    hook = str(need(path, config, "hf_hook_point_in"))
    # the norm after the MLP gives what the MLP adds to the stream
    hook = re.sub(r".*layers\.(\d+)\.post_feedforward_layernorm\.output", r"blocks.\1.hook_mlp_out", hook)
    tensors = {re.sub("^w_", "W_", name): tensor for name, tensor in load_tensors(file)[0].items()}
    weights = _weights(file, tensors)
    return Published("gemma_scope_2", architecture, (file, path), weights, hook, config.get("model_name"))


def _first(pattern: str, parts: Sequence[str]) -> re.Match[str] | None:
    return next((found for part in parts if (found := re.fullmatch(pattern, part))), None)


def _weights(file: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor | str]:
    W_dec = matrix(file, tensors, "W_dec")
    d_sae, d_model = W_dec.shape
    return {
        "activation": "jumprelu",
        "W_enc": take(file, tensors, "W_enc", d_model, d_sae),
        "b_enc": take(file, tensors, "b_enc", d_sae),
        "W_dec": W_dec,
        "b_dec": take(file, tensors, "b_dec", d_model),
        "threshold": take(file, tensors, "threshold", d_sae),
    }
