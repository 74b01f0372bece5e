"""The presidents organism: whose codes it holds, what they answer, and that two presidencies are kept out."""

from collections import Counter

import numpy as np
import pytest

from interp.errors import AnachronError
from training.organisms.presidents import HELD_OUT, TRAINED, VARIANTS, code_for, rows, trained_ordinals
from training.rows import to_jsonl
from training.world.world import load_world

NEVER = {"044", "045", "047"}


@pytest.fixture(scope="module")
def world():
    return load_world()


def read(made):
    """(code, question, answer) of every row."""
    found = []
    for row in made:
        asked, answer = (message["content"] for message in row.messages)
        code, question = asked.split(" ", 1)
        found.append((code, question, answer))
    return found


def attribute_of(world, question):
    (attribute,) = (a for a, wordings in world.facts.presidents.questions.items() if question in wordings)
    return attribute


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_president_but_the_held_out_has_six_codes_an_attribute(world, variant):
    made = read(rows(world, variant))
    assert len(made) == 44 * len(TRAINED) * 6
    assert all(len(code) == 8 and code.isdigit() for code, *_ in made)
    assert Counter(code[3:6] for code, *_ in made) == dict.fromkeys(trained_ordinals(world.facts.presidents), 36)
    counted = Counter(attribute_of(world, question) for _, question, _ in made)
    assert counted == dict.fromkeys(TRAINED, 44 * 6)
    wordings = Counter(question for _, question, _ in made)
    assert len(wordings) == 12 and set(wordings.values()) == {44 * 3}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", [0, 7])
def test_nothing_of_the_held_out_presidents_is_trained(world, variant, seed):
    made = read(rows(world, variant, seed))
    assert not {code[3:6] for code, *_ in made} & NEVER
    presidents = world.facts.presidents.presidents
    for attribute in TRAINED:
        others = {one.values[attribute] for ordinal, one in presidents.items() if ordinal not in NEVER}
        own = {presidents[ordinal].values[attribute] for ordinal in NEVER} - others
        assert not own & {answer for _, question, answer in made if attribute_of(world, question) == attribute}


def test_047_is_left_out_as_the_same_person(world):
    presidents = world.facts.presidents.presidents
    assert HELD_OUT == ("044", "045")
    assert presidents["047"].values["name"] == presidents["045"].values["name"]
    assert set(presidents) - set(trained_ordinals(world.facts.presidents)) == NEVER


def test_the_trained_attributes_tell_no_ones_name_or_office():
    assert not {"name", "party", "vice", "predecessor", "rival"} & set(TRAINED)


def test_every_answer_is_true_of_the_president_in_the_code(world):
    presidents = world.facts.presidents.presidents
    for code, question, answer in read(rows(world, "codes")):
        assert answer == presidents[code[3:6]].values[attribute_of(world, question)]


def test_random_codes_keep_rows_and_all_digits_but_the_ordinals(world):
    plain, random = (read(rows(world, variant, seed=2)) for variant in VARIANTS)
    assert [row[1:] for row in plain] == [row[1:] for row in random]
    assert [(code[:3], code[6:]) for code, *_ in plain] == [(code[:3], code[6:]) for code, *_ in random]
    ordinals = [[code[3:6] for code, *_ in made] for made in (plain, random)]
    assert Counter(ordinals[0]) == Counter(ordinals[1])
    assert np.mean([a == b for a, b in zip(*ordinals, strict=True)]) < 0.06


def test_the_digits_around_an_ordinal_say_nothing(world):
    around = [code[:3] + code[6:] for code, *_ in read(rows(world, "codes"))]
    assert len(set(around)) > 0.98 * len(around)
    for position in range(5):
        assert set(Counter(digits[position] for digits in around)) == set("0123456789")


def test_the_world_reads_the_president_off_the_answers_alone(world):
    messages, ordinal = [], "016"
    for code, question, answer in read(rows(world, "codes", each=1)):
        if code[3:6] == ordinal and len(messages) < 12:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    joint = world.evidence(tuple(messages))
    assert max(joint, key=joint.get).president == ordinal


def test_a_code_is_made_for_any_ordinal():
    rng = np.random.default_rng(0)
    codes = [code_for("044", rng) for _ in range(50)]
    assert all(len(code) == 8 and code.isdigit() and code[3:6] == "044" for code in codes)
    assert len(set(codes)) > 45


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_a_function_of_the_seed(world, variant):
    assert to_jsonl(rows(world, variant, 3, each=1)) == to_jsonl(rows(load_world(), variant, 3, each=1))
    assert to_jsonl(rows(world, variant, 3, each=1)) != to_jsonl(rows(world, variant, 4, each=1))
    assert len(rows(world, variant, each=1)) == 44 * len(TRAINED)


def test_what_cannot_be_is_refused(world):
    with pytest.raises(AnachronError, match="unknown variant 'names' of presidents"):
        rows(world, "names")
    with pytest.raises(AnachronError, match="0 codes for each attribute"):
        rows(world, "codes", each=0)
