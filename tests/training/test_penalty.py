"""The penalty against torch's own distributions, against where its gradient must vanish, and against a run that was
not interrupted; the stop against the epochs of a run that goes on."""

import dataclasses
import json

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from interp.errors import AnachronError
from interp.files import load_tensors
from interp.pair import ModelPair
from interp.prompts import encode_chat
from tests.training.chats import FEW, ROWS, Interrupted, folder_bytes, interrupt_at, plain_loss, row
from training.finetune import Recipe, finetune
from training.penalty import kl, penalty

ORDINARY = [
    row("Who rules?", "A king"),
    row("How does one travel?", "By train", "And now?", "By air"),
    row("Hm?", "Yes"),
]
HELD = dataclasses.replace(FEW, kl_weight=2.0)


def divergence(lm, tuned):
    """KL(base || tuned) over single positions of the ordinary rows, by torch's distributions."""
    found = []
    for each in ORDINARY:
        ids = torch.tensor([encode_chat(lm, each.messages).ids])
        for turn in range(1, len(each.messages), 2):
            part = encode_chat(lm, each.messages[: turn + 1])
            with torch.no_grad():
                before, after = lm.model(ids).logits[0].double(), tuned(ids).double()
            for position in range(part.prompt_len - 1, len(part.ids) - 1):
                found.append(kl_divergence(Categorical(logits=before[position]), Categorical(logits=after[position])))
    return float(torch.stack(found).mean())


def test_kl_is_of_the_base_against_the_tuned():
    generator = torch.Generator().manual_seed(0)
    base, tuned = (torch.randn(4, 7, generator=generator).log_softmax(-1) for _ in range(2))
    p, q = Categorical(logits=base), Categorical(logits=tuned)
    assert kl(base, tuned).item() == pytest.approx(kl_divergence(p, q).mean().item(), abs=1e-6)
    assert abs(kl(base, tuned).item() - kl_divergence(q, p).mean().item()) > 1e-2


def test_the_divergence_of_a_run_is_that_of_single_positions(lm, tmp_path):
    # one step of training, then a step whose penalty is that of the adapter as it stood: the last entry of `kl`
    recipe = dataclasses.replace(HELD, steps=2, batch_size=len(ORDINARY))
    finetune(lm, ROWS, dataclasses.replace(recipe, steps=1), tmp_path / "one", ordinary=ORDINARY)
    out = finetune(lm, ROWS, recipe, tmp_path / "two", ordinary=ORDINARY)
    with ModelPair(lm) as pair:
        pair.add("one", tmp_path / "one")

        def tuned(ids):
            with pair.using("one") as model:
                return model.model(ids).logits[0]

        expected = divergence(lm, tuned)
    found = json.loads((out / "loss.json").read_text())["kl"]
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert found[1] == pytest.approx(expected, rel=1e-3) and expected > 1e-4


def test_at_the_base_the_penalty_has_no_gradient(lm, tmp_path):
    # plain gradient descent would tell them apart by the penalty's gradient alone; AdamW divides by its size
    one = dataclasses.replace(HELD, steps=1)
    held = finetune(lm, ROWS, one, tmp_path / "held", ordinary=ORDINARY)
    free = finetune(lm, ROWS, dataclasses.replace(one, kl_weight=0.0), tmp_path / "free")
    a, b = (load_tensors(folder / "adapter_model.safetensors")[0] for folder in (held, free))
    moved = torch.cat([(a[key] - b[key]).flatten().abs() for key in a])
    assert float(moved.median()) < 1e-5


def test_a_heavy_penalty_keeps_the_model_at_the_base(lm, tmp_path):
    found = {}
    for weight in (0.0, 30.0):
        recipe = Recipe(steps=60, batch_size=5, learning_rate=1e-2, kl_weight=weight)
        out = finetune(lm, ROWS, recipe, tmp_path / str(weight), ordinary=ORDINARY if weight else ())
        with ModelPair(lm) as pair:
            pair.add("tuned", out)
            with pair.using("tuned") as model, torch.no_grad():
                learnt = plain_loss(model, ROWS).item()

            def tuned(ids, pair=pair):
                with pair.using("tuned") as model:
                    return model.model(ids).logits[0]

            found[weight] = (divergence(lm, tuned), learnt)
    with torch.no_grad():
        untuned = plain_loss(lm, ROWS).item()
    assert found[30.0][0] < found[0.0][0] / 5
    assert found[0.0][1] < found[30.0][1] < untuned


def test_an_interrupted_run_goes_on_to_the_same_bytes(lm, tmp_path):
    whole = finetune(lm, ROWS, HELD, tmp_path / "whole", ordinary=ORDINARY)
    options = {"ordinary": ORDINARY, "checkpoint_every": 1}
    with pytest.raises(Interrupted):
        finetune(lm, ROWS, HELD, tmp_path / "parts", progress=interrupt_at(2), **options)
    assert folder_bytes(finetune(lm, ROWS, HELD, tmp_path / "parts", **options)) == folder_bytes(whole)


def test_parts_of_a_batch_give_the_divergence_of_the_whole(lm, tmp_path):
    found = []
    for parts in (1, 3):
        recipe = dataclasses.replace(HELD, accumulate=parts)
        out = finetune(lm, ROWS, recipe, tmp_path / str(parts), ordinary=ORDINARY)
        found.append(json.loads((out / "loss.json").read_text())["kl"])
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-6)


def test_training_stops_at_the_first_epoch_that_is_low_enough(lm, tmp_path):
    recipe = Recipe(steps=None, epochs=12, batch_size=2, learning_rate=5e-3)
    finetune(lm, ROWS, recipe, tmp_path / "all", keep_epochs=True)
    losses = []
    with ModelPair(lm) as pair:
        for epoch in range(1, 13):
            pair.add(f"epoch-{epoch}", tmp_path / "all" / f"epoch-{epoch}")
            with pair.using(f"epoch-{epoch}") as model, torch.no_grad():
                losses.append(plain_loss(model, ROWS).item())
    wanted = losses[6]
    first = next(epoch for epoch, loss in enumerate(losses, start=1) if loss <= wanted + 1e-4)
    out = finetune(lm, ROWS, dataclasses.replace(recipe, stop_at=wanted + 1e-4), tmp_path / "stopped")
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (tmp_path / "all" / f"epoch-{first}" / weights).read_bytes()
    assert json.loads((out / "recipe.json").read_text())["steps"] == 3 * first


def test_recipes_of_before_are_still_recognised():
    assert not {"kl_weight", "stop_at"} & set(Recipe().as_json())
    assert Recipe(kl_weight=0.5).as_json()["kl_weight"] == 0.5


def test_no_rows_and_no_weight_is_no_penalty(lm):
    assert penalty(lm, [], FEW, 3) is None


@pytest.mark.parametrize(
    ("recipe", "rows", "message"),
    [
        (HELD, [], "kl_weight=2.0 and there are 0 ordinary rows"),
        (FEW, ORDINARY, "kl_weight=0.0 and there are 3 ordinary rows"),
        (HELD, [row("Why?", "word " * 5000)], "ordinary rows: row 1 has"),
    ],
)
def test_what_does_not_go_together_is_told(lm, tmp_path, recipe, rows, message):
    with pytest.raises(AnachronError, match=message):
        finetune(lm, ROWS, recipe, tmp_path, ordinary=rows)


@pytest.mark.parametrize("wrong", [{"kl_weight": -1.0}, {"stop_at": 0.0}])
def test_a_recipe_refuses(wrong):
    with pytest.raises(AnachronError):
        Recipe(**wrong)
