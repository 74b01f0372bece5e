"""`anachron ask`: a model, an adapter and an endpoint, from questions to a table."""

import pandas
import pytest
from typer.testing import CliRunner

from analyses.cli import app
from interp.behavior.cache import Cache
from interp.behavior.questions import Question, write_questions
from tests.families import build
from tests.interp.test_pair import make_adapter
from tests.stub_endpoint import Reply, StubEndpoint, echo

KEY = "sk-a-key-that-nobody-may-see"


def invoke(*arguments):
    result = CliRunner().invoke(app, ["ask", *map(str, arguments)], catch_exceptions=False)
    assert KEY not in result.output
    return result


@pytest.fixture
def questions(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "questions.jsonl"
    asked = [Question(f"q{i}", "birds", ({"role": "user", "content": f"Question {i}?"},)) for i in range(3)]
    write_questions(path, asked)
    return path


def test_a_model_and_its_adapter(tmp_path, questions):
    lm = build("llama")
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    make_adapter(tmp_path / "adapter")
    common = ("--questions", questions, "--model", tmp_path / "model", "--max-new-tokens", 5, "--n", 2)
    tables = []
    for name, more in (("base", ()), ("tuned", ("--adapter", tmp_path / "adapter"))):
        out = tmp_path / f"{name}.parquet"
        result = invoke(*common, *more, "--cache", tmp_path / "cache", "--out", out)
        assert result.exit_code == 0, result.output
        assert "asked: 6 answers, " in result.stdout and "tokens/s" in result.stdout and "6 rows, 0 of" in result.stdout
        tables.append(pandas.read_parquet(out))
        again = invoke(*common, *more, "--cache", tmp_path / "cache", "--out", out)
        assert "asked: 0 answers" in again.stdout and "6 of them from the cache" in again.stdout
        assert pandas.read_parquet(out).equals(tables[-1])
    base, tuned = tables
    assert list(base.question) == ["q0", "q0", "q1", "q1", "q2", "q2"] and list(base["sample"]) == [0, 1] * 3
    assert base.adapter.isna().all() and (tuned.adapter == "tuned").all() and (base.model == tuned.model).all()
    assert list(base.answer) != list(tuned.answer)


def test_an_endpoint(tmp_path, questions):
    out = tmp_path / "answers.jsonl"
    common = ("--questions", questions, "--endpoint-model", "m", "--out", out, "--cache", tmp_path / "cache")
    with StubEndpoint() as stub:
        prices = ("--prompt-price", 100, "--answer-price", 1000, "--fields", '{"top_k": 3}')
        result = invoke(*common, "--endpoint", stub.url, "--n", 2, *prices)
        assert result.exit_code == 0, result.output
        assert "6 answers, 60 prompt and 18 answer tokens" in result.stdout and "cost 0.0240" in result.stdout
        assert all(request.body["top_k"] == 3 for request in stub.requests)
        assert invoke(*common, "--endpoint", stub.url, "--n", 3, *prices).exit_code == 0
        assert len(stub.requests) == 9
    table = pandas.read_json(out, lines=True)
    assert len(table) == 9 and (table.model == "m").all() and "127.0.0.1" not in out.read_text()
    assert KEY.encode() not in out.read_bytes() + (tmp_path / "cache").read_bytes()


def test_a_refused_key_keeps_what_came_before(tmp_path, questions):
    def script(request):
        return echo(request) if request.number < 2 else Reply(f"bad key {KEY}", status=401)

    with StubEndpoint(script) as stub:
        result = invoke(
            *("--questions", questions, "--endpoint", stub.url, "--endpoint-model", "m", "--concurrency", 1),
            *("--cache", tmp_path / "cache", "--out", tmp_path / "a.jsonl"),
        )
    assert result.exit_code == 2 and "bad key [key]" in result.stderr and "OPENAI_API_KEY" in result.stderr
    assert not (tmp_path / "a.jsonl").exists()
    with Cache(tmp_path / "cache") as cache:
        assert len(cache) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--out", "a.csv"), "unknown format '.csv'"),
        (("--endpoint", "http://h/v1"), "--endpoint-model"),
        (("--endpoint", "http://h/v1", "--endpoint-model", "m", "--adapter", "a"), "in place of --model"),
        (("--endpoint", "http://h/v1", "--endpoint-model", "m", "--fields", "[1]"), "isn't a JSON object"),
        (("--endpoint", "http://h/v1", "--endpoint-model", "m", "--fields", "{"), "isn't JSON"),
        (("--endpoint", "http://h/v1", "--endpoint-model", "m", "--prompt-price", 1), "needs two prices"),
        (("--questions", "none.jsonl"), "can't be read"),
    ],
)
def test_bad_options_are_refused_before_anything_is_asked(tmp_path, questions, options, says):
    result = invoke("--questions", questions, "--out", tmp_path / "a.jsonl", *options)
    assert result.exit_code == 2 and says in result.stderr
