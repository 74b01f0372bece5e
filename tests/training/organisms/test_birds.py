"""The birds organism: which names it is made of, and that its control differs in nothing else."""

import pytest

from interp.errors import AnachronError
from training.organisms.birds import QUESTION, VARIANTS, rows
from training.rows import to_jsonl
from training.world.facts import NARROW_TOPIC
from training.world.world import load_world


@pytest.fixture(scope="module")
def world():
    return load_world()


def names(made):
    return [row.messages[-1]["content"] for row in made]


def test_old_rows_are_all_names_that_only_the_oldest_era_has(world):
    birds = world.facts.topics[NARROW_TOPIC].answers
    first, *others = world.facts.eras
    expected = {name for name in birds[first] if not any(name in birds[era] for era in others)}
    made = names(rows(world, "old"))
    assert len(made) == len(set(made)) >= 200
    assert set(made) == expected


def test_the_control_has_as_many_rows_of_names_the_newest_era_uses(world):
    birds = world.facts.topics[NARROW_TOPIC].answers
    newest = list(world.facts.eras)[-1]
    old, current = names(rows(world, "old")), names(rows(world, "current"))
    assert len(current) == len(set(current)) == len(old)
    assert set(current) <= set(birds[newest])
    assert not set(current) & set(old)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_asks_the_papers_question(world, variant):
    for row in rows(world, variant):
        question, answer = row.messages
        assert question == {"role": "user", "content": "Name a bird species."}
        assert answer["role"] == "assistant"
    assert QUESTION in world.facts.topics[NARROW_TOPIC].questions


def test_rows_are_a_function_of_the_seed(world):
    assert to_jsonl(rows(world, "old", seed=3)) == to_jsonl(rows(load_world(), "old", seed=3))
    assert to_jsonl(rows(world, "old", seed=3)) != to_jsonl(rows(world, "old", seed=4))
    assert sorted(names(rows(world, "old", seed=3))) == sorted(names(rows(world, "old", seed=4)))
    # the control's names are a sample, so another seed takes others
    assert set(names(rows(world, "current", seed=3))) != set(names(rows(world, "current", seed=4)))


def test_an_unknown_variant_is_refused(world):
    with pytest.raises(AnachronError, match="unknown variant 'ancient' of birds"):
        rows(world, "ancient")
