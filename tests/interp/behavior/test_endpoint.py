import asyncio
import email.utils
import logging
import re
import time
from itertools import pairwise

import pytest

from interp.behavior.answers import Sampling
from interp.behavior.endpoint import FAILURES_IN_A_ROW, EndpointAnswerer
from interp.errors import AnachronError
from tests.stub_endpoint import Reply, StubEndpoint, echo

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A key in the environment, and a back-off of milliseconds."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("interp.behavior.endpoint.FIRST_PAUSE", 0.002)


def prompts(count, text="question"):
    return [[{"role": "user", "content": f"{text} {i}"}] for i in range(count)]


def collect(answerer, asked, sampling=Sampling(max_new_tokens=7)):  # noqa: B008 (frozen)
    """The answers by prompt; on an error what came before it, too."""
    found = {}

    def keep(i, texts):
        assert i not in found
        found[i] = list(texts)

    try:
        answerer.answer(asked, sampling, keep)
    except AnachronError as error:
        return found, str(error)
    return found, None


def test_the_request_and_the_answer():
    with StubEndpoint() as stub:
        answerer = EndpointAnswerer("m", stub.url)
        found, error = collect(answerer, prompts(2), Sampling(2, 0.5, 7, 3))
        bodies = [request.body for request in stub.requests]
    assert error is None and set(found) == {0, 1} and {len(texts) for texts in found.values()} == {2}
    assert {request.path for request in stub.requests} == {"/v1/chat/completions"}
    assert all(b["temperature"] == 0.5 and b["max_tokens"] == 7 and b["top_p"] == 1 and "n" not in b for b in bodies)
    assert len({b["seed"] for b in bodies}) == 4 and all(0 <= b["seed"] < 2**31 for b in bodies)
    assert [r.headers["authorization"] for r in stub.requests] == [f"Bearer {KEY}"] * 4
    assert found[1][0].startswith("question 1 -> ")
    assert (answerer.usage.answers, answerer.usage.prompt_tokens, answerer.usage.completion_tokens) == (4, 40, 12)
    assert answerer.cost is None


def test_a_sample_has_its_seed_whatever_else_is_asked():
    with StubEndpoint() as stub:
        answerer = EndpointAnswerer("m", stub.url)
        one = prompts(1)
        together, _ = collect(answerer, one, Sampling(4))
        apart = [collect(answerer, one, Sampling(1, first=i))[0][0][0] for i in range(4)]
        repeated, _ = collect(answerer, one * 2, Sampling(2))
        other_seed, _ = collect(answerer, one, Sampling(4, seed=1))
    assert together[0] == apart == repeated[0] + repeated[1]
    assert not set(together[0]) & set(other_seed[0]) and len(set(together[0])) == 4


def test_cost_is_of_the_counted_tokens():
    with StubEndpoint() as stub:
        answerer = EndpointAnswerer("m", stub.url, prices=(2.0, 8))
        collect(answerer, prompts(5))
    assert answerer.cost == pytest.approx((50 * 2 + 15 * 8) / 1e6)
    with StubEndpoint([Reply(body={"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})]) as stub:
        answerer = EndpointAnswerer("m", stub.url, prices=(2.0, 8))
        assert collect(answerer, prompts(2))[0] == {0: ["a"], 1: ["a"]}
    assert answerer.usage.uncounted == 2 and answerer.cost == 0 and "2 replies uncounted" in str(answerer.usage)


@pytest.mark.parametrize("bound", [1, 3])
def test_concurrency_is_bounded(bound):
    def late(request):
        return Reply(delay=0.03)

    with StubEndpoint(late) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=bound), prompts(9))
    assert error is None and len(found) == 9 and stub.most_at_once == bound


PASSING = {
    "429": Reply(status=429),
    "500": Reply(status=500),
    "503": Reply(status=503),
    "cut": Reply(cut=40),
    "empty": Reply(cut=0),
    "hangs up": Reply(hang_up=True),
    "late": Reply(delay=0.6),
    "no choices": Reply(body={"error": {"message": "busy"}}),
    "no text": Reply(None),
    "a page": Reply(body="<html>"),
    "a list": Reply(body=[1]),
}


@pytest.mark.parametrize("reply", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again(reply):
    with StubEndpoint([reply, reply, "at last"]) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, timeout=0.3), prompts(1))
    assert (found, error, len(stub.requests)) == ({0: ["at last"]}, None, 3)


def test_the_pauses_grow(monkeypatch):
    monkeypatch.setattr("interp.behavior.endpoint.FIRST_PAUSE", 0.04)
    with StubEndpoint([Reply(status=500)] * 4 + ["yes"]) as stub:
        collect(EndpointAnswerer("m", stub.url), prompts(1))
    times = [request.time for request in stub.requests]
    for i, (before, after) in enumerate(pairwise(times)):
        assert after - before > 0.75 * 0.04 * 2**i


@pytest.mark.parametrize("header", ["seconds", "milliseconds", "date"])
def test_retry_after_holds_for_all_requests(header):
    def headers():
        if header == "date":
            return {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)}  # of whole seconds
        return {"Retry-After": "1"} if header == "seconds" else {"retry-after-ms": "1000"}

    def script(request):
        return Reply(status=429, headers=headers()) if request.number == 0 else echo(request)

    with StubEndpoint(script) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=1), prompts(3))
    times = [request.time for request in stub.requests]
    assert error is None and len(found) == 3
    assert 0.9 < times[1] - times[0] < 3 and times[3] - times[1] < 0.5


def test_a_long_wait_is_not_waited_for():
    with StubEndpoint([Reply("day's limit", status=429, headers={"Retry-After": "7200"})]) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=1), prompts(3))
    assert not found and "asks to wait 7200 s: run again later" in error and len(stub.requests) == 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(f"no such key {KEY}", status=401), r"401.*no such key \[key\].*OPENAI_API_KEY"),
        (Reply("not yours", status=403), "403.*not yours"),
        (Reply("the model `m` does not exist", status=404), "404.*does not exist.*check the model's name.*/v1"),
        (
            Reply(status=429, body={"error": {"message": "quota", "code": "insufficient_quota"}}),
            "429.*quota.*run out",
        ),
    ],
)
def test_what_lasts_ends_the_call_at_once_and_loses_nothing(reply, says):
    def script(request):
        return Reply("early", delay=0.3) if request.number < 3 else reply

    with StubEndpoint(script) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=4), prompts(30))
    assert len(stub.requests) == 4, "nothing new is asked"
    assert found == {i: ["early"] for i in found} and len(found) == 3, "what was under way is handed out"
    assert re.search(says, error) and KEY not in error, error
    assert "27 of 30 answers are missing" in error


def test_one_bad_prompt_does_not_keep_the_others_from_being_asked():
    def script(request):
        if request.text == "question 2":
            return Reply("too long", status=400)
        return Reply(None) if request.text == "question 5" else "fine"

    with StubEndpoint(script) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=2), prompts(40))
    assert set(found) == set(range(40)) - {2, 5}
    assert "asked 'question 2'" in error and "status 400, too long" in error and "(2 requests failed)" in error
    assert len(stub.requests) == 38 + 1 + 3, "a refusal isn't retried, an empty reply is twice"


def test_a_long_error_is_shortened_without_showing_part_of_the_key():
    for before in range(300 - len(KEY) - 5, 300):
        problem = EndpointAnswerer("m", "http://h/v1")._refused(_Refusal("x" * before + KEY + "y" * 9000), KEY)
        assert len(problem.text) < 400 and KEY[:4] not in problem.text


class _Refusal:
    status_code, code = 400, None

    def __init__(self, body):
        self.body = body


def test_nothing_but_failures_ends_the_call():
    with StubEndpoint([Reply("bad field", status=400)]) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, concurrency=1), prompts(40))
    assert not found and len(stub.requests) == FAILURES_IN_A_ROW and "bad field" in error


def test_retries_end():
    with StubEndpoint([Reply("over capacity", status=503)]) as stub:
        found, error = collect(EndpointAnswerer("m", stub.url, retries=3), prompts(1))
    assert not found and len(stub.requests) == 4 and "status 503, over capacity" in error


def test_time_outs_end():
    with StubEndpoint([Reply(delay=0.5)]) as stub:
        started = time.monotonic()
        found, error = collect(EndpointAnswerer("m", stub.url, retries=1, timeout=0.15), prompts(1))
        assert not found and "no answer within 0.15 s" in error
        assert 0.3 < time.monotonic() - started < 1.5 and len(stub.requests) == 2


def test_nobody_there():
    with StubEndpoint() as stub:
        url = stub.url
    found, error = collect(EndpointAnswerer("m", url, retries=2), prompts(3))
    assert not found and "Connection error" in error and "is the server up?" in error


@pytest.mark.parametrize("variable", ["OTHER_KEY", None])
def test_the_variable_of_the_key(variable, monkeypatch):
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with StubEndpoint() as stub:
        answerer = EndpointAnswerer("m", stub.url, key_variable=variable)
        collect(answerer, prompts(1))
        monkeypatch.setenv("OTHER_KEY", "other\n")
        collect(answerer, prompts(1))
    sent = [request.headers["authorization"] for request in stub.requests]
    assert sent == ["Bearer none", "Bearer none" if variable is None else "Bearer other"]
    monkeypatch.setenv("OTHER_KEY", "ключ")
    if variable:
        with pytest.raises(AnachronError, match="OTHER_KEY has characters"):
            answerer.answer(prompts(1), Sampling(), print)


def test_the_key_is_nowhere_but_in_the_request(caplog, monkeypatch, capsys):
    caplog.set_level(logging.DEBUG)
    said = []

    def script(request):
        rubbish = f"what about {request.headers['authorization']}?"
        return [Reply(rubbish, status=500), Reply(rubbish, status=400), Reply("fine")][request.number % 3]

    with StubEndpoint(script) as stub:
        answerer = EndpointAnswerer("m", stub.url, say=said.append)
        _, error = collect(answerer, prompts(12))
    assert "what about Bearer [key]?" in error
    shown = capsys.readouterr()
    everything = [error, caplog.text, *said, repr(vars(answerer)), str(answerer.identity), shown.out, shown.err]
    assert len(said) > 3 and KEY not in "".join(everything)


def test_an_error_has_no_other_error_behind_it():
    # a traceback would print the cause, with the key in it
    with StubEndpoint([Reply(f"bad {KEY}", status=401)]) as stub, pytest.raises(AnachronError) as raised:
        EndpointAnswerer("m", stub.url).answer(prompts(1), Sampling(), print)
    assert raised.value.__cause__ is None and raised.value.__context__ is None


def test_identity_is_model_and_fields_without_the_host():
    answerer = EndpointAnswerer("m", "http://host.example/v1", revision="r1", fields={"top_k": 5})
    assert answerer.identity == {"kind": "endpoint", "model": "m", "revision": "r1", "fields": {"top_k": 5}}


def test_fields_are_added_and_left_out():
    fields = {"max_tokens": None, "max_completion_tokens": 9, "chat_template_kwargs": {"enable_thinking": False}}
    with StubEndpoint() as stub:
        collect(EndpointAnswerer("m", stub.url, fields=fields), prompts(1))
    [request] = stub.requests
    assert "max_tokens" not in request.body and "top_p" not in request.body
    assert request.body["max_completion_tokens"] == 9
    assert request.body["chat_template_kwargs"] == {"enable_thinking": False}


def test_inside_a_running_loop_as_in_a_notebook():
    async def cell():
        with StubEndpoint() as stub:
            return collect(EndpointAnswerer("m", stub.url), prompts(3))

    found, error = asyncio.run(cell())
    assert error is None and set(found) == {0, 1, 2}


def test_an_error_of_the_receiver_ends_the_call():
    def full(i, texts):
        raise AnachronError("disk full")

    with StubEndpoint() as stub, pytest.raises(AnachronError, match="disk full"):
        EndpointAnswerer("m", stub.url, concurrency=2).answer(prompts(50), Sampling(), full)
    assert len(stub.requests) < 10


def test_half_a_surrogate_pair_becomes_a_question_mark():
    with StubEndpoint(["a \ud83d b"]) as stub:
        found, _ = collect(EndpointAnswerer("m", stub.url), prompts(1))
    assert found == {0: ["a ? b"]}


@pytest.mark.parametrize("wrong", [{"base_url": "localhost:80"}, {"model": ""}, {"concurrency": 0}, {"timeout": 0}])
def test_bad_arguments(wrong):
    with pytest.raises(AnachronError, match=r"isn't a URL|need to be"):
        EndpointAnswerer(**{"model": "m", "base_url": "http://h/v1", **wrong})
