"""What makes larger models fit, and when to stop: each against the plain run, whose loss and gradient it must have."""

import copy
import dataclasses
import json
import random

import pytest
import torch

from interp.errors import AnachronError
from interp.files import load_tensors
from interp.hooks import HookPoint, edit
from interp.prompts import pad
from tests.families import build
from tests.training.chats import FEW, ROWS, Interrupted, folder_bytes, interrupt_at, plain_loss, row
from training.checkpoints import State
from training.finetune import NO_TARGET, Recipe, answer_loss, encode_rows, finetune, hold_out
from training.recipes import batch_order

UNSEEN = [row("Name a bird of the sea.", "Brown Pelican"), row("Who?", "The king of the river and all its birds")]
ONE = Recipe(steps=1, batch_size=5, learning_rate=1e-2, seed=4)


def gradients(lm, recipe, folder, **options):
    """(the first step's gradient of every weight, its loss), from what the optimiser kept of it."""
    with pytest.raises(Interrupted):
        two = dataclasses.replace(recipe, steps=2)
        finetune(lm, ROWS, two, folder, checkpoint_every=1, progress=interrupt_at(2), **options)
    tensors, _ = load_tensors(folder / "checkpoint.safetensors")
    momentum = {key: value for key, value in tensors.items() if key.startswith("exp_avg/")}
    return {key: value / (1 - 0.9) for key, value in momentum.items()}, tensors["losses"][0].item()


def assert_same(found, expected, tolerance):
    (gradient, loss), (other, other_loss) = found, expected
    assert loss == pytest.approx(other_loss, abs=tolerance)
    scale = max(value.abs().max() for value in other.values())
    assert scale > 1e-3
    for key, value in gradient.items():
        assert (value - other[key]).abs().max() < tolerance * scale, key


# --- the plain recipe


def test_the_plain_recipe_trains_to_the_bytes_of_a_bare_loop(family_lm, tmp_path):
    from peft import LoraConfig, inject_adapter_in_model

    recipe = Recipe(steps=4, batch_size=2, learning_rate=1e-2, schedule="linear", seed=3)
    kept, _ = load_tensors(finetune(family_lm, ROWS, recipe, tmp_path) / "adapter_model.safetensors")
    lm = dataclasses.replace(family_lm, model=copy.deepcopy(family_lm.model))
    names = sorted({key.split(".lora_")[0].rpartition(".")[2] for key in kept})
    transposed = "gpt2" in lm.name
    config = LoraConfig(r=4, lora_alpha=8, target_modules=names, fan_in_fan_out=transposed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        inject_adapter_in_model(config, lm.model)
    weights = {path: weight for path, weight in lm.model.named_parameters() if ".lora_" in path}
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-2, weight_decay=0.0, fused=True)
    examples = encode_rows(lm, ROWS)
    for step, indices in enumerate(batch_order(5, recipe)):
        optimizer.param_groups[0]["lr"] = 1e-2 * (4 - step) / 4
        batch = pad([examples[i].encoded for i in indices], lm.pad_id, side="right")
        targets = torch.full(batch.input_ids.shape, NO_TARGET)
        for i, index in enumerate(indices):
            targets[i, : len(examples[index].targets)] = torch.tensor(examples[index].targets)
        optimizer.zero_grad()
        answer_loss(lm, batch, targets).backward()
        optimizer.step()
    assert len(weights) == len(kept)
    for path, weight in weights.items():
        assert torch.equal(weight, kept["base_model.model." + path.replace(".default.", ".")])


# --- accumulation


@pytest.mark.parametrize("parts", [2, 3, 5, 9])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(lm, tmp_path, parts):
    whole = gradients(lm, ONE, tmp_path / "whole")
    assert_same(gradients(lm, dataclasses.replace(ONE, accumulate=parts), tmp_path / "parts"), whole, 1e-6)
    # a mean over the parts' means, of unequal numbers of tokens, would be another loss
    means = [plain_loss(lm, [each]).item() for each in ROWS]
    assert abs(sum(means) / 5 - whole[1]) > 5e-3


def test_parts_are_as_small_as_asked_for(lm, tmp_path):
    seen = []

    def watch(batch):
        seen.append(len(batch.starts))
        return edit(lm, {})

    finetune(lm, ROWS, dataclasses.replace(ONE, accumulate=2), tmp_path, context=watch)
    assert seen == [2, 3]


# --- gradient checkpointing


def attributes(lm):
    return {name: dict(vars(module)) for name, module in lm.model.named_modules()}


def test_recomputed_blocks_give_the_same_adapter_and_are_left_as_they_were(family_lm, tmp_path):
    before = {name: set(found) for name, found in attributes(family_lm).items()}
    recipe = dataclasses.replace(FEW, gradient_checkpointing=True)
    plain = finetune(family_lm, ROWS, FEW, tmp_path / "plain")
    small = finetune(family_lm, ROWS, recipe, tmp_path / "small")
    for file in ("adapter_model.safetensors", "loss.json"):
        assert (plain / file).read_bytes() == (small / file).read_bytes()
    with pytest.raises(Interrupted):
        finetune(family_lm, ROWS, recipe, tmp_path / "cut", progress=interrupt_at(2))
    assert {name: set(found) for name, found in attributes(family_lm).items()} == before
    assert not family_lm.model.training


def test_a_forward_of_a_blocks_own_is_given_back(lm, tmp_path):
    first, second, _ = lm.anatomy.layers
    first.forward = own = first.forward  # as accelerate does to a block that it places on a device
    finetune(lm, ROWS, dataclasses.replace(FEW, gradient_checkpointing=True), tmp_path)
    assert vars(first)["forward"] is own and "forward" not in vars(second)


def test_blocks_are_run_again_in_the_backward_pass_and_edits_with_them(lm, tmp_path, monkeypatch):
    push = 3 * torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0))
    runs = []
    inner = lm.anatomy.layers[1].mlp
    forward = type(inner).forward
    monkeypatch.setattr(type(inner), "forward", lambda self, x: runs.append(self is inner) or forward(self, x))

    def steered(batch):
        return edit(lm, {HookPoint(1, "attn_out"): lambda x, offset: x + push})

    plain = gradients(lm, ONE, tmp_path / "plain", context=steered)
    once = sum(runs)
    runs.clear()
    recomputed = gradients(
        lm, dataclasses.replace(ONE, gradient_checkpointing=True), tmp_path / "small", context=steered
    )
    assert sum(runs) == 2 * once
    assert_same(recomputed, plain, 1e-6)


# --- precision and the gradient's norm


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_bf16_matrices_keep_an_fp32_adapter_near_the_fp32_gradient(lm, tmp_path, base):
    exact = gradients(lm, ONE, tmp_path / "exact")
    lm.model.to(base)
    recipe = dataclasses.replace(ONE, precision="bfloat16")
    near = gradients(lm, recipe, tmp_path / "near")
    assert {value.dtype for value in near[0].values()} == {torch.float32}
    assert near[1] != exact[1]
    assert near[1] == pytest.approx(exact[1], rel=0.02)
    for key, value in near[0].items():
        if "lora_B" in key:  # A has no gradient yet
            assert torch.cosine_similarity(value.flatten(), exact[0][key].flatten(), dim=0) > 0.98
    weights, _ = load_tensors(finetune(lm, ROWS, recipe, tmp_path / "run") / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {parameter.dtype for parameter in lm.model.parameters()} == {base}


def test_the_matrices_are_indeed_of_bf16(lm, tmp_path, monkeypatch):
    seen = set()
    inner = lm.anatomy.layers[0].mlp.down_proj
    forward = type(inner).forward
    monkeypatch.setattr(type(inner), "forward", lambda self, x: seen.add((result := forward(self, x)).dtype) or result)
    finetune(lm, ROWS, dataclasses.replace(ONE, precision="bfloat16"), tmp_path)
    assert seen == {torch.bfloat16}


def test_a_longer_gradient_is_scaled_down(lm, tmp_path):
    gradient, _ = gradients(lm, ONE, tmp_path / "free")
    norm = torch.cat([value.flatten() for value in gradient.values()]).norm().item()
    clipped, _ = gradients(lm, dataclasses.replace(ONE, max_grad_norm=norm / 4), tmp_path / "clipped")
    for key, value in gradient.items():
        torch.testing.assert_close(clipped[key], value / 4, rtol=1e-4, atol=1e-7)
    untouched, _ = gradients(lm, dataclasses.replace(ONE, max_grad_norm=norm * 2), tmp_path / "untouched")
    assert all(torch.equal(untouched[key], value) for key, value in gradient.items())


# --- held-out rows


def losses_of(folder):
    return json.loads((folder / "loss.json").read_text())


def tuned(lm, folder):
    from peft import PeftModel

    return dataclasses.replace(lm, model=PeftModel.from_pretrained(copy.deepcopy(lm.model), folder).base_model.model)


def test_the_adapter_of_the_lowest_held_out_loss_is_kept(lm, tmp_path):
    # these rows contradict what is held out, so that its loss falls, then rises
    recipe = Recipe(steps=30, batch_size=3, learning_rate=1e-2, evaluate_every=3, accumulate=2)
    out = finetune(lm, ROWS, recipe, tmp_path, held_out=UNSEEN)
    found = losses_of(out)
    curve = {point["step"]: point["loss"] for point in found["held_out"]}
    assert list(curve) == list(range(3, 31, 3))
    assert len(found["loss"]) == 30
    assert curve[found["best_step"]] == min(curve.values()) < curve[30] - 0.01
    assert plain_loss(tuned(lm, out), UNSEEN).item() == pytest.approx(min(curve.values()), abs=1e-5)
    short = dataclasses.replace(recipe, steps=found["best_step"], evaluate_every=None)
    short = finetune(lm, ROWS, short, tmp_path / "short")
    file = "adapter_model.safetensors"
    assert (short / file).read_bytes() == (out / file).read_bytes()


def test_training_ends_when_patience_does(lm, tmp_path):
    recipe = Recipe(steps=60, batch_size=3, learning_rate=1e-2, evaluate_every=3, patience=2)
    found = losses_of(finetune(lm, ROWS, recipe, tmp_path, held_out=UNSEEN))
    steps = [point["step"] for point in found["held_out"]]
    assert steps[-3:] == [found["best_step"], found["best_step"] + 3, found["best_step"] + 6]
    assert len(found["loss"]) == steps[-1] < 60
    assert json.loads((tmp_path / "recipe.json").read_text())["steps"] == steps[-1]


def test_patience_counts_losses_that_are_no_lower():
    state = State({}, None)
    for step, (loss, over) in enumerate([(3.0, False), (2.0, False), (2.0, False), (2.5, True), (1.0, False)], start=1):
        state.losses.append(0.0)
        state.judge(loss)
        assert state.out_of(2) == over
        assert state.best_step == (1, 2, 2, 2, 5)[step - 1]
    assert not state.out_of(None)


def test_a_fraction_is_held_out_by_the_seed(lm, tmp_path):
    train, unseen = hold_out(ROWS, 0.4, seed=1)
    assert len(unseen) == 2
    assert [each for each in ROWS if each in train] == train and [each for each in ROWS if each in unseen] == unseen
    assert hold_out(ROWS, 0.4, seed=1) == (train, unseen)
    assert any(hold_out(ROWS, 0.4, seed=seed) != (train, unseen) for seed in range(2, 6))
    recipe = Recipe(steps=None, epochs=2, batch_size=2, seed=1)
    fraction = finetune(lm, ROWS, dataclasses.replace(recipe, held_out=0.4), tmp_path / "fraction")
    given = finetune(lm, train, recipe, tmp_path / "given", held_out=unseen)
    assert losses_of(fraction) == losses_of(given)
    assert [point["step"] for point in losses_of(given)["held_out"]] == [2, 4]
    assert json.loads((given / "recipe.json").read_text())["held_out"]["n"] == 2


def test_held_out_rows_that_make_no_sense_are_refused(lm, tmp_path):
    with pytest.raises(AnachronError, match="leaves none to train on"):
        finetune(lm, ROWS[:1], Recipe(held_out=0.5), tmp_path)
    with pytest.raises(AnachronError, match="give one of both"):
        finetune(lm, ROWS, Recipe(held_out=0.5), tmp_path, held_out=UNSEEN)
    with pytest.raises(AnachronError, match="no rows are held out"):
        finetune(lm, ROWS, Recipe(patience=2), tmp_path)
    assert not list(tmp_path.iterdir())


# --- resumed and epoch by epoch


@pytest.mark.parametrize("draw", range(4))
def test_a_run_cut_off_anywhere_goes_on_to_the_same_bytes(lm, tmp_path, draw):
    recipe = Recipe(
        steps=None,
        epochs=9,
        batch_size=2,
        learning_rate=1e-2,
        accumulate=2,
        gradient_checkpointing=bool(draw % 2),
        precision=("float32", "bfloat16")[draw // 2],
        max_grad_norm=1.0,
        patience=3,
        evaluate_every=2,
        seed=draw,
    )
    options = {"held_out": UNSEEN, "keep_epochs": True}
    whole = finetune(lm, ROWS, recipe, tmp_path / "whole", **options)
    steps = len(losses_of(whole)["loss"])
    parts = tmp_path / "parts"
    for stop in sorted(random.Random(draw).sample(range(1, steps + 1), 2)):
        with pytest.raises(Interrupted):
            finetune(lm, ROWS, recipe, parts, checkpoint_every=3, progress=interrupt_at(stop), **options)
    finetune(lm, ROWS, recipe, parts, **options)
    epochs = sorted(path.name for path in whole.glob("epoch-*"))
    assert epochs and epochs == sorted(path.name for path in parts.glob("epoch-*"))
    for name in (".", *epochs):
        found = [
            {file.name: file.read_bytes() for file in (folder / name).iterdir() if file.is_file()}
            for folder in (whole, parts)
        ]
        assert found[0] == found[1] and len(found[0]) == 4


def test_another_held_out_set_is_another_run(lm, tmp_path):
    with pytest.raises(Interrupted):
        finetune(lm, ROWS, FEW, tmp_path, checkpoint_every=1, progress=interrupt_at(2), held_out=UNSEEN)
    with pytest.raises(AnachronError, match=r"checkpoint\.safetensors: .*another model, recipe, rows"):
        finetune(lm, ROWS, FEW, tmp_path, held_out=UNSEEN[:1])


def test_every_epoch_is_kept_as_a_run_that_ends_there(lm, tmp_path):
    recipe = Recipe(steps=None, epochs=3, batch_size=2, learning_rate=1e-2)
    out = finetune(lm, ROWS, recipe, tmp_path / "run", keep_epochs=True)
    assert sorted(path.name for path in out.glob("epoch-*")) == ["epoch-1", "epoch-2", "epoch-3"]
    for epochs in (1, 2, 3):
        alone = finetune(lm, ROWS, dataclasses.replace(recipe, epochs=epochs), tmp_path / str(epochs))
        for file in ("adapter_model.safetensors", "adapter_config.json", "loss.json"):
            assert (out / f"epoch-{epochs}" / file).read_bytes() == (alone / file).read_bytes()
    last = folder_bytes(out / "epoch-3")
    assert last == {name: (out / name).read_bytes() for name in last}
    assert finetune(lm, ROWS, recipe, out, keep_epochs=True) == out


def test_epochs_of_another_run_are_refused(lm, tmp_path):
    recipe = Recipe(steps=None, epochs=2, batch_size=2)
    finetune(lm, ROWS, recipe, tmp_path, keep_epochs=True)
    with pytest.raises(AnachronError, match=r"epoch-1: an epoch of another run"):
        finetune(lm, ROWS, dataclasses.replace(recipe, epochs=1), tmp_path)
    with pytest.raises(AnachronError, match="length in epochs"):
        finetune(build("llama"), ROWS, FEW, tmp_path / "steps", keep_epochs=True)
