"""SAEs of every layout against what their files compute, by hand, in fp64."""

import json

import numpy as np
import pytest
import torch

from interp.dictionaries.dictionary import Dictionary
from interp.dictionaries.formats import detect, load_dictionary
from interp.files import digest, save_tensors
from interp.hooks import HookPoint
from tests.interp.dictionaries.layouts import (
    D_MODEL,
    D_SAE,
    above,
    inputs,
    linear_state,
    parts,
    pre,
    quarters,
    tensors,
    top,
    write_batchtopk,
    write_dictionary_learning,
    write_gemma_scope,
    write_json,
    write_llama_scope,
    write_sae_lens,
)

X = inputs()
W_ENC, B_ENC, W_DEC, B_DEC = parts()
THRESHOLD = np.abs(quarters(6, D_SAE))
GATE, MAGNITUDE = quarters(7, D_SAE), quarters(8, D_SAE)
H, H_SHIFTED = pre(X, W_ENC, B_ENC), pre(X, W_ENC, B_ENC, B_DEC)


def gated():
    z = pre(X, W_ENC, 0.0, B_DEC)
    return np.where(z + GATE > 0, np.maximum(z * np.exp(MAGNITUDE.astype(np.float64)) + B_ENC, 0), 0)


def computes(sae, f):
    """Encodes X to f and decodes f to f W_dec + b_dec of the file; exactly, where fp32 can be."""
    assert isinstance(sae, Dictionary)
    assert (sae.d_model, sae.d_sae, tuple(sae.decoder.shape)) == (D_MODEL, D_SAE, (D_SAE, D_MODEL))
    assert sae.encode(X).dtype == torch.float32 and 0 < float((sae.encode(X) > 0).float().mean()) < 1
    assert np.array_equal(sae.encode(X).numpy(), f)
    assert np.array_equal(sae.decode(sae.encode(X)).numpy(), f @ W_DEC + B_DEC)
    assert torch.equal(sae.encode(X.reshape(1, 7, 1, D_MODEL)), sae.encode(X).reshape(1, 7, 1, D_SAE))


# --- dictionary_learning


def test_the_papers_saes(tmp_path):
    write_batchtopk(tmp_path)
    sae = load_dictionary(tmp_path)
    computes(sae, above(H_SHIFTED, 1.5))
    assert torch.equal(sae.decoder, torch.from_numpy(W_DEC)) and sae.decoder.is_contiguous()
    assert (sae.activation, sae.k, float(sae.threshold)) == ("batchtopk", 4, 1.5)
    assert sae.point == HookPoint(1)
    assert {n: sae.identity[n] for n in ("format", "architecture", "model", "point", "revision", "source")} == {
        "format": "dictionary_learning",
        "architecture": "BatchTopKSAE",
        "model": "someone/Tiny-Instruct",
        "point": "1.resid_post",
        "revision": None,
        "source": str(tmp_path),
    }
    assert sae.identity["files"] == {name: digest(tmp_path / name) for name in ("ae.pt", "config.json")}
    json.dumps(sae.identity)
    # the file itself names the same folder
    assert load_dictionary(tmp_path / "ae.pt").identity["digest"] == sae.identity["digest"]
    # at inference a row doesn't depend on the others, nor has it k latents
    assert torch.equal(sae.encode(X)[2:3], sae.encode(X[2:3]))


def test_dictionary_learning_autoencoder(tmp_path):
    write_dictionary_learning(tmp_path / "a", "AutoEncoder", linear_state(bias=B_DEC))
    computes(load_dictionary(tmp_path / "a"), np.maximum(H_SHIFTED, 0))
    write_dictionary_learning(tmp_path / "b", "AutoEncoderNew", linear_state(**{"decoder.bias": B_DEC}))
    computes(load_dictionary(tmp_path / "b"), np.maximum(H, 0))


def test_dictionary_learning_topk_ignores_the_threshold_in_its_file(tmp_path):
    # tenths as well, so that no two latents tie for a place
    bias = B_ENC + np.arange(D_SAE, dtype=np.float32) / 1024
    state = linear_state(b_dec=B_DEC, threshold=np.array(9.0, np.float32), k=np.array(4)) | {"encoder.bias": bias}
    write_dictionary_learning(tmp_path / "new", "AutoEncoderTopK", state)
    computes(load_dictionary(tmp_path / "new"), top(pre(X, W_ENC, bias, B_DEC), 4))
    # older files hold neither; k is in the configuration
    old = {name: array for name, array in state.items() if name not in ("threshold", "k")}
    write_dictionary_learning(tmp_path / "old", "AutoEncoderTopK", old, k=3)
    computes(load_dictionary(tmp_path / "old"), top(pre(X, W_ENC, bias, B_DEC), 3))


def test_topk_of_fewer_positive_latents_than_k(tmp_path):
    write_dictionary_learning(tmp_path, "AutoEncoderTopK", linear_state(b_dec=B_DEC), k=D_SAE)
    computes(load_dictionary(tmp_path), np.maximum(H_SHIFTED, 0))


def test_dictionary_learning_matryoshka_and_jumprelu_keep_parameters(tmp_path):
    state = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}
    groups = {"threshold": np.array(0.75, np.float32), "k": np.array(4), "group_sizes": np.array([8, 16])}
    write_dictionary_learning(tmp_path / "m", "MatryoshkaBatchTopKSAE", state | groups)
    computes(load_dictionary(tmp_path / "m"), above(H_SHIFTED, 0.75))
    write_dictionary_learning(tmp_path / "j", "JumpReluAutoEncoder", state | {"threshold": THRESHOLD})
    computes(load_dictionary(tmp_path / "j"), above(H, THRESHOLD))


def test_dictionary_learning_gated(tmp_path):
    state = linear_state(decoder_bias=B_DEC, r_mag=MAGNITUDE, gate_bias=GATE, mag_bias=B_ENC)
    state.pop("encoder.bias")
    write_dictionary_learning(tmp_path, "GatedAutoEncoder", state)
    sae = load_dictionary(tmp_path)
    assert np.allclose(sae.encode(X).numpy(), gated(), atol=1e-5)
    assert np.array_equal(sae.encode(X).numpy() > 0, gated() > 0)


@pytest.mark.parametrize(
    ("module", "point"),
    [(None, "1.resid_post"), ("mlp_out_layer_1", "1.mlp_out"), ("model.layers.1", "1.resid_post"),
     ("gpt_neox.layers.2", "2.resid_post"), ("transformer.h.2", "2.resid_post")],
)  # fmt: skip
def test_the_module_a_dictionary_is_of(tmp_path, module, point):
    write_batchtopk(tmp_path, submodule_name=module)
    assert str(load_dictionary(tmp_path).point) == point


# --- sae-lens


def test_sae_lens_standard_and_jumprelu(tmp_path):
    write_sae_lens(tmp_path / "s", "standard")
    computes(load_dictionary(tmp_path / "s"), np.maximum(H_SHIFTED, 0))
    write_sae_lens(tmp_path / "j", "jumprelu", {"threshold": THRESHOLD}, apply_b_dec_to_input=False)
    sae = load_dictionary(tmp_path / "j")
    computes(sae, above(H, THRESHOLD))
    assert (sae.identity["model"], sae.identity["hook"]) == ("tiny-llama", "blocks.1.hook_resid_post")


def test_sae_lens_topk_and_its_rescaling(tmp_path):
    bias = B_ENC + np.arange(D_SAE, dtype=np.float32) / 1024
    write_sae_lens(tmp_path / "t", "topk", {"b_enc": bias}, k=4, rescale_acts_by_decoder_norm=False)
    computes(load_dictionary(tmp_path / "t"), top(pre(X, W_ENC, bias, B_DEC), 4))
    write_sae_lens(tmp_path / "r", "topk", {"b_enc": bias}, k=4, rescale_acts_by_decoder_norm=True)
    sae = load_dictionary(tmp_path / "r")
    norms = np.linalg.norm(W_DEC.astype(np.float64), axis=1)
    f = top(pre(X, W_ENC, bias, B_DEC) * norms, 4)
    assert np.allclose(sae.encode(X).numpy(), f, atol=1e-5)
    assert np.allclose(sae.decode(sae.encode(X)).numpy(), (f / norms) @ W_DEC + B_DEC, atol=1e-5)
    assert not np.array_equal(f > 0, top(pre(X, W_ENC, bias, B_DEC), 4) > 0)


def test_sae_lens_gated(tmp_path):
    gates = {"b_enc": None, "b_gate": GATE, "r_mag": MAGNITUDE, "b_mag": B_ENC}
    write_sae_lens(tmp_path, "gated", gates)
    assert np.allclose(load_dictionary(tmp_path).encode(X).numpy(), gated(), atol=1e-5)


def test_sae_lens_before_version_6(tmp_path):
    state = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC, "scaling_factor": np.ones(D_SAE, "f4")}
    save_tensors(tmp_path / "sae_weights.safetensors", tensors(state), {})
    config = {"d_in": D_MODEL, "d_sae": D_SAE, "hook_point": "blocks.2.hook_resid_pre", "model_name": "gpt2-small",
              "normalize_activations": False, "activation_fn_str": "relu"}  # fmt: skip
    write_json(tmp_path / "cfg.json", config)
    sae = load_dictionary(tmp_path)
    computes(sae, np.maximum(H_SHIFTED, 0))
    assert (str(sae.point), sae.identity["model"]) == ("2.resid_pre", "gpt2-small")
    write_json(tmp_path / "cfg.json", config | {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": D_SAE}})
    sae = load_dictionary(tmp_path)
    computes(sae, np.maximum(H_SHIFTED, 0))
    assert (sae.activation, sae.k) == ("topk", D_SAE)


# --- Gemma Scope


def test_gemma_scope(tmp_path):
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_1" / "width_16k" / "average_l0_71"
    write_gemma_scope(folder)
    sae = load_dictionary(folder)
    computes(sae, above(H, THRESHOLD))
    assert (str(sae.point), sae.identity["model"]) == ("1.resid_post", "google/gemma-2-2b")
    assert sae.identity["format"] == detect(folder) == "gemma_scope"
    mlp = tmp_path / "layer_9" / "models--google--gemma-scope-9b-it-mlp" / "layer_2" / "width_16k" / "average_l0_7"
    write_gemma_scope(mlp)
    sae = load_dictionary(mlp)
    assert (str(sae.point), sae.identity["model"]) == ("2.mlp_out", "google/gemma-2-9b-it")
    plain = tmp_path / "layer_2" / "width_16k" / "average_l0_7"
    write_gemma_scope(plain)
    assert load_dictionary(plain).identity["model"] is None
    write_gemma_scope(tmp_path / "somewhere")
    assert load_dictionary(tmp_path / "somewhere", layer=2).point == HookPoint(2)


def test_gemma_scope_2(tmp_path):
    state = {"w_enc": W_ENC, "b_enc": B_ENC, "w_dec": W_DEC, "b_dec": B_DEC, "threshold": THRESHOLD}
    save_tensors(tmp_path / "params.safetensors", tensors(state), {})
    config = {"architecture": "jump_relu", "model_name": "google/gemma-3-4b-it"}
    for hook, point in (("model.layers.1.output", "1.resid_post"),
                        ("model.layers.1.post_feedforward_layernorm.output", "1.mlp_out")):  # fmt: skip
        write_json(tmp_path / "config.json", config | {"hf_hook_point_in": hook})
        sae = load_dictionary(tmp_path)
        computes(sae, above(H, THRESHOLD))
        assert (str(sae.point), sae.identity["model"]) == (point, "google/gemma-3-4b-it")


# --- Llama Scope: what it was trained to do, on scaled activations, with latents measured by what they write


def scaled(decoder, threshold_in_model_units=0.5):
    """s x is encoded; latent j counts by f_j ||d_j||, in the model's units over s; what is decoded is divided by s."""
    s = 4 / 2
    norms = np.linalg.norm(decoder.astype(np.float64), axis=1)
    h = pre(X * s, W_ENC, B_ENC)
    f = np.where(h * norms / s > threshold_in_model_units, np.maximum(h, 0), 0)
    return f, (f @ decoder + B_DEC) / s, f * norms / s


def test_llama_scope(tmp_path):
    # rows of norm 5 k / 4, so that all is exact
    decoder = np.zeros((D_SAE, D_MODEL), np.float32)
    for j in range(D_SAE):
        decoder[j, [j % D_MODEL, (j + 3) % D_MODEL]] = np.array([0.75, -1.0]) * 2.0 ** (j % 3)
    write_llama_scope(tmp_path, decoder)
    sae = load_dictionary(tmp_path)
    f, reconstruction, latents = scaled(decoder)
    assert np.allclose(sae.encode(X).numpy(), latents, atol=1e-6)
    assert np.array_equal(sae.encode(X).numpy() > 0, f > 0)
    assert np.allclose(sae.decode(sae.encode(X)).numpy(), reconstruction, atol=1e-5)
    assert np.allclose(sae.decoder.norm(dim=1), 1)
    # neither step can be left out
    assert not np.array_equal(f > 0, pre(X * 2, W_ENC, B_ENC) > 0.5)
    assert not np.array_equal(f > 0, pre(X * 2, W_ENC, B_ENC) / 2 > 0.5)
    assert (str(sae.point), sae.identity["model"]) == ("1.resid_post", "meta-llama/Llama-3.1-8B")


def test_llama_scope_thresholds_of_random_rows(tmp_path):
    decoder = np.random.default_rng(0).normal(size=(D_SAE, D_MODEL)).astype(np.float32)
    decoder[3] = 0  # a latent that writes nothing
    write_llama_scope(tmp_path, decoder, jump_relu_threshold=1.3)
    sae = load_dictionary(tmp_path)
    _, reconstruction, latents = scaled(decoder, 1.3)
    assert np.allclose(sae.encode(X).numpy(), latents, atol=1e-5)
    assert np.allclose(sae.decode(sae.encode(X)).numpy(), reconstruction, atol=1e-5)


def test_llama_scope_without_scaling_or_bias(tmp_path):
    write_llama_scope(tmp_path, norm_activation="inference", sparsity_include_decoder_norm=False)
    computes(load_dictionary(tmp_path), above(H, 0.5))
    write_llama_scope(tmp_path, norm_activation="inference", sparsity_include_decoder_norm=False, act_fn="topk")
    assert load_dictionary(tmp_path).activation == "jumprelu"
    write_llama_scope(
        tmp_path, norm_activation="inference", sparsity_include_decoder_norm=False, act_fn="relu",
        apply_decoder_bias_to_pre_encoder=True,
    )  # fmt: skip
    computes(load_dictionary(tmp_path), np.maximum(H_SHIFTED, 0))
    write_llama_scope(tmp_path, use_decoder_bias=False)
    assert float(load_dictionary(tmp_path).b_dec.abs().max()) == 0


# --- one file each


def test_single_files(tmp_path):
    state = {"encoder_linear.weight": W_ENC.T, "encoder_linear.bias": B_ENC}
    state |= {"decoder_linear.weight": W_DEC.T, "decoder_linear.bias": B_DEC}
    goodfire = tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    torch.save(tensors(state), goodfire)
    sae = load_dictionary(goodfire)
    computes(sae, np.maximum(H, 0))
    assert (sae.identity["format"], str(sae.point)) == ("goodfire", "19.resid_post")
    torch.save(tensors({n.replace("_linear", ""): a for n, a in state.items()}), tmp_path / "Any-SAE-l2.pt")
    computes(load_dictionary(tmp_path / "Any-SAE-l2.pt"), np.maximum(H, 0))

    bias = B_ENC + np.arange(D_SAE, dtype=np.float32) / 1024
    folder = tmp_path / "models--Qwen--SAE-Res-Qwen3-8B-Base-W64K-L0_5"
    folder.mkdir()
    torch.save(tensors({"W_enc": W_ENC.T, "W_dec": W_DEC.T, "b_enc": bias, "b_dec": B_DEC}), folder / "layer7.sae.pt")
    sae = load_dictionary(folder / "layer7.sae.pt", layer=7)
    computes(sae, top(pre(X, W_ENC, bias), 5))
    assert sae.k == sae.identity["k"] == 5


def test_bfloat16_files_are_read_as_float32(tmp_path):
    write_batchtopk(tmp_path)
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    floating = {name: t.bfloat16() if t.is_floating_point() else t for name, t in state.items()}
    torch.save(floating, tmp_path / "ae.pt")  # quarters are exact in bfloat16 too
    computes(load_dictionary(tmp_path), above(H_SHIFTED, 1.5))


def test_files_in_the_old_form_of_torch_are_read(tmp_path):
    write_batchtopk(tmp_path)
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save(state, tmp_path / "ae.pt", _use_new_zipfile_serialization=False)
    computes(load_dictionary(tmp_path), above(H_SHIFTED, 1.5))


def test_an_sae_moves_to_another_device(tmp_path):
    write_batchtopk(tmp_path)
    moved = load_dictionary(tmp_path).to("meta")
    assert {t.device.type for t in (moved.W_enc, moved.b_dec, moved.threshold)} == {"meta"}
