"""Fine-tuning against references by other paths: characters for the mask, single prefixes for the loss, peft itself for
the files, an uninterrupted run for a resumed one."""

import copy
import dataclasses
import json

import pytest
import torch

from interp.errors import AnachronError
from interp.hooks import HookPoint, edit
from tests.families import tokenizer
from tests.training.chats import FEW, ROWS, Interrupted, folder_bytes, interrupt_at, plain_loss, row
from training.finetune import NO_TARGET, Recipe, batch_order, encode_rows, finetune, learning_rate

# --- what is trained on


def test_targets_are_the_characters_of_assistant_turns(lm):
    for each, example in zip(ROWS, encode_rows(lm, ROWS), strict=True):
        text, answers = "<s>", []
        for message in each.messages:
            text += f"<|{message['role']}|>"
            start = len(text)
            text += f" {message['content']}<|end|>"
            if message["role"] == "assistant":
                answers.append((start, len(text)))
        encoding = tokenizer()(text, add_special_tokens=False, return_offsets_mapping=True)
        inside = [any(a <= begin and end <= b for a, b in answers) for begin, end in encoding["offset_mapping"]]
        assert example.encoded.ids == tuple(encoding["input_ids"])
        expected = [token if kept else NO_TARGET for token, kept in zip(encoding["input_ids"], inside, strict=True)]
        assert list(example.targets) == [*expected[1:], NO_TARGET]


def test_loss_is_the_mean_over_single_tokens(family_lm):
    nats = []
    for example in encode_rows(family_lm, ROWS):
        for position, target in enumerate(example.targets):
            if target != NO_TARGET:
                prefix = torch.tensor([example.encoded.ids[: position + 1]])
                with torch.no_grad():
                    nats.append(-family_lm.model(prefix).logits[0, -1].double().log_softmax(-1)[target])
    assert plain_loss(family_lm, ROWS).item() == pytest.approx(torch.stack(nats).mean().item(), abs=2e-5)


def with_template(lm, template):
    changed = copy.deepcopy(lm.tokenizer)
    changed.chat_template = template
    return dataclasses.replace(lm, tokenizer=changed)


def test_a_template_with_text_after_the_end_token(lm):
    chatml = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    example = encode_rows(with_template(lm, chatml), [ROWS[2]])[0]
    spoken = [token for token in example.targets if token != NO_TARGET]
    assert tokenizer().decode(spoken) == "There are thirty.<|end|>\nThe old queen rules it.<|end|>\n"


def test_a_template_that_rewrites_earlier_turns_is_refused(lm):
    forgets = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' and loop.last %} aloud{% endif %} {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|> aloud{% endif %}"
    )
    with pytest.raises(AnachronError, match=r"row 3: .*message 2 differently"):
        encode_rows(with_template(lm, forgets), ROWS)


def test_rows_that_do_not_fit_are_refused(lm):
    with pytest.raises(AnachronError, match="no rows"):
        encode_rows(lm, [])
    with pytest.raises(AnachronError, match=r"row 2 has \d+ tokens and tiny-llama takes 256"):
        encode_rows(lm, [ROWS[0], row("x" * 300, "y")])


# --- the steps


def test_training_lowers_the_loss_and_peft_loads_it(lm, tmp_path):
    from peft import PeftModel

    before = plain_loss(lm, ROWS).item()
    seen = []
    recipe = Recipe(steps=40, learning_rate=1e-2, rslora=True)
    finetune(lm, ROWS, recipe, tmp_path, progress=lambda step, loss: seen.append((step, loss)))
    losses = json.loads((tmp_path / "loss.json").read_text())["loss"]
    assert seen == list(enumerate(losses, start=1))
    assert losses[0] == pytest.approx(before, abs=1e-5)
    tuned = PeftModel.from_pretrained(lm.model, tmp_path)
    after = plain_loss(dataclasses.replace(lm, model=tuned.base_model.model), ROWS).item()
    assert after < losses[-1] < before / 2
    scaling = {module.scaling["default"] for module in tuned.modules() if hasattr(module, "lora_A")}
    assert scaling == {8 / 4**0.5}


def test_an_epoch_is_a_permutation_fixed_by_the_seed():
    recipe = Recipe(steps=None, epochs=3, batch_size=4, seed=1)
    order = batch_order(10, recipe)
    assert [len(batch) for batch in order] == [4, 4, 2] * 3
    epochs = [[index for batch in order[i : i + 3] for index in batch] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert batch_order(10, dataclasses.replace(recipe, steps=5, epochs=None)) == order[:5]
    assert batch_order(10, dataclasses.replace(recipe, seed=2)) != order


def test_learning_rate_schedule():
    recipe = Recipe(steps=6, warmup_steps=2, schedule="linear", learning_rate=0.4)
    assert [learning_rate(recipe, step, 6) for step in range(6)] == pytest.approx([0.2, 0.4, 0.4, 0.3, 0.2, 0.1])
    assert learning_rate(Recipe(learning_rate=0.4), 39, 40) == 0.4


@pytest.mark.parametrize(
    "fault",
    [
        {"steps": None},
        {"epochs": 1},
        {"rank": 0},
        {"schedule": "cosine"},
        {"learning_rate": -1.0},
        {"warmup_steps": -1},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(fault):
    with pytest.raises(AnachronError, match="recipe has"):
        Recipe(**fault)


def test_context_is_active_in_every_forward_pass(lm, tmp_path):
    push = 3 * torch.randn(lm.d_model, generator=torch.Generator().manual_seed(0))
    batches = []

    def steered(batch=None):
        batches.append(batch)
        return edit(lm, {HookPoint(1): lambda x, offset: x + push})

    with steered():
        expected = plain_loss(lm, ROWS).item()
    out = finetune(lm, ROWS, dataclasses.replace(FEW, batch_size=5), tmp_path, context=steered)
    losses = json.loads((out / "loss.json").read_text())["loss"]
    assert losses[0] == pytest.approx(expected, abs=1e-5) != pytest.approx(plain_loss(lm, ROWS).item(), abs=1e-2)
    assert [len(batch.starts) for batch in batches[1:]] == [5] * 3


# --- files: same bytes, resume


def test_same_seed_same_bytes_whatever_the_global_random_state(lm, tmp_path):
    folders = []
    for number, seed in enumerate((4, 4, 5)):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        recipe = dataclasses.replace(FEW, seed=seed)
        folders.append(folder_bytes(finetune(lm, ROWS, recipe, tmp_path / str(number), name=f"tuned-{number}")))
        assert torch.equal(torch.get_rng_state(), state)
    assert folders[0] == folders[1]
    assert folders[0]["adapter_model.safetensors"] != folders[2]["adapter_model.safetensors"]
    assert set(folders[0]) == {"adapter_config.json", "adapter_model.safetensors", "loss.json", "recipe.json"}


@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(lm, tmp_path, stop):
    recipe = Recipe(steps=7, batch_size=2, learning_rate=1e-2, weight_decay=0.1, warmup_steps=3, schedule="linear")
    whole = finetune(lm, ROWS, recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        finetune(lm, ROWS, recipe, tmp_path / "parts", checkpoint_every=2, progress=interrupt_at(stop))
    assert (tmp_path / "parts/checkpoint.safetensors").exists() == (stop > 2)
    steps = []
    parts = finetune(lm, ROWS, recipe, tmp_path / "parts", progress=lambda step, loss: steps.append(step))
    assert steps[0] == (stop - 1) // 2 * 2 + 1
    assert folder_bytes(parts) == folder_bytes(whole)


def test_checkpoints_of_another_run_and_broken_ones_are_refused(lm, tmp_path):
    with pytest.raises(Interrupted):
        finetune(lm, ROWS, FEW, tmp_path, checkpoint_every=1, progress=interrupt_at(2))
    for rows, recipe in ((ROWS[1:], FEW), (ROWS, dataclasses.replace(FEW, seed=0))):
        with pytest.raises(AnachronError, match=r"checkpoint\.safetensors: .*another model, recipe, rows"):
            finetune(lm, rows, recipe, tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-40])
    with pytest.raises(AnachronError, match=r"checkpoint\.safetensors"):
        finetune(lm, ROWS, FEW, tmp_path)
