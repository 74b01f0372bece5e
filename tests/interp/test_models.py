"""load_model and wrap: what loads, what is refused and how quickly."""

import json
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import interp.hub
import interp.models
from interp.errors import AnachronError
from interp.models import load_model, wrap
from interp.prompts import encode_prompt, pad
from tests.families import build, tokenizer


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny Llama checkpoint on disk."""
    folder = tmp_path_factory.mktemp("saved") / "llama"
    lm = build("llama")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """A copy of it to break."""
    return shutil.copytree(saved, tmp_path / "copy")


def logits(lm):
    batch = pad([encode_prompt(lm, "Name a bird.")], lm.pad_id)
    with torch.no_grad():
        return lm.model(**batch.inputs).logits


def test_round_trip_through_a_folder(family_lm, tmp_path):
    family_lm.model.save_pretrained(tmp_path)
    family_lm.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(logits(loaded), logits(family_lm))
    assert (loaded.name, loaded.revision, loaded.n_layers, loaded.d_model) == (str(tmp_path), None, 3, 32)
    assert (loaded.dtype, loaded.device, loaded.pad_id) == (torch.float32, torch.device("cpu"), 0)
    assert loaded.anatomy.sites == family_lm.anatomy.sites


def test_tokenizer_is_used_as_saved_whatever_the_architecture(family_lm, tmp_path):
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(family_lm.tokenizer.backend_tokenizer.to_str())
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}|[^\p{L}\p{N}]"), behavior="isolated")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    family_lm.model.save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<|end|>").save_pretrained(tmp_path)
    text = "The year is 1876.  What's a bird?\nA <|user|> titlark's nest"
    loaded = load_model(tmp_path).tokenizer
    assert loaded(text, add_special_tokens=False).input_ids == inner.encode(text, add_special_tokens=False).ids
    assert len(loaded) == inner.get_vocab_size()


def test_loaded_models_are_frozen_and_in_eval_mode(saved):
    lm = load_model(saved)
    assert not lm.model.training
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_dtype_is_the_checkpoints_unless_given(saved, tmp_path):
    lm = load_model(saved, dtype=torch.bfloat16)
    assert lm.dtype == torch.bfloat16
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert load_model(tmp_path).dtype == torch.bfloat16
    assert load_model(tmp_path, dtype=torch.float32).dtype == torch.float32


def test_registered_names_come_from_entry_points(saved, monkeypatch):
    class Entry:
        name = "tiny"

        def load(self):
            return lambda: saved

    monkeypatch.setattr(interp.models, "entry_points", lambda group: [Entry()] if group == "anachron.models" else [])
    assert load_model("tiny").name == "tiny"
    with pytest.raises(AnachronError, match="only hub ids have revisions"):
        load_model("tiny", revision="main")
    with pytest.raises(AnachronError, match=r"'nobody/nothing' is not a registered model \(tiny\)"):
        load_model("nobody/nothing")


def test_hub_id_without_network_fails_at_once_and_says_how_to_mend_it():
    begin = time.perf_counter()
    with pytest.raises(AnachronError, match="give a local folder, or connect, unset HF_HUB_OFFLINE"):
        load_model("nobody/nothing-1b")
    assert time.perf_counter() - begin < 5


def test_hub_that_does_not_answer_is_given_up_on(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(interp.hub, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: time.sleep(3))
    begin = time.perf_counter()
    with pytest.raises(AnachronError, match="TimeoutError"):
        load_model("nobody/nothing-1b")
    assert time.perf_counter() - begin < 2


def test_cached_hub_id_loads_offline_and_keeps_its_commit(saved, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--tiny"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    lm = load_model("someone/tiny")
    assert (lm.name, lm.revision) == ("someone/tiny", commit)
    assert load_model("someone/tiny", revision=commit).revision == commit
    (repository / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(AnachronError, match="not whole in the Hugging Face cache"):
        load_model("someone/tiny")


@pytest.mark.parametrize("name", ["no-such-model", "a/b.git", "almanac/", "a/b/c", ""])
def test_names_that_are_nothing_are_refused(name):
    with pytest.raises(AnachronError, match=r"no such folder|not a registered model|no config"):
        load_model(name)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(AnachronError, match="no such folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(AnachronError, match="no such folder"):
        load_model("./nowhere")


def test_nan_weights_are_refused_by_name(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AnachronError, match=r"'model\.layers\.1\.mlp\.down_proj\.weight' holds NaN"):
        load_model(checkpoint)


@pytest.mark.parametrize("kept", [0, 5, 2000, -1])
def test_truncated_weights_are_refused_by_file(checkpoint, kept):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(AnachronError, match=r"model\.safetensors: not a whole safetensors file"):
        load_model(checkpoint)


def test_missing_tensors_are_refused_rather_than_random(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["model.layers.2.self_attn.q_proj.weight"]
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AnachronError, match=r"no weights for model\.layers\.2\.self_attn\.q_proj\.weight"):
        load_model(checkpoint)


def test_weights_of_other_dimensions_are_refused(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    config["intermediate_size"] = 48
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(AnachronError, match="can't load it as a causal language model"):
        load_model(checkpoint)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "safetensors only"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_missing_files_are_named(checkpoint, broken, message):
    (checkpoint / broken).unlink()
    with pytest.raises(AnachronError, match=message):
        load_model(checkpoint)


def test_missing_shard_is_named(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(AnachronError, match=r"model-00002-of-00002\.safetensors: missing"):
        load_model(checkpoint)


def test_pickled_weights_and_code_are_not_run(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(AnachronError, match="safetensors only"):
        load_model(checkpoint)


def test_malformed_config_is_named(checkpoint):
    (checkpoint / "config.json").write_text('{"model_type": "lla')
    with pytest.raises(AnachronError, match=r"config\.json:1: not JSON"):
        load_model(checkpoint)


def test_unknown_architecture_is_refused(checkpoint):
    (checkpoint / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(AnachronError, match="can't load it as a causal language model"):
        load_model(checkpoint)


def test_adapter_folder_is_recognised(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(AnachronError, match=r"holds an adapter: load its base and use ModelPair\.add"):
        load_model(tmp_path)


def test_tokenizer_larger_than_the_embedding_is_refused(checkpoint):
    from transformers import AutoTokenizer

    larger = AutoTokenizer.from_pretrained(checkpoint)
    larger.add_tokens(["zzzz", "yyyy"])
    larger.save_pretrained(checkpoint)
    with pytest.raises(AnachronError, match=r"tokenizer has \d+ ids and the embedding \d+ rows"):
        load_model(checkpoint)


def test_tokenizer_without_chat_template_gets_the_plain_one(checkpoint):
    (checkpoint / "chat_template.jinja").unlink()
    lm = load_model(checkpoint)
    assert lm.tokenizer.chat_template is None
    ids = encode_prompt(lm, "Name a bird.").ids
    assert lm.tokenizer.decode(ids) == "<s>User: Name a bird.\nAssistant:"


def test_wrap_freezes_a_model_in_memory():
    lm = build("llama")
    lm.model.train()
    lm.model.requires_grad_(True)
    again = wrap(lm.model, tokenizer(), "again")
    assert not again.model.training
    assert not any(p.requires_grad for p in again.model.parameters())


def test_wrap_refuses_what_is_not_a_causal_model():
    with pytest.raises(AnachronError, match="no output embeddings"):
        wrap(build("llama").model.model, tokenizer(), "headless")


def offloaded(lm):
    """A mapping that leaves the first block in memory and the rest of the blocks on disk."""
    parent = lm.model.base_model_prefix
    blocks = next(name for name, m in lm.model.named_modules() if name.endswith((".h", ".layers")))
    mapping = {f"{blocks}.{i}": "disk" if i else "cpu" for i in range(lm.n_layers)}
    for name, _ in getattr(lm.model, parent).named_children():
        if f"{parent}.{name}" != blocks:
            mapping[f"{parent}.{name}"] = "cpu"
    return {**mapping, next(name for name, m in lm.model.named_modules() if m is lm.anatomy.unembed): "cpu"}


def test_device_maps_give_the_plain_models_results(family_lm, tmp_path):
    family_lm.model.save_pretrained(tmp_path)
    family_lm.tokenizer.save_pretrained(tmp_path)
    for device_map in ("auto", {"": "cpu"}, offloaded(family_lm), {"": "disk"}):
        lm = load_model(tmp_path, device_map=device_map)
        assert torch.equal(logits(lm), logits(family_lm))
        assert lm.anatomy.sites == family_lm.anatomy.sites
        assert (lm.device, lm.dtype) == (torch.device("cpu"), torch.float32)
        waiting = any(parameter.is_meta for parameter in lm.model.parameters())
        assert waiting == (isinstance(device_map, dict) and "disk" in device_map.values())


def test_everything_measured_is_the_same_with_layers_on_disk(saved):
    from interp.behavior.sampling import generate
    from interp.capture import capture
    from interp.directions import random_direction
    from interp.hooks import HookPoint
    from interp.positions import ALL
    from interp.steering import Ablate, Add

    found = []
    for device_map in (None, {"": "disk"}):
        lm = load_model(saved, device_map=device_map)
        rows = [encode_prompt(lm, text) for text in ("Name a bird.", "Who rules the country?")]
        points = [HookPoint(i, site) for i in range(lm.n_layers) for site in lm.anatomy.sites]
        u = random_direction(lm.d_model, HookPoint(1), seed=0)
        edits = [Add(u, 4.0, points=[HookPoint(0, "resid_mid")]), Ablate([u])]
        found.append((capture(lm, rows, points, ALL), generate(lm, rows, max_new_tokens=8, edits=edits)))
    (plain, answers), (other, others) = found
    assert answers == others
    assert list(plain) == list(other) and all(torch.equal(plain[p], other[p]) for p in plain)


def test_nan_weights_left_on_disk_are_refused_by_name(checkpoint):
    tensors = load_file(checkpoint / "model.safetensors")
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")
    save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AnachronError, match=r"'model\.layers\.1\.mlp\.down_proj\.weight' holds NaN"):
        load_model(checkpoint, device_map={"": "disk"})


@pytest.mark.parametrize(
    ("device_map", "message"),
    [
        ("everywhere", "check config.json and the device map"),
        ({"": "nowhere"}, "check config.json and the device map"),
        ({"model.layers": "cpu"}, r"leaves out model\.embed_tokens\.weight, model\.norm\.weight"),
    ],
)
def test_impossible_device_maps_are_refused(saved, device_map, message):
    with pytest.raises(AnachronError, match=message):
        load_model(saved, device_map=device_map)


def test_a_device_and_a_map_contradict_each_other(saved):
    with pytest.raises(AnachronError, match="both say where weights go"):
        load_model(saved, device="cuda", device_map="auto")


def test_quantization_needs_its_package(saved, monkeypatch):
    monkeypatch.setattr(interp.models, "find_spec", lambda name: None)
    for quantization in ("4bit", "8bit"):
        with pytest.raises(AnachronError, match=f"{quantization} is done by the package bitsandbytes"):
            load_model(saved, quantization=quantization)
    with pytest.raises(AnachronError, match="unknown quantization '3bit'; use 4bit, 8bit"):
        load_model(saved, quantization="3bit")


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantization_is_asked_of_transformers(saved, monkeypatch, quantization):
    """bitsandbytes isn't at hand: what from_pretrained is told, and what the model says of itself."""
    from transformers import AutoModelForCausalLM

    asked = {}
    real = AutoModelForCausalLM.from_pretrained

    def from_pretrained(folder, quantization_config, device_map, **options):
        asked.update(config=quantization_config, device_map=device_map)
        return real(folder, **options)

    monkeypatch.setattr(interp.models, "find_spec", lambda name: object())
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    lm = load_model(saved, quantization=quantization, dtype=torch.float16)
    assert lm.quantization == quantization
    assert asked["device_map"] == {"": "cpu"}
    config = asked["config"]
    assert (config.load_in_4bit, config.load_in_8bit) == (quantization == "4bit", quantization == "8bit")
    if quantization == "4bit":
        assert (config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == ("nf4", torch.float16)
