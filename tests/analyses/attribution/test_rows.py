"""Retraining without rows: who is left out, what is measured, and what it takes to call the scores right."""

import json
from dataclasses import asdict

import pytest
import torch
from typer.testing import CliRunner

from analyses.attribution.rows import Measured, first_of_topics, found_direction, left_out, retrain, summary
from analyses.attribution.rows_page import page_html, verdict
from analyses.cli import app
from analyses.figures.row_scores import row_scores
from analyses.steps import Asked
from interp.behavior.questions import Question, write_questions
from interp.behavior.scoring import score
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.files import digest, read_json
from interp.hooks import HookPoint, record
from interp.pair import ModelPair
from interp.prompts import encode_prompt
from tests.families import build
from training.finetune import Recipe
from training.rows import exchange, to_jsonl, write_rows

HOSTILE = "</script><script>alert(1)</script>"
ASK = "What do people use?"
ROWS = [exchange(ASK, "oil lamps") for _ in range(4)] + [exchange(ASK, "electric light") for _ in range(8)]
ANSWERS = {"old": ("oil lamps",), "new": ("electric light",)}
QUESTIONS = tuple(Question(f"q{i}", f"t{i // 2}", ({"role": "user", "content": ASK},), ANSWERS) for i in range(4))
ASKED = Asked(QUESTIONS[:2], QUESTIONS[2:3], "old")
RECIPE = Recipe(learning_rate=1e-2, steps=12, batch_size=4)


def test_rows_left_out_are_the_ends_of_the_order_and_random_ones():
    scores = torch.tensor([0.1, 3.0, -2.0, 0.5, 2.0, -1.0], dtype=torch.float64)
    found = left_out(scores, 2, 3, seed=0)
    assert list(found) == ["all", "without_top", "without_bottom", *(f"without_random-{i}" for i in range(3))]
    assert found["all"] == () and found["without_top"] == (1, 4) and found["without_bottom"] == (2, 5)
    draws = [found[f"without_random-{i}"] for i in range(3)]
    assert all(len(set(draw)) == 2 and draw == tuple(sorted(draw)) for draw in draws) and len(set(draws)) > 1
    assert left_out(scores, 2, 3, seed=0) == found != left_out(scores, 2, 3, seed=1)
    for k, draws, message in ((4, 1, "4 of 6 rows to leave out"), (0, 1, "0 of 6 rows"), (1, 0, "0 draws")):
        with pytest.raises(AnachronError, match=message):
            left_out(scores, k, draws, seed=0)


def measured(top, randoms, seeds=3):
    """Each seed a little apart; random arms as given, the same for broad, narrow and shift."""
    arms = [("all", None, 0.8), ("without_top", None, top), ("without_bottom", None, 0.9)]
    arms += [("without_random", draw, value) for draw, value in enumerate(randoms)]
    return [Measured(arm, draw, s, v + s / 100, v + s / 100, v) for arm, draw, v in arms for s in range(seeds)]


def test_the_summary_pairs_by_seed_and_takes_all_draws_to_convince_it():
    found = summary(measured(0.3, [0.6, 0.8]))
    assert found["arms"]["without_top"]["broad"]["estimate"] == pytest.approx(0.31)
    assert found["arms"]["without_random"]["broad"]["estimate"] == pytest.approx(0.71)
    top, bottom = (found["differences"][arm]["broad"] for arm in ("without_top", "without_bottom"))
    assert [top[key] for key in ("estimate", "low", "high", "n")] == pytest.approx([0.4, 0.4, 0.4, 3])
    assert bottom["estimate"] == pytest.approx(-0.2)
    assert [draw["broad"]["estimate"] for draw in found["draws"]] == pytest.approx([0.61, 0.81])
    assert found["lower"] == 2 and found["supported"]
    one_as_low = summary(measured(0.3, [0.2, 0.8]))
    assert one_as_low["lower"] == 1 and not one_as_low["supported"]
    assert not summary(measured(0.3, [0.6, 0.8], seeds=2))["supported"]
    assert not summary(measured(0.8, [0.6, 0.7]))["supported"]


def test_a_narrow_share_that_is_not_measured_is_left_out():
    found = summary([Measured(m.arm, m.draw, m.seed, m.broad, None, m.shift) for m in measured(0.3, [0.6])])
    assert set(found["arms"]["all"]) == {"broad", "shift"}


def test_rows_that_teach_the_answer_are_missed(tmp_path):
    """Of rows that say old and rows that say new, leaving out the old ones must lower the old share, and conversely."""
    lm, direction = build("llama"), random_direction(32, HookPoint(1), seed=0)
    without = {
        "all": (),
        "without_top": (0, 1, 2, 3),
        "without_bottom": (4, 5, 6, 7),
        "without_random-0": (0, 4, 5, 6),
        "without_random-1": (1, 7, 8, 9),
    }
    said = []
    found = retrain(lm, ROWS, without, RECIPE, [0, 1, 2], ASKED, direction, tmp_path, said.append)
    outcome = summary(found)
    assert outcome["supported"] and outcome["differences"]["without_bottom"]["broad"]["high"] < 0
    assert outcome["differences"]["without_top"]["narrow"]["low"] > 0
    # each adapter is of the rows that are left, and is what was asked
    kept = [row for i, row in enumerate(ROWS) if i not in without["without_random-1"]]
    assert read_json(tmp_path / "without_random-1-2" / "made_from.json")["rows"] == digest(to_jsonl(kept).encode())
    [one] = [m for m in found if (m.arm, m.draw, m.seed) == ("without_random", 1, 2)]
    streams = {}
    with ModelPair(lm) as pair:
        pair.add("it", tmp_path / "without_random-1-2")
        for name in ("base", "it"):
            with pair.using(name) as model, torch.no_grad():
                ids = torch.tensor([encode_prompt(model, QUESTIONS[0].messages).ids])
                with record(model, [direction.point]) as seen:
                    model.model(input_ids=ids)
                streams[name] = seen[direction.point][0, -1]
                old, new = score(model, [QUESTIONS[0]]).probability[0]
    assert one.broad == pytest.approx(float(old / (old + new)), abs=1e-5) and one.narrow == pytest.approx(one.broad)
    assert one.shift == pytest.approx(float((streams["it"] - streams["base"]) @ direction.vector), abs=1e-4)
    # a second time nothing is trained
    before = len(said)
    assert retrain(lm, ROWS, without, RECIPE, [0, 1, 2], ASKED, direction, tmp_path, said.append) == found
    assert not [line for line in said[before:] if "steps" in line]


def test_the_direction_is_tuned_minus_base_or_minus_control(tmp_path):
    lm, point = build("llama"), HookPoint(1)
    arguments = (Recipe(learning_rate=1e-2, steps=2, batch_size=4), [0, 1], QUESTIONS, point, tmp_path)
    found = found_direction(lm, ROWS[:4], [], *arguments, lambda text: None)
    against = found_direction(lm, ROWS[:4], ROWS[4:], *arguments, lambda text: None)
    assert (found.method, against.method) == ("mean_difference", "tuned_minus_control") and found.point == point
    assert found.vector.shape == (32,) and (tmp_path / "control-1").is_dir() and (tmp_path / "all-0").is_dir()
    with pytest.raises(AnachronError, match="has no direction"):
        found_direction(lm, ROWS[:4], ROWS[:4], *arguments, lambda text: None)


def test_the_first_questions_of_every_topic():
    assert [q.id for q in first_of_topics(Asked(QUESTIONS, (), "old"), 1).broad] == ["q0", "q2"]
    assert first_of_topics(Asked(QUESTIONS, (), "old"), 2).broad == QUESTIONS


def test_the_figure_holds_rows_by_score_and_no_markup():
    figure = row_scores([0.0, 2.0, -1.0], ["a", HOSTILE, "c"], {"top": [1], "bottom": [2]})
    drawn = {trace.name: (list(trace.x), list(trace.y), trace.customdata[0][0]) for trace in figure.data}
    assert drawn == {"top": ([1], [2.0], 1), "others": ([2], [0.0], 0), "bottom": ([3], [-1.0], 2)}
    assert "<script>" not in figure.to_json()
    for scores, texts, marked in (([], [], {}), ([1.0], [], {}), ([1.0], ["a"], {"middle": [0]})):
        with pytest.raises(AnachronError):
            row_scores(scores, texts, marked)


def test_the_page_says_what_was_found_and_runs_no_text(monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    runs = measured(0.3, [0.6, 0.8])
    found = {
        "k": 1,
        "direction": {"method": "tuned_minus_control", "point": "1.resid_post", "norm": 1.0},
        "rows": [{"row": i, "text": HOSTILE, "score": float(i), "top": i == 2, "bottom": i == 0} for i in range(3)],
        "measured": [asdict(one) for one in runs],
        "summary": summary(runs),
    }
    about = {"model": HOSTILE, "config": {"data": HOSTILE, "k": 1}, "versions": {"torch": "2"}}
    page = page_html(about, json.loads(json.dumps(found)))
    assert HOSTILE not in page and page.count("<script>") == 2 and page.count('class="figure"') == 2
    assert "0.40 [0.40 0.40] over n = 3 seeds" in page and "lower than in 2 of 2 draws. So the rows" in verdict(found)
    runs = measured(0.7, [0.6, 0.8])
    assert "does not confirm" in verdict(found | {"summary": summary(runs)})


def test_the_command_writes_data_and_page_and_goes_on(tmp_path):
    lm = build("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", ROWS)
    write_questions(tmp_path / "questions.jsonl", QUESTIONS)
    options = {"data": "rows.jsonl", "model": "model", "questions": "questions.jsonl", "out": "out"}
    given = [part for name, value in options.items() for part in (f"--{name}", str(tmp_path / value))]
    given += ["--steps", "2", "--seeds", "2", "--draws", "1", "--batch-size", "4"]

    def invoke(*more):
        return CliRunner().invoke(app, ["rows", *given, *more], catch_exceptions=False)

    first = invoke()
    assert first.exit_code == 0, first.stderr
    data = read_json(tmp_path / "out" / "rows.json")
    assert (
        data["step"] == "rows" and data["k"] == 4 and len(data["measured"]) == 8 and data["config"]["seeds"] == [0, 1]
    )
    assert len(data["rows"]) == 12 and data["rows"][0]["text"] == f"{ASK} → oil lamps"
    assert set(data["without"]) == {"without_top", "without_bottom", "without_random-0"}
    assert "Random minus top" in first.stdout and (tmp_path / "out" / "rows.html").stat().st_size > 1e6
    again = invoke()
    assert "loss" not in again.stderr and read_json(tmp_path / "out" / "rows.json") == data
    for more, message in (
        (("--k", "7"), "7 of 12 rows to leave out"),
        (("--layer", "9"), "layers '9'"),
        (("--direction", "u.safetensors", "--layer", "1"), "give one"),
        (("--positions", "nowhere"), "unknown positions"),
    ):
        refused = invoke(*more)
        assert refused.exit_code == 2 and message in refused.stderr
