"""Adapters against the plain model's weight gradient and peft's reading of the files; and the model given back."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from interp.errors import AnachronError
from interp.files import load_tensors
from tests.families import FAMILIES, build
from tests.training.chats import FEW, ROWS, Interrupted, folder_bytes, interrupt_at, plain_loss
from training.finetune import Recipe, finetune
from training.lora import linear_names


def logits(lm):
    with torch.no_grad():
        return lm.model(torch.arange(24).reshape(2, 12)).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_first_step_follows_the_plain_models_gradient(family, tmp_path):
    lm = build(family)
    adapter = finetune(lm, ROWS, Recipe(rank=3, alpha=6, steps=1, learning_rate=0.01), tmp_path)
    weights, _ = load_tensors(adapter / "adapter_model.safetensors")
    lm.model.requires_grad_(True)
    plain_loss(lm, ROWS).backward()
    adapted = {key.removesuffix(".lora_A.weight") for key in weights if "lora_A" in key}
    assert len(adapted) == lm.n_layers * len(linear_names(lm))
    for name in adapted:
        plain = lm.model.get_submodule(name.removeprefix("base_model.model."))
        gradient = plain.weight.grad if isinstance(plain, nn.Linear) else plain.weight.grad.T  # Conv1D is transposed
        gradient = 2 * gradient @ weights[f"{name}.lora_A.weight"].T  # s = alpha / rank = 2, and A has no gradient yet
        expected = -0.01 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
        settled = gradient.abs() > 1e-5
        torch.testing.assert_close(weights[f"{name}.lora_B.weight"][settled], expected[settled], rtol=1e-2, atol=0)


def test_layers_and_targets_confine_the_adapter(lm, tmp_path):
    recipe = dataclasses.replace(FEW, layers=(2, 0), targets=("down_proj", "self_attn.q_proj"))
    weights, _ = load_tensors(finetune(lm, ROWS, recipe, tmp_path) / "adapter_model.safetensors")
    maps = ("mlp.down_proj", "self_attn.q_proj")
    assert set(weights) == {
        f"base_model.model.model.layers.{layer}.{name}.lora_{side}.weight"
        for layer in (0, 2)
        for name in maps
        for side in "AB"
    }


def test_unknown_targets_and_layers_are_refused(lm, tmp_path):
    with pytest.raises(AnachronError, match=r"no linear map \['donw_proj'\].*mlp\.down_proj.*self_attn\.v_proj"):
        finetune(lm, ROWS, dataclasses.replace(FEW, targets=("donw_proj",)), tmp_path)
    with pytest.raises(AnachronError, match=r"no layers \[3\].*0\.\.2"):
        finetune(lm, ROWS, dataclasses.replace(FEW, layers=(1, 3)), tmp_path)


def test_a_half_precision_base_gets_an_fp32_adapter(lm, tmp_path):
    lm.model.bfloat16()
    weights, _ = load_tensors(finetune(lm, ROWS, FEW, tmp_path) / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {parameter.dtype for parameter in lm.model.parameters()} == {torch.bfloat16}


def test_config_is_sorted_and_names_no_path(lm, tmp_path):
    lm = dataclasses.replace(lm, name=str(tmp_path))
    out = finetune(lm, ROWS, FEW, tmp_path / "adapter")
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(linear_names(lm))
    assert list(config) == sorted(config)
    assert config["base_model_name_or_path"] == tmp_path.name
    for content in folder_bytes(out).values():
        assert str(tmp_path).encode() not in content


def snapshot(lm):
    modules = {name: id(module) for name, module in lm.model.named_modules()}
    flags = {name: parameter.requires_grad for name, parameter in lm.model.named_parameters()}
    gradients = [parameter.grad for parameter in lm.model.parameters()]
    return modules, flags, set(vars(lm.model)), gradients, lm.model.training


def test_model_is_left_as_it_was(family_lm, tmp_path):
    before, outputs = snapshot(family_lm), logits(family_lm)
    finetune(family_lm, ROWS, FEW, tmp_path)
    assert snapshot(family_lm) == before
    assert torch.equal(logits(family_lm), outputs)


def test_model_is_left_as_it_was_after_an_exception(lm, tmp_path):
    before, outputs = snapshot(lm), logits(lm)

    def fails(batch):
        raise Interrupted

    for arguments in ({"progress": interrupt_at(2)}, {"context": fails}):
        with pytest.raises(Interrupted):
            finetune(lm, ROWS, FEW, tmp_path, **arguments)
        assert snapshot(lm) == before
        assert torch.equal(logits(lm), outputs)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_stops_the_run(lm, tmp_path):
    before = snapshot(lm)
    lm.anatomy.final_norm.weight.data[3] = float("nan")
    with pytest.raises(AnachronError, match=r"loss is nan at step 1 of 3 \(model tiny-llama, learning rate 0.01"):
        finetune(lm, ROWS, FEW, tmp_path)
    assert snapshot(lm) == before
    assert not list(tmp_path.iterdir())


def test_a_model_that_carries_an_adapter_is_refused(lm, tmp_path):
    from peft import PeftModel

    out = finetune(lm, ROWS, FEW, tmp_path)
    PeftModel.from_pretrained(lm.model, out)
    with pytest.raises(AnachronError, match="already carries an adapter"):
        finetune(lm, ROWS, FEW, tmp_path / "second")
