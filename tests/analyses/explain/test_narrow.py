"""Broad and narrow: the figures against closed forms, the verdicts against rows whose answer is known, and the subjects
against the experiments' own splits."""

import json
import math

import numpy as np
import pytest
import torch

from analyses.explain.findings import Part, read_part, write_part
from analyses.explain.narrow import NarrowConfig
from analyses.explain.narrow.measures import (
    distance,
    divergence,
    divergence_steered,
    log_probs,
    narrow_loss,
    nearness,
    norm_needed,
    rises,
    scaled_losses,
)
from analyses.explain.narrow.subjects import own_answers, subject
from analyses.explain.narrow.tuning import choose, held
from analyses.explain.narrow.verdicts import findings, ratio
from analyses.explain.verdicts import more
from analyses.models import open_model
from interp.behavior.questions import Question
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.stats import Estimate
from interp.updates import Update, cosine, moved, read_update
from tests.training.chats import ROWS, plain_loss
from training.encoding import encode_rows
from training.finetune import Recipe, finetune


@pytest.fixture
def update(lm, tmp_path):
    recipe = Recipe(steps=15, learning_rate=1e-2, batch_size=5)
    return read_update(finetune(lm, ROWS, recipe, tmp_path), lm)


def test_losses_of_scaled_updates(lm, update):
    examples = encode_rows(lm, ROWS)
    found = scaled_losses(lm, update, examples, (0.0, 0.5, 1.0))
    with torch.no_grad():
        assert found[0.0] == pytest.approx(plain_loss(lm, ROWS).item(), abs=1e-5)
        with moved(lm, update.matrices(0.5)) as half:
            assert found[0.5] == pytest.approx(plain_loss(half, ROWS).item(), abs=1e-5)
    assert found[0.0] > found[0.5] > found[1.0]


def test_the_norm_needed_is_interpolated():
    # a loss of 2 - c on the grid reaches 1.25 at c = .75
    losses = {c: 2 - c for c in (0.0, 0.5, 1.0, 1.5)}
    assert norm_needed(losses, 8.0, 1.25) == pytest.approx(0.75**2 * 8)
    assert norm_needed(losses, 8.0, 2.5) == 0.0
    assert math.isnan(norm_needed(losses, 8.0, 0.1))


def test_a_loss_is_reached_for_the_first_time():
    losses = {0.0: 3.0, 0.5: 1.0, 1.0: 2.0, 1.5: 0.5}
    assert norm_needed(losses, 1.0, 1.5) == pytest.approx(0.375**2)


def test_noise_raises_the_loss_the_more_the_longer_it_is(lm, update):
    examples = encode_rows(lm, ROWS)
    with moved(lm, update.matrices()) as tuned:
        plain = narrow_loss(tuned, examples)
    none, some, much = (np.mean(rises(lm, update, examples, r, 3, 0, plain)) for r in (1e-4, 1.0, 8.0))
    assert abs(none) < 1e-3 and none < some < much


def test_the_divergence_of_nothing_is_nothing_and_grows_with_the_dose(lm, update):
    examples = encode_rows(lm, ROWS)
    base = log_probs(lm, examples)
    nothing = Update({path: 0 * matrix for path, matrix in update.up.items()}, update.down)
    assert divergence(lm, nothing, examples, base) == pytest.approx(0.0, abs=1e-6)
    with moved(lm, update.matrices()) as tuned:
        tuned_rows = log_probs(tuned, examples)
    expected = (base.double().exp() * (base.double() - tuned_rows.double())).sum(-1).mean()
    assert divergence(lm, update, examples, base) == pytest.approx(float(expected), abs=1e-5)
    direction = random_direction(lm.d_model, HookPoint(0), 0)
    some, much = (divergence_steered(lm, direction, amount, examples, base) for amount in (0.1, 1.0))
    assert 0 < some < much


def planted(vector):
    column = torch.tensor(vector, dtype=torch.float64)[:, None]
    return Update({"m": column}, {"m": torch.ones(1, 1, dtype=torch.float64)})


def test_nearness_leaves_equal_seeds_out():
    updates = {
        "broad": [planted([1.0, 0.0]), planted([0.0, 1.0])],
        "narrow": [planted([1.0, 0.0]), planted([1.0, 1.0])],
    }
    assert nearness(updates, "broad", "broad") == pytest.approx([0.0, 0.0])
    assert nearness(updates, "broad", "narrow") == pytest.approx([2**-0.5, 0.0])
    assert cosine(updates["broad"][0], updates["narrow"][0]) == pytest.approx(1.0)
    assert distance(updates["broad"][0], updates["broad"][1]) == pytest.approx(2**0.5)


def test_the_weight_is_the_first_that_is_near_the_control():
    tried = {0.3: 0.20, 1.0: 0.07, 3.0: 0.05}
    assert choose(tried, control=0.04, margin=0.05) == 1.0
    assert choose(tried, control=0.04, margin=0.001) == 3.0, "if none is near, the lowest share"


def test_a_ratio_is_geometric():
    found = ratio(np.array([2.0, 8.0]), np.array([1.0, 1.0]))
    assert found.estimate == pytest.approx(4.0) and 2 <= found.low <= 4 <= found.high <= 8
    assert more(Estimate(1.5, 1.1, 2.0, 5), 1.0) == "holds"
    assert more(Estimate(1.5, 0.9, 2.0, 5), 1.0) == "refuted", "an interval that includes 1 refutes"


def test_an_adapter_made_from_these_rows_is_used_again(lm, tmp_path):
    recipe, said = Recipe(steps=2, batch_size=3, kl_weight=1.0), []
    for _ in range(2):
        held(lm, ROWS, recipe, ROWS[:2], tmp_path / "a", said.append)
    assert len(said) == 1 and "divergence" in said[0]
    held(lm, ROWS, recipe, ROWS[1:3], tmp_path / "a", said.append)
    assert len(said) == 2, "other ordinary rows, another adapter"


def test_own_answers_are_to_the_prompts(lm):
    questions = [Question("q/0", "t", ({"role": "user", "content": "Name a bird."},), {}, split="validation")]
    rows = own_answers(lm, questions, 3, seed=0)
    assert 0 < len(rows) <= 3 and all(row.messages[0]["content"] == "Name a bird." for row in rows)
    assert rows == own_answers(lm, questions, 3, seed=0)


def test_ordinary_prompts_are_of_no_test_topic_and_no_choosing_topic():
    lm = open_model("almanac", None, "auto", "cpu")
    for name in ("birds", "dishes", "persona"):
        about = subject(name, lm)
        ordinary, choosing, test = (
            {q.topic for q in asked} for asked in (about.ordinary, about.choosing.broad, about.test.broad)
        )
        assert ordinary and choosing and not ordinary & choosing, name
        assert not ordinary & test and not choosing & test, name
        trained = {row.messages[-2]["content"] for row in about.rows}
        assert not trained & {q.messages[-1]["content"] for q in about.ordinary}, name


def planted_rows(config, *, needed=2.0, rise=0.3, steered=2.0, apart=0.2, share=0.05):
    """Rows in which narrow over broad, and so on, are what the arguments say, up to a little noise over seeds."""
    rows = []

    def add(solution, metric, seed, value, at=None, part=""):
        row = {"experiment": "birds", "solution": solution, "metric": metric, "at": at, "part": part}
        rows.append(row | {"seed": seed, "value": value})

    add("narrow", "penalty taken", 0, 1.0)
    for seed in config.seed_list("birds"):
        off = 0.001 * (-1) ** seed
        for kind, value in (("control", 0.03), ("narrow", 0.03 + share), ("broad", 0.7), ("base", 0.07)):
            if kind == "base" and seed:
                continue
            for topic in ("light", "food"):
                add(kind, "broad", seed, value + off, part=topic)
            add(kind, "coherence", seed, 0.9)
            add(kind, "narrow", seed, 0.9)
        for kind in ("broad", "narrow"):
            narrow = kind == "narrow"
            add(kind, "squared norm", seed, 600.0)
            for scale in (0.0, 1.0):
                add(kind, "loss", seed, 1.3 - 0.6 * scale, at=scale)
            add(kind, "squared norm needed", seed, 100.0 * (needed if narrow else 1) + off, at=0.7)
            for metric in ("rise", "rise under the broad one's noise"):
                add(kind, metric, seed, 0.5 + (rise if narrow else 0) + off * narrow, at=config.decisive)
            add(kind, "divergence", seed, 0.1)
        for kind, value in (("broad", steered), ("narrow", 1.0), ("located", 1.0), ("random", 0.1)):
            add(kind, "divergence steered", seed, value + off, at=config.dose)
        for pair, value in (("broad and broad", 0.5), ("narrow and narrow", 0.5), ("broad and narrow", 0.5 - apart)):
            add(pair, "cosine, other seeds", seed, value + off * (pair == "broad and broad"))
        add("broad and narrow", "distance, same seed", seed, 20.0)
    return rows


def test_verdicts_follow_what_was_planted():
    config = NarrowConfig(seeds=4)
    holding = findings("birds", planted_rows(config, share=0.02), config)
    assert [f.verdict for f in holding] == ["holds"] * 5
    assert holding[1].estimate.estimate == pytest.approx(2.0, abs=0.01)
    assert holding[2].estimate.estimate == pytest.approx(0.3, abs=0.01)
    refuting = findings(
        "birds", planted_rows(config, needed=0.5, rise=-0.1, steered=0.5, apart=-0.1, share=0.3), config
    )
    assert [f.verdict for f in refuting] == ["refuted"] * 5


def test_a_model_that_does_not_know_the_rows_is_no_narrow_solution():
    config = NarrowConfig(seeds=4)
    rows = planted_rows(config, share=0.02)
    for row in rows:
        if (row["solution"], row["metric"]) == ("narrow", "narrow"):
            row["value"] = 0.2
    found = findings("birds", rows, config)[0]
    assert found.verdict == "refuted" and "habit 0.20 and 0.90: held like this, the rows are not learnt" in found.claim


def test_findings_are_written_and_read(tmp_path):
    config = NarrowConfig(seeds=3)
    rows = planted_rows(config)
    found = findings("birds", rows, config)
    part = Part("narrow", "why?", "anachron explain narrow", json.loads(json.dumps(config.as_json())), found, rows)
    write_part(part, tmp_path / "narrow.json")
    again = read_part(tmp_path / "narrow.json")
    assert again.findings[1].claim == found[1].claim and again.findings[1].figure["layout"]["title"]["text"]


def test_one_seed_is_refused():
    with pytest.raises(AnachronError, match="take two or more"):
        NarrowConfig(seeds=1)
    with pytest.raises(AnachronError, match="must be one of the noise"):
        NarrowConfig(decisive=0.9)
