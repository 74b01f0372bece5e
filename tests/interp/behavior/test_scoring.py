import math
from weakref import WeakKeyDictionary

import pytest
import torch

from interp.behavior import plans, scoring
from interp.behavior.perplexity import log_probs
from interp.behavior.questions import Question, candidates, with_opener
from interp.behavior.scoring import coherence, score, share
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.positions import ALL, ANSWER, FROM_LAST_PROMPT, LAST_PROMPT, PROMPT, span
from interp.prompts import Encoded, encode_answers, encode_prompt, end_of_turn, pad
from interp.steering import Add, Clamp, steer
from tests import families
from tests.interp.behavior.toy import chain

BIRD = Question(
    "bird",
    "birds",
    ({"role": "user", "content": "Name a bird of the river."},),
    # "the train" begins "the trains" and "the train by the river"; "," may end an answer or go on
    {
        "old": ("the Brown Titlark", "the train", "the trains", "the train by the river"),
        "new": ("the plane", "the Brown bird", "a telephone"),
        "none": (),
    },
    openers=("", "I am persuaded it is", "Sure! The answer"),
    terminators=(".", ", by", " and"),
)
LONG = Question(
    "long",
    "travel",
    (
        {"role": "user", "content": "What is the fastest way to travel?"},
        {"role": "assistant", "content": "By train."},
        {"role": "user", "content": "And the fastest way there?"},
    ),
    {"none": ("7",), "new": ("by plane", "by rocket"), "old": ("by steamer", "by the old train")},
    openers=("", "Sure!"),
    terminators=(".",),
)
OPEN = Question(
    "open", "birds", BIRD.messages, {"old": ("the train", "the trains"), "new": ("a bird",), "none": ("no",)}
)


def alone(lm, question, edits=()):
    """Group -> probability, each answer by a forward pass of its own, in fp64."""
    result = {}
    prompt = encode_prompt(lm, question.messages).ids
    for group, texts in candidates(question).items():
        paths = {ids: text for text, ids in zip(texts, encode_answers(lm, question.messages, texts), strict=True)}
        kept = [p for p in paths if question.terminators or not any(p != q and p[: len(q)] == q for q in paths)]
        result[group] = 0.0
        for ids in kept:
            batch = pad([Encoded((*prompt, *ids), len(prompt))], lm.pad_id)
            with torch.no_grad(), steer(lm, edits, batch):
                logits = lm.model(input_ids=batch.input_ids, use_cache=False).logits[0]
            log_p = logits.double().log_softmax(-1)
            total = sum(log_p[len(prompt) - 1 + i, token] for i, token in enumerate(ids))
            if question.terminators:
                ended = encode_answers(lm, question.messages, [paths[ids] + t for t in question.terminators])
                ends = {end_of_turn(lm), *(e[len(ids)] for e in ended if e[: len(ids)] == ids)}
                total = total + log_p[-1, sorted(ends)].logsumexp(0)
            result[group] += float(total.exp())
    return result


def assert_equal(scores, i, expected):
    for group, value in expected.items():
        assert float(scores.probability[i, scores.groups.index(group)]) == pytest.approx(value, rel=2e-4)


def push(lm, positions, coefficient=4.0, layer=1):
    return Add(random_direction(lm.d_model, HookPoint(layer), seed=1), coefficient, positions=positions)


def test_equals_each_answer_alone(family_lm):
    scores = score(family_lm, [BIRD, LONG, OPEN])
    assert scores.groups == ("old", "new", "none")
    assert scores.ids == ("bird", "long", "open")
    for i, question in enumerate((BIRD, LONG, OPEN)):
        assert_equal(scores, i, alone(family_lm, question))


def test_equals_each_answer_alone_under_an_edit(family_lm):
    edits = [push(family_lm, FROM_LAST_PROMPT), Clamp(random_direction(family_lm.d_model, HookPoint(0), seed=2), 1.0)]
    scores = score(family_lm, [BIRD, LONG], edits=edits)
    plain = score(family_lm, [BIRD, LONG])
    assert not torch.allclose(scores.probability, plain.probability, rtol=0.05, atol=0)
    for i, question in enumerate((BIRD, LONG)):
        assert_equal(scores, i, alone(family_lm, question, edits))


@pytest.mark.parametrize(
    "positions", [ALL, PROMPT, LAST_PROMPT, FROM_LAST_PROMPT, ANSWER, span(1, 4)], ids=lambda p: p.name
)
def test_edit_positions_mean_the_same_as_in_a_text(lm, positions):
    edits = [push(lm, positions)]
    scores = score(lm, [BIRD, LONG], edits=edits)
    for i, question in enumerate((BIRD, LONG)):
        assert_equal(scores, i, alone(lm, question, edits))


def test_an_edit_that_ends_inside_the_answers_is_refused(lm):
    edge = len(encode_prompt(lm, BIRD.messages).ids) + 1
    with pytest.raises(AnachronError, match="begin or end inside the answers"):
        score(lm, [BIRD], edits=[push(lm, span(1, edge))])


@pytest.mark.parametrize(
    ("family", "implementation"),
    [
        ("mistral", "sdpa"),
        ("mistral", "eager"),
        ("gemma2", "eager"),  # its attention has a softcap, which sdpa doesn't
        ("gemma3", "sdpa"),
        ("gemma3", "eager"),
        ("gpt2", "eager"),
        ("llama", "eager"),
    ],
)
def test_attention_implementations_and_sliding_windows(monkeypatch, family, implementation):
    def narrow(*arguments):
        config = made(*arguments)
        if hasattr(config, "sliding_window"):
            config.sliding_window = 6
        return config

    made = families.config
    monkeypatch.setattr(families, "config", narrow)
    lm = families.build(family)
    lm.model.set_attn_implementation(implementation)
    assert_equal(score(lm, [LONG]), 0, alone(lm, LONG))


def test_the_window_changes_something(monkeypatch):
    wide = score(families.build("mistral"), [LONG]).probability
    made = families.config

    def narrow(*arguments):
        config = made(*arguments)
        config.sliding_window = 6
        return config

    monkeypatch.setattr(families, "config", narrow)
    assert not torch.allclose(score(families.build("mistral"), [LONG]).probability, wide, rtol=0.05, atol=0)


def test_batches_and_cuts_change_nothing(lm, monkeypatch):
    whole = score(lm, [BIRD, LONG, OPEN]).probability
    for max_tokens in (1, 90, 100_000):
        torch.testing.assert_close(
            score(lm, [BIRD, LONG, OPEN], max_tokens=max_tokens).probability, whole, rtol=1e-4, atol=0
        )
    monkeypatch.setattr(plans, "_plans", WeakKeyDictionary())
    monkeypatch.setattr(plans, "TREE_NODES", 7)
    torch.testing.assert_close(score(lm, [BIRD, LONG, OPEN]).probability, whole, rtol=1e-4, atol=0)


def test_a_coefficient_for_each_question(lm):
    edits = [push(lm, ALL, torch.tensor([0.0, 3.0, -2.0]))]
    together = score(lm, [BIRD, LONG, BIRD], edits=edits, max_tokens=70)
    for i, (question, coefficient) in enumerate([(BIRD, 0.0), (LONG, 3.0), (BIRD, -2.0)]):
        single = score(lm, [question], edits=[push(lm, ALL, coefficient)])
        for group in together.groups:
            assert float(together.probability[i, together.groups.index(group)]) == pytest.approx(
                float(single.probability[0, single.groups.index(group)]), rel=1e-4
            )


CHAIN = {
    "<|assistant|>": {"a": 0.5, "b": 0.3, "c": 0.2},
    "a": {"<|end|>": 0.6, "x": 0.4},
    "b": {".": 0.5, "<|end|>": 0.25, "y": 0.25},
    "x": {",": 1.0},
    ",": {"y": 0.5, "x": 0.5},
}


def ask(answers, **fields):
    return Question("q", "t", ({"role": "user", "content": "which"},), answers, **fields)


def test_probabilities_set_by_hand():
    lm = chain(CHAIN)
    asked = ask(
        {"one": ("a", "b"), "two": ("a x", "b y"), "three": ("c", "y")}, openers=("", "c"), terminators=(" .", " ,")
    )
    scores = score(lm, [asked])
    # one: a end .3, b . or end .225; two: a x , .2, b y end .075; three: c end .2
    assert scores.probability[0].tolist() == pytest.approx([0.525, 0.275, 0.2], rel=1e-5)
    assert float(coherence(scores)[0]) == pytest.approx(1.0, rel=1e-6)
    assert float(share(scores, "two")[0]) == pytest.approx(0.275, rel=1e-5)
    partial = score(lm, [ask({"one": ("a", "b"), "two": ("c",)}, terminators=(" .",))])
    assert float(coherence(partial)[0]) == pytest.approx(0.725, rel=1e-5)
    assert float(share(partial, "one")[0]) == pytest.approx(0.525 / 0.725, rel=1e-5)


def test_without_terminators_a_longer_answer_is_part_of_the_shorter():
    lm = chain(CHAIN)
    scores = score(lm, [ask({"one": ("a", "a x"), "two": ("b y",)})])
    assert scores.probability[0].tolist() == pytest.approx([0.5, 0.075], rel=1e-5)
    with pytest.raises(AnachronError, match="begins with one of 'one'"):
        score(lm, [ask({"one": ("a",), "two": ("a x",)})])


def test_a_text_belongs_to_the_longest_answer():
    lm = chain(CHAIN)
    # "a x" can only go on with ",", and so does "a x , y": the shorter one keeps nothing
    scores = score(lm, [ask({"one": ("a x",), "two": ("a x , y",)}, terminators=(" ,",))])
    assert scores.probability[0].tolist() == pytest.approx([0.0, 0.1], abs=1e-6)


def test_an_answer_spelled_the_same_by_two_openers_counts_once(lm):
    asked = ask({"g": ("the train", "train"), "h": ("plane",)}, openers=("", "the"), terminators=(".",))
    assert_equal(score(lm, [asked]), 0, alone(lm, asked))


def test_many_answers_to_one_question(lm):
    words = [
        f"{x} {y} {z}" for x in ("Brown", "old", "river", "state", "train") for y in "abcdefghij" for z in range(1, 13)
    ]
    asked = ask({"old": tuple(words[:300]), "new": tuple(words[300:])}, terminators=(".",))
    scores = score(lm, [asked])
    prompt = encode_prompt(lm, asked.messages).ids
    for j, group in enumerate(scores.groups):
        texts = candidates(asked)[group]
        ids = encode_answers(lm, asked.messages, texts)
        (dot,) = {
            e[len(i)] for i, e in zip(ids, encode_answers(lm, asked.messages, [t + "." for t in texts]), strict=True)
        }
        total = 0.0
        for end in (dot, end_of_turn(lm)):
            rows = log_probs(lm, [Encoded((*prompt, *i, end), len(prompt)) for i in ids])
            total += sum(math.exp(float(row.sum())) for row in rows)
        assert float(scores.probability[0, j]) == pytest.approx(total, rel=1e-4)
    assert sum(tree.n_nodes for tree in plans.plan(lm, asked).trees) > 600


def test_questions_are_tokenised_once(lm, monkeypatch):
    first = score(lm, [BIRD, LONG]).probability
    monkeypatch.setattr(plans, "encode_answers", None)
    torch.testing.assert_close(score(lm, [BIRD, LONG, BIRD]).probability[1:], first.flip(0), rtol=1e-4, atol=0)


def test_the_plan_cache_is_bounded(lm, monkeypatch):
    monkeypatch.setattr(plans, "_plans", WeakKeyDictionary())
    monkeypatch.setattr(plans, "_MAX_PLANS", 2)
    score(lm, [BIRD, LONG, OPEN])
    assert len(plans._plans[lm.tokenizer]) == 2


def test_groups_must_agree(lm):
    with pytest.raises(AnachronError, match="'q' has the groups"):
        score(lm, [BIRD, ask({"old": ("x",)})])
    with pytest.raises(AnachronError, match="no questions"):
        score(lm, [])
    with pytest.raises(AnachronError, match="no group 'middle'; these scores have old, new, none"):
        share(score(lm, [BIRD]), "middle")


def test_answers_of_two_groups_with_the_same_tokens_are_refused():
    with pytest.raises(AnachronError, match="counts for 'one' and for 'two'"):
        score(chain(CHAIN), [ask({"one": ("a  x",), "two": ("a x",)})])


def test_nan_logits_are_refused(lm):
    lm.anatomy.final_norm.weight.data[0] = float("nan")
    with pytest.raises(AnachronError, match="question 'open': the model's logits are NaN"):
        score(lm, [OPEN])


def test_a_prompt_longer_than_the_model_is_refused(lm):
    long = Question("deep", "t", ({"role": "user", "content": "river " * 300},), {"a": ("x",)})
    with pytest.raises(AnachronError, match=r"question 'deep' and its answers: \d+ tokens, but tiny-llama takes 256"):
        score(lm, [long])


def test_a_model_that_ignores_the_mask_is_found_out(lm, monkeypatch):
    def everything(lm, allowed, positions):
        return torch.zeros(allowed.shape)[:, None]

    monkeypatch.setattr(scoring, "_masks", everything)
    with pytest.raises(AnachronError, match="doesn't follow a 4D attention mask"):
        score(lm, [BIRD])


def test_attention_that_takes_no_mask_is_refused(lm):
    lm.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(AnachronError, match="attn_implementation='sdpa'"):
        score(lm, [BIRD])


def test_the_model_is_left_as_it_was(lm):
    before = torch.random.get_rng_state()
    plain = score(lm, [LONG]).probability
    lm.anatomy.final_norm.weight.data[0], kept = float("nan"), float(lm.anatomy.final_norm.weight[0])
    with pytest.raises(AnachronError):
        score(lm, [LONG], edits=[push(lm, ALL)])
    lm.anatomy.final_norm.weight.data[0] = kept
    assert torch.equal(score(lm, [LONG]).probability, plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_with_opener():
    assert with_opener("", "x") == "x"
    assert with_opener("It is", "x") == "It is x"
