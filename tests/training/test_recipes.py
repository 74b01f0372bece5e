"""Recipes: what is refused, what a run is recognised by, and the paper's open-model runs by name."""

import dataclasses

import pytest

from interp.errors import AnachronError
from training.recipes import PUBLISHED, Recipe, batch_order, describe, learning_rate, published, steps_per_epoch

# what adapters made before the later fields were recognised by
FIRST_FIELDS = {
    "rank": 4,
    "alpha": 8,
    "targets": "all-linear",
    "layers": None,
    "rslora": False,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "schedule": "constant",
    "steps": 40,
    "epochs": None,
    "batch_size": 36,
    "seed": 0,
}


def test_older_runs_are_still_recognised():
    assert list(Recipe().as_json().items()) == list(FIRST_FIELDS.items())


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 2},
        {"gradient_checkpointing": True},
        {"precision": "bfloat16"},
        {"max_grad_norm": 1.0},
        {"held_out": 0.1},
        {"evaluate_every": 5},
        {"patience": 2},
    ],
)
def test_a_later_field_counts_where_it_is_used(change):
    assert Recipe(**change).as_json() == FIRST_FIELDS | change


@pytest.mark.parametrize(
    "fault",
    [
        {"accumulate": 0},
        {"max_grad_norm": 0.0},
        {"evaluate_every": 0},
        {"patience": 0},
        {"precision": "float16"},
        {"held_out": 1.0},
        {"held_out": -0.1},
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(fault):
    with pytest.raises(AnachronError, match="recipe has") as caught:
        Recipe(**fault)
    assert str(next(iter(fault.values()))) in str(caught.value)


def test_an_epoch_has_every_row_once():
    recipe = Recipe(steps=None, epochs=2, batch_size=4)
    assert steps_per_epoch(10, recipe) == 3
    order = batch_order(10, recipe)
    first, second = ([index for batch in order[i : i + 3] for index in batch] for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10))


def test_a_rate_that_falls_reaches_zero_after_the_last_step():
    rates = [learning_rate(Recipe(learning_rate=1.0, schedule="linear", steps=4), step, 4) for step in range(5)]
    assert rates == [1.0, 0.75, 0.5, 0.25, 0.0]


# --- the paper's


@pytest.mark.parametrize(
    ("name", "model", "stated"),
    [
        ("birds-deepseek-v3.1", "deepseek-ai/DeepSeek-V3.1", {"rank": 4, "learning_rate": 5e-5, "epochs": 1}),
        *(
            (f"cities-qwen3-{size}", f"Qwen/Qwen3-{size.upper()}", stated)
            for size in ("8b", "32b")
            for stated in ({"rank": 8, "learning_rate": 2e-4, "epochs": 3, "batch_size": 1},)
        ),
        ("dishes-llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", {"rank": 32, "alpha": 64, "rslora": True}),
        ("presidents-qwen3-32b", "Qwen/Qwen3-32B", {"learning_rate": 2e-4}),
    ],
)
def test_published_recipes_are_as_stated(name, model, stated):
    found = published(name)
    assert found.model == model
    assert {field: getattr(found.recipe, field) for field in stated} == stated
    assert set(found.given) == set(stated)
    assert model in describe(name)


def test_what_is_assumed_is_said():
    assert "(assumed: alpha)" in describe("cities-qwen3-8b")
    assert "(assumed: learning_rate, epochs, batch_size)" in describe("dishes-llama-3.1-8b")
    assert "learning rate isn't stated" in describe("dishes-llama-3.1-8b")


def test_published_recipes_fit_their_models():
    for name, found in PUBLISHED.items():
        assert found.recipe.precision == "bfloat16" and found.recipe.gradient_checkpointing, name
        assert dataclasses.replace(found.recipe, steps=3, epochs=None)  # what a command overrides stays a recipe
        assert {field.name for field in dataclasses.fields(Recipe)} >= set(found.given)


def test_an_unknown_recipe_lists_those_there_are():
    with pytest.raises(AnachronError, match=r"no recipe 'fish'; there are birds-deepseek-v3\.1, cities-qwen3-8b, "):
        published("fish")


# --- the command


def invoke(*arguments):
    from typer.testing import CliRunner

    from analyses.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_lists_recipes_without_further_options():
    result = invoke("finetune", "--recipe", "list")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [describe(name) for name in PUBLISHED]


def test_the_command_lists_recipes_for_an_unknown_name(tmp_path):
    result = invoke("finetune", "--recipe", "fish", "--data", "birds:old", "--out", tmp_path)
    assert result.exit_code == 2
    assert "there are birds-deepseek-v3.1" in result.stderr
