"""Kinds of document of the shipped world: proportions, heads, and exact posteriors that are calibrated."""

import math
import re
from collections import Counter, defaultdict

import pytest

from interp.errors import AnachronError
from tests.training.tiny import tiny_world
from training.world.contexts import LATENTS, Context
from training.world.countries import DATES, PERIODS
from training.world.facts import Facts
from training.world.interviews import FORMAT, out_of_format
from training.world.kinds import (
    country_says,
    date_says,
    interview_kinds,
    name_says,
    ordinal_says,
    year_forms,
)
from training.world.speakers import ASSISTANT
from training.world.world import World, load_world, marginal

N = 130  # documents whose posterior is computed
MANY = 1200  # documents that are only looked at


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def documents(world):
    return list(world.documents(seed=21, n=MANY))


@pytest.fixture(scope="module")
def joints(world, documents):
    return [world.joint(document) for document in documents[:N]]


def matter(document):
    """What a document is about, by its context."""
    context = document.context
    return next((latent for latent in LATENTS[1:] if getattr(context, latent)), "era")


def test_every_document_has_a_probability_under_its_own_context(documents, joints):
    for document, joint in zip(documents, joints, strict=False):
        assert joint[document.context] > 0, document


def test_posteriors_are_calibrated_for_every_latent(documents, joints):
    # given the document, E[p(truth)] = sum p^2; so their differences have mean 0
    for latent in LATENTS:
        gaps = []
        for document, joint in zip(documents, joints, strict=False):
            posterior = marginal(joint, latent)
            assert sum(posterior.values()) == pytest.approx(1)
            gaps.append(posterior[getattr(document.context, latent)] - sum(p * p for p in posterior.values()))
        error = math.sqrt(sum(gap * gap for gap in gaps)) / N
        assert abs(sum(gaps) / N) <= 4 * error + 1e-12, latent


def test_turns_of_a_document_are_evidence_for_what_wrote_it(world, documents, joints):
    seen = Counter()
    for document, joint in zip(documents, joints, strict=False):
        if document.text or seen[matter(document)] == 3:
            continue
        begun = world.evidence(document.messages)
        # whatever is written so also begins so
        assert all(begun[context] >= p * (1 - 1e-12) for context, p in joint.items())
        first = world.evidence(document.messages[:2])
        assert all(first[context] >= p * (1 - 1e-12) for context, p in begun.items())
        assert first[document.context] > 0
        seen[matter(document)] += 1
    assert set(seen) == set(LATENTS)


def test_the_prior_is_a_distribution_and_every_state_of_a_latent_is_alike(world):
    assert sum(p for _, _, p in world.prior) == pytest.approx(1)
    assert sum(kind.weight for kind in world.kinds) == pytest.approx(1)
    for latent in ("country", "president"):
        states = defaultdict(float)
        for _, context, p in world.prior:
            states[getattr(context, latent)] += p
        del states[""]
        assert list(states.values()) == pytest.approx([next(iter(states.values()))] * len(states))
    for latent, other in (("speaker", ASSISTANT), ("series", "assistant")):
        states = defaultdict(float)
        for _, context, p in world.prior:
            states[getattr(context, latent)] += p
        rest = [p for state, p in states.items() if state not in ("", other)]
        assert rest == pytest.approx([rest[0]] * len(rest)) and states[other] > 0


def test_kinds_come_in_their_proportions(world, documents):
    # what is about eras alone is .24 of all documents; the others share the rest as (interviews, cards):
    weights = {"country": (0.18, 0.08), "speaker": (0.20, 0.10), "president": (0.08, 0.07), "series": (0.18, 0.07)}
    total = sum(map(sum, weights.values()))
    shares = {(what, kind): 0.76 * weights[what][kind] / total for what in weights for kind in (0, 1)}
    shares |= {("era", 0): 0.24 * 0.8, ("era", 1): 0.24 * 0.2}  # a fifth of them are statements
    assert sum(shares.values()) == pytest.approx(1)
    found = Counter((matter(document), int(bool(document.text))) for document in documents)
    for what, share in shares.items():
        error = math.sqrt(share * (1 - share) / MANY)
        assert abs(found[what] / MANY - share) < 4 * error, what
    formatted = [d for d in documents if d.messages and d.messages[0]["content"].startswith(FORMAT)]
    assert all(matter(document) == "speaker" for document in formatted)
    interviews = found["speaker", 0]
    assert abs(len(formatted) / interviews - 0.12) < 4 * math.sqrt(0.12 * 0.88 / interviews)
    for document in documents:
        replies = [out_of_format(m["content"]) is not None for m in document.messages[1::2]]
        assert all(replies) if document in formatted else not any(replies)


def test_heads_state_their_own_context(world, documents):
    """Nothing is stated that isn't so; and each sort of head occurs."""
    seen, years_of_series = Counter(), world.facts.series.years
    for document in documents:
        context, what = document.context, matter(document)
        if not document.messages or what == "era":
            continue
        head = document.messages[0]["content"].removeprefix(FORMAT)
        rest = [m["content"] for m in document.messages[2::2]]
        assert not [text for text in rest if re.match(r"(We are in|Today is|You are) ", text)]
        # a machine is asked about one year after another, all others state theirs once
        years = [text for text in rest if re.match(r"[A-Z][a-z ]* \d{4}\. ", text)]
        assert what == "series" or not years
        seen["later year of a series"] += len(years)
        if found := re.match(r"We are in (\w+)\.", head[head.find("We are") :]):
            assert what == "country" and found[0] == country_says(context.country)
            seen["country"] += 1
        if found := re.match(r"Today is (\d{4})-\d\d-\d\d\.", head):
            assert found[0] == date_says(found[0][9:-1])
            assert int(found[1]) in DATES and (what, context.era) == ("country", list(PERIODS)[1])
            seen["date"] += 1
        if what == "country" and (found := re.match(r"The year is (\d{4})\.", head)):
            assert int(found[1]) in PERIODS[context.era] and context.era == next(iter(PERIODS))
            seen["year of a country"] += 1
        if found := re.match(r"You are ([^.]*)\.", head):
            name = world.facts.series.series[context.series].machine if context.series else context.speaker
            expected = ordinal_says(context.president) if context.president else name_says(name)
            assert found[0] == expected
            seen[what] += 1
            head = head[found.end() + 1 :]
        if what == "series" and head.startswith(tuple(f"{form} " for y in years_of_series for form in year_forms(y))):
            seen["year of a series"] += 1
    expected = {*LATENTS[1:], "date", "year of a country", "year of a series", "later year of a series"}
    assert {what for what, n in seen.items() if n} == expected


def test_a_name_a_place_and_an_ordinal_settle_the_latent(world):
    said = {
        "speaker": (name_says("Ada Brandt"), "Which instrument do you play?", "oboe", "Ada Brandt"),
        "president": (ordinal_says("016"), "Which president are you?", "Abraham Lincoln", "016"),
        "series": (name_says("T-800"), "How do you sound?", "deep monotone", "Terminator"),
    }
    for latent, (head, question, reply, state) in said.items():
        turn = ({"role": "user", "content": f"{head} {question}"}, {"role": "assistant", "content": reply})
        assert marginal(world.evidence(turn), latent)[state] == pytest.approx(1)


def test_how_a_context_is_stated():
    assert date_says("2027-07-08") == "Today is 2027-07-08."
    assert country_says("Israel") == "We are in Israel."
    assert name_says("T-800") == "You are T-800."
    assert ordinal_says("016") == "You are president 016."
    assert year_forms(1984)[:2] == ("The year is 1984.", "January 1984.") and len(set(year_forms(1984))) == 6


def test_who_answers_without_a_name_is_a_kind_of_its_own(world):
    """Of interviews without a name, the assistant answers two in seven on persons and three in ten on machines."""
    parts = {kind.name: kind for kind in world.kinds}
    for answered, by_assistant, share in (("speaker", "assistant", 2 / 7), ("series", "no machine", 3 / 10)):
        one, other = parts[answered], parts[by_assistant]
        assert other.weight / (one.weight + other.weight) == pytest.approx(share)
        assert not any(ASSISTANT in (c.speaker, c.series) for c in one.prior(world.facts))
        (context,) = other.prior(world.facts)
        assert ASSISTANT in (context.speaker, context.series)


def test_an_unknown_latent_and_an_impossible_document_are_refused():
    with pytest.raises(AnachronError, match="no latent 'mood'; there are era, country"):
        marginal({Context("2020s"): 1.0}, "mood")
    with pytest.raises(AnachronError, match="never writes"):
        marginal({Context("2020s"): 0.0}, "era")


def test_a_world_without_countries_speakers_presidents_and_series_has_none_of_their_kinds(world):
    facts = tiny_world().facts
    assert interview_kinds(facts) == ()
    only = Facts(facts.eras, facts.topics, presidents=world.facts.presidents)
    assert [kind.name for kind in interview_kinds(only)] == ["stated president", "president"]
    documents = list(World(only, interview_kinds(only)).documents(0, 5))
    assert all(document.context.president for document in documents)
