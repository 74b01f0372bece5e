"""nnsight beside hooks: the same bits on every family, in this process and through a rehearsal of NDIF."""

import json
import subprocess
import sys
import time

import pytest
import torch

from interp.behavior.perplexity import log_probs
from interp.behavior.questions import Question
from interp.behavior.sampling import generate
from interp.behavior.scoring import score
from interp.capture import capture, capture_pair, moments
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.models import load_model, wrap
from interp.pair import ModelPair
from interp.positions import ALL, FROM_LAST_PROMPT, LAST_PROMPT, PROMPT, span
from interp.prompts import encode_prompt, encode_text, end_of_turn
from interp.remote import through_nnsight
from interp.remote_ndif import open_ndif, running
from interp.steering import Ablate, AblateSequentially, Add, Clamp, changes, run
from tests.families import build
from tests.interp.test_pair import make_adapter

TEXTS = (
    "Name a bird.",
    "What is the fastest way to travel in 1849? By train, by steamer, by plane.",
    "Hi",
    "Who rules?",
)


def prompts(lm, n=4):
    return [encode_prompt(lm, TEXTS[i % len(TEXTS)] + " Sure!" * (i // len(TEXTS))) for i in range(n)]


def questions():
    answers = {"old": ("the oil lamp", "a candle"), "new": ("neon",)}
    return [
        Question(f"q{i}", "t", ({"role": "user", "content": TEXTS[i]},), answers, ("", "Sure!"), (".",))
        for i in range(len(TEXTS))
    ]


def every_edit(lm, rows=4):
    """Each kind of edit and every site; several at one point and at one module, in an order that matters."""
    sites = lm.anatomy.sites
    points = [HookPoint(0), HookPoint(2, "resid_pre"), HookPoint(1, "mlp_out"), HookPoint(1, "attn_out")]
    u = [random_direction(lm.d_model, point, seed=i) for i, point in enumerate(points)]
    edits = [
        Add(u[0], 3.0, 2.0, FROM_LAST_PROMPT),
        Clamp(u[0], 1.5, ALL),
        Ablate(u[1:3], PROMPT),
        AblateSequentially(u[1:], span(1, 3)),
    ]
    if "resid_mid" in sites:
        edits += [
            Add(u[3], 2.0, points=[HookPoint(i, "resid_mid") for i in (1, 2)]),
            Clamp(u[2], 0.5, points=(HookPoint(1, "attn_out"),)),
        ]
    return [*edits, Add(u[3], torch.linspace(-1, 2, rows), 5.0, LAST_PROMPT)]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def hooks_left(lm):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in lm.model.modules())


# --- the same bits


def test_captured_rows_are_those_of_hooks(family_lm):
    traced = through_nnsight(family_lm)
    points = [HookPoint(i, site) for i in (2, 0, 1) for site in family_lm.anatomy.sites]
    for positions in (ALL, LAST_PROMPT):
        for max_tokens in (60, 4096):  # several padded batches, and one
            hooked = capture(family_lm, prompts(family_lm), points, positions, max_tokens)
            found = capture(traced, prompts(family_lm), points, positions, max_tokens)
            assert list(found) == list(hooked)
            assert same([*found.values()], [*hooked.values()])
            assert all(rows.dtype == hooked[p].dtype and rows.device.type == "cpu" for p, rows in found.items())
    one = HookPoint(1)
    assert torch.equal(
        moments(traced, prompts(traced), [one], ALL)[one].var, moments(family_lm, prompts(traced), [one], ALL)[one].var
    )


def test_steered_scores_texts_and_answers_are_those_of_hooks(family_lm):
    traced = through_nnsight(family_lm)
    texts = [encode_text(family_lm, text) for text in TEXTS]
    for edits in ((), every_edit(family_lm)):
        a, b = (
            score(lm, questions(), edits=[e for e in edits if e.positions.name[:4] != "span"])
            for lm in (family_lm, traced)
        )
        assert torch.equal(a.probability, b.probability)
        assert same(*(log_probs(lm, texts, edits=edits, tokens="all") for lm in (family_lm, traced)))
        for temperature in (0, 1.0):
            common = {"max_new_tokens": 6, "temperature": temperature, "seed": 4, "edits": edits}
            assert generate(traced, prompts(traced), **common) == generate(family_lm, prompts(family_lm), **common)
    plain, steered = (log_probs(traced, texts, edits=e) for e in ((), every_edit(family_lm)))
    assert not torch.equal(plain[0], steered[0])


def test_a_row_does_not_depend_on_its_batch(family_lm):
    traced = through_nnsight(family_lm)
    many, point = prompts(traced, 32), HookPoint(2)
    edits = [e for e in every_edit(traced, 32) if not isinstance(e, Add) or isinstance(e.coefficient, float)]
    together = capture(traced, many, [point], LAST_PROMPT, 32 * 4096)[point]
    assert torch.equal(together, capture(family_lm, many, [point], LAST_PROMPT, 32 * 4096)[point])
    said = generate(traced, many, max_new_tokens=4, temperature=0, edits=edits, max_tokens=32 * 4096)
    nats = log_probs(traced, many, edits=edits, tokens="all", max_tokens=32 * 4096)
    for i in (0, 1, 31):
        alone = capture(traced, [many[i]], [point], LAST_PROMPT)[point]
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-4)
        assert generate(traced, [many[i]], max_new_tokens=4, temperature=0, edits=edits) == [said[i]]
        torch.testing.assert_close(
            log_probs(traced, [many[i]], edits=edits, tokens="all")[0], nats[i], rtol=1e-4, atol=1e-4
        )


def test_rows_that_stop_early_end_the_generation(lm):
    stop = end_of_turn(lm)
    lm.model.lm_head.weight.data[stop] = 3 * lm.model.lm_head.weight.data.norm(dim=1).max() / lm.d_model**0.5
    passes = []
    lm.model.register_forward_hook(lambda *_: passes.append(None))
    u = random_direction(lm.d_model, HookPoint(0), seed=0)
    traced = through_nnsight(lm)
    common = {"max_new_tokens": 40, "temperature": 1.0, "seed": 1, "n": 2, "edits": [Add(u, 0.1)]}
    hooked = generate(lm, prompts(lm), **common)
    steps = len(passes)
    assert generate(traced, prompts(lm), **common) == hooked
    assert len(passes) == 2 * steps and steps < 40


def test_members_of_a_pair_are_those_of_hooks(family_lm, tmp_path):
    family = family_lm.name.removeprefix("tiny-")
    folder = make_adapter(tmp_path / "adapter", family)
    points = [HookPoint(i) for i in range(3)]
    found = []
    for base in (family_lm, through_nnsight(build(family))):
        plain = capture(base, prompts(base), points, ALL)
        with ModelPair(base) as pair:
            pair.add("tuned", folder)
            captured = [capture_pair(pair, pair.names, prompts(base), points, ALL, size) for size in (40, 4096)]
            with pair.using("tuned") as lm:
                said = generate(lm, prompts(base), max_new_tokens=5, temperature=0, edits=every_edit(base))
                nats = log_probs(lm, prompts(base), tokens="all")
        assert same([*capture(base, prompts(base), points, ALL).values()], [*plain.values()])
        assert not torch.equal(captured[0]["tuned"][points[2]], captured[0]["base"][points[2]])
        found.append(([x for one in captured for rows in one.values() for x in rows.values()] + nats, said))
    (hooked, hooked_said), (traced, traced_said) = found
    assert same(traced, hooked)
    assert traced_said == hooked_said


def test_half_precision_is_rounded_as_by_hooks():
    lm = build("qwen3")
    half = wrap(lm.model.to(torch.bfloat16), lm.tokenizer, "half")
    traced = through_nnsight(half)
    point = HookPoint(1)
    a, b = (capture(m, prompts(m), [point], ALL)[point] for m in (half, traced))
    assert a.dtype == b.dtype == torch.bfloat16 and torch.equal(a, b)
    edits = every_edit(half)
    assert same(*(log_probs(m, prompts(m), edits=edits, tokens="all") for m in (half, traced)))


def test_weights_that_wait_on_disk_are_brought_in(tmp_path):
    lm = build("llama")
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    places = {f"model.layers.{i}": "disk" if i == 1 else "cpu" for i in range(3)}
    places |= dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    traced = through_nnsight(load_model(tmp_path, device_map=places))
    assert same(*(log_probs(m, prompts(m), edits=every_edit(m), tokens="all") for m in (lm, traced)))


# --- leaving the model as it was, and refusing


def test_the_model_is_as_before_also_after_an_error(lm):
    traced = through_nnsight(lm)
    texts = prompts(lm)
    before, hooks = log_probs(lm, texts, tokens="all"), hooks_left(lm)
    log_probs(traced, texts, edits=every_edit(lm))
    with pytest.raises(AnachronError, match="NaN"):
        log_probs(traced, texts, edits=[Add(random_direction(32, HookPoint(0), 0), 1e30, 1e30)], tokens="all")
    assert same(log_probs(lm, texts, tokens="all"), before)
    assert same(log_probs(traced, texts, tokens="all"), before)
    assert hooks_left(lm) == hooks


def test_a_forward_of_another_batch_is_refused(lm):
    from interp.prompts import pad

    traced = through_nnsight(lm)
    short, long = (pad(prompts(lm)[i : i + 1], lm.pad_id) for i in (0, 1))
    u = random_direction(lm.d_model, HookPoint(0), 0)
    with pytest.raises(AnachronError, match="one steer block per batch"):
        run(traced, long, short.inputs, lambda logits: logits[:, -1], [Add(u, 1.0)])
    assert set(changes(lm, [Add(u, 1.0)], long)) == {HookPoint(0)}


@pytest.mark.parametrize(("layer", "site"), [(9, "resid_post"), (1, "resid_mid")])
def test_points_that_are_not_there_are_refused(layer, site):
    traced = through_nnsight(build("gpt_neox"))
    with pytest.raises(AnachronError, match=rf"hook point {layer}\.{site}"):
        capture(traced, prompts(traced), [HookPoint(layer, site)], ALL)
    with pytest.raises(AnachronError, match="no hook points"):
        capture(traced, prompts(traced), [], ALL)


def test_a_model_in_this_process_is_not_sent(lm):
    with pytest.raises(AnachronError, match="rehearsal"):
        through_nnsight(lm, remote=True)


# --- NDIF


@pytest.fixture
def key(monkeypatch):
    from nnsight.schema.config import CONFIG

    monkeypatch.setattr(CONFIG.API, "APIKEY", "a key")
    return CONFIG.API


def test_without_a_key_nothing_is_asked(monkeypatch, key):
    import httpx

    monkeypatch.setattr(httpx, "get", lambda *args, **kwargs: pytest.fail("asked"))
    monkeypatch.setattr(key, "APIKEY", None)
    with pytest.raises(AnachronError, match="NDIF_API_KEY"):
        open_ndif("someone/tiny")


@pytest.mark.parametrize("name", [".", "almanac/", "a/b/c"])
def test_a_folder_is_no_model_of_ndif(name, key):
    with pytest.raises(AnachronError, match="hub ids"):
        open_ndif(name)


def serve(monkeypatch, key, answer):
    import httpx

    monkeypatch.setattr(httpx, "get", answer)
    monkeypatch.setattr(key, "HOST", "http://127.0.0.1:9")


def status(*deployments):
    import httpx

    fields = ("repo_id", "application_state", "task")
    body = {"deployments": {str(i): dict(zip(fields, each, strict=True)) for i, each in enumerate(deployments)}}
    return lambda url, timeout: httpx.Response(200, json=body, request=httpx.Request("GET", url))


def test_models_that_do_not_run_there_are_refused(monkeypatch, key):
    there = [
        ("someone/tiny", "RUNNING", "text-generation"),
        ("someone/late", "DEPLOYING", "text-generation"),
        ("someone/masked", "RUNNING", "fill-mask"),
    ]
    serve(monkeypatch, key, status(*there))
    assert running() == {"someone/tiny"}
    for name in ("someone/late", "someone/masked", "someone/else"):
        with pytest.raises(AnachronError, match=rf"'{name}' doesn't run on NDIF; these do: someone/tiny"):
            open_ndif(name)


def test_a_model_whose_configuration_is_out_of_reach_is_refused_at_once(monkeypatch, key):
    serve(monkeypatch, key, status(("nobody/nothing-1b", "RUNNING", None)))
    begin = time.perf_counter()
    with pytest.raises(AnachronError, match="hub can't provide it"):
        open_ndif("nobody/nothing-1b")
    assert time.perf_counter() - begin < 5


def test_a_service_that_does_not_answer_is_given_up_on(monkeypatch, key):
    import interp.remote_ndif

    monkeypatch.setattr(interp.remote_ndif, "PROBE_SECONDS", 0.2)
    serve(monkeypatch, key, lambda *args, **kwargs: time.sleep(3))
    begin = time.perf_counter()
    with pytest.raises(AnachronError, match="TimeoutError"):
        open_ndif("someone/tiny")
    assert time.perf_counter() - begin < 2


def test_a_service_out_of_reach_is_said_at_once(key, monkeypatch):
    monkeypatch.setattr(key, "HOST", "http://127.0.0.1:9")
    with pytest.raises(AnachronError, match="ConnectError"):
        open_ndif("someone/tiny")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    command = [sys.executable, "-m", "tests.interp.ndif", str(tmp_path_factory.mktemp("ndif"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_service_gives_what_hooks_give(rehearsed):
    assert rehearsed["weights"] == "meta" and rehearsed["revision"]
    assert rehearsed["there"] == rehearsed["here"]
    assert rehearsed["here"]["base"]["score"] != rehearsed["here"]["tuned"]["score"]


def test_requests_name_model_and_adapter_and_bring_back_little(rehearsed):
    requests = rehearsed["requests"]
    assert {json.loads(r["key"].partition(":")[2])["repo_id"] for r in requests} == {"someone/tiny"}
    adapters = [r["env"].get("peft") for r in requests]
    first, second, third = rehearsed["sizes"]
    assert adapters[first:second] == [None] * (second - first)
    assert adapters[second:third] == ["someone/tuned"] * (third - second)
    # one row's logits over the vocabulary would be 1.6 kB a token, and texts here have 10 to 40 tokens
    assert max(r["got"] for r in requests) < 12_000 and max(r["sent"] for r in requests) < 20_000


def test_what_the_service_can_not_do_is_refused(rehearsed):
    refused = rehearsed["refused"]
    assert "resid_pre, resid_post alone" in refused["site"]
    assert "upload it to the hub" in refused["adapter folder"]
    assert "someone/nothing" in refused["no adapter"]
    assert "someone/tiny on NDIF" in refused["error there"] and "NaN" in refused["error there"]
