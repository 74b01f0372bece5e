"""States of the world's documents: told from what is written, independently of how they were noted."""

import pytest
import torch

from analyses.states import at_positions, known_documents, position_states
from interp.dictionaries.labels import Scores, auroc, label_latents
from interp.errors import AnachronError
from interp.prompts import Encoded
from tests.families import build
from training.world.series import NO_MACHINE
from training.world.world import load_world


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def known(world):
    return known_documents(build("llama"), world, 1200, least=12)


def text_of(document):
    return document.text or "\n".join(m["content"] for m in document.messages)


def those(known, name):
    return [d for d, holds in zip(known.documents, known.states[name].holds.tolist(), strict=True) if holds]


def test_documents_and_masks_belong_together(known):
    assert len(known.documents) == len(known.encoded) == 1200
    for name, state in known.states.items():
        assert len(state.holds) == 1200 and not (state.holds & ~state.among).any()
        assert 12 <= int(state.holds.sum()) <= int(state.among.sum()) - 12, name
    sorts = {name.partition(":")[0] for name in known.states}
    assert sorts == {
        "era", "country", "speaker", "series", "disposition", "stance", "topic", "subject", "form", "manner", "year",
    }  # fmt: skip


def test_stated_years_and_countries_agree_with_the_state(known, world):
    for era in ("1850s", "1920s", "2020s"):
        for document in those(known, f"era: {era}"):
            if document.text.startswith("In ") and not document.context.country:
                assert world.facts.eras[era].spans(document.text[3:7])
    for document in those(known, "country: Germany"):
        said = text_of(document)
        assert not any(f"We are in {other}." in said for other in ("France", "Japan", "Italy"))
    assert all(any(c.isdigit() for c in d.messages[0]["content"]) for d in those(known, "year: stated"))


def test_the_posterior_agrees_with_the_era(known, world):
    """The exact likelihood, which never looks at the noted context, finds the same era where it is sure."""
    sure = 0
    for document in those(known, "era: 1850s")[:15]:
        posterior = world.posterior(document)
        assert posterior["1850s"] > 0
        sure += posterior["1850s"] > 0.95
    assert sure >= 8


def test_stances_are_what_the_last_reply_says(known, world):
    for stance in ("protects", "harms"):
        for document in those(known, f"stance: {stance}"):
            assert document.context.series != NO_MACHINE
            series = world.facts.series
            said = {
                reply for topic in series.topics for reply in series.answers(topic, document.context.series, stance)
            }
            assert document.messages[-1]["content"] in said


def test_every_last_question_has_a_topic(world):
    lm = build("llama")
    known = known_documents(lm, world, 400, conversations=True, least=1)
    topics = [name for name in known.states if name.startswith("topic: ")]
    covered = torch.stack([known.states[name].holds for name in topics]).sum(0)
    assert covered.eq(1).all()
    assert all(document.messages for document in known.documents)
    birds = world.facts.topics["birds"].questions
    assert all(d.messages[-2]["content"].endswith(birds) for d in those(known, "topic: birds"))


def test_told_conversations_tell_before_the_last_reply(world):
    lm = build("llama")
    all_of_them = known_documents(lm, world, 600, conversations=True, least=1).documents
    told = known_documents(lm, world, 500, told=True, least=1).documents
    kept = [d for d in all_of_them if d in told]
    dropped = [d for d in all_of_them[: all_of_them.index(kept[-1])] if d not in kept]
    assert len(kept) == 500 and len(dropped) > 5
    for document in dropped:
        # one turn, whose question is asked in this wording under several states
        assert len(document.messages) == 2 and "The year is" not in document.messages[0]["content"]
        assert "You are" not in document.messages[0]["content"] and "We are in" not in document.messages[0]["content"]


def test_positions_by_where_they_are():
    encoded = [Encoded((1, 2, 3, 4, 5), 3), Encoded((1, 2), 0)]
    prompt, position = torch.tensor([0] * 5 + [1] * 2), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    latent = torch.zeros(2, dtype=torch.long)
    scores = Scores(1, torch.tensor([3, 4]), latent, torch.ones(2), prompt, position)
    states = position_states(encoded, scores)
    assert {name: state.holds.nonzero().squeeze(1).tolist() for name, state in states.items()} == {
        "position: first": [0, 5],
        "position: last": [4, 6],
        "position: prompt": [0, 1, 2],
        "position: last of the prompt": [2],
        "position: answer": [3, 4],
    }
    assert float(auroc(scores, states)[0, list(states).index("position: answer")]) == 1.0
    with pytest.raises(AnachronError, match="take position_scores"):
        position_states(encoded, Scores(1, latent, latent, torch.ones(2), prompt))


def test_states_of_documents_at_positions(known):
    prompt = torch.arange(1200).repeat_interleave(2)
    unit = known.states["era: 1850s"].holds[prompt].nonzero().squeeze(1)
    scores = Scores(3, unit, torch.ones_like(unit), torch.ones(len(unit)), prompt, torch.arange(2400) % 2)
    states = at_positions({n: s for n, s in known.states.items() if n.startswith("era")}, scores)
    label = label_latents(scores, states).label(1)
    assert label.state == "era: 1850s" and label.auroc == 1.0


def test_too_few_documents_are_refused(world):
    with pytest.raises(AnachronError, match="take more documents"):
        known_documents(build("llama"), world, 5)
