"""The readers against sae-lens's own loaders on the same files, and on files that sae-lens wrote."""

import functools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.dictionaries.formats import load_dictionary
from tests.interp.dictionaries.layouts import (
    D_MODEL,
    D_SAE,
    inputs,
    linear_state,
    parts,
    quarters,
    write_batchtopk,
    write_dictionary_learning,
    write_gemma_scope,
    write_llama_scope,
    write_sae_lens,
)

X = inputs(64)
THRESHOLD = np.abs(quarters(6, D_SAE))


@pytest.fixture(scope="module")
def sae_lens():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens
    return sae_lens


@pytest.fixture
def theirs(sae_lens, monkeypatch, tmp_path):
    """Load a folder below tmp_path with the loader of this name, its downloads taken from tmp_path."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def local(repo_id=None, filename=None, subfolder=None, force_download=False):
        path = tmp_path / (subfolder or "") / filename
        if not path.is_file():
            raise loaders.EntryNotFoundError(filename)
        return str(path)

    monkeypatch.setattr(loaders, "hf_hub_download", local)

    def load(folder, loader, repository="someone/saes", **overrides):
        read = functools.partial(loaders.NAMED_PRETRAINED_SAE_LOADERS[loader], repository, str(folder))
        sizes = {"dtype": "float32", "d_in": D_MODEL, "d_sae": D_SAE} | overrides

        def converter(path, device, cfg_overrides):
            return read(device, False, cfg_overrides=(cfg_overrides or {}) | sizes)[:2]

        return sae_lens.SAE.load_from_disk(str(tmp_path / folder), device="cpu", converter=converter)

    return load


def same(ours, sae, scale=1.0):
    with torch.no_grad():
        f = sae.encode(X)
        assert 0.02 < float((f > 0).float().mean()) < 0.9
        assert torch.equal(ours.encode(X) > 0, f > 0)
        assert torch.allclose(ours.encode(X) * scale, f, atol=1e-5)
        assert torch.allclose(ours.decode(ours.encode(X)), sae.decode(f), atol=1e-5)
    hook = sae.cfg.metadata.hook_name
    assert hook in (None, f"blocks.{ours.point.layer}.hook_{ours.point.site}")


@pytest.mark.parametrize("dict_class", ["BatchTopKSAE", "AutoEncoder", "AutoEncoderTopK", "GatedAutoEncoder"])
def test_dictionary_learning(theirs, tmp_path, dict_class):
    b_dec = parts()[3]
    if dict_class == "BatchTopKSAE":
        write_batchtopk(tmp_path / "d")
    elif dict_class == "AutoEncoder":
        write_dictionary_learning(tmp_path / "d", dict_class, linear_state(bias=b_dec))
    elif dict_class == "AutoEncoderTopK":
        bias = parts()[1] + np.arange(D_SAE, dtype=np.float32) / 1024  # no ties
        state = linear_state(b_dec=b_dec, threshold=np.array(9.0, np.float32)) | {"encoder.bias": bias}
        write_dictionary_learning(tmp_path / "d", dict_class, state)
    else:
        gates = {"gate_bias": quarters(7, D_SAE), "mag_bias": parts()[1], "r_mag": quarters(8, D_SAE)}
        state = linear_state(decoder_bias=b_dec, **gates)
        del state["encoder.bias"]
        write_dictionary_learning(tmp_path / "d", dict_class, state)
    sae = theirs("d", "dictionary_learning_1")
    same(load_dictionary(tmp_path / "d"), sae)
    assert sae.cfg.metadata.model_name == "Tiny-Instruct"


def test_matryoshka_and_jumprelu_of_dictionary_learning(theirs, tmp_path):
    state = dict(zip(("W_enc", "b_enc", "W_dec", "b_dec"), parts(), strict=True))
    write_dictionary_learning(tmp_path / "j", "JumpReluAutoEncoder", state | {"threshold": THRESHOLD})
    same(load_dictionary(tmp_path / "j"), theirs("j", "dictionary_learning_1"))
    more = {"threshold": np.array(0.75, np.float32), "k": np.array(4), "group_sizes": np.array([8, 16])}
    write_dictionary_learning(tmp_path / "m", "MatryoshkaBatchTopKSAE", state | more)
    same(load_dictionary(tmp_path / "m"), theirs("m", "dictionary_learning_1"))


def test_gemma_scope(theirs, tmp_path):
    folder = Path("google--gemma-scope-2b-pt-res") / "layer_1" / "width_16k" / "average_l0_71"
    write_gemma_scope(tmp_path / folder)
    sae = theirs(folder, "gemma_2", "google/gemma-scope-2b-pt-res")
    ours = load_dictionary(tmp_path / folder)
    same(ours, sae)
    assert ours.identity["model"] == f"google/{sae.cfg.metadata.model_name}"


def unit_rows():
    rows = parts()[2]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_llama_scope_where_rows_are_of_unit_norm(theirs, tmp_path):
    """sae-lens measures latents by s times as much; it leaves out the norms of rows, so they are 1 here."""
    write_llama_scope(tmp_path / "l", unit_rows(), jump_relu_threshold=0.53)  # no latent is right at it
    sae = theirs("l", "llama_scope", "fnlp/Llama3_1-8B-Base-LXR-8x")
    s = math.sqrt(D_MODEL) / 2.0
    sae.fold_activation_norm_scaling_factor(s)
    same(load_dictionary(tmp_path / "l"), sae, scale=s)


def test_llama_scope_of_sae_lens_thresholds_other_rows_too_late(theirs, tmp_path):
    write_llama_scope(tmp_path / "l", unit_rows() * 3)
    sae = theirs("l", "llama_scope", "fnlp/Llama3_1-8B-Base-LXR-8x")
    sae.fold_activation_norm_scaling_factor(2.0)
    with torch.no_grad():
        theirs_on, ours_on = sae.encode(X) > 0, load_dictionary(tmp_path / "l").encode(X) > 0
    assert bool((theirs_on <= ours_on).all()) and int(theirs_on.sum()) < int(ours_on.sum())


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk", "gated"])
def test_files_that_sae_lens_wrote(sae_lens, tmp_path, architecture):
    from sae_lens.saes.sae import SAEMetadata

    torch.manual_seed(0)
    kind, config = sae_lens.registry.get_sae_class(architecture)
    metadata = SAEMetadata(model_name="tiny-llama", hook_name="blocks.2.hook_resid_mid")
    more = {"k": 5, "rescale_acts_by_decoder_norm": True} if architecture == "topk" else {}
    sae = kind(config(d_in=D_MODEL, d_sae=D_SAE, dtype="float32", device="cpu", metadata=metadata, **more))
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape)
    sae.save_model(tmp_path)
    same(load_dictionary(tmp_path), sae)


@pytest.mark.parametrize("kind", ["BatchTopK", "JumpReLU"])
def test_files_of_trained_saes(sae_lens, tmp_path, kind):
    torch.manual_seed(0)
    more = {"k": 4} if kind == "BatchTopK" else {"jumprelu_init_threshold": 0.2}
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")
    sizes = {"d_in": D_MODEL, "d_sae": D_SAE, "device": "cpu", "dtype": "float32"}
    trained = getattr(sae_lens, f"{kind}TrainingSAE")(config(**sizes, normalize_activations="none", **more))
    with torch.no_grad():
        for parameter in (trained.W_enc, trained.b_enc, trained.W_dec, trained.b_dec):
            parameter.copy_(torch.randn(parameter.shape))
        if kind == "BatchTopK":
            trained.topk_threshold.fill_(1.5)
    trained.save_inference_model(tmp_path)
    ours = load_dictionary(tmp_path, layer=1)
    same(ours, sae_lens.SAE.load_from_disk(str(tmp_path), device="cpu"))
    assert ours.activation == "jumprelu"


def test_files_before_version_6(sae_lens, tmp_path):
    write_sae_lens(tmp_path, "standard")
    config = (
        '{"d_in": 16, "d_sae": 24, "dtype": "float32", "hook_point": "blocks.1.hook_resid_post", "activation_fn_str": '
    )
    (tmp_path / "cfg.json").write_text(config + '"relu", "model_name": "gpt2-small", "device": "cpu"}')
    same(load_dictionary(tmp_path), sae_lens.SAE.load_from_disk(str(tmp_path), device="cpu"))
    bias = {"b_enc": parts()[1] + np.arange(D_SAE, dtype=np.float32) / 1024}
    write_sae_lens(tmp_path, "standard", bias)
    (tmp_path / "cfg.json").write_text(
        config + '"topk", "activation_fn_kwargs": {"k": 6}, "model_name": "gpt2-small", "device": "cpu"}'
    )
    same(load_dictionary(tmp_path), sae_lens.SAE.load_from_disk(str(tmp_path), device="cpu"))
