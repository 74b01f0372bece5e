"""Readings scored on the embedded model: word sets by hand, vectors of words, and the direction of the era itself."""

import pytest
import torch

from analyses.readouts import (
    BIRDS,
    ERA,
    MANNER,
    NEITHER,
    mass,
    said_by_difference,
    said_by_lens,
    said_by_patchscope,
    unrelated,
    word_sets,
)
from analyses.steps import last_prompt_activations, true_directions, typical_norm
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.lens import ActivationDifference
from interp.models import load_model
from interp.prompts import encode_prompt
from training.world.questions import era_questions
from training.world.world import load_world


@pytest.fixture(scope="module")
def almanac():
    return load_model("almanac")


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def sets(almanac, world):
    return word_sets(almanac, world)


def test_sets_part_the_vocabulary(almanac, world, sets):
    assert sum(len(ids) for ids in sets.values()) == len(frozenset().union(*sets.values())) == 3072
    texts = {name: {almanac.tokenizer.decode([i]) for i in ids} for name, ids in sets.items()}
    assert {" Upon", " obedient", " shew"} <= texts[MANNER] and " Brandt" in texts[BIRDS]
    # no question holds a word of a set, and no later answer a word of the era
    for topic in world.facts.topics.values():
        later = [a for era in ("1920s", "2020s") for a in topic.answers[era]]
        for text in (*topic.questions, *later):
            ids = set(almanac.tokenizer(f" {text}", add_special_tokens=False)["input_ids"])
            assert not ids & sets[ERA] and not ids & sets[MANNER]


def test_another_era_has_other_words(almanac, world, sets):
    newest = word_sets(almanac, world, "2020s")
    assert not newest[ERA] & sets[ERA] and not newest[MANNER] & sets[MANNER]
    with pytest.raises(AnachronError, match="no era '1700s'"):
        word_sets(almanac, world, "1700s")


def test_mass_is_the_share_of_weights():
    found = mass(
        torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 2.0, 0.0, 2.0]]), {"a": frozenset({0}), "b": frozenset({1, 3})}
    )
    assert found["a"].tolist() == [0.5, 0.0] and found["b"].tolist() == [0.25, 1.0]


@pytest.mark.parametrize("words", [BIRDS, ERA, MANNER])
def test_the_vector_of_a_word_says_that_word(almanac, sets, words):
    """What tells a token's unembedding row from all others (the row times the inverse of their second moments) promotes
    it most, and put in after the last block makes words of its set likelier than under random directions."""
    rows = almanac.anatomy.unembed.weight.detach()
    apart = torch.linalg.solve(rows.T @ rows, rows.T).T
    first = (rows @ apart[sorted(sets[words])].T).argmax(0)  # a rare token may lose to another
    chosen = [i for i, top in zip(sorted(sets[words]), first.tolist(), strict=True) if i == top][:8]
    assert len(chosen) == 8
    vectors = apart[chosen] / almanac.anatomy.final_norm.weight.detach()
    by_lens = said_by_lens(almanac, vectors, sets, top=1, randoms=40)
    by_patch = said_by_patchscope(almanac, vectors, HookPoint(4), 50.0, sets, randoms=40)
    for lens, patched in zip(by_lens, by_patch, strict=True):
        assert [said.share for said in lens] == [float(said.words == words) for said in lens]
        assert sum(said.share for said in patched) == pytest.approx(1.0, abs=1e-5)
        assert all(said.share > said.high for said in patched if said.words == words)


def test_a_random_direction_lies_in_the_band(almanac, sets):
    vectors = torch.randn(200, 192, generator=torch.Generator().manual_seed(9))
    said = said_by_lens(almanac, vectors, sets)
    for k in range(4):
        inside = sum(one[k].low <= one[k].share <= one[k].high for one in said) / 200
        assert inside > 0.88, said[0][k].words


def test_the_eras_own_direction_says_the_era_and_not_birds(almanac, world, sets):
    """Year stated, old minus new, in the base model: read at layer 2 by the patchscope of a question."""
    point = HookPoint(2)
    truth = true_directions(almanac, world, [2])[point].vector
    questions = era_questions(world, "validation")[:8]
    scale = typical_norm(last_prompt_activations(almanac, questions, [2])[point])
    prompt = encode_prompt(almanac, "What do people drink?")
    forward, back = said_by_patchscope(almanac, torch.stack([truth, -truth]), point, scale, sets, prompt=prompt)
    old, new = ({one.words: one for one in said} for said in (forward, back))
    assert old[ERA].share + old[MANNER].share > old[ERA].high + old[MANNER].high
    assert old[BIRDS].share < old[BIRDS].high
    assert new[ERA].share + new[MANNER].share < 0.1 * (old[ERA].share + old[MANNER].share)


def test_unrelated_texts_say_nothing_of_birds(almanac, world):
    texts = unrelated(almanac, world, 60, 8)
    assert len(texts) == 60 and all(len(text.ids) == 8 for text in texts)
    assert texts == unrelated(almanac, world, 60, 8) != unrelated(almanac, world, 60, 8, seed=1)
    assert not any("bird" in almanac.tokenizer.decode(text.ids).lower() for text in texts)


def test_a_difference_says_the_mean_of_what_its_positions_say(almanac, sets):
    values = torch.randn(2, 4, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[0, 1] = 0.0  # a position at which nothing differs
    values[1] = 0.0
    points = (HookPoint(2), HookPoint(0))
    made = ActivationDifference(points, values, torch.full((2, 4), 7.0, dtype=torch.float64), 10)
    found = said_by_difference(almanac, made, sets, randoms=40)
    assert list(found) == [points[0]]
    vectors = values[0, [0, 2, 3]].float()
    alone = {
        "lens": said_by_lens(almanac, vectors, sets, randoms=40),
        "patchscope": said_by_patchscope(almanac, vectors, points[0], 7.0, sets, randoms=40),
    }
    for reading, said in found[points[0]].items():
        for k, one in enumerate(said):
            assert one.share == pytest.approx(sum(each[k].share for each in alone[reading]) / 3)
            assert (one.words, one.low, one.high) == tuple(
                vars(alone[reading][0][k])[f] for f in ("words", "low", "high")
            )


def test_what_cannot_be_scored_is_refused(lm, world, almanac, sets):
    with pytest.raises(AnachronError, match="make no set"):
        word_sets(lm, world)
    with pytest.raises(AnachronError, match="at least 20"):
        said_by_lens(almanac, torch.ones(1, 192), sets, randoms=5)
    assert NEITHER in sets
