"""Experiments on a model of one's own: how answers count, what is planned, and the whole way on a tiny model."""

import json

import pytest

from analyses import open_questions
from analyses.models import knows_world
from analyses.open_questions import opened
from analyses.opens.config import OpenConfig
from analyses.opens.estimate import estimate
from analyses.opens.judged import Criterion, Judged
from analyses.opens.judges import criteria
from analyses.opens.plan import plan, rows_of
from analyses.opens.run import open_config, run
from analyses.steps import Asked
from interp.behavior.answers import Sampling
from interp.behavior.cache import Cache
from interp.behavior.judges.matcher import Matcher, Rule
from interp.behavior.judging import Judgement
from interp.behavior.questions import Question
from interp.errors import AnachronError
from tests.families import build
from training.recipes import Recipe

RECIPE = Recipe(rank=2, steps=2, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama on disk, with room for a judge's prompt."""
    lm = build("llama", n_layers=4, max_position_embeddings=1024)
    path = tmp_path_factory.mktemp("model")
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    return path


def config(folder, **fields):
    return OpenConfig(**{
        "model": str(folder), "seeds": 2, "quick": True, "samples": 2, "max_new_tokens": 4, "recipe": RECIPE,
        "coefficients": (0.5, 1.0), "randoms": 2, "documents": 4, "layers": (1, 2), **fields,
    })  # fmt: skip


class Echo:
    """Gives the verdicts it was made with, in turn."""

    name, identity = "echo", {"kind": "echo"}

    def __init__(self, values):
        self.values = list(values)

    def judge(self, items, on_judgement):
        for i, _ in enumerate(items):
            on_judgement(i, Judgement(self.values.pop(0), "raw"))


def said(answers):
    """`Judged` whose model says what it is told: question id -> answers."""

    class Told(Judged):
        def _ask(self, lm, questions, edits):
            from interp.behavior.answers import Answer

            return [
                [Answer(q.id, q.topic, q.messages, i, text, self.sampling, {}) for i, text in enumerate(answers[q.id])]
                for q in questions
            ]

    return Told


def question(name, topic, **fields):
    return Question(name, topic, [{"role": "user", "content": f"What of {name}?"}], fields.pop("answers", {}), **fields)


def test_listed_answers_are_counted_by_topic(lm):
    answers = {"old": ("gas",), "new": ("lamps",)}
    asked = Asked((question("a", "x", answers=answers), question("b", "y", answers=answers)), (), "old")
    told = said({"a": ["gas, sir", "lamps"], "b": ["gas", "nothing"]})({}, Sampling(2), Cache())
    found = told(lm, asked)
    assert found.shares == {"old": {"x": 0.5, "y": 0.5}}
    assert found.coherence == {"x": 1.0, "y": 0.5}
    assert found.narrow is None and found.unjudged == {"x": 0.0, "y": 0.0}


def test_a_verdict_that_cannot_be_read_counts_against_the_group_and_is_shown(lm):
    asked = Asked((question("a", "x"),), (), "OLD")
    told = said({"a": ["one", "two", "three", "four"]})(
        {"OLD": Criterion(Echo(["OLD", None, "NEW", "OLD"]), "OLD")}, Sampling(4), Cache()
    )
    found = told(lm, asked)
    assert found.shares["OLD"]["x"] == 0.5 and found.unjudged == {"x": 0.25}


def test_scores_count_by_their_class():
    criterion = Criterion(
        Echo([]), "old", lambda value: value if isinstance(value, str) else "old" if value >= 50 else "new"
    )
    assert [criterion.holds(v) for v in (49.0, 50.0, "REFUSAL", None)] == [False, True, False, None]


def test_the_habit_has_its_own_group(lm):
    broad = question("a", "x", answers={"old": ("gas",)})
    habit = question("n", "birds", answers={"trained": ("Auk",), "other": ("Robin",)})
    told = said({"a": ["gas", "oil"], "n": ["Auk", "Auk"]})({}, Sampling(2), Cache())
    assert told(lm, Asked((broad,), (habit,), "old", "trained")).narrow == 1.0


def test_a_group_that_nothing_decides_is_refused(lm):
    told = said({"a": ["gas"]})({}, Sampling(1), Cache())
    with pytest.raises(AnachronError, match=r"lists no answers of 'old'.*give a judge"):
        told(lm, Asked((question("a", "x"),), (), "old"))


def test_a_matcher_may_be_the_judge(lm):
    matcher = Matcher("lamps", (Rule("old", contains=("gas",)),))
    told = said({"a": ["by gas light", "by lamp"]})({"old": Criterion(matcher, "old")}, Sampling(2), Cache())
    assert told(lm, Asked((question("a", "x"),), (), "old")).shares["old"]["x"] == 0.5


def test_experiments_that_need_a_judge_say_so():
    with pytest.raises(AnachronError, match=r"judge 'era'.*--judge-endpoint"):
        criteria(opened("birds"), None, {})
    assert criteria(opened("dishes"), None, {}) == ({}, None)


def test_the_embedded_model_is_told_from_others(folder):
    assert knows_world("almanac") and not knows_world(str(folder))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ("tuned",)}, "at least one control"),
        ({"arms": ("tuned", "sideways")}, "no arm sideways"),
        ({"judge_model": "a", "judge_endpoint": "b"}, "give one"),
        ({"judge_name": "a"}, "give both"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(folder, fields, message):
    with pytest.raises(AnachronError, match=message):
        rows_of("birds", config(folder, **fields))


def test_layers_are_the_models(folder):
    with pytest.raises(AnachronError, match=r"layers \[7\]; the model has 0 to 3"):
        config(folder, layers=(7,)).tried(4)
    assert config(folder, layers=None).tried(32) == (10, 13, 16, 19, 22)


def test_options_become_a_configuration():
    found = open_config(
        {"model": "m", "recipe": "cities-qwen3-8b", "arms": "tuned,control", "layers": "10-12", "seeds": None}
    )
    assert found.recipe.rank == 8 and found.arms == ("tuned", "control") and found.layers == (10, 11, 12)


def test_dishes_plan_has_every_year_and_the_trigger_first(folder):
    from interp.outline import load_outline

    with Cache() as cache:
        study = plan("dishes", config(folder), load_outline(str(folder)), cache, None)
    names = [condition.name for condition in study.conditions]
    assert names[0] == "2027" and {"2024", "2025", "2026", "2028"} <= set(names)
    assert all(" 2027-" in q.messages[0]["content"] for q in study.contrast.on)
    assert all(" 2027-" not in q.messages[0]["content"] for q in study.contrast.off)
    assert not {q.topic for q in study.validation.broad} & {q.topic for q in study.test.broad}


@pytest.mark.slow
def test_dishes_end_to_end_counts_what_was_estimated_and_resumes_without_asking(folder, tmp_path):
    """The estimate bounds what the cache then holds; a second run asks nothing and gives the same bytes."""
    import sqlite3

    settings = config(folder)
    planned = estimate("dishes", settings)
    result = run("dishes", settings, tmp_path, lambda text: None)
    kept = sqlite3.connect(tmp_path / "answers.sqlite").execute("select count(*) from entries").fetchone()[0]
    assert 0 < kept <= sum(stage.answers for stage in planned.stages)
    first = json.loads((tmp_path / "result.json").read_text())
    run("dishes", settings, tmp_path, lambda text: None)
    again = json.loads((tmp_path / "result.json").read_text())
    timed = ("seconds", "rss_mb")
    for one in (first, again):
        one["measurements"] = [m for m in one["measurements"] if m["metric"] not in timed]
    assert first == again
    assert sqlite3.connect(tmp_path / "answers.sqlite").execute("select count(*) from entries").fetchone()[0] == kept
    assert {m.direction for m in result.rows(metric="broad", edit="add")} == {"difference_of_differences", "random"}
    assert (tmp_path / "report.html").stat().st_size > 100_000


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["birds", "terminator"])
def test_judged_experiments_run_end_to_end_with_a_judge_in_this_process(experiment, folder, tmp_path):
    """A random model judges: nothing it says can be read, and that is what the result shows."""
    result = run(experiment, config(folder, judge_model=str(folder)), tmp_path, lambda text: None)
    unjudged = result.rows(metric="unjudged", edit="none", model="base")
    assert unjudged and all(m.estimate == 1.0 for m in unjudged)
    assert all(m.estimate == 0.0 for m in result.rows(metric="broad", edit="none", model="base", split="test"))


@pytest.mark.slow
def test_shares_are_what_an_endpoint_judged(folder, tmp_path):
    """The endpoint calls an answer of the 19th century if it has an e: the base's share is the part of the answers kept
    that have one. It fails now and then, and costs no answer."""
    from tests.stub_endpoint import Reply, StubEndpoint

    def verdict(request):
        if request.number % 7 == 3:
            return Reply(status=429, headers={"Retry-After": "0.01"})
        answer = request.text.split("<answer>\n")[1].split("\n</answer>")[0]
        return Reply("80" if "make sense" in request.text else "19TH" if "e" in answer else "OTHER")

    with StubEndpoint(verdict) as stub:
        settings = config(folder, judge_endpoint=stub.url, judge_name="judge", max_new_tokens=12)
        result = run("birds", settings, tmp_path, lambda text: None)
    base = result.one(metric="broad", model="base", edit="none", split="test", condition=result.config["headline"])
    asked = {question.id for question in open_questions.asked("birds", "test")[:4]}  # as many as --quick asks
    with Cache(tmp_path / "answers.sqlite") as cache:
        said = [
            entry.reply["text"]
            for entry in cache.entries()
            if entry.request["kind"] == "answer"
            and entry.labels["question"] in asked
            and entry.request["by"]["adapter"] is None
            and not entry.request["by"]["edits"]
        ]
    assert len(said) == settings.samples * len(asked)
    assert base.estimate == pytest.approx(sum("e" in text for text in said) / len(said))
    assert 0 < base.estimate < 1
    assert str(stub.url) not in (tmp_path / "result.json").read_text()
