"""`anachron finetune --kl-weight`: the options reach the run, and what does not go together is told in one line."""

import json

import pytest

from interp.files import read_json
from tests.analyses.test_cli import almanac as almanac
from tests.analyses.test_cli import done, invoke
from tests.training.chats import row
from training.rows import write_rows


@pytest.fixture
def common(almanac, tmp_path):
    write_rows(tmp_path / "ordinary.jsonl", [row("Who rules?", "A king"), row("Hm?", "Yes")])
    sizes = ("--steps", 3, "--batch-size", 2, "--lr", 0.02)
    return ("finetune", "--model", almanac, "--data", "birds:old", "--out", tmp_path / "out", *sizes)


def test_the_options_reach_the_run(common, tmp_path):
    done(*common, "--kl-weight", 0.5, "--ordinary", tmp_path / "ordinary.jsonl", "--stop-at", 0.01)
    made = read_json(tmp_path / "out" / "recipe.json")
    assert made["recipe"]["kl_weight"] == 0.5 and made["recipe"]["stop_at"] == 0.01
    assert made["ordinary"]["n"] == 2
    losses = json.loads((tmp_path / "out" / "loss.json").read_text())
    assert len(losses["kl"]) == len(losses["loss"]) == 3


def test_a_weight_without_rows_is_refused(common):
    result = invoke(*common, "--kl-weight", 0.5)
    assert result.exit_code == 2 and "there are 0 ordinary rows" in result.stderr
