"""Adapters of others: what peft makes of them, which base they are for, where they come from."""

import hashlib
import json
import shutil
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from interp.errors import AnachronError
from interp.models import load_model, wrap
from interp.pair import ModelPair
from tests.families import FAMILIES, build
from tests.interp.test_pair import batch_of, everything, make_adapter, same

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return make_adapter(tmp_path_factory.mktemp("adapter") / "a")


@pytest.fixture
def copy(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "copy")


def change(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def logits(lm, batch):
    with torch.no_grad():
        return lm.model(**batch.inputs).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_peft(family, dtype, tmp_path):
    from peft import PeftModel

    folder = make_adapter(tmp_path, family, use_rslora=True, r=4)
    theirs = PeftModel.from_pretrained(build(family).model.to(dtype), folder)
    lm = build(family)
    lm = wrap(lm.model.to(dtype), lm.tokenizer, lm.name)
    batch = batch_of(lm)
    with torch.no_grad():
        expected = theirs(**batch.inputs).logits
        mixed = theirs.eval()(**batch.inputs, adapter_names=["default", "__base__"] * 2).logits
    with ModelPair(lm) as pair:
        pair.add("a", folder)
        with pair.using("a") as tuned:
            assert torch.equal(logits(tuned, batch), expected)
        with pair.rows(["a", "base"] * 2) as rows:
            assert torch.equal(logits(rows, batch), mixed)
            if dtype == torch.float32:
                assert torch.equal(mixed[::2], expected[::2])


@pytest.mark.parametrize("rslora", [False, True])
def test_scale_is_alpha_over_rank_or_over_its_root(lm, tmp_path, rslora):
    """W + s B A by hand, s of one module by its own rank and alpha."""
    patterns = {"rank_pattern": {"layers.1.mlp.down_proj": 9}, "alpha_pattern": {"layers.1.mlp.down_proj": 6}}
    make_adapter(tmp_path, r=4, lora_alpha=8, use_rslora=rslora, **patterns)
    merged = build("llama")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for key, a in tensors.items():
        if ".lora_A." in key:
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            rank, alpha = (9, 6) if path == "model.layers.1.mlp.down_proj" else (4, 8)
            assert a.shape[0] == rank
            scale = alpha / (rank**0.5 if rslora else rank)
            merged.model.get_submodule(path).weight.data += scale * tensors[key.replace("lora_A", "lora_B")] @ a
    batch = batch_of(lm)
    with ModelPair(lm) as pair:
        pair.add("a", tmp_path)
        with pair.using("a") as tuned:
            torch.testing.assert_close(logits(tuned, batch), logits(merged, batch), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_a_base_whose_weights_wait_on_disk(family, tmp_path):
    lm = build(family)
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    folder = make_adapter(tmp_path / "a", family)
    batch = batch_of(lm)
    names = ["a", "base", "a", "base"]
    found = []
    for base in (lm, load_model(tmp_path / "base", device_map={"": "disk"})):
        with ModelPair(base) as pair:
            pair.add("a", folder)
            with pair.using("a") as tuned:
                one = everything(tuned, batch)
            with pair.rows(names) as mixed:
                found.append([*one, *everything(mixed, batch)])
        found[-1] += everything(base, batch)
    assert same(*found)
    assert not torch.equal(found[0][1], found[0][-1])


def test_what_an_adapter_is_stands_beside_the_model(lm, adapter):
    def sha(data):
        return hashlib.sha256(data).hexdigest()

    files = [adapter / "adapter_config.json", adapter / "adapter_model.safetensors"]
    with ModelPair(lm) as pair:
        pair.add("a", adapter)
        info = pair.adapter("a")
        assert (info.source, info.revision, info.base, info.matched) == (str(adapter), None, None, "shapes")
        assert info.digest == sha("".join(sha(file.read_bytes()) for file in files).encode())
        assert pair.adapter("base") is None
        with pair.using("a") as tuned:
            assert tuned.adapter == info
            with pair.using("base") as base:
                assert base.adapter is None
        with pytest.raises(AnachronError, match=r"unknown adapters \['b'\]"):
            pair.adapter("b")
    assert lm.adapter is None


def test_mixtures_are_told_apart_from_their_parts(lm, adapter, tmp_path):
    with ModelPair(lm) as pair:
        pair.add("a", adapter)
        pair.add("b", make_adapter(tmp_path, seed=2))
        digests = {pair.adapter("a").digest, pair.adapter("b").digest}
        for names in (["a", "b"], ["b", "a"], ["a", "base"], ["a"], ["base"]):
            with pair.rows(names) as mixed:
                digests.add(mixed.adapter.digest)
        assert len(digests) == 7


def of_base(lm, name, revision=None):
    return replace(lm, name=name, revision=revision)


def test_another_base_is_refused_by_name(lm, copy):
    change(copy, base_model_name_or_path="someone/Base-8B")
    base = of_base(lm, "someone/Base-8B-Instruct", COMMIT)
    with ModelPair(base) as pair:
        with pytest.raises(AnachronError, match=r"tuned on someone/Base-8B, and the base is someone/Base-8B-Instruct;"):
            pair.add("a", copy)
        assert pair.names == ("base",)
        pair.add("a", copy, check_base=False)
        assert (pair.adapter("a").base, pair.adapter("a").matched) == ("someone/Base-8B", "shapes")


@pytest.mark.parametrize(
    ("named", "base", "matched"),
    [
        ("someone/Base-8B", "someone/base-8b", "name"),
        ("almanac", "almanac", "name"),
        ("someone/Base-8B", "a folder", "shapes"),
        ("someone/Base-8B", "a snapshot of someone/Base-8B", "name"),
        ("someone/Base-8B", "a snapshot of someone/else", None),
        ("outputs/run/3", "someone/Base-8B", "shapes"),
        (None, "someone/Base-8B", "shapes"),
    ],
)
def test_bases_are_compared_as_far_as_they_have_names(lm, copy, tmp_path, named, base, matched):
    change(copy, base_model_name_or_path=named)
    if base.startswith("a "):
        repository = base.removeprefix("a snapshot of ").replace("/", "--")
        folder = tmp_path / f"models--{repository}" / "snapshots" / COMMIT if "--" in repository else tmp_path / "base"
        folder.mkdir(parents=True)
        base = str(folder)
    with ModelPair(of_base(lm, base, COMMIT if base.startswith("someone") else None)) as pair:
        if matched is None:
            with pytest.raises(AnachronError, match="tuned on someone/Base-8B, and the base is someone/else"):
                pair.add("a", copy)
        else:
            pair.add("a", copy)
            assert pair.adapter("a").matched == matched


def test_cached_hub_id_loads_offline_and_keeps_its_commit(lm, adapter, tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--tuned"
    shutil.copytree(adapter, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with ModelPair(lm) as pair:
        pair.add("a", adapter)
        pair.add("b", "someone/tuned")
        pair.add("c", "someone/tuned", COMMIT)
        for name in ("b", "c"):
            assert (pair.adapter(name).source, pair.adapter(name).revision) == ("someone/tuned", COMMIT)
            assert pair.adapter(name).digest == pair.adapter("a").digest
        with pytest.raises(AnachronError, match="only hub ids have revisions"):
            pair.add("d", adapter, "main")


def test_hub_id_without_network_fails_at_once(lm):
    begin = time.perf_counter()
    with ModelPair(lm) as pair, pytest.raises(AnachronError, match=r"'nobody/nothing' is not a local folder.*log in"):
        pair.add("a", "nobody/nothing")
    assert time.perf_counter() - begin < 5


def test_pickles_and_whole_models_are_refused(lm, copy):
    with ModelPair(lm) as pair:
        (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
        with pytest.raises(
            AnachronError, match=r"a pickle \(adapter_model\.bin\), which can run code.*save_pretrained"
        ):
            pair.add("a", copy)
        (copy / "adapter_config.json").rename(copy / "config.json")
        with pytest.raises(AnachronError, match="a whole model, no adapter; load it with load_model"):
            pair.add("a", copy)
        with pytest.raises(AnachronError, match="no such folder"):
            pair.add("a", "./nowhere")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', so it goes with a base whose weights were changed"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "it sets layer_replication; only plain LoRA is read"),
        ({"alora_invocation_tokens": [1, 2]}, "it sets alora_invocation_tokens"),
        ({"r": -1}, "peft can't"),
    ],
)
def test_more_than_lora_is_refused(lm, copy, fields, message):
    change(copy, **fields)
    batch = batch_of(lm)
    before = logits(lm, batch)
    with ModelPair(lm) as pair, pytest.raises(AnachronError, match=message):
        pair.add("a", copy)
    assert torch.equal(logits(lm, batch), before)


@pytest.mark.parametrize("start", ["gaussian", "eva", False, True])
def test_how_training_began_makes_no_difference(lm, adapter, copy, start):
    change(copy, init_lora_weights=start)
    batch = batch_of(lm)
    with ModelPair(lm) as pair:
        pair.add("a", adapter)
        pair.add("b", copy)
        with pair.using("a") as a:
            expected = logits(a, batch)
        with pair.using("b") as b:
            assert torch.equal(logits(b, batch), expected)
