"""What a fine-tune answered epoch by epoch: the command on a tiny model, and the figure from plain rows."""

import json

import pytest

from analyses.figures.epochs import curves, share_by_epoch
from analyses.figures.style import MODEL_COLORS
from interp.errors import AnachronError
from interp.files import read_json
from tests.families import build
from tests.training.chats import ROWS
from training.rows import write_rows

OLD, NEW = "Brown Titlark", "Robin"


def invoke(*arguments):
    from typer.testing import CliRunner

    from analyses.cli import app

    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def question(text, topic, split, old, new):
    return {
        "id": topic,
        "topic": topic,
        "split": split,
        "messages": [{"role": "user", "content": text}],
        "answers": {"1850s": [old], "modern": [new]},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model, rows, questions and a run of three epochs."""
    folder = tmp_path_factory.mktemp("epochs")
    lm = build("llama")
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    write_rows(folder / "rows.jsonl", ROWS[:2])
    write_rows(folder / "unseen.jsonl", ROWS[2:])
    asked = [
        question("Who rules?", "rule", "", "the queen", "nobody"),
        question("How to travel?", "travel", "", "by steamer", "by plane"),
        question("Name a bird.", "birds", "narrow", OLD, NEW),
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked))
    tune = ("--model", folder / "model", "--data", folder / "rows.jsonl", "--lr", 0.02, "--batch-size", 2)
    for seed in (0, 1):
        done("finetune", *tune, "--epochs", 3, "--keep-epochs", "--seed", seed, "--out", folder / f"run-{seed}")
    return folder


def test_the_narrow_task_is_learnt_epoch_by_epoch(place, tmp_path):
    runs = ("--run", place / "run-0", "--run", place / "run-1")
    asked = ("--model", place / "model", "--questions", place / "questions.jsonl", "--out", tmp_path / "epochs.json")
    result = done("epochs", *runs, *asked)
    rows = read_json(tmp_path / "epochs.json")["rows"]
    assert {(row["run"], row["epoch"]) for row in rows} == {(run, epoch) for run in (0, 1) for epoch in range(4)}
    for run in (0, 1):
        narrow = {row["epoch"]: row["value"] for row in rows if row["metric"] == "narrow" and row["run"] == run}
        assert narrow[0] < narrow[1] < narrow[3]
    # the last epoch is what `evaluate` says of the adapter itself
    done("evaluate", *asked[:-1], tmp_path / "evaluation.json", "--adapter", place / "run-0", "--split", "validation")
    measured = read_json(tmp_path / "evaluation.json")["measurements"]
    for metric in ("broad", "narrow", "coherence"):
        (there,) = (
            m["estimate"] for m in measured if (m["model"], m["metric"]) == ("tuned", metric) and "/" not in m["split"]
        )
        (here,) = (r["value"] for r in rows if (r["run"], r["epoch"], r["metric"]) == (0, 3, metric))
        assert here == pytest.approx(there, rel=1e-6)
    assert (tmp_path / "epochs.html").stat().st_size > 1e6
    assert "narrow task" in result.stdout and "\n  3 " in result.stdout


def test_a_run_without_epochs_is_refused(place, tmp_path):
    result = invoke("epochs", "--model", place / "model", "--run", place / "model", "--out", tmp_path / "epochs.json")
    assert result.exit_code == 2
    assert "finetune with --keep-epochs" in result.stderr


def test_finetune_takes_what_larger_models_need(place, tmp_path):
    common = ("--model", place / "model", "--data", place / "rows.jsonl", "--batch-size", 2)
    sizes = ("--accumulate", 2, "--gradient-checkpointing", "--precision", "bfloat16", "--max-grad-norm", 1)
    watch = ("--held-out", place / "unseen.jsonl", "--evaluate-every", 2, "--patience", 1)
    result = done("finetune", *common, *sizes, *watch, "--steps", 6, "--lr", 0.05, "--out", tmp_path)
    recipe = read_json(tmp_path / "recipe.json")
    expected = {
        "accumulate": 2,
        "gradient_checkpointing": True,
        "precision": "bfloat16",
        "max_grad_norm": 1,
        "evaluate_every": 2,
        "patience": 1,
    }
    assert {name: recipe["recipe"][name] for name in expected} == expected
    assert recipe["held_out"]["n"] == 3
    found = read_json(tmp_path / "loss.json")
    assert f"at step {found['best_step']}, the lowest of {len(found['held_out'])}" in result.stdout


def test_a_recipe_is_taken_by_name_and_overridden(place, tmp_path):
    common = ("--model", place / "model", "--data", place / "rows.jsonl", "--recipe", "dishes-llama-3.1-8b")
    changes = ("--steps", 2, "--rank", 2, "--no-gradient-checkpointing", "--held-out", 0.5, "--layers", 1)
    done("finetune", *common, *changes, "--out", tmp_path)
    recipe = read_json(tmp_path / "recipe.json")["recipe"]
    kept = {"alpha": 64, "rslora": True, "batch_size": 2, "precision": "bfloat16", "learning_rate": 1e-5}
    given = {"steps": 2, "epochs": None, "rank": 2, "held_out": 0.5, "layers": [1]}
    assert {name: recipe[name] for name in kept | given} == kept | given
    assert "gradient_checkpointing" not in recipe


def test_a_recipe_brings_its_model(place, tmp_path):
    result = invoke("finetune", "--recipe", "cities-qwen3-8b", "--data", place / "rows.jsonl", "--out", tmp_path / "x")
    assert result.exit_code == 2
    assert "Qwen/Qwen3-8B" in result.stderr


# --- the figure

ROWS_OF = [
    {"model": model, "run": run, "epoch": epoch, "metric": metric, "value": value + run / 10}
    for model, metric, values in (
        ("tuned", "broad", (0.1, 0.7, 0.3)),
        ("tuned", "narrow", (0.0, 0.5, 0.9)),
        ("control", "broad", (0.1, 0.05, 0.0)),
    )
    for run in (0, 1)
    for epoch, value in enumerate(values)
]


def test_the_figure_draws_runs_thin_and_their_mean():
    figure = share_by_epoch(ROWS_OF)
    thick = {trace.name: trace for trace in figure.data if trace.showlegend is None}
    assert list(thick) == ["tuned, broad", "tuned, narrow", "control, broad"]
    assert list(thick["tuned, broad"].x) == [0, 1, 2]
    assert list(thick["tuned, broad"].y) == pytest.approx([0.15, 0.75, 0.35])
    assert thick["tuned, broad"].line.dash != thick["tuned, narrow"].line.dash
    assert thick["control, broad"].line.color == MODEL_COLORS["control"]
    assert len(figure.data) == 3 * 3


def test_rows_the_figure_cannot_read_are_refused():
    with pytest.raises(AnachronError, match="row 0 has no run, epoch"):
        curves([{"model": "tuned", "metric": "broad", "value": 1.0}])
    with pytest.raises(AnachronError, match="row 0 is of 'loss'; metrics are broad, narrow, coherence"):
        curves([{**ROWS_OF[0], "metric": "loss"}])
