"""Small SAEs in the layouts of those who publish them, and what they compute, in fp64, from the files' own tensors.

Weights are multiples of a quarter, so that fp32 is exact and results can be compared with ==.
"""

import json

import numpy as np
import torch

from interp.files import save_tensors

D_MODEL, D_SAE = 16, 24


def quarters(seed, *shape):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32) / 4


def parts():
    """W_enc [d_model, d_sae], b_enc, W_dec [d_sae, d_model], b_dec."""
    return quarters(1, D_MODEL, D_SAE), quarters(2, D_SAE), quarters(3, D_SAE, D_MODEL), quarters(4, D_MODEL)


def inputs(*rows):
    return torch.from_numpy(quarters(5, *(rows or (7,)), D_MODEL) * 2)


def pre(x, W_enc, b_enc, shift=0.0):
    return (x.double().numpy() - shift) @ W_enc.astype(np.float64) + b_enc


def above(h, threshold):
    """relu(h) where h > threshold."""
    return np.where(h > threshold, np.maximum(h, 0), 0)


def top(h, k):
    """The k largest of each row, rectified. One by one, in order."""
    out = np.zeros_like(h)
    for row, found in zip(h, out, strict=True):
        for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]:
            found[j] = max(row[j], 0)
    return out


def tensors(arrays):
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}


def write_json(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def write_dictionary_learning(folder, dict_class, state, **trainer):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(state), folder / "ae.pt")
    config = {"dict_class": dict_class, "activation_dim": D_MODEL, "dict_size": D_SAE, "layer": 1, "k": 4}
    config |= {"lm_name": "someone/Tiny-Instruct", "submodule_name": "resid_post_layer_1"} | trainer
    write_json(folder / "config.json", {"trainer": config, "buffer": {"ctx_len": 128}})


def linear_state(**more):
    """As torch.nn.Linear keeps them: encoder.weight [d_sae, d_model], decoder.weight [d_model, d_sae]."""
    W_enc, b_enc, W_dec, _ = parts()
    return {"encoder.weight": W_enc.T, "encoder.bias": b_enc, "decoder.weight": W_dec.T} | more


def write_batchtopk(folder, threshold=1.5, **trainer):
    """The layout of the paper's own SAEs."""
    state = linear_state(b_dec=parts()[3], threshold=np.array(threshold, np.float32), k=np.array(4))
    write_dictionary_learning(folder, "BatchTopKSAE", state, **trainer)


def write_sae_lens(folder, architecture, state=None, **config):
    """As version 6 writes them."""
    W_enc, b_enc, W_dec, b_dec = parts()
    state = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec} | (state or {})
    save_tensors(folder / "sae_weights.safetensors", tensors({n: a for n, a in state.items() if a is not None}), {})
    own = {"architecture": architecture, "d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"}
    own |= {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    metadata = {"model_name": "tiny-llama", "hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.54.12"}
    write_json(folder / "cfg.json", {**own, "metadata": metadata, **config})


def write_gemma_scope(folder, **state):
    W_enc, b_enc, W_dec, b_dec = parts()
    folder.mkdir(parents=True, exist_ok=True)
    own = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec, "threshold": np.abs(quarters(6, D_SAE))}
    np.savez(folder / "params.npz", **(own | state))


def write_llama_scope(folder, decoder=None, **config):
    """Average norm 2 in 16 dimensions: activations were scaled by 4 / 2."""
    W_enc, b_enc, W_dec, b_dec = parts()
    state = {"encoder.weight": W_enc.T, "encoder.bias": b_enc, "decoder.bias": b_dec}
    state["decoder.weight"] = (W_dec if decoder is None else decoder).T
    save_tensors(folder / "checkpoints" / "final.safetensors", tensors(state), {})
    own = {"d_model": D_MODEL, "d_sae": D_SAE, "expansion_factor": 1.5, "use_decoder_bias": True}
    own |= {"act_fn": "jumprelu", "jump_relu_threshold": 0.5, "top_k": 4, "norm_activation": "dataset-wise"}
    own |= {"dataset_average_activation_norm": {"in": 2.0, "out": 2.0}, "sparsity_include_decoder_norm": True}
    own |= {"apply_decoder_bias_to_pre_encoder": False, "use_glu_encoder": False}
    own |= {"hook_point_in": "blocks.1.hook_resid_post", "hook_point_out": "blocks.1.hook_resid_post"}
    write_json(folder / "hyperparams.json", own | config)
