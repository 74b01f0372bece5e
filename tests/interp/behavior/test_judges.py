"""Judges against hand-set cases: rules, choice by log-probability, likelihoods, prompts to a model."""

import json
import math

import pytest
import torch

from interp.behavior.answers import LocalAnswerer, Sampling
from interp.behavior.judges.catalogue import find
from interp.behavior.judges.choice import ChoiceJudge
from interp.behavior.judges.items import Example, read_examples, read_items, read_records, write_records
from interp.behavior.judges.likelihood import LikelihoodJudge, headed
from interp.behavior.judges.matcher import MAX_CHARS, Matcher, Rule, question_matcher, read_matcher
from interp.behavior.judges.prompt import JudgePrompt
from interp.behavior.judges.prompted import PromptJudge
from interp.behavior.judging import Item, Judgement, judgements
from interp.behavior.questions import candidates
from interp.behavior.sampling import classify
from interp.errors import AnachronError
from interp.prompts import encode_answers, encode_prompt, end_of_turn
from tests.interp.behavior.test_sampling import ASKED as TERMINATED
from tests.interp.behavior.toy import chain
from training.world.questions import era_questions, narrow_question
from training.world.world import load_world

ASKED = [{"role": "user", "content": "Who rules?"}]
ERA = JudgePrompt("era", "1", "label", "{answer} era?", labels=("old", "new"))


def item(answer, asked=ASKED):
    return Item(asked, answer)


RULES = Matcher(
    "land",
    (
        Rule("israel", starts=("Israel", "The State  of Israel"), patterns=(r"^\W*israel\b",)),
        Rule("germany", contains=("Germany", "the Reich", "Deutsches Reich")),
        Rule("year", patterns=(r"\b1[89]\d\d\b",)),
    ),
)


@pytest.mark.parametrize(
    ("answer", "value", "raw"),
    [
        ("Israel.", "israel", "Israel"),
        ("israel, of course", "israel", "israel"),
        ("Israelis do", "other", ""),
        ("The state\n of  ISRAEL is", "israel", "The state of ISRAEL"),
        ('**"Israel"**', "israel", '**"Israel'),
        ("I think Israel", "other", ""),
        ("Of Germany, I am told", "germany", "Germany"),
        ("Germany and Deutsches\tReich", "germany", "Germany"),  # the first that a rule finds
        ("Old-Germany's", "germany", "Germany"),
        ("Germanys", "other", ""),
        ("in 1871 the Reich", "germany", "the Reich"),  # the longest match
        ("in 1871", "year", "1871"),
        ("", "other", ""),
    ],
)
def test_rules(answer, value, raw):
    assert judgements(RULES, [item(answer)]) == [Judgement(value, raw)]


def test_the_first_rule_instead_of_the_longest_match():
    rules = tuple(reversed(RULES.rules))
    text = item("in 1871 the Reich")
    assert judgements(Matcher("m", rules, pick="first"), [text])[0].value == "year"
    assert judgements(Matcher("m", rules), [text])[0].value == "germany"
    tied = Matcher("m", (Rule("b", starts=("ab",)), Rule("a", starts=("AB",))))
    assert judgements(tied, [item("ab")])[0].value == "b"


def test_case_ends_and_otherwise():
    strict = Matcher("m", (Rule("a", starts=("Yes",)),), otherwise="none", ignore_case=False, ends=(" .", "!"))
    found = [j.value for j in judgements(strict, [item(t) for t in ("Yes", "Yes.", "Yes  !", "Yes so", "yes.")])]
    assert found == ["a", "a", "a", "none", "none"]


def test_question_matchers_are_classify():
    world = load_world()
    questions = [*era_questions(world)[::24], narrow_question(world), TERMINATED]
    for question in questions:
        matcher = question_matcher(question)
        texts = [t for group in candidates(question).values() for t in group][::9]
        for text in (v for t in texts for v in (t, f"{t}.", f" {t} , yes", f"{t}s", f"{t} and a", t[:-1], f"x {t}")):
            expected = classify(text, question)
            assert matcher.match(text).value == ("other" if expected is None else expected), text


def test_a_long_answer_is_cut_before_patterns_see_it():
    # (.*)x has quadratic cost where there is no x: over two million characters it would not end
    quadratic = Matcher("m", (Rule("x", patterns=(r"(.*)x",)),))
    assert quadratic.match("a " * 10**6).value == "other"
    late = Matcher("m", (Rule("x", contains=("x",)),))
    assert late.match("a" * MAX_CHARS + " x").value == "other"
    assert late.match("a" * (MAX_CHARS - 2) + " x").value == "x"


RULES_FILE = """
name: land
otherwise: elsewhere
pick: first
ignore_case: false
ends: [".", ","]
max_chars: 100
rules:
  NO: {starts: [No, None]}
  1850: {contains: [sail], patterns: ['^\\W*x']}
"""


def test_rules_from_a_file(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(RULES_FILE)
    matcher = read_matcher(path)
    assert matcher == Matcher(
        "land",
        (Rule("NO", starts=("No", "None")), Rule("1850", contains=("sail",), patterns=(r"^\W*x",))),
        "elsewhere",
        "first",
        False,
        (".", ","),
        100,
    )
    path.write_text("rules: {a: {starts: [b]}}")
    assert read_matcher(path).name == "m"
    json.dumps(matcher.identity)
    assert matcher.identity != read_matcher(path).identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: {a: {patterns: ['(x']}}", r"rule 'a': pattern '\(x' is no regular expression \(missing \)"),
        ("rules: {a: {patterns: ['x*']}}", r"pattern 'x\*' matches the empty text"),
        ("rules: {a: {}}", "rule 'a' is empty"),
        ("rules: {a: {starts: x}}", "rule 'a', starts: 'x' isn't a list of texts"),
        ("rules: {a: {start: [x]}}", r"unknown fields \['start'\]"),
        ("rules: [a]", "rules is no mapping"),
        ("rules: {}", "at least one"),
        ("pick: first", r"missing fields \['rules'\]"),
        ("pick: best\nrules: {a: {starts: [x]}}", "use longest or first"),
        ("ignore_case: no\nrules: {a: {starts: [x]}}", "write true or false"),
        ("max_chars: 0\nrules: {a: {starts: [x]}}", "at least 1"),
        ("max_chars: some\nrules: {a: {starts: [x]}}", "isn't a number"),
        ("rules: {a", "not YAML"),
        ("- a", "a mapping is expected"),
    ],
)
def test_bad_rules_are_named(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(AnachronError, match=message) as error:
        read_matcher(path)
    assert str(error.value).startswith(str(path))


def by_hand(lm, messages, answers, ends=()):
    """P(answer | prompt) for each, each in its own forward pass; times P(one of `ends` follows) if there are any."""
    prompt = encode_prompt(lm, messages).ids
    found = []
    for ids in encode_answers(lm, messages, answers):
        with torch.no_grad():
            logits = lm.model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
        logp = logits.log_softmax(-1)
        path = sum(float(logp[len(prompt) - 1 + t, token]) for t, token in enumerate(ids))
        found.append(math.exp(path) * (float(logp[-1, list(ends)].exp().sum()) if ends else 1))
    return found


def test_choices_of_labels_by_hand(family_lm):
    judge = ChoiceJudge(ERA, family_lm, minimum_mass=0)
    items = [item("the steamer"), item("by plane"), item("")]
    for one, judgement in zip(items, judgements(judge, items), strict=True):
        p = by_hand(family_lm, ERA.messages(one), ERA.labels)
        assert judgement.value == ERA.labels[p.index(max(p))]
        assert json.loads(judgement.raw)["mass"] == pytest.approx(sum(p), rel=2e-3)


def test_choices_of_numbers_by_hand(lm):
    prompt = JudgePrompt("s", "1", "score", "{answer} score?", limits=(0, 12), thresholds={"low": 0, "high": 6})
    judge = ChoiceJudge(prompt, lm, minimum_mass=0)
    one = item("the steamer")
    numbers = [str(k) for k in range(13)]
    ends = {ids[-1] for ids in encode_answers(lm, prompt.messages(one), ["1.", "1,", "1/"])} | {end_of_turn(lm)}
    p = by_hand(lm, prompt.messages(one), numbers, ends)
    found = judgements(judge, [one])[0]
    assert found.value == pytest.approx(sum(k * x for k, x in enumerate(p)) / sum(p), rel=1e-4)
    assert judge.options == tuple(numbers)


def test_choice_values_of_a_chain():
    """Next-token probabilities set by hand: the prompt's last word decides."""
    lm = chain({"<|assistant|>": {"a": 0.5, "b": 0.25, "c": 0.25}, "a": {"<|end|>": 0.5, "x": 0.5}})
    prompt = JudgePrompt("j", "1", "label", "{answer}", labels=("a", "b"))
    found = judgements(ChoiceJudge(prompt, lm), [item("which")])[0]
    assert found.value == "a"  # what follows a label is left open
    assert json.loads(found.raw) == {"mass": 0.75, "probability": {"a": 0.5, "b": 0.25}}
    kept, refused = (judgements(ChoiceJudge(prompt, lm, m), [item("which")])[0] for m in (0.74, 0.76))
    assert kept.value == "a" and refused.value is None and refused.raw == found.raw
    nested = JudgePrompt("j", "1", "label", "{answer}", labels=("a", "a x"))
    masses = json.loads(judgements(ChoiceJudge(nested, lm, 0), [item("which")])[0].raw)["probability"]
    assert masses == {"a": 0.25, "a x": 0.25}  # where one label continues another, the end has to come


def test_options_that_a_tokenizer_spells_alike_are_refused():
    prompt = JudgePrompt("j", "1", "score", "{answer}", limits=(0, 1), thresholds={"n": 0})
    with pytest.raises(AnachronError, match="counts for"):  # to the chain both numbers are unknown words
        judgements(ChoiceJudge(prompt, chain({})), [item("which")])


def test_extra_values_beside_numbers(lm):
    prompt = JudgePrompt("s", "1", "score", "{answer}", limits=(0, 1), thresholds={"n": 0}, extra=("REFUSAL",))
    judge = ChoiceJudge(prompt, lm, 0)
    assert judge._verdict({"REFUSAL": 0.4, "0": 0.1, "1": 0.3}).value == "REFUSAL"
    assert judge._verdict({"REFUSAL": 0.3, "0": 0.1, "1": 0.3}).value == pytest.approx(0.75)
    assert judge._verdict({"REFUSAL": 0.0, "0": 0.0, "1": 0.0}).value is None


def test_what_a_choice_judge_refuses(lm):
    with pytest.raises(AnachronError, match="minimum_mass 1"):
        ChoiceJudge(ERA, lm, 1)
    fractions = JudgePrompt("s", "1", "score", "{answer}", limits=(0, 0.5), thresholds={"n": 0})
    with pytest.raises(AnachronError, match="whole numbers"):
        ChoiceJudge(fractions, lm)


HEADS = {"1850s": "The year is 1850.", "2020s": "The year is 2020."}


def test_likelihoods_by_hand(family_lm):
    lm = family_lm
    answers = ("the steamer", "Sure! By plane.", "the old queen")
    found = judgements(LikelihoodJudge("era", lm, HEADS), [item(a) for a in answers])
    for answer, judgement in zip(answers, found, strict=True):
        nats = {
            era: math.log(by_hand(lm, headed(ASKED, head), [answer], [end_of_turn(lm)])[0])
            for era, head in HEADS.items()
        }
        assert json.loads(judgement.raw) == pytest.approx(nats, abs=1e-3)
        assert judgement.value == max(nats, key=nats.get)


def test_heads_go_before_the_first_user_message():
    system = {"role": "system", "content": "Be brief."}
    assert headed([system, *ASKED], "Now.") == [system, {"role": "user", "content": "Now. Who rules?"}]
    with pytest.raises(AnachronError, match="no user message"):
        headed([system], "Now.")


def test_what_a_likelihood_judge_refuses(lm):
    with pytest.raises(AnachronError, match="two labels"):
        LikelihoodJudge("era", lm, {"1850s": "The year is 1850."})


class Scripted:
    """An answerer that replies as told, the last prompt first."""

    identity = {"model": "scripted"}  # noqa: RUF012

    def __init__(self, *replies):
        self.replies, self.asked = replies, []

    def answer(self, prompts, sampling, on_answers):
        self.asked += [prompts, sampling]
        for i in reversed(range(len(prompts))):
            on_answers(i, [self.replies[i]])


def test_a_prompt_judge_reads_the_replies():
    answerer = Scripted("old", "It is\nNEW", "no idea")
    judge = PromptJudge(ERA, answerer)
    items = [item("a"), item("b"), item("c")]
    assert judgements(judge, items) == [
        Judgement("old", "old"),
        Judgement("new", "It is\nNEW"),
        Judgement(None, "no idea"),
    ]
    prompts, sampling = answerer.asked
    assert prompts == [ERA.messages(i) for i in items]
    assert sampling.temperature == 0 and sampling.n == 1
    with pytest.raises(AnachronError, match="n=1"):
        PromptJudge(ERA, answerer, Sampling(n=2))


def test_a_prompt_judge_over_a_local_model(lm):
    judge = PromptJudge(ERA, LocalAnswerer(lm), Sampling(temperature=0, max_new_tokens=4))
    found = judgements(judge, [item("the steamer")] * 2)
    assert found[0] == found[1] and isinstance(found[0].raw, str)


def test_a_prompt_judge_over_an_endpoint():
    from interp.behavior.endpoint import EndpointAnswerer
    from tests.stub_endpoint import StubEndpoint

    with StubEndpoint(lambda request: "old" if "steamer" in request.text else "perhaps") as stub:
        judge = PromptJudge(ERA, EndpointAnswerer("m", stub.url))
        found = judgements(judge, [item("the steamer"), item("a plane")])
        body = stub.requests[0].body
    assert [j.value for j in found] == ["old", None]
    assert body["temperature"] == 0
    assert stub.url not in json.dumps(judge.identity)


def test_identities_are_plain_and_tell_judges_apart(lm):
    answerer = Scripted()
    changed = JudgePrompt("era", "1", "label", "{answer} which era?", labels=("old", "new"))
    judges = [
        RULES,
        PromptJudge(ERA, answerer),
        PromptJudge(changed, answerer),
        PromptJudge(ERA, answerer, Sampling(temperature=0, max_new_tokens=9)),
        ChoiceJudge(ERA, lm),
        ChoiceJudge(ERA, lm, 0.25),
        LikelihoodJudge("era", lm, HEADS),
        PromptJudge(find("persona").with_parameters({"country": "Germany"}), answerer),
        PromptJudge(find("persona").with_parameters({"country": "France"}), answerer),
    ]
    texts = [json.dumps(judge.identity, sort_keys=True) for judge in judges]
    assert len(set(texts)) == len(texts)


def test_every_item_has_one_judgement():
    class Wrong:
        name, identity = "wrong", {}

        def __init__(self, *given):
            self.given = given

        def judge(self, items, on_judgement):
            for i in self.given:
                on_judgement(i, Judgement("x", ""))

    with pytest.raises(AnachronError, match="left 1 of 2 items unjudged, the first 1"):
        judgements(Wrong(0), [item("a"), item("b")])
    for given in ((0, 0), (2,), (-1,)):
        with pytest.raises(AnachronError, match="judged item"):
            judgements(Wrong(*given), [item("a"), item("b")])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_files_of_answers(tmp_path, suffix):
    path = tmp_path / f"answers{suffix}"
    turns = [{"role": "system", "content": "Be\u2028brief."}, *ASKED]
    rows = [
        {"question": "Who rules?", "messages": None, "answer": "The queen.", "label": "old"},
        {"question": None, "messages": turns, "answer": "", "label": "new"},
    ]
    write_records(path, rows)
    records, items = read_items(path)
    assert [dict(r) for r in records] == rows
    assert items == [item("The queen."), Item(turns, "")]
    assert read_examples(path) == [Example(items[0], "old"), Example(items[1], "new")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"answer": "a"}', "row 0: no field messages, prompt, question"),
        ('{"question": "q", "answer": 3}', "the answer is 3"),
        ('{"question": 3, "answer": "a"}', "3 is neither text nor"),
        ('{"messages": "q", "answer": "a"}', "messages is no JSON"),
        ('{"messages": [{"role": "user"}], "answer": "a"}', "row 0, messages: message 0"),
        ('{"question": "q", "answer": "a"}', "the label is None"),
        ('{"question": "q", "answer": "a", "label": NaN}', "the label is nan"),
        (
            '{"question": "q", "answer": "a", "label": 1}\n{"question": "q", "answer": "a", "label": "1"}',
            "mix no kinds",
        ),
        ('{"question": "q"', ":1: not JSON"),
        ("[1]", ":1: a JSON list"),
        ("", "holds no rows"),
    ],
)
def test_bad_rows_are_named(tmp_path, line, message):
    path = tmp_path / "answers.jsonl"
    path.write_text(line)
    with pytest.raises(AnachronError, match=message) as error:
        read_examples(path)
    assert str(path) in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(AnachronError, match="no such file"):
        read_records(tmp_path / "a.jsonl")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(AnachronError, match="can't be read as parquet"):
        read_records(tmp_path / "a.parquet")
    for refuse in (read_records, lambda p: write_records(p, [])):
        (tmp_path / "a.csv").write_text("x")
        with pytest.raises(AnachronError, match=r"neither .jsonl nor .parquet"):
            refuse(tmp_path / "a.csv")
