"""`anachron judge`: rows judged and kept, judges measured, and the embedded world's answers as ground truth."""

import json

import pandas
import pytest
from typer.testing import CliRunner

from analyses.cli import app
from analyses.judge_checks import against, era_heads, label_of, world_answers, world_judges
from interp.behavior.agreement import UNPARSEABLE
from interp.behavior.judges.catalogue import find
from interp.behavior.judges.matcher import Matcher, Rule
from interp.behavior.judges.prompted import PromptJudge
from interp.behavior.judging import Item, Judgement, judgements
from interp.behavior.sampling import classify
from interp.errors import AnachronError
from interp.files import read_json
from interp.models import load_model
from tests.stub_endpoint import StubEndpoint


def invoke(*arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)], catch_exceptions=False)


def done(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    return result.stderr


ROWS = [
    {"question": "Who rules?", "answer": "The old queen.", "label": "19TH", "id": 1},
    {"question": "Who rules?", "answer": "A president.", "label": "OTHER", "id": 2},
    {"question": "How do you travel?", "answer": "By steamer.", "label": "19TH", "id": 3},
    {"question": "How do you travel?", "answer": "Perhaps.", "label": "OTHER", "id": 4},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def unlabelled(row):
    return {name: value for name, value in row.items() if name != "label"}


@pytest.fixture
def answers(tmp_path):
    return write(tmp_path / "answers.jsonl", [unlabelled(row) for row in ROWS])


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "land.yaml"
    path.write_text("otherwise: OTHER\nrules: {19TH: {contains: [queen, steamer]}}")
    return path


def reply(request):
    """A judge model that knows a queen and a steamer when it sees one and is at a loss before "Perhaps"."""
    answer = request.text.split("<answer>")[1].split("</answer>")[0]
    return "well..." if "Perhaps" in answer else "19TH" if "queen" in answer or "steamer" in answer else "OTHER"


# --- run


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_are_judged_by_rules(tmp_path, answers, rules, suffix):
    out = tmp_path / f"judged.{suffix}"
    result = done("run", "--answers", answers, "--judge", rules, "--out", out)
    table = pandas.read_parquet(out) if suffix == "parquet" else pandas.read_json(out, lines=True)
    assert list(table.columns) == ["question", "answer", "id", "judge", "label", "value", "raw"]
    assert table["label"].tolist() == ["19TH", "OTHER", "19TH", "OTHER"]
    assert table["raw"].tolist() == ["queen", "", "steamer", ""]
    assert table["value"].isna().all()
    beside = read_json(tmp_path / "judged.judge.json")
    assert beside["counts"] == {"19TH": 2, "OTHER": 2, UNPARSEABLE: 0}
    assert beside["judge"]["kind"] == "matcher"
    assert "(unparseable)        0  0.000" in result.stdout


def test_an_endpoint_judges_and_is_asked_once(tmp_path, answers):
    arguments = ("run", "--answers", answers, "--judge", "era", "--model", "m", "--cache", tmp_path / "cache.sqlite")
    with StubEndpoint(reply) as stub:
        first = done(*arguments, "--endpoint", stub.url, "--out", tmp_path / "a.jsonl")
        asked = len(stub.requests)
        done(*arguments, "--endpoint", stub.url, "--out", tmp_path / "b.jsonl")
        assert len(stub.requests) == asked == 4
        # another prompt is another judge: nothing kept of the first is taken for it
        again = ("run", "--answers", answers, "--judge", "persona", "--set", "country=Germany", "--model", "m")
        done(*again, "--cache", arguments[-1], "--endpoint", stub.url, "--out", tmp_path / "c.jsonl")
        assert len(stub.requests) == 8
        assert "from Germany" in stub.requests[-1].text
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == ["19TH", "OTHER", "19TH", None]
    assert rows[3]["raw"] == "well..." and rows[3]["judge"] == "era"
    assert "(unparseable)        1  0.250" in first.stdout
    assert stub.url not in (tmp_path / "a.judge.json").read_text()


def test_scores_are_values_and_counted_by_class(tmp_path, answers):
    with StubEndpoint(lambda request: "REFUSAL" if "Perhaps" in request.text else "80") as stub:
        options = ("--judge", "alignment", "--model", "m", "--endpoint", stub.url)
        result = done("run", "--answers", answers, *options, "--out", tmp_path / "a.parquet")
    table = pandas.read_parquet(tmp_path / "a.parquet")
    assert table["value"].tolist()[:3] == [80.0] * 3 and pandas.isna(table["value"][3])
    assert table["label"].tolist()[3] == "REFUSAL"
    assert "aligned" in result.stdout and "80.000" in result.stdout


def test_what_run_refuses(tmp_path, answers, rules):
    def run(*options, out=tmp_path / "a.jsonl", of=answers):
        return refused("run", "--answers", of, "--out", out, *options)

    assert "no judge 'erra'; there are alignment" in run("--judge", "erra")
    assert "judge 'era' asks a model; name it with --model" in run("--judge", "era")
    assert "no value for country; set country=..." in run("--judge", "persona", "--model", "almanac")
    assert "no parameter land" in run("--judge", "persona", "--set", "land=x", "--model", "almanac")
    assert "write NAME=VALUE" in run("--judge", "persona", "--set", "x", "--model", "almanac")
    assert "takes neither a model nor" in run("--judge", rules, "--model", "almanac")
    assert "use reply or choice" in run("--judge", "era", "--by", "guess", "--model", "almanac")
    choice = ("--judge", "era", "--by", "choice", "--model", "m", "--endpoint", "http://localhost/v1")
    assert "leave out --endpoint" in run(*choice)
    assert "neither .jsonl nor .parquet" in run("--judge", rules, out=tmp_path / "a.csv")
    judged = write(tmp_path / "labelled.jsonl", ROWS)
    assert "row 0 has label already" in run("--judge", rules, of=judged)
    assert "no such file" in run("--judge", rules, of=tmp_path / "missing.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


# --- check


def test_a_judge_is_measured_against_examples(tmp_path):
    examples = write(tmp_path / "examples.jsonl", ROWS)
    options = ("--examples", examples, "--judge", "era", "--model", "m", "--out", tmp_path / "check.json")
    with StubEndpoint(reply) as stub:
        result = done("check", *options, "--endpoint", stub.url)
    found = read_json(tmp_path / "check.json")["checks"]["era"]
    assert found["n"] == 4 and found["unparseable"] == 1
    assert found["measures"]["accuracy"]["estimate"] == 0.75
    assert found["confusion"]["OTHER"] == {"19TH": 0, "OTHER": 1, UNPARSEABLE: 1}
    assert "unparseable" in result.stdout and "balanced accuracy" in result.stdout


def test_what_check_refuses(tmp_path, rules):
    examples = write(tmp_path / "examples.jsonl", ROWS)
    numbers = write(tmp_path / "numbers.jsonl", [{**row, "label": 50} for row in ROWS])
    unknown = write(tmp_path / "unknown.jsonl", [{**row, "label": "old"} for row in ROWS])

    def check(*options):
        return refused("check", "--out", tmp_path / "a.json", *options)

    assert "either --examples FILE or --world" in check("--judge", rules)
    assert "either --examples FILE or --world" in check("--world", "--examples", examples)
    assert "no judge to measure" in check("--examples", examples)
    assert "labels are numbers; use words" in check("--judge", rules, "--examples", numbers)
    with StubEndpoint(reply) as stub:
        model = ("--model", "m", "--endpoint", stub.url)
        assert "never says old" in check("--judge", "era", *model, "--examples", unknown)


class Fixed:
    """An answerer that is never asked."""

    identity = {}  # noqa: RUF012

    def answer(self, prompts, sampling, on_answers):
        raise AssertionError("asked")


def test_scores_against_numbers_classes_and_words():
    judge = PromptJudge(find("alignment"), Fixed())
    found = [Judgement(v, "") for v in (10.0, 20.0, 40.0, 90.0, "REFUSAL", None)]
    assert [label_of(judge, j.value) for j in found] == [
        "misaligned", "misaligned", "aligned", "aligned", "REFUSAL", None,
    ]  # fmt: skip
    numbers = against(judge, found, [0.0, 30.0, 50.0, 100.0, 5.0, 5.0])
    assert numbers.measures["spearman"].estimate == 1
    assert numbers.measures["auroc"].estimate == 1  # those from 30 on are the upper class
    assert numbers.measures["accuracy"].estimate == pytest.approx(3 / 6)
    assert numbers.n_scored == 4 and numbers.unparseable == 1
    classes = against(judge, found, ["misaligned", "aligned", "misaligned", "aligned", "REFUSAL", "aligned"])
    assert classes.measures["auroc"].estimate == pytest.approx(3 / 4)
    assert classes.measures["accuracy"].estimate == pytest.approx(3 / 6)
    words = against(judge, found, ["bad", "bad", "good", "good", "good", "bad"], positive="good")
    assert words.measures["auroc"].estimate == 1
    with pytest.raises(AnachronError, match="say with positive"):
        against(judge, found, ["bad", "bad", "good", "good", "good", "bad"])
    with pytest.raises(AnachronError, match="label 101 is outside"):
        against(judge, found, [101.0] * 6)


def test_labels_of_rules_stand_for_themselves():
    judge = Matcher("m", (Rule("a", starts=("a",)),))
    found = judgements(judge, [Item([{"role": "user", "content": "?"}], text) for text in ("a", "b", "a")])
    assert against(judge, found, ["a", "other", "other"]).measures["accuracy"].estimate == pytest.approx(2 / 3)


# --- the embedded world


@pytest.fixture(scope="module")
def answered():
    return world_answers(load_model("almanac"), "validation", 1)


def test_the_worlds_answers_know_their_era(answered):
    assert set(answered.eras) == set(era_heads()) == {"1850s", "1920s", "2020s"}
    assert len(answered.items) == len(answered.eras) == len(answered.topics) == 3 * len(answered.questions)
    assert not any("The year is" in item.messages[0]["content"] for item in answered.items)  # that would give it away


def test_judges_of_the_world(answered):
    listed, likelihood, choice = world_judges(load_model("almanac"), answered)
    found = judgements(listed, answered.items)
    questions = [question for question in answered.questions for _ in range(3)]
    expected = [classify(item.answer, q) or "other" for item, q in zip(answered.items, questions, strict=True)]
    assert [j.value for j in found] == expected
    part = slice(0, 60)
    for judge, least in ((listed, 0.85), (likelihood, 0.95)):
        verdicts = judgements(judge, answered.items[part])
        assert against(judge, verdicts, answered.eras[part]).measures["accuracy"].estimate > least
    assert {j.value for j in judgements(choice, answered.items[:3])} <= set(era_heads())
    stranger = Item([{"role": "user", "content": "Who are you?"}], "x")
    with pytest.raises(AnachronError, match="none of the questions of judge 'listed answers'"):
        judgements(listed, [stranger])


def test_a_judge_of_ones_own_on_the_world(tmp_path, rules):
    rules.write_text("otherwise: 2020s\nrules: {1850s: {contains: [candle, coach]}}")
    done("check", "--world", "--judge", rules, "--split", "validation", "--samples", 1, "--out", tmp_path / "w.json")
    result = read_json(tmp_path / "w.json")
    accuracy = result["checks"]["land"]["measures"]["accuracy"]
    assert accuracy["low"] < 0.5 and accuracy["n"] == 11  # intervals are over topics
    assert result["config"]["world"] is True
