import json

import pytest
import torch

from interp.behavior.answers import LocalAnswerer, Sampling, Usage, sample_numbers
from interp.behavior.cache import Cache
from interp.behavior.identity import edits_as_data, model_identity
from interp.behavior.keeping import ask
from interp.behavior.questions import Question
from interp.behavior.sampling import classify, generate
from interp.behavior.scoring import score
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from interp.positions import ANSWER
from interp.prompts import encode_prompt
from interp.steering import Ablate, Add, Clamp
from tests.families import build
from tests.interp.test_pair import make_adapter

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in ("Name a bird of the river.", "How many states are there? There are thirty states.", "Who?")
]
SAMPLING = Sampling(3, 1.0, 6, 5)


def collect(answerer, prompts, sampling=SAMPLING):
    found = {}
    answerer.answer(prompts, sampling, lambda i, texts: found.update({i: list(texts)}))
    return found


def test_answers_are_those_of_generate(lm):
    found = collect(LocalAnswerer(lm), PROMPTS)
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    expected = generate(lm, encoded, max_new_tokens=6, seed=5, n=3)
    assert [text for i in range(3) for text in found[i]] == expected and len(set(expected)) > 5


def test_batches_of_1_and_of_32_give_the_same(family_lm):
    prompts = [[{"role": "user", "content": f"Name {'a bird ' * (i % 5)}{i}."}] for i in range(8)]
    sampling = Sampling(4, 1.0, 5, 1)
    alone = collect(LocalAnswerer(family_lm, max_tokens=1), prompts, sampling)
    assert collect(LocalAnswerer(family_lm, max_tokens=10**6), prompts, sampling) == alone


def test_a_sample_is_the_same_whatever_n(lm):
    answerer = LocalAnswerer(lm)
    whole = collect(answerer, PROMPTS)
    assert collect(answerer, PROMPTS, Sampling(2, 1.0, 6, 5, first=1)) == {i: whole[i][1:] for i in whole}
    again = collect(answerer, [PROMPTS[0]] * 3, Sampling(1, 1.0, 6, 5))
    assert [again[i][0] for i in range(3)] == whole[0]


def test_through_the_cache_more_samples_later_are_those_asked_at_once(lm):
    texts = [messages[0]["content"] for messages in PROMPTS]
    with Cache() as cache, Cache() as other:
        ask(LocalAnswerer(lm), texts[:2], Sampling(2, 1.0, 6, 5), cache)
        later = LocalAnswerer(lm, max_tokens=1)
        found = ask(later, texts, Sampling(4, 1.0, 6, 5), cache)
        assert found == ask(LocalAnswerer(lm), texts, Sampling(4, 1.0, 6, 5), other)
    assert later.usage.answers == 2 * 2 + 4


def test_batches_are_handed_out_when_they_are_done(lm):
    events = []
    answerer = LocalAnswerer(lm, max_tokens=1, say=events.append)
    answerer.answer(PROMPTS, Sampling(2, 1.0, 3), lambda i, texts: events.append((i, len(texts))))
    # the longest prompt first; with batches of one, a prompt is complete after its second
    handed = [event for event in events if isinstance(event, tuple)]
    assert handed == [(1, 2), (0, 2), (2, 2)] and events.index((1, 2)) == 1
    assert events[0].startswith("1 of 6 answers, ") and events[-1].startswith("6 of 6 answers, ")


def test_usage_counts_tokens(lm):
    answerer = LocalAnswerer(lm)
    collect(answerer, PROMPTS)
    lengths = [len(encode_prompt(lm, p).ids) for p in PROMPTS]
    usage = answerer.usage
    assert usage.answers == 9 and usage.prompt_tokens == 3 * sum(lengths) and usage.seconds > 0
    assert 9 <= usage.completion_tokens <= 9 * 6
    collect(answerer, PROMPTS)
    assert answerer.usage.completion_tokens == 2 * usage.completion_tokens
    assert Usage(2, 10**6, 2 * 10**6).cost(3, 0.5) == 4.0


def test_the_end_of_the_turn_is_counted(monkeypatch, lm):
    # a model that ends the turn at once: one token an answer, whatever max_new_tokens
    monkeypatch.setattr(lm.model.get_output_embeddings(), "forward", _always(lm, lm.tokenizer.eos_token_id))
    answerer = LocalAnswerer(lm)
    assert collect(answerer, PROMPTS[:1], Sampling(2, 1.0, 9)) == {0: ["", ""]}
    assert answerer.usage.completion_tokens == 2


def _always(lm, token):
    def forward(hidden):
        logits = torch.full((*hidden.shape[:-1], lm.model.config.vocab_size), -50.0)
        logits[..., token] = 50.0
        return logits

    return forward


def test_edits_change_answers_and_identity(lm):
    direction = random_direction(lm.d_model, HookPoint(1), seed=3)
    edited = LocalAnswerer(lm, [Add(direction, 8.0, positions=ANSWER)])
    expected = generate(
        lm,
        [encode_prompt(lm, p) for p in PROMPTS],
        max_new_tokens=6,
        seed=5,
        n=3,
        edits=[Add(direction, 8.0, positions=ANSWER)],
    )
    assert [text for _, texts in sorted(collect(edited, PROMPTS).items()) for text in texts] == expected
    assert edited.identity != LocalAnswerer(lm).identity


def test_every_part_of_an_edit_is_in_the_identity():
    u, v = (random_direction(8, HookPoint(1), seed=seed) for seed in (1, 2))
    edits = [
        Add(u, 1.0),
        Add(v, 1.0),
        Add(u, 2),
        Add(u, 1.0, scale=3.0),
        Add(u, 1.0, positions=ANSWER),
        Add(u, 1.0, points=[HookPoint(2)]),
        Ablate([u]),
        Ablate([u, v]),
        Clamp(u, 0.0),
        Clamp(u, 1.0),
    ]
    told = [json.dumps(edits_as_data([edit]), sort_keys=True) for edit in edits]
    assert len(set(told)) == len(edits)
    same = random_direction(8, HookPoint(1), seed=1)
    assert edits_as_data([Add(same, 1)]) == edits_as_data([Add(u, 1.0)])
    with pytest.raises(AnachronError, match="coefficient per row"):
        edits_as_data([Add(u, torch.ones(3))])


def test_identity_of_a_model_follows_its_weights_unless_it_has_a_revision(lm):
    before = model_identity(lm)
    assert json.loads(json.dumps(before)) == before
    assert before == model_identity(build("llama")) and before["dtype"] == "float32" and before["adapter"] is None
    with torch.no_grad():
        next(lm.model.parameters())[0, 0] += 1
    after = model_identity(lm)
    assert {name for name in before if before[name] != after[name]} == {"weights"}
    object.__setattr__(lm, "revision", "abc")
    assert model_identity(lm)["weights"] is None and model_identity(lm)["revision"] == "abc"
    lm.tokenizer.chat_template, template = lm.tokenizer.chat_template + " ", lm.tokenizer.chat_template
    try:
        assert model_identity(lm)["template"] != after["template"]
    finally:
        lm.tokenizer.chat_template = template


def test_identity_of_a_half_precision_model():
    lm = build("llama")
    lm.model.to(torch.bfloat16)
    assert model_identity(lm)["dtype"] == "bfloat16" and len(model_identity(lm)["weights"]) == 64


def test_adapters_are_told_apart_and_leave_the_base_as_it_is(tmp_path, lm):
    plain = LocalAnswerer(lm)
    base_answers = collect(plain, PROMPTS)
    for seed in (1, 2):
        make_adapter(tmp_path / str(seed), seed=seed)
    found = {}
    with ModelPair(lm) as pair:
        pair.add("one", tmp_path / "1")
        pair.add("two", tmp_path / "2")
        for name in pair.names:
            with pair.using(name) as used:
                answerer = LocalAnswerer(used)
                found[name] = answerer.identity, collect(answerer, PROMPTS)
                if name == "one":
                    kept = answerer
        assert found["base"] == (plain.identity, base_answers)
        one, two = found["one"][0], found["two"][0]
        assert one["adapter"]["name"] == "one" and one["adapter"]["digest"] != two["adapter"]["digest"]
        assert {name for name in one if one[name] != plain.identity[name]} == {"adapter"}
        assert found["one"][1] != base_answers != found["two"][1]
        with pytest.raises(AnachronError, match=r"one is asked while no adapter is on; ask inside the ModelPair.using"):
            collect(kept, PROMPTS)
        with pair.using("two"), pytest.raises(AnachronError, match="is asked while two is on"):
            collect(kept, PROMPTS)
        with pair.using("two"), pytest.raises(AnachronError, match="is asked while two is on"):
            collect(plain, PROMPTS)
        with pair.rows(["base", "two"]) as mixed, pytest.raises(AnachronError, match="one adapter at a time"):
            LocalAnswerer(mixed)


def test_repeated_prompts_are_numbered_on():
    a, b = ([{"role": "user", "content": text}] for text in "ab")
    assert sample_numbers([a, b, a], Sampling(2, first=4)) == [[4, 5], [4, 5], [6, 7]]


@pytest.mark.parametrize("wrong", [{"n": 0}, {"temperature": -1}, {"max_new_tokens": 0}, {"first": -1}])
def test_bad_sampling(wrong):
    with pytest.raises(AnachronError, match="sampling"):
        Sampling(**wrong)


def test_open_questions_are_asked_but_not_scored(lm):
    question = Question("open", "t", ({"role": "user", "content": "Who are you?"},))
    listed = Question("listed", "t", question.messages, {"a": ("x",)})
    with Cache() as cache:
        [answer] = ask(LocalAnswerer(lm), [question], Sampling(1, 1.0, 4), cache)
    assert (answer.question, answer.topic, answer.sample) == ("open", "t", 0)
    for questions in ([question], [listed, question]):
        with pytest.raises(AnachronError, match="question 'open' is an open one"):
            score(lm, questions)
    with pytest.raises(AnachronError, match="question 'open' is an open one"):
        classify("x", question)
