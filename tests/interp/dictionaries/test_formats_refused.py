"""What is refused when an SAE is loaded, and where SAEs are found: table, hub cache, registered names, command."""

import json
import time

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from typer.testing import CliRunner

from analyses.cli import app
from interp.dictionaries import formats, releases
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.published import point_of
from interp.errors import AnachronError
from interp.files import read_json, save_tensors
from interp.hooks import HookPoint
from tests.families import build
from tests.interp.dictionaries.layouts import (
    D_MODEL,
    D_SAE,
    linear_state,
    parts,
    write_batchtopk,
    write_dictionary_learning,
    write_gemma_scope,
    write_json,
    write_llama_scope,
    write_sae_lens,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def fitting():
    """A model of the SAEs' width, called tiny-llama."""
    return build("llama", d_model=D_MODEL)


def refused(match, *arguments, **options):
    with pytest.raises(AnachronError, match=match):
        load_dictionary(*arguments, **options)


def edit(path, **changes):
    write_json(path, read_json(path) | changes)


# --- the model


def test_an_sae_of_the_model_is_taken(tmp_path, fitting):
    write_sae_lens(tmp_path, "standard")
    sae = load_dictionary(tmp_path, lm=fitting, layer=1)
    assert sae.identity["model_checked"] == "name"
    assert load_dictionary(tmp_path).identity["model_checked"] == "no model given"


def test_another_width_layer_or_model_is_refused(tmp_path, fitting, lm):
    write_sae_lens(tmp_path, "standard")
    refused(rf"d_model {D_MODEL}, and tiny-llama has {lm.d_model}", tmp_path, lm=lm)
    refused(r"of layer 1 \(blocks.1.hook_resid_post\), and layer 2 was asked for", tmp_path, layer=2)
    edit(tmp_path / "cfg.json", metadata={"hook_name": "blocks.7.hook_resid_post", "model_name": "tiny-llama"})
    refused(r"of layer 7, and tiny-llama has 3 \(0 to 2\)", tmp_path, lm=fitting)
    edit(tmp_path / "cfg.json", metadata={"hook_name": "blocks.2.hook_resid_post", "model_name": "someone/Other"})
    refused(
        r"trained on someone/Other, and the model is tiny-llama; load .* or pass any_model=True", tmp_path, lm=fitting
    )
    assert load_dictionary(tmp_path, lm=fitting, any_model=True).identity["model_checked"] == "overridden"
    edit(tmp_path / "cfg.json", metadata={"hook_name": "blocks.2.hook_resid_post", "model_name": "Owner/TINY-Llama"})
    assert load_dictionary(tmp_path, lm=fitting).identity["model_checked"] == "name"


def test_a_layer_that_no_file_names_is_asked_for(tmp_path, fitting):
    write_gemma_scope(tmp_path)
    refused("don't say of which layer it is; give layer=", tmp_path)
    sae = load_dictionary(tmp_path, layer=2, lm=fitting)
    assert (sae.point, sae.identity["hook"], sae.identity["model_checked"]) == (HookPoint(2), None, "unnamed")
    refused("of layer 3, and tiny-llama has 3", tmp_path, layer=3, lm=fitting)


@pytest.mark.parametrize("hook", ["blocks.3.attn.hook_z", "hook_embed", "blocks.3.ln2.hook_normalized", "lm_head"])
def test_points_off_the_residual_stream_are_refused(hook, tmp_path):
    with pytest.raises(AnachronError, match="isn't a site of a block"):
        point_of(hook, tmp_path / "cfg.json")


# --- the files


def test_a_folder_without_an_sae_says_what_it_lacks(tmp_path):
    refused("no such folder; give a local folder, a hub id", tmp_path / "nowhere")
    refused("no SAE in it; a folder holds sae_weights.safetensors and cfg.json", tmp_path)
    write_batchtopk(tmp_path / "one" / "trainer_0")
    write_llama_scope(tmp_path / "two")
    refused("2 SAEs in folders below; name one, as .*one/trainer_0, .*two", tmp_path)
    (tmp_path / "two" / "hyperparams.json").unlink()
    refused("final.safetensors without hyperparams.json, as an SAE of llama_scope has", tmp_path / "two")
    write_gemma_scope(tmp_path / "one" / "trainer_0")
    refused("files of dictionary_learning and gemma_scope", tmp_path / "one" / "trainer_0")
    refused("only hub ids have revisions", tmp_path / "two", revision="main")


WRITERS = {
    "ae.pt": write_batchtopk,
    "sae_weights.safetensors": lambda folder: write_sae_lens(folder, "standard"),
    "params.npz": write_gemma_scope,
    "checkpoints/final.safetensors": write_llama_scope,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0, 30, 500, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, name, kept):
    WRITERS[name](tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: kept if kept in (0, 30, 500) else int(len(data) * kept)])
    refused(rf"{name}: not a whole", tmp_path, layer=1)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nan_is_refused_with_file_and_tensor(tmp_path, value):
    b_enc = parts()[1]
    b_enc[5] = value
    state = linear_state(bias=parts()[3]) | {"encoder.bias": b_enc}
    write_dictionary_learning(tmp_path / "d", "AutoEncoder", state)
    refused(r"ae\.pt: encoder\.bias holds NaN", tmp_path / "d")
    write_gemma_scope(tmp_path / "g", b_enc=b_enc)
    refused(r"params\.npz: b_enc holds NaN", tmp_path / "g", layer=1)
    write_batchtopk(tmp_path / "t", threshold=value)
    refused(r"ae\.pt: threshold holds NaN", tmp_path / "t")


def test_nothing_in_a_file_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("ran",)

    write_batchtopk(tmp_path / "d")
    torch.save({"decoder.weight": Evil()}, tmp_path / "d" / "ae.pt")
    refused(r"ae\.pt: not a whole file of tensors", tmp_path / "d")
    torch.save([torch.zeros(2)], tmp_path / "d" / "ae.pt")
    refused(r"ae\.pt: a list, not tensors by name", tmp_path / "d")
    write_gemma_scope(tmp_path / "g", W_enc=np.array([Evil()], dtype=object))
    refused(r"params\.npz: not a whole \.npz file of numbers .*allow_pickle", tmp_path / "g", layer=1)


def test_tensors_that_do_not_go_together_are_refused(tmp_path):
    state = linear_state(bias=parts()[3])
    write_dictionary_learning(tmp_path, "AutoEncoder", state | {"encoder.bias": np.zeros(5, np.float32)})
    refused(rf"encoder.bias is \[5\], and beside its other tensors it has to be \[{D_SAE}\]", tmp_path)
    write_dictionary_learning(tmp_path, "AutoEncoder", linear_state())
    refused("no tensor 'bias' among decoder.weight, encoder.bias", tmp_path)
    write_dictionary_learning(tmp_path, "AutoEncoder", state | {"decoder.weight": np.zeros(3, np.float32)})
    refused(r"decoder.weight is \[3\], and a matrix is wanted", tmp_path)
    write_dictionary_learning(tmp_path, "AutoEncoder", state, activation_dim=99)
    refused(rf"activation_dim is 99, and in ae.pt {D_MODEL}", tmp_path)
    write_sae_lens(tmp_path / "s", "standard", d_sae=99)
    refused(rf"d_sae is 99, and in sae_weights.safetensors {D_SAE}", tmp_path / "s")


# --- what isn't read, format by format


def test_dictionary_learning_that_is_not_read(tmp_path):
    write_batchtopk(tmp_path, threshold=-1.0)
    refused("threshold is -1, so it hasn't been estimated yet", tmp_path)
    write_dictionary_learning(tmp_path, "CrossCoder", linear_state())
    refused("dict_class is 'CrossCoder'; those read are AutoEncoder, ", tmp_path)
    write_json(tmp_path / "config.json", {"buffer": {}})
    refused("config.json: says nothing of 'trainer'", tmp_path)
    write_json(tmp_path / "config.json", ["trainer"])
    refused("config.json: a list, not keys and values", tmp_path)
    write_json(tmp_path / "config.json", {"trainer": None})
    refused("config.json: says nothing of 'dict_class'", tmp_path)


def test_more_latents_chosen_than_there_are_is_refused(tmp_path):
    write_dictionary_learning(tmp_path, "AutoEncoderTopK", linear_state(b_dec=parts()[3]), k=D_SAE + 1)
    refused(rf"k is {D_SAE + 1}, and there are {D_SAE} latents", tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"architecture": "temporal"}, "architecture is 'temporal'; those read are standard"),
     ({"activation_fn": "tanh-relu"}, "activation function 'tanh-relu' isn't read"),
     ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'"),
     ({"normalize_activations": True}, "normalize_activations is True"),
     ({"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}, "center_writing_weights"),
     ({"metadata": {"hook_name": "blocks.0.attn.hook_z"}}, "isn't a site of a block")],
)  # fmt: skip
def test_sae_lens_that_is_not_read(tmp_path, changes, match):
    write_sae_lens(tmp_path, "standard")
    edit(tmp_path / "cfg.json", **changes)
    refused(match, tmp_path)


def test_latents_rescaled_by_an_extra_tensor_are_refused(tmp_path):
    write_sae_lens(tmp_path, "standard", {"scaling_factor": np.full(D_SAE, 2.0, np.float32)})
    refused("rescaled by scaling_factor", tmp_path)


@pytest.mark.parametrize(
    ("path", "match"),
    [("gemma-scope-2b-pt-transcoders/layer_1/width_16k/average_l0_7", "of transcoders"),
     ("gemma-scope-2b-pt-att/layer_1/width_16k/average_l0_7", r"'blocks.1.attn.hook_z', which isn't a site"),
     ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "of the embedding")],
)  # fmt: skip
def test_gemma_scope_that_is_not_read(tmp_path, path, match):
    write_gemma_scope(tmp_path / path)
    refused(match, tmp_path / path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"hook_point_out": "blocks.1.hook_mlp_out"}, "a transcoder"),
     ({"norm_activation": "token-wise"}, "inputs are scaled one by one"),
     ({"dataset_average_activation_norm": {"in": 2.0, "out": 3.0}}, "average norms 2.0 in and 3.0 out"),
     ({"dataset_average_activation_norm": {"in": 0.0, "out": 0.0}}, "above 0"),
     ({"use_glu_encoder": True}, "its encoder has a gate"),
     ({"act_fn": "tanh"}, "act_fn is 'tanh'")],
)  # fmt: skip
def test_llama_scope_that_is_not_read(tmp_path, changes, match):
    write_llama_scope(tmp_path, **changes)
    refused(match, tmp_path)


def test_single_files_that_are_not_read(tmp_path):
    torch.save({"w": torch.zeros(2)}, tmp_path / "SAE-l3.pt")
    refused("SAE-l3.pt: holds w; it isn't an SAE that is read", tmp_path / "SAE-l3.pt")
    torch.save({"W_enc": torch.zeros(4, 2), "W_dec": torch.zeros(2, 4)}, tmp_path / "layer3.sae.pt")
    refused("its k is in the repository's name alone", tmp_path / "layer3.sae.pt")


def test_transcoders_of_gemma_scope_2_are_refused(tmp_path):
    save_tensors(tmp_path / "params.safetensors", {"w_dec": torch.zeros(2, 2)}, {})
    config = {"architecture": "jump_relu", "hf_hook_point_in": "a", "hf_hook_point_out": "b"}
    write_json(tmp_path / "config.json", config)
    refused("from a to b: a transcoder", tmp_path)


# --- hub and table


def cached(root, repository, commit=COMMIT):
    """The folder in which a hub cache keeps a repository's files."""
    top = root / f"models--{repository.replace('/', '--')}"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text(commit)
    return top / "snapshots" / commit


def test_saes_of_the_hub_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    write_batchtopk(cached(tmp_path, "someone/saes") / "resid_post_layer_1" / "trainer_1")
    sae = load_dictionary("someone/saes/resid_post_layer_1/trainer_1", layer=1)
    assert (sae.identity["revision"], sae.identity["source"]) == (COMMIT, "someone/saes/resid_post_layer_1/trainer_1")
    assert load_dictionary("someone/saes/resid_post_layer_1/trainer_1", revision=COMMIT).name == sae.name
    write_batchtopk(cached(tmp_path, "someone/one"))
    assert load_dictionary("someone/one").identity["revision"] == COMMIT
    refused("not whole in the Hugging Face cache", "someone/saes/resid_post_layer_2/trainer_1")


def test_releases_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # of the paper's model: dictionary_learning's files
    write_batchtopk(
        cached(tmp_path, "andyrdt/saes-llama-3.1-8b-instruct") / "resid_post_layer_19" / "trainer_1",
        layer=19, submodule_name="resid_post_layer_19", lm_name="meta-llama/Llama-3.1-8B-Instruct",
    )  # fmt: skip
    sae = load_dictionary("llama-3.1-8b-instruct-andyrdt:resid_post_layer_19_trainer_1", layer=19)
    assert (sae.identity["model"], str(sae.point)) == ("meta-llama/Llama-3.1-8B-Instruct", "19.resid_post")
    write_gemma_scope(cached(tmp_path, "google/gemma-scope-2b-pt-res") / "layer_20" / "width_16k" / "average_l0_71")
    sae = load_dictionary("gemma-scope-2b-pt-res:layer_20/width_16k/average_l0_71")
    assert (sae.identity["model"], str(sae.point)) == ("google/gemma-2-2b", "20.resid_post")
    write_llama_scope(cached(tmp_path, "fnlp/Llama3_1-8B-Base-LXR-8x") / "Llama3_1-8B-Base-L1R-8x")
    assert load_dictionary("llama_scope_lxr_8x:l1r_8x").identity["revision"] == COMMIT
    folder = cached(tmp_path, "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50")
    folder.mkdir(parents=True)
    sizes = {"W_enc": (64, D_MODEL), "W_dec": (D_MODEL, 64), "b_enc": (64,), "b_dec": (D_MODEL,)}
    torch.save({name: torch.zeros(size) for name, size in sizes.items()}, folder / "layer7.sae.pt")
    sae = load_dictionary("qwen-scope-3-8b-base-w64k-l50:layer7")
    assert (sae.k, str(sae.point), sae.identity["model"]) == (50, "7.resid_post", "Qwen/Qwen3-8B-Base")
    # sae-lens's own files; the table adds how the model was processed
    write_sae_lens(cached(tmp_path, "jbloom/GPT2-Small-SAEs-Reformatted") / "blocks.1.hook_resid_pre", "standard")
    refused("center_writing_weights", "gpt2-small-res-jb:blocks.1.hook_resid_pre")
    write_sae_lens(cached(tmp_path, "jbloom/Gemma-2b-Residual-Stream-SAEs") / "gemma_2b_blocks.0.hook_resid_post_16384_anthropic", "standard")  # fmt: skip  # noqa: E501
    assert load_dictionary("gemma-2b-res-jb:blocks.0.hook_resid_post").identity["format"] == "sae_lens"


def test_releases_that_are_not_there_or_not_read():
    refused("no release 'gemma-scope-2b-pt-rez' in sae-lens's table; close: gemma-scope-2b-pt-res",
            "gemma-scope-2b-pt-rez:layer_20/width_16k/average_l0_71")  # fmt: skip
    refused(
        r"gemma-scope-2b-pt-res has \d+ SAEs and none 'layer_20'; as layer_20/width", "gemma-scope-2b-pt-res:layer_20"
    )
    refused("of the kind 'temporal', which isn't read", "temporal-sae-gemma-2-2b:blocks.12.hook_resid_post")


def test_the_table_is_the_one_sae_lens_reads():
    directory = pytest.importorskip("sae_lens.loading.pretrained_saes_directory", exc_type=ImportError)
    theirs = directory.get_pretrained_saes_directory()
    for name in ("llama-3.1-8b-instruct-andyrdt", "gemma-scope-2b-pt-res", "llama_scope_lxr_8x", "gpt2-small-res-jb"):
        for sae_id, path in theirs[name].saes_map.items():
            found = releases.release_of(f"{name}:{sae_id}")
            assert (found.repository, found.folder, found.model) == (theirs[name].repo_id, path, theirs[name].model)
            assert found.overrides == (theirs[name].config_overrides or {})


def test_registered_names_come_first(tmp_path, monkeypatch):
    write_batchtopk(tmp_path)
    monkeypatch.setattr(formats, "registered", lambda: {"mine": tmp_path})
    assert load_dictionary("mine", layer=1).name == "mine"


def test_a_hub_id_out_of_reach_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    refused("not whole in the Hugging Face cache, and the hub can't provide it", "someone/saes/layer_1")
    refused("not whole in the Hugging Face cache", "gemma-scope-2b-pt-res:layer_20/width_16k/average_l0_71")
    assert time.monotonic() - began < 8


# --- the command


def test_the_command_shows_an_sae(tmp_path):
    write_batchtopk(tmp_path)
    result = CliRunner().invoke(app, ["sae", "show", str(tmp_path), "--layer", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    shown = dict(line.split()[:2] for line in result.stdout.splitlines() if len(line.split()) >= 2)
    assert shown["architecture"] == "BatchTopKSAE" and shown["point"] == "1.resid_post" and shown["k"] == "4"
    assert shown["threshold"] == "1.500" and len(shown["ae.pt"]) == 64
    result = CliRunner().invoke(app, ["sae", "show", str(tmp_path), "--layer", "2"])
    assert result.exit_code == 2 and "layer 2 was asked for" in result.stderr
    assert json.loads(json.dumps(load_dictionary(tmp_path).identity))["d_sae"] == D_SAE
