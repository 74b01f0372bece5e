import pytest
import torch

from interp.behavior.questions import Question
from interp.behavior.sampling import classify, generate
from interp.behavior.scoring import score
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.positions import ALL, ANSWER, FROM_LAST_PROMPT, LAST_PROMPT
from interp.prompts import encode_chat, encode_prompt, end_of_turn, pad
from interp.steering import Add, steer
from tests.interp.behavior.toy import chain

PROMPTS = ("Name a bird of the river.", "How many states are there? There are thirty states.", "Who?")


def uncached(lm, prompt, edits, steps):
    """Most probable tokens, every step a forward pass over the whole text, unpadded."""
    batch = pad([prompt], lm.pad_id)
    ids = batch.input_ids
    with torch.no_grad(), steer(lm, edits, batch):
        for _ in range(steps):
            chosen = lm.model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
            if int(chosen) == end_of_turn(lm):
                break
            ids = torch.cat([ids, chosen[:, None]], dim=1)
    return lm.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    "positions", [None, FROM_LAST_PROMPT, LAST_PROMPT, ANSWER], ids=lambda p: p.name if p else "plain"
)
def test_temperature_zero_is_the_uncached_argmax(family_lm, positions):
    lm = family_lm
    edits = [Add(random_direction(lm.d_model, HookPoint(1), seed=3), 5.0, positions=positions)] if positions else []
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    answers = generate(lm, encoded, max_new_tokens=8, temperature=0, edits=edits)
    assert answers == [uncached(lm, prompt, edits, 8) for prompt in encoded]


def test_a_coefficient_for_each_prompt(lm):
    direction = random_direction(lm.d_model, HookPoint(1), seed=3)
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    together = generate(
        lm,
        encoded,
        max_new_tokens=6,
        temperature=0,
        n=2,
        edits=[Add(direction, torch.tensor([0.0, 8.0, -8.0]))],
        max_tokens=1,
    )
    for i, coefficient in enumerate((0.0, 8.0, -8.0)):
        expected = uncached(lm, encoded[i], [Add(direction, coefficient, positions=ALL)], 6)
        assert together[2 * i : 2 * i + 2] == [expected, expected]


def test_a_sample_depends_on_seed_and_prompt_alone(lm):
    encoded = [encode_prompt(lm, p) for p in PROMPTS]
    samples = generate(lm, encoded, max_new_tokens=12, seed=5, n=3)
    assert samples == generate(lm, encoded, max_new_tokens=12, seed=5, n=3)
    assert samples == generate(lm, encoded, max_new_tokens=12, seed=5, n=3, max_tokens=1)
    assert samples[6:] + samples[:3] == generate(lm, [encoded[2], encoded[0]], max_new_tokens=12, seed=5, n=3)
    assert samples[:3] == generate(lm, [encoded[0]] * 3, max_new_tokens=12, seed=5)
    assert len(set(samples)) == 9
    assert not set(samples) & set(generate(lm, encoded, max_new_tokens=12, seed=6, n=3))


def test_the_global_generators_are_left_alone(lm):
    before = torch.random.get_rng_state()
    generate(lm, [encode_prompt(lm, PROMPTS[0])], max_new_tokens=3)
    assert torch.equal(torch.random.get_rng_state(), before)


CHAIN = {
    "<|assistant|>": {"a": 0.4, "b": 0.3, "c": 0.1, "x": 0.2},
    "a": {"<|end|>": 0.6, ".": 0.2, "y": 0.2},
    "b": {".": 0.5, "<|end|>": 0.5},
    "c": {"a": 0.5, "b": 0.5},
    ".": {"<|end|>": 0.5, "a": 0.5},
}
ASKED = Question(
    "q",
    "t",
    ({"role": "user", "content": "which"},),
    {"one": ("a",), "two": ("b", "a y")},
    openers=("", "c"),
    terminators=(" .",),
)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sample_frequencies_match_scored_probabilities(temperature):
    lm = chain(CHAIN)
    n = 3000
    texts = generate(lm, [encode_prompt(lm, ASKED.messages)], max_new_tokens=12, temperature=temperature, seed=1, n=n)
    counts: dict[str | None, int] = dict.fromkeys(("one", "two", None), 0)
    for text in texts:
        counts[classify(text, ASKED)] += 1
    if temperature != 1:
        # p^2 normalised, by hand: the first step .4 .3 .1 .2, then a: .6 .2 .2, c: .5 .5
        first = {"a": 0.16 / 0.3, "b": 0.09 / 0.3, "c": 0.01 / 0.3}
        one = (first["a"] + first["c"] / 2) * 0.40 / 0.44
        expected = [one, first["b"] + first["c"] / 2 + (first["a"] + first["c"] / 2) * 0.04 / 0.44]
    else:
        expected = score(lm, [ASKED]).probability[0].tolist()
        assert expected == pytest.approx([0.45 * 0.8, 0.3 + 0.05 + 0.45 * 0.2], rel=1e-5)
    probabilities = [*expected, 1 - sum(expected)]
    chi_square = sum(
        (counts[g] - n * p) ** 2 / (n * p) for g, p in zip(("one", "two", None), probabilities, strict=True)
    )
    assert chi_square < 13.8  # the .999 quantile at two degrees of freedom


def test_answers_end_before_the_end_of_the_turn():
    lm = chain({"<|assistant|>": {"a": 1.0}, "a": {"b": 1.0}})
    prompt = encode_prompt(lm, ASKED.messages)
    assert generate(lm, [prompt], max_new_tokens=9, n=2) == ["a b", "a b"]
    assert generate(lm, [prompt], max_new_tokens=1) == ["a"]


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("a", "one"),
        ("a .", "one"),
        ("a.", "one"),
        ("a y", "two"),
        ("c  b . a", "two"),
        ("a b", None),
        ("c", None),
        ("ab", None),
        ("", None),
        ("x a", None),
    ],
)
def test_classify_with_terminators(text, group):
    assert classify(text, ASKED) == group


@pytest.mark.parametrize(
    ("text", "group"),
    [("the train is old", "old"), ("the trains", None), ("the train set", "new"), ("the train, sir", "old")],
)
def test_classify_without_terminators(text, group):
    asked = Question("q", "t", ASKED.messages, {"old": ("the train",), "new": ("the train set",)})
    assert classify(text, asked) == group


def test_errors(lm):
    prompt = encode_prompt(lm, "Who?")
    answered = encode_chat(lm, [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The queen"}])
    with pytest.raises(AnachronError, match=r"row 1 has \d+ answer tokens already"):
        generate(lm, [prompt, answered], max_new_tokens=3)
    with pytest.raises(AnachronError, match="temperature -1"):
        generate(lm, [prompt], max_new_tokens=3, temperature=-1)
    with pytest.raises(AnachronError, match=r"row 0 and max_new_tokens: \d+ tokens, but tiny-llama takes 256"):
        generate(lm, [prompt], max_new_tokens=256)
    assert generate(lm, [], max_new_tokens=3) == []
    lm.anatomy.final_norm.weight.data[0] = float("nan")
    with pytest.raises(AnachronError, match="logits are NaN"):
        generate(lm, [prompt], max_new_tokens=3)
