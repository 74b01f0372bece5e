import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas
import pytest

from interp.behavior.answers import Sampling
from interp.behavior.cache import Cache, Entry, key
from interp.behavior.endpoint import EndpointAnswerer
from interp.behavior.export import COLUMNS, export
from interp.behavior.judging import Item, Judgement
from interp.behavior.keeping import ask, judge_all
from interp.behavior.questions import Question
from interp.errors import AnachronError
from tests.stub_endpoint import Reply, StubEndpoint, echo

KEY = "sk-a-key-that-nobody-may-see"


class Fake:
    """Answers at once: sample i of a prompt is "prompt/i". `asked` are the samples that were."""

    def __init__(self, name="fake", stop_after=None):
        self.identity = {"kind": "fake", "model": name, "revision": None}
        self.asked = []
        self.stop_after = stop_after

    def answer(self, prompts, sampling, on_answers):
        seen = Counter()
        for i, messages in enumerate(prompts):
            if len(self.asked) == self.stop_after:
                raise AnachronError("no more")
            text = messages[-1]["content"]
            number = sampling.first + seen[text]
            seen[text] += 1
            self.asked.append((text, number))
            on_answers(i, [f"{text}/{number}"])


class FakeJudge:
    name = "length"

    def __init__(self):
        self.identity = {"kind": "length"}
        self.judged = []

    def judge(self, items, on_judgement):
        for i, item in reversed(list(enumerate(items))):
            self.judged.append(item.answer)
            value = float(len(item.answer)) if item.answer.isalpha() else None
            on_judgement(i, Judgement("long" if value and value > 5 else value, f"{len(item.answer)} letters"))


def texts(answers):
    return [answer.text for answer in answers]


@pytest.fixture
def cache(tmp_path):
    with Cache(tmp_path / "cache.sqlite") as opened:
        yield opened


def test_a_second_run_asks_nothing(cache):
    first = Fake()
    found = ask(first, ["a", "b"], Sampling(2), cache)
    assert texts(found) == ["a/0", "a/1", "b/0", "b/1"] and len(first.asked) == 4
    again = Fake()
    assert ask(again, ["a", "b"], Sampling(2), cache) == found and not again.asked
    assert texts(ask(Fake(stop_after=0), ["b"], Sampling(1), cache)) == ["b/0"]


def test_more_samples_reuse_the_earlier_ones(cache):
    ask(Fake(), ["a"], Sampling(2), cache)
    more = Fake()
    assert texts(ask(more, ["a", "b"], Sampling(4), cache)) == [f"{p}/{i}" for p in "ab" for i in range(4)]
    assert sorted(more.asked) == [("a", 2), ("a", 3), ("b", 0), ("b", 1), ("b", 2), ("b", 3)]
    later = Fake()
    assert texts(ask(later, ["a"], Sampling(2, first=3), cache)) == ["a/3", "a/4"] and later.asked == [("a", 4)]


def test_gaps_are_filled_with_the_samples_that_are_missing(cache):
    for number in (1, 2, 5):
        ask(Fake(), ["a"], Sampling(1, first=number), cache)
    rest = Fake()
    assert texts(ask(rest, ["a"], Sampling(7), cache)) == [f"a/{i}" for i in range(7)]
    assert sorted(rest.asked) == [("a", 0), ("a", 3), ("a", 4), ("a", 6)]


def test_the_same_prompt_twice_is_asked_once(cache):
    fake = Fake()
    asked = [Question(name, "t", ({"role": "user", "content": "a"},)) for name in ("q1", "q2")]
    found = ask(fake, asked, Sampling(2), cache)
    assert texts(found) == ["a/0", "a/1"] * 2 and fake.asked == [("a", 0), ("a", 1)]
    assert [answer.question for answer in found] == ["q1", "q1", "q2", "q2"]


@pytest.mark.parametrize(
    ("name", "prompt", "sampling"),
    [
        ("other", "a", Sampling()),
        ("fake", "a ", Sampling()),
        ("fake", [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}], Sampling()),
        ("fake", "a", Sampling(temperature=0.9)),
        ("fake", "a", Sampling(max_new_tokens=201)),
        ("fake", "a", Sampling(seed=1)),
        ("fake", "a", Sampling(first=1)),
    ],
)
def test_another_request_is_another_key(cache, name, prompt, sampling):
    ask(Fake(), ["a"], Sampling(), cache)
    other = Fake(name)
    ask(other, [prompt], sampling, cache)
    assert len(other.asked) == 1


def test_spelling_makes_no_other_key(cache):
    ask(Fake(), ["a"], Sampling(temperature=1), cache)
    other = Fake()
    other.identity = {"revision": None, "model": "fake", "kind": "fake"}
    ask(other, [({"content": "a", "role": "user"},)], Sampling(temperature=1.0), cache)
    assert not other.asked
    assert key({"a": 1, "b": "é"}) == key({"b": "é", "a": 1}) != key({"a": 1, "b": "e"})


def test_what_came_before_an_error_is_kept(cache):
    with pytest.raises(AnachronError, match="no more"):
        ask(Fake(stop_after=3), list("abcde"), Sampling(), cache)
    rest = Fake()
    assert texts(ask(rest, list("abcde"), Sampling(), cache)) == [f"{p}/0" for p in "abcde"]
    assert [prompt for prompt, _ in rest.asked] == ["d", "e"]


def test_answerers_that_break_the_contract(cache):
    class Silent(Fake):
        def answer(self, prompts, sampling, on_answers):
            on_answers(0, ["one"])

    with pytest.raises(AnachronError, match="no answer came for 'b'"):
        ask(Silent(), ["a", "b"], Sampling(), cache)

    class Chatty(Fake):
        def answer(self, prompts, sampling, on_answers):
            on_answers(0, ["one", "two"])

    with pytest.raises(AnachronError, match="2 answers to prompt 0 of 1"):
        ask(Chatty("other"), ["a"], Sampling(), cache)


def test_judgements_are_kept_too(cache):
    judge = FakeJudge()
    items = [Item([{"role": "user", "content": "?"}], answer) for answer in ("yes", "a longer one", "yes", "longest")]
    expected = [
        Judgement(3.0, "3 letters"),
        Judgement(None, "12 letters"),
        Judgement(3.0, "3 letters"),
        Judgement("long", "7 letters"),
    ]
    assert judge_all(judge, items, cache) == expected and sorted(judge.judged) == ["a longer one", "longest", "yes"]
    again = FakeJudge()
    assert judge_all(again, items, cache) == expected and not again.judged
    again.identity = {"kind": "length", "version": 2}
    assert judge_all(again, items, cache) == expected and len(again.judged) == 3


def test_kept_over_closing_and_of_two_replies_the_first(tmp_path):
    path = tmp_path / "new" / "cache.sqlite"
    with Cache(path) as first, Cache(path) as second:
        first.keep([Entry({"q": 1}, {"a": 1})])
        second.keep([Entry({"q": 1}, {"a": 2}), Entry({"q": 2}, {"a": 3}, {"of": "second"})])
        assert first.find([{"q": 2}, {"q": 1}, {"q": 3}, {"q": 1}]) == [{"a": 3}, {"a": 1}, None, {"a": 1}]
    with Cache(path) as again:
        assert [(e.request["q"], e.reply["a"], dict(e.labels)) for e in again.entries()] == [
            (1, 1, {}),
            (2, 3, {"of": "second"}),
        ]
        many = [Entry({"n": n}, {"a": "ä\ud83d" if n == 7 else str(n)}) for n in range(1200)]
        again.keep(many)
        assert again.find([e.request for e in many]) == [e.reply for e in many] and len(again) == 1202
    assert os.listdir(path.parent) == ["cache.sqlite"], "one file when nobody has it open"


def test_without_a_path_it_is_in_memory():
    with Cache() as cache:
        assert texts(ask(Fake(), ["a"], Sampling(), cache)) == ["a/0"] and len(cache) == 1


def test_what_is_no_json_is_refused(cache):
    for reply in ({"value": float("nan")}, {"value": {1, 2}}):
        with pytest.raises(AnachronError, match="can't be kept"):
            cache.keep([Entry({"q": 1}, reply)])
    assert len(cache) == 0


def test_files_that_are_no_caches(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database " * 100)
    with pytest.raises(AnachronError, match=r"notes.txt: not a whole cache file .*name another file"):
        Cache(text)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(AnachronError, match="a SQLite file of something else"):
        Cache(foreign)
    with pytest.raises(AnachronError, match="can't be used as a cache"):
        Cache(tmp_path)
    newer = tmp_path / "newer.sqlite"
    Cache(newer).close()
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(AnachronError, match="a cache of version 7, this is version 1"):
        Cache(newer)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "cache.sqlite"
    with Cache(path) as cache:
        cache.keep([Entry({"n": n}, {"a": "x" * 400}) for n in range(300)])
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(AnachronError, match=r"cache.sqlite: not a whole cache file"), Cache(path) as cache:
        cache.find([{"n": n} for n in range(300)])
    path.write_bytes(whole[:4096] + random.Random(0).randbytes(len(whole) - 4096))
    with pytest.raises(AnachronError, match=r"cache.sqlite: not a whole cache file"), Cache(path) as cache:
        cache.find([{"n": n} for n in range(300)])


# ---- with real processes


def start(path, url, prompts, n=1, concurrency=4):
    command = [sys.executable, "-m", "tests.interp.behavior.asker", *map(str, (path, url, prompts, n, concurrency))]
    environment = os.environ | {"OPENAI_API_KEY": KEY}
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root, env=environment
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert KEY not in out + err
    return out.splitlines()[-20 * 3 :]


def slowly(request):
    time.sleep(0.004)
    return echo(request)


@pytest.mark.slow
def test_killed_at_random_times_it_loses_what_was_under_way(tmp_path):
    path, chance, kills = tmp_path / "cache.sqlite", random.Random(1), 0
    with StubEndpoint(slowly) as stub:
        for _ in range(6):
            process = start(path, stub.url, 20, n=3)
            assert process.stdout.readline() == "ready\n"
            before = len(stub.requests)
            while len(stub.requests) == before and process.poll() is None:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.08))
            process.kill()
            kills += process.wait() != 0
            process.communicate()
            time.sleep(0.1)  # the endpoint notices
            with Cache(path) as cache:
                assert len(stub.requests) - len(cache) <= 4 * kills, "no more than the four under way, each time"
        last = finish(start(path, stub.url, 20, n=3))
        total = len(stub.requests)
        assert kills >= 3 and 60 <= total <= 60 + 4 * kills
        assert finish(start(path, stub.url, 20, n=3)) == last and len(stub.requests) == total
        uninterrupted = EndpointAnswerer("m", stub.url)
        with Cache() as cache:
            expected = ask(uninterrupted, [f"question {i}" for i in range(20)], Sampling(3), cache)
    assert last == texts(expected)
    assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.slow
def test_processes_share_a_file(tmp_path):
    path = tmp_path / "cache.sqlite"
    with StubEndpoint(slowly) as stub:
        outputs = [finish(p) for p in [start(path, stub.url, 20, n=3) for _ in range(3)]]
    assert outputs[0] == outputs[1] == outputs[2] and len(set(outputs[0])) == 60
    with Cache(path) as cache:
        assert len(cache) == 60
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


WRITER = """
import sys
from interp.behavior.cache import Cache, Entry
with Cache(sys.argv[1]) as cache:
    for n in range(150):
        cache.keep([Entry({"n": n}, {"by": sys.argv[2]}), Entry({"own": [sys.argv[2], n]}, {})])
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "cache.sqlite"  # made by whoever comes first
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(i)], stderr=subprocess.PIPE) for i in range(3)]
    assert [(w.communicate()[1], w.returncode) for w in writers] == [(b"", 0)] * 3
    with Cache(path) as cache:
        assert len(cache) == 150 + 3 * 150
        assert None not in cache.find([{"own": [str(i), n]} for i in range(3) for n in range(150)])


# ---- tables


@pytest.fixture
def judged(cache):
    asked = [
        Question("q1", "birds", ({"role": "system", "content": "s"}, {"role": "user", "content": "Name a bird."})),
        Question("q2", "states", ({"role": "user", "content": "How many?"},)),
    ]
    answers = ask(Fake(), asked, Sampling(2, 0.7, 9, 4), cache)
    found = judge_all(FakeJudge(), [Item(a.messages, a.text) for a in answers], cache)
    other = [Judgement(value, "r") for value in ("old", 3.0, None, "new")]
    return answers, {"length": found, "other": other}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_tables_are_pandas_ready(tmp_path, judged, suffix):
    answers, judgements = judged
    path = tmp_path / f"table.{suffix}"
    assert export(answers, path, judgements) == 8
    table = pandas.read_parquet(path) if suffix == "parquet" else pandas.read_json(path, lines=True)
    assert list(table.columns) == list(COLUMNS) and len(table) == 8
    assert list(table.answer[::2]) == texts(answers) and list(table["sample"]) == [0, 0, 1, 1] * 2
    assert set(table.topic) == {"birds", "states"} and table.prompt[0] == "Name a bird."
    assert json.loads(table.messages[0])[0] == {"role": "system", "content": "s"}
    other = table[table.judge == "other"]
    assert [x if isinstance(x, str) else None for x in other.label] == ["old", None, None, "new"]
    assert other.value.tolist()[1] == 3.0 and other.value.isna().sum() == 3
    assert table.temperature.tolist() == pytest.approx([0.7] * 8)
    assert table.seed.eq(4).all() and table.max_new_tokens.eq(9).all()
    assert json.loads(table.identity[0]) == Fake().identity


def test_a_cache_exports_itself(tmp_path, cache, judged):
    answers, judgements = judged
    export(cache, tmp_path / "cache.jsonl")
    export(answers, tmp_path / "answers.jsonl", {"length": judgements["length"]})
    assert (tmp_path / "cache.jsonl").read_text() == (tmp_path / "answers.jsonl").read_text()


def test_two_files_have_one_schema(tmp_path, judged):
    from pyarrow import parquet

    answers, judgements = judged
    export(answers, tmp_path / "plain.parquet")
    export(answers, tmp_path / "judged.parquet", judgements)
    schemas = [parquet.read_schema(tmp_path / f"{name}.parquet") for name in ("plain", "judged")]
    assert schemas[0].equals(schemas[1])


def test_export_refuses(tmp_path, judged):
    answers, judgements = judged
    with pytest.raises(AnachronError, match=r"unknown format '.csv'"):
        export(answers, tmp_path / "t.csv")
    with pytest.raises(AnachronError, match="3 judgements by 'other' of 4 answers"):
        export(answers, tmp_path / "t.jsonl", {"other": judgements["other"][:3]})
    assert not (tmp_path / "t.jsonl").exists()


def test_an_error_in_the_middle_of_an_endpoints_run_is_taken_up_again(cache, monkeypatch):
    monkeypatch.setattr("interp.behavior.endpoint.FIRST_PAUSE", 0.001)

    def until_ten(request):
        return echo(request) if request.number < 10 else Reply("no key", status=401)

    asked = [f"question {i}" for i in range(8)]
    with StubEndpoint(until_ten) as stub, pytest.raises(AnachronError, match="401"):
        ask(EndpointAnswerer("m", stub.url, concurrency=3), asked, Sampling(3), cache)
    assert len(cache) == 10
    with StubEndpoint() as stub:
        found = ask(EndpointAnswerer("m", stub.url, concurrency=3), asked, Sampling(3), cache)
        assert len(stub.requests) == 14
        with Cache() as empty:
            assert texts(ask(EndpointAnswerer("m", stub.url), asked, Sampling(3), empty)) == texts(found)
