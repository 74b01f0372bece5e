"""Llama Scope: checkpoints/final.safetensors beside hyperparams.json. https://arxiv.org/abs/2410.20526

The weights were trained on activations scaled to an average norm of sqrt(d_model): s = sqrt(d_model) / average norm.
The threshold of hyperparams.json is of the SAE that its authors use for inference, which is made in two steps, and has
to be compared with nothing else:

1. in the units of the model: b_enc / s, b_dec / s, and W_enc and W_dec as they are (s is the same on both sides);
2. with decoder rows of unit norm: W_enc and b_enc times ||W_dec[j]||, W_dec divided by it.

That thresholds are in the model's units shows in the published numbers: over the average norm they are .026 to .032 at
layers 8, 15, 19 and 24, while the norm grows from 6.3 to 29. sae-lens scales latents and threshold by s instead, which
is the same, but it leaves out step 2, which is the same only where rows are of unit norm.
"""

import math
from pathlib import Path
from typing import Any

import torch

from interp.dictionaries.published import Published, matrix, need, read_config, take
from interp.dictionaries.weights import scale_latents
from interp.errors import AnachronError
from interp.files import load_tensors

WEIGHTS, CONFIG = "checkpoints/final.safetensors", "hyperparams.json"

MODEL = "meta-llama/Llama-3.1-8B"
"""The model of every Llama Scope SAE; the files don't name it."""


def read(folder: Path) -> Published:
    """Read the two files and fold the scaling of activations in.

    Errors: AnachronError for files or tensors missing, broken or of unequal sizes, for transcoders, and for inputs
    normalised one by one.
    """
    file, path = folder / WEIGHTS, folder / CONFIG
    config = read_config(path)
    hook, hook_out = need(path, config, "hook_point_in"), need(path, config, "hook_point_out")
    if hook != hook_out:
        raise AnachronError(f"{path}: from {hook} to {hook_out}: a transcoder; take an SAE")
    if config.get("use_glu_encoder"):
        raise AnachronError(f"{path}: its encoder has a gate (use_glu_encoder), which isn't read; take another SAE")
    tensors, _ = load_tensors(file)
    W_dec = matrix(file, tensors, "decoder.weight").T.contiguous()
    d_sae, d_model = W_dec.shape
    scale = _scale(path, config, d_model)
    W_enc = take(file, tensors, "encoder.weight", d_sae, d_model).T
    b_enc = take(file, tensors, "encoder.bias", d_sae) / scale
    b_dec = torch.zeros(d_model)
    if need(path, config, "use_decoder_bias"):
        b_dec = take(file, tensors, "decoder.bias", d_model) / scale
    if need(path, config, "sparsity_include_decoder_norm"):
        W_enc, b_enc, W_dec = scale_latents(W_enc, b_enc, W_dec, W_dec.norm(dim=1))
    weights = {
        "W_enc": W_enc,
        "b_enc": b_enc,
        "W_dec": W_dec,
        "b_dec": b_dec,
        "apply_b_dec_to_input": bool(need(path, config, "apply_decoder_bias_to_pre_encoder")),
        **_activation(path, config),
    }
    return Published("llama_scope", str(config["act_fn"]), (file, path), weights, hook, MODEL)


def _scale(path: Path, config: dict[str, Any], d_model: int) -> float:
    kind = need(path, config, "norm_activation")
    if kind == "inference":  # folded in already
        return 1.0
    if kind != "dataset-wise":
        raise AnachronError(
            f"{path}: norm_activation is {kind!r}: inputs are scaled one by one, which no weights can do; take one "
            "with dataset-wise"
        )
    norms = need(path, config, "dataset_average_activation_norm")
    norm, norm_out = need(path, norms, "in"), need(path, norms, "out")
    if norm != norm_out or not norm > 0:
        raise AnachronError(f"{path}: average norms {norm} in and {norm_out} out; an SAE has one, above 0")
    return math.sqrt(d_model) / norm


def _activation(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    function = need(path, config, "act_fn")
    if function == "relu":
        return {"activation": "relu"}
    threshold = need(path, config, "jump_relu_threshold")
    # top-k in training; a threshold means that it has become a JumpReLU since
    if function == "jumprelu" or (function == "topk" and threshold > 0):
        return {"activation": "jumprelu", "threshold": torch.tensor(float(threshold))}
    if function == "topk":
        return {"activation": "topk", "k": int(need(path, config, "top_k"))}
    raise AnachronError(f"{path}: act_fn is {function!r}; those read are jumprelu, topk and relu")
