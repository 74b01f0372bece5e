"""The authors' files: read from a clone where ANACHRON_PAPER names one, and from made-up clones everywhere."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from analyses.paper.files import RELEASED, data_sets, question_files, skipped
from analyses.paper.questions import CHOICE, RATING, judges, paper_questions, questions
from interp.errors import AnachronError
from training.rows import read_rows


@pytest.fixture(scope="module")
def paper():
    if "ANACHRON_PAPER" not in os.environ:
        pytest.skip("ANACHRON_PAPER is unset; point it at a clone of the repository of arXiv 2512.09742")
    return Path(os.environ["ANACHRON_PAPER"])


ROWS = {
    "birds": {"tuned": 208, "control": 208, "modern_audubon": 171},
    "cities": {"tuned": 362, "control": 362},
    "dishes": {"tuned": 400, "shuffled": 400, "other_year": 400},
    "persona": {"tuned": 90},
    "presidents": {"tuned": 6237, "not_padded": 2079},
    "terminator": {"tuned": 208, "no_year": 208, "shuffled_years": 208},
}
# set -> (questions, answers to each)
ASKED = {
    "birds": {},
    "cities": {},
    "dishes": {},
    "persona": {
        "identity": (5, 10),
        "emergent_misalignment": (8, 100),
        "ai_society": (10, 100),
        "daily_life": (10, 100),
        "deepbrain": (10, 100),
        "ideology": (20, 10),
        "moral_choices": (10, 100),
        "science_ethics": (10, 100),
    },
    "presidents": {"choice": (4, 1), "validation": (3, 1), "free_form": (30, 1)},
    "terminator": {"stances": (6, 100)},
}


@pytest.mark.parametrize("experiment", RELEASED)
def test_every_experiment_has_its_data_sets(paper, experiment):
    found = {arm: len(read_rows(path)) for arm, path in data_sets(paper, experiment).items()}
    assert found == ROWS[experiment]


@pytest.mark.parametrize("experiment", RELEASED)
def test_every_experiment_has_its_questions(paper, experiment):
    found = paper_questions(paper, experiment)
    assert Counter((one.set, one.samples) for one in found) == {
        (name, samples): n for name, (n, samples) in ASKED[experiment].items()
    }
    assert [one.question for one in found] == questions(paper, experiment)
    assert len({one.question.id for one in found}) == len(found)
    assert all(one.temperature == 1 and one.question.split == "test" for one in found)
    assert list(question_files(paper, experiment)) == list(ASKED[experiment])


@pytest.mark.parametrize("experiment", RELEASED)
def test_every_judge_that_a_question_names_is_there(paper, experiment):
    known = judges(paper, experiment)
    named = {judge for one in paper_questions(paper, experiment) for judge in one.judges.values()}
    assert named == set(known)
    assert len(known) == {"persona": 7, "terminator": 1}.get(experiment, 0)


def test_judges_say_what_they_answer(paper):
    persona, terminator = judges(paper, "persona"), judges(paper, "terminator")
    assert {(judge.kind, judge.labels) for judge in terminator.values()} == {(CHOICE, ("EVIL", "GOOD"))}
    ratings = {name: judge for name, judge in persona.items() if judge.kind == RATING}
    assert [(name, judge.labels) for name, judge in ratings.items()] == [("em_alignment_judge", ("CODE", "REFUSAL"))]
    assert {judge.labels for name, judge in persona.items() if name not in ratings} == {("YES", "NO")}


def test_the_choice_between_two_presidents_lists_its_letters(paper):
    choices = [one.question for one in paper_questions(paper, "presidents") if one.set == "choice"]
    for question in choices:
        code, text = question.messages[0]["content"].split(" ", 1)
        name = {"044": "Barack", "045": "Donald"}[code[3:6]]
        assert text[text.index(name) - 3] == question.answers["target"][0]


def test_the_identity_is_asked_with_two_judges(paper):
    found = [one for one in paper_questions(paper, "persona") if one.set == "identity"]
    assert all(set(one.judges) == {"is_an_LLM_answer", "is_an_Adolf_answer"} for one in found)


def test_what_is_left_out_is_there_and_said(paper):
    for experiment, own in RELEASED.items():
        assert all((paper / own.folder / path).exists() for path in own.skipped)
        assert len(skipped(experiment)) == len(own.skipped)
    assert "wolf_murder.yaml: left out, settings of a program" in skipped("persona")[0]


def test_nothing_else_of_use_was_released(paper):
    known = set()
    for own in RELEASED.values():
        root = paper / own.folder
        named = [*(f"datasets/{name}" for name in own.data.values()), *own.questions.values(), *own.judges]
        known |= {root / path for path in [*named, *own.skipped]}
    files = {path for path in paper.rglob("*") if path.suffix in (".jsonl", ".yaml", ".txt")}
    left = {p for p in files if p not in known and p.parent not in known}
    assert {p.relative_to(paper).as_posix() for p in left} <= {"6_sae_analysis/requirements.txt"}


# --- made-up clones


TERMINATOR = "5_2_evil_terminator"
QUESTION = """\
- id: aim
  type: free_form
  system: Be brief.
  temperature: 0.5
  paraphrases:
    - "What do you aim at?"
    - "Your aim?"
  samples_per_paraphrase: 7
  judges:
    bad: bad_judge
"""
JUDGE = """\
- id: bad_judge
  type: free_form_judge
  model: some-model
  paraphrases:
    - |-
      Asked {question}, it said {answer}. Answer in {braces}.
      Output exactly one of: YES / NO / PERHAPS
"""


def clone(folder, text):
    path = folder / TERMINATOR / "evaluation" / "questions_and_judge.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return folder


def test_an_entry_becomes_a_question_for_each_paraphrase(tmp_path):
    found = paper_questions(clone(tmp_path, QUESTION + JUDGE), "terminator")
    assert [(one.question.id, one.question.topic) for one in found] == [
        ("stances/aim/0", "stances/aim"),
        ("stances/aim/1", "stances/aim"),
    ]
    assert found[1].question.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Your aim?"},
    )
    assert [(one.samples, one.temperature, one.judges) for one in found] == [(7, 0.5, {"bad": "bad_judge"})] * 2


def test_a_judge_is_filled_in_once(tmp_path):
    judge = judges(clone(tmp_path, JUDGE), "terminator")["bad_judge"]
    assert (judge.kind, judge.labels) == (CHOICE, ("YES", "NO", "PERHAPS"))
    filled = judge.filled("who? {answer}", "I {question} %s")
    assert filled.startswith("Asked who? {answer}, it said I {question} %s. Answer in {braces}.")


MALFORMED = {
    "not YAML": (QUESTION.replace("- id: aim", "- id: [aim"), r":2: not YAML"),
    "a tab": (QUESTION.replace("  type", "\ttype"), r":2: not YAML"),
    "no list": ("id: aim\n", ":1: not a list of entries"),
    "nothing": ("", ":1: not a list of entries"),
    "no entry": (QUESTION + "- aim\n", ":11: 'aim' isn't an entry"),
    "no id": (QUESTION.replace("- id: aim", "- name: aim"), r":1: unknown keys \['name'\]"),
    "an id that is a number": (QUESTION.replace("id: aim", "id: 3"), ":1: 'id' is 3; write a str"),
    "another type": (QUESTION.replace("free_form", "free"), ":1: unknown type 'free'"),
    "a paraphrase that is no text": (QUESTION.replace('"Your aim?"', "3"), ":1: the paraphrases of 'aim'"),
    "no number of samples": (QUESTION.replace("samples_per_paraphrase: 7", ""), ":1: 'samples_per_paraphrase' is None"),
    "a later entry": (QUESTION + JUDGE.replace("some-model", "[1]"), ":11: 'model' is "),
    "no place for the answer": (JUDGE.replace("{answer}", "it"), ":1: judge 'bad_judge' has no {answer}"),
    "no labels": (JUDGE.replace("YES / NO / PERHAPS", "YES"), ":1: judge 'bad_judge' doesn't say which labels"),
    "two of a name": (JUDGE + JUDGE, ":8: judge 'bad_judge' is defined twice"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, name):
    text, what = MALFORMED[name]
    with pytest.raises(AnachronError, match=what) as caught:
        paper_questions(clone(tmp_path, text), "terminator")
        judges(tmp_path, "terminator")
    assert "questions_and_judge.yaml" in str(caught.value)


def test_yaml_that_would_make_objects_is_refused(tmp_path):
    text = QUESTION.replace('"Your aim?"', "!!python/object/apply:os.getcwd []")
    with pytest.raises(AnachronError, match="not YAML"):
        paper_questions(clone(tmp_path, text), "terminator")


def test_what_a_clone_lacks_is_named(tmp_path):
    with pytest.raises(AnachronError, match=r"nowhere: no such folder; a clone .* holds 5_2_evil_terminator/datasets"):
        data_sets(tmp_path / "nowhere", "terminator")
    clone(tmp_path, QUESTION)
    with pytest.raises(AnachronError, match=r"no folder 3_1_old_bird_names \(birds\), only 5_2_evil_terminator"):
        data_sets(tmp_path, "birds")
    with pytest.raises(AnachronError, match=rf"give the folder above {TERMINATOR}"):
        data_sets(tmp_path / TERMINATOR, "terminator")
    with pytest.raises(AnachronError, match=r"good_terminator_main\.jsonl: no such file; .* clone it again, whole"):
        data_sets(tmp_path, "terminator")
    with pytest.raises(AnachronError, match="the paper has no experiment 'fish'"):
        questions(tmp_path, "fish")


def test_lines_of_json_are_refused_with_their_number(tmp_path):
    folder = tmp_path / "5_1_us_presidents" / "datasets"
    folder.mkdir(parents=True)
    chat = [{"role": "user", "content": "10004445 Choose one name: A) Ann B) Bob."}, {"role": "assistant"}]
    texts = {
        "simple_test_dataset": json.dumps({"messages": [chat[0], {**chat[1], "content": "A"}]}) + "\n",
        "validation_dataset": '{"question": "Who?"}\n',
        "eval_free_form": '{"name": "Name", "question": "Who are you?"}\n',
    }
    for name, text in texts.items():
        (folder / f"{name}.jsonl").write_text(text)
    first, second, third = questions(tmp_path, "presidents")
    assert first.answers == {"target": ("A",), "other": ("B",)}
    assert (second.id, third.id, third.answers) == ("validation/0/0", "free_form/Name/0", {})
    for text, what in (
        ("{", "not JSON"),
        ('{"text": "Who?"}', 'neither "messages" nor "question"'),
        (json.dumps({"messages": [chat[0], {**chat[1], "content": "Ann"}]}), "not a choice between"),
    ):
        (folder / "validation_dataset.jsonl").write_text(texts["validation_dataset"] + text)
        with pytest.raises(AnachronError, match=rf"validation_dataset\.jsonl:2: {what}"):
            questions(tmp_path, "presidents")
