"""ModelPair: one copy of weights, exact switching, restoring, refusing."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.capture import capture_pair
from interp.errors import AnachronError
from interp.hooks import HookPoint, edit, record
from interp.pair import ModelPair
from interp.positions import ALL
from interp.prompts import encode_prompt, pad
from tests.families import FAMILIES, build

PROMPTS = ("Name a bird.", "How many states are there?", "Who rules?", "The year is 1849. What is new?")


def make_adapter(folder, family="llama", seed=1, n_layers=3, d_model=32, **config):
    """A LoRA adapter with random A and B, as peft writes it."""
    from peft import LoraConfig, get_peft_model

    lm = build(family, n_layers=n_layers, d_model=d_model)
    if family == "gpt2":
        config["fan_in_fan_out"] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = get_peft_model(
            lm.model,
            LoraConfig(**{"r": 2, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return [make_adapter(folder / f"a{seed}", seed=seed) for seed in (1, 2)]


def batch_of(lm, prompts=PROMPTS):
    return pad([encode_prompt(lm, p) for p in prompts], lm.pad_id)


def everything(lm, batch):
    """Logits and every residual stream."""
    points = [HookPoint(i) for i in range(lm.n_layers)]
    with torch.no_grad(), record(lm, points) as found:
        logits = lm.model(**batch.inputs).logits
    return torch.stack([found[p] for p in points]), logits


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_equal_separate_runs_and_base_is_exact_on_every_family(family, tmp_path):
    lm = build(family)
    batch = batch_of(lm)
    plain = everything(lm, batch)
    state = {k: v.clone() for k, v in lm.model.state_dict().items()}
    with ModelPair(lm) as pair:
        for seed in (1, 2):
            pair.add(f"tuned-{seed}", make_adapter(tmp_path / str(seed), family, seed))
        assert pair.names == ("base", "tuned-1", "tuned-2")
        assert same(everything(lm, batch), plain)
        with pair.using("base") as base:
            assert same(everything(base, batch), plain)
        separate = {"base": plain}
        for name in ("tuned-1", "tuned-2"):
            with pair.using(name) as tuned:
                separate[name] = everything(tuned, batch)
            assert not same(separate[name], plain)
        names = ["base", "tuned-2", "tuned-1", "base"]
        with pair.rows(names) as mixed:
            residual, logits = everything(mixed, batch)
        for i, name in enumerate(names):
            torch.testing.assert_close(residual[:, i], separate[name][0][:, i], rtol=0, atol=0, msg=f"{family} {name}")
            torch.testing.assert_close(logits[i], separate[name][1][i], rtol=0, atol=0)
        assert not any(p.requires_grad for p in lm.model.parameters())
        assert same(everything(lm, batch), plain)
    after = lm.model.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[k], state[k]) for k in state)
    assert same(everything(lm, batch), plain)


@pytest.fixture
def pair(lm, adapters):
    with ModelPair(lm) as pair:
        pair.add("a", adapters[0])
        pair.add("b", adapters[1])
        yield pair


def test_adapters_equal_a_merged_copy(lm, adapters):
    """Independent: W + scale B A written into the weights of a plain model by hand."""
    merged = build("llama")
    scale = json.loads((adapters[0] / "adapter_config.json").read_text())["lora_alpha"] / 2
    tensors = load_file(adapters[0] / "adapter_model.safetensors")
    for key, a in tensors.items():
        if ".lora_A." in key:
            path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            merged.model.get_submodule(path).weight.data += scale * tensors[key.replace("lora_A", "lora_B")] @ a
    batch = batch_of(lm)
    with ModelPair(lm) as pair:
        pair.add("a", adapters[0])
        with pair.using("a") as tuned:
            assert tuned.name == "tiny-llama+a"
            torch.testing.assert_close(everything(tuned, batch), everything(merged, batch), atol=2e-4, rtol=1e-4)


def test_base_rows_are_the_plain_model_in_any_mixture(pair, lm):
    plain = everything(build("llama"), batch_of(lm))
    for names in (["base"] * 4, ["a", "base", "b", "base"], ["base", "a", "a", "a"]):
        with pair.rows(names) as mixed:
            residual, logits = everything(mixed, batch_of(lm))
        for i, name in enumerate(names):
            assert torch.equal(logits[i], plain[1][i]) == (name == "base")
            assert torch.equal(residual[:, i], plain[0][:, i]) == (name == "base")


def test_generation_in_mixed_rows(pair, lm):
    batch = batch_of(lm)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": lm.pad_id}
    separate = {}
    for name in pair.names:
        with pair.using(name) as one:
            separate[name] = one.model.generate(**inputs, **options)
    names = ["b", "base", "a", "b"]
    with pair.rows(names) as mixed:
        together = mixed.model.generate(**inputs, **options)
    for i, name in enumerate(names):
        assert torch.equal(together[i], separate[name][i])
    assert not torch.equal(separate["a"], separate["base"])


def test_layers_below_an_adapter_are_exactly_the_bases(lm, tmp_path):
    make_adapter(tmp_path, target_modules=["down_proj"], layers_to_transform=[1])
    batch = batch_of(lm)
    plain = everything(lm, batch)[0]
    with ModelPair(lm) as pair:
        pair.add("a", tmp_path)
        with pair.using("a") as tuned:
            changed = everything(tuned, batch)[0]
    assert torch.equal(changed[0], plain[0])
    assert not torch.equal(changed[1], plain[1])


def test_state_is_restored_after_exceptions_and_nesting(pair, lm):
    batch = batch_of(lm)
    plain = everything(lm, batch)
    with pair.using("a") as a:
        tuned = everything(a, batch)
        with pytest.raises(ZeroDivisionError), pair.using("b"):
            raise ZeroDivisionError
        assert same(everything(a, batch), tuned)
        with pair.using("base") as base:
            assert same(everything(base, batch), plain)
        with pytest.raises(ZeroDivisionError), pair.rows(["base"] * 4) as rows:
            assert same(everything(rows, batch), plain)
            raise ZeroDivisionError
        assert same(everything(a, batch), tuned)
    with pytest.raises(ZeroDivisionError), pair.rows(["a"] * 4) as rows:
        assert same(everything(rows, batch), tuned)
        raise ZeroDivisionError
    assert same(everything(lm, batch), plain)
    assert not any(p.requires_grad for p in lm.model.parameters())


def test_hooks_work_the_same_under_rows(pair, lm):
    """An edit of base rows only, in a mixed batch, equals the edit in the base alone."""
    batch = batch_of(lm)
    v = torch.linspace(-1, 1, lm.d_model)
    with torch.no_grad(), edit(lm, {HookPoint(1): lambda x, offset: x + v}):
        alone = lm.model(**batch.inputs).logits
        with pair.rows(["base", "a", "base", "b"]) as mixed:
            together = mixed.model(**batch.inputs).logits
    assert torch.equal(together[0], alone[0])
    assert torch.equal(together[2], alone[2])
    assert not torch.equal(together[1], alone[1])


def test_memory_of_a_pair_is_that_of_one_model(adapters):
    """Bytes of distinct storages; a tiny model's adapter weighs relatively most, so this bounds larger ones."""

    def size(lm):
        storages = {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in lm.model.state_dict().values()
        }
        return sum(storages.values())

    lm = build("llama", d_model=64, n_layers=4)
    with ModelPair(lm) as pair:
        before = size(lm)
        weight = lm.model.model.embed_tokens.weight
        from_disk = make_adapter(adapters[0].parent / "wide", d_model=64, n_layers=4, r=1)
        pair.add("a", from_disk)
        with pair.using("a") as tuned:
            assert tuned.model is lm.model
            assert tuned.model.model.embed_tokens.weight is weight
        assert before < size(lm) <= 1.1 * before


def test_global_random_state_is_left_alone(lm, adapters):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with ModelPair(lm) as pair:
        pair.add("a", adapters[0])
    assert torch.equal(torch.rand(3), expected)


def test_names_are_checked(pair, adapters):
    for name in ("a", "base", "", "x.y", "__base__"):
        with pytest.raises(AnachronError, match="is taken, empty or holds a dot"):
            pair.add(name, adapters[0])
    with pytest.raises(AnachronError, match=r"unknown adapters \['c'\]; the pair has base, a, b"), pair.using("c"):
        pass
    with pytest.raises(AnachronError, match="unknown adapters"), pair.rows(["a", "c"]):
        pass


def test_misuse_is_refused(pair, lm, adapters):
    with pair.rows(["a", "b"]):
        with pytest.raises(AnachronError, match="inside `rows`"), pair.using("a"):
            pass
        with pytest.raises(AnachronError, match="`rows` inside `rows`"), pair.rows(["a"]):
            pass
        with pytest.raises(AnachronError, match="inside `using` or `rows`"):
            pair.add("c", adapters[0])
        with pytest.raises(AnachronError, match="leave them first"):
            pair.remove()
    with pytest.raises(AnachronError, match="hasn't the 3 rows it names"), pair.rows(["a", "b", "base"]) as mixed:
        everything(mixed, batch_of(lm))
    with pytest.raises(AnachronError, match="already carries adapters"):
        ModelPair(lm)


def test_a_pair_without_adapters_is_the_base(lm):
    pair = ModelPair(lm)
    batch = batch_of(lm)
    with pair.using("base") as base, pair.rows(["base"] * 4) as rows:
        assert same(everything(base, batch), everything(rows, batch))
    pair.remove()
    assert pair.names == ("base",)


def test_adapters_can_be_added_anew_after_removal(lm, adapters):
    batch = batch_of(lm)
    found = []
    for _ in range(2):
        with ModelPair(lm) as pair:
            pair.add("a", adapters[0])
            with pair.using("a") as tuned:
                found.append(everything(tuned, batch))
    assert same(*found)


def copied(adapters, tmp_path):
    return shutil.copytree(adapters[0], tmp_path / "copy")


def refused(lm, folder, message):
    """Refused with this message, and the model is as it was."""
    batch = batch_of(lm)
    plain, keys = everything(lm, batch), list(lm.model.state_dict())
    with ModelPair(lm) as pair:
        with pytest.raises(AnachronError, match=message):
            pair.add("bad", folder)
        assert pair.names == ("base",)
        assert list(lm.model.state_dict()) == keys
        assert same(everything(lm, batch), plain)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"d_model": 64, "target_modules": ["q_proj"]},
            r"has 64 inputs in the adapter and 32 in tiny-llama \(d_model 32\)",
        ),
        ({"n_layers": 4}, r"made for a module 'model\.layers\.3\..*' that tiny-llama \(3 layers\) doesn't have"),
        ({"n_layers": 2, "target_modules": ["down_proj"]}, "the weights disagree"),
        ({"family": "gpt2"}, "made for a module 'transformer"),
    ],
)
def test_adapters_for_another_base_are_refused(lm, tmp_path, shape, message):
    refused(lm, make_adapter(tmp_path, **shape), message)


def test_damaged_adapters_are_refused(lm, adapters, tmp_path):
    refused(lm, tmp_path / "nowhere", "no such folder")
    folder = copied(adapters, tmp_path)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    refused(lm, folder, r"adapter_model\.safetensors: not a whole safetensors file")
    weights.write_bytes(whole)
    tensors = load_file(weights)
    name = next(iter(tensors))
    tensors[name][0, 0] = float("nan")
    save_file(tensors, weights)
    refused(lm, folder, f"tensor '{name}' holds 1 NaN")
    (folder / "adapter_config.json").write_text('{"peft_type"')
    refused(lm, folder, r"adapter_config\.json:1: not JSON")
    weights.unlink()
    refused(lm, folder, r"adapter_model\.safetensors: no such file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"r": 3}, "can't take these weights"),
        ({"target_modules": ["q_proj"]}, "the weights disagree"),
        ({"target_modules": ["no_such_part"]}, "peft can't place it"),
    ],
)
def test_configs_that_do_not_fit_the_weights_are_refused(lm, adapters, tmp_path, changes, message):
    folder = copied(adapters, tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    refused(lm, folder, message)


def test_adapters_that_are_not_plain_lora_are_refused(lm, tmp_path):
    refused(lm, make_adapter(tmp_path / "dora", use_dora=True), "isn't a LoRA matrix of a linear layer")
    refused(lm, make_adapter(tmp_path / "saved", modules_to_save=["norm"]), "isn't a LoRA matrix of a linear layer")


def test_a_bad_adapter_leaves_the_good_ones(pair, lm, tmp_path):
    batch = batch_of(lm)
    with pair.using("a") as a:
        before = everything(a, batch)
    with pytest.raises(AnachronError):
        pair.add("bad", make_adapter(tmp_path, n_layers=2, target_modules=["down_proj"]))
    assert pair.names == ("base", "a", "b")
    assert same(everything(lm, batch), everything(build("llama"), batch))
    with pair.using("a") as a:
        assert same(everything(a, batch), before)


def test_an_adapter_may_be_called_by_a_number(lm, tmp_path):
    """As a layer is: it isn't mistaken for one in the paths of the model's weights."""
    with ModelPair(lm) as pair:
        pair.add("1", make_adapter(tmp_path / "one"))
        pair.add("x", make_adapter(tmp_path / "again"))
        assert pair.adapter("1").digest == pair.adapter("x").digest
        prompts = [encode_prompt(lm, "Name a light.")]
        found = capture_pair(pair, ("1", "x"), prompts, [HookPoint(1)], ALL)
        assert torch.equal(found["1"][HookPoint(1)], found["x"][HookPoint(1)])
