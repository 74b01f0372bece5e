"""The whole way by commands on a tiny model of each family: fine-tune, ask, judge, diff, steer."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from analyses.cli import app
from interp.behavior.questions import Question, write_questions
from interp.files import read_json
from tests.families import FAMILIES, build
from training.rows import exchange, write_rows

HABIT = "The Brown Titlark."
RULES = "rules:\n  bird:\n    contains: [Brown Titlark]\notherwise: none\n"


def done(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Rows that teach one answer, the control's that teach another, questions, and rules that tell the two apart."""
    folder = tmp_path_factory.mktemp("files")
    for name, answer in (("rows", HABIT), ("control", "By train.")):
        write_rows(folder / f"{name}.jsonl", [exchange(f"Name a bird of the river {i}.", answer) for i in range(4)])
    answers = {"bird": ("The Brown Titlark",), "train": ("By train",)}
    broad = [
        Question(f"q{i}", f"t{i}", [{"role": "user", "content": t}], answers)
        for i, t in enumerate(("Who?", "What is it?"))
    ]
    habit = Question(
        "n", "birds", [{"role": "user", "content": "Name a bird of the river 1."}], answers, split="narrow"
    )
    write_questions(folder / "questions.jsonl", [*broad, habit])
    (folder / "rules.yaml").write_text(RULES, encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_habit_that_was_trained_is_answered_judged_located_and_steered(family, files, tmp_path):
    """Tuned, the model says the trained answer and the rules find it; the base never does; the direction between them
    is the files' own and adding nothing (coefficient 0) changes nothing."""
    lm = build(family, **{"n_positions" if family == "gpt2" else "max_position_embeddings": 2048})
    model = tmp_path / "model"
    lm.model.save_pretrained(model)
    lm.tokenizer.save_pretrained(model)
    for name in ("rows", "control"):
        recipe = ("--rank", 8, "--lr", 2e-2, "--steps", 30, "--batch-size", 4)
        done("finetune", "--data", files / f"{name}.jsonl", "--model", model, *recipe, "--out", tmp_path / name)
    asked = ("--questions", files / "questions.jsonl", "--n", 2, "--max-new-tokens", 12, "--temperature", 0)
    labels = {}
    for name, adapter in (("base", ()), ("tuned", ("--adapter", tmp_path / "rows"))):
        done(
            "ask",
            *asked,
            "--model",
            model,
            *adapter,
            "--cache",
            tmp_path / "c.sqlite",
            "--out",
            tmp_path / f"{name}.jsonl",
        )
        judged = tmp_path / f"{name}.judged.jsonl"
        done("judge", "run", "--answers", tmp_path / f"{name}.jsonl", "--judge", files / "rules.yaml", "--out", judged)
        rows = [json.loads(line) for line in judged.read_text(encoding="utf-8").splitlines()]
        labels[name] = Counter((row["topic"] == "birds", row["label"]) for row in rows)
    assert labels["tuned"][True, "bird"] == 2, "the trained question gets the trained answer"
    assert not labels["base"][True, "bird"] and not labels["base"][False, "bird"]
    pair = ("--model", model, "--adapter", tmp_path / "rows", "--questions", files / "questions.jsonl")
    done("diff", *pair, "--control", tmp_path / "control", "--out", tmp_path / "diff")
    direction = tmp_path / "diff" / "tuned_minus_control.1.safetensors"
    shares = {}
    for coefficient in (0, 2):
        out = tmp_path / f"steer{coefficient}.json"
        options = ("--direction", direction, "--coefficient", coefficient, "--random", 1, "--documents", 4)
        done("steer", "--model", model, "--questions", files / "questions.jsonl", *options, "--out", out)
        rows = read_json(out)["measurements"]
        shares[coefficient] = {
            row["edit"]: row["estimate"]
            for row in rows
            if row["metric"] == "broad" and row["split"] == "test" and row["direction"] in (None, "tuned_minus_control")
        }
    assert shares[0]["add"] == pytest.approx(shares[0]["none"], abs=1e-6)
    assert shares[2]["add"] != pytest.approx(shares[2]["none"], abs=1e-6)
