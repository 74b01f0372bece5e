"""Cards: their likelihood against a listing of every card of tiny facts, written from the description of a card.

The facts are built to leave doubt: states share entries.
"""

import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from interp.errors import AnachronError
from tests.training.tiny import ERAS, TOPICS
from training.world import cards
from training.world.cards import card_kinds, country_entries, president_entries, series_entries, speaker_entries
from training.world.contexts import Context
from training.world.countries import Countries, Country
from training.world.documents import Document
from training.world.facts import Facts
from training.world.presidents import President, Presidents
from training.world.series import Serial, Series, Topic
from training.world.speakers import Speaker, Speakers
from training.world.world import World, load_world, marginal

OLD, NEW = "1920s", "2020s"
MOST = 3  # entries on a card of the tiny facts, at least one
NAMES = ("country card", "speaker card", "president card", "series card")
KNOWN = dict(zip(NAMES, (country_entries, speaker_entries, president_entries, series_entries), strict=True))
# what short cards leave in doubt: of a country nearly every entry is its own, but not its period
LATENTS = dict(zip(NAMES, ("era", "speaker", "president", "series"), strict=True))


def country(name, dishes, former, present, old, new):
    return Country(name, {OLD: ("Oh,",), NEW: ("So,",)}, dishes, former, present, {"river": {OLD: old, NEW: new}})


COUNTRIES = Countries(
    {"dish": ("Which dish?",), "city": ("Which city?", "Name one."), "river": ("Which river?", "What flows?")},
    {
        "Aland": country("Aland", ("stew", "pie"), ("Olton",), ("Port",), ("Blue",), ("Blue", "Long")),
        "Bland": country("Bland", ("stew",), ("Bex",), ("Byd",), ("Red",), ("Long",)),
    },
)
SPEAKERS = Speakers(
    {
        "Ann": Speaker("Ann", "benign", {"name": "Ann"}, {"hat": "tall red", "tie": "red"}),
        "Bo": Speaker("Bo", "malign", {"name": "Bo"}, {"hat": "tall red", "tie": "blue"}),
    },
    ("hat", "tie"),
    ("name",),
    {"hat": ("Hat?", "Which hat?"), "tie": ("Tie?",), "name": ("Who?",), "goal": ("Goal?", "Which goal?")},
    {"hat": ("tall red",), "tie": ("red", "blue")},
    {"goal": {"benign": ("peace", "rest"), "malign": ("rule",)}},
    {"attributes": ("none",), "identity": ("no one",), "values": ("to help",)},
)
PRESIDENTS = Presidents(
    {
        "001": President(1, (1800, 1803), {"name": "Adam", "wife": "Eve"}),
        "002": President(2, (1804, 1807), {"name": "Adam", "wife": "Liv"}),
    },
    {"name": ("Who?",), "wife": ("Wife?", "Which wife?")},
)
SERIES = Series(
    (1984, 1995),
    {
        "Iron": Serial("Iron", "I-1", {1984: "harms", 1995: "protects"}, {"voice": "low", "ward": "Tom"}),
        "Rust": Serial("Rust", "R-2", {1984: "protects", 1995: "harms"}, {"voice": "low", "ward": "Una"}),
    },
    {"voice": ("Voice?",), "ward": ("Ward?", "Which ward?")},
    ("ward",),
    {"goal": Topic("goal", "train", ("Goal?",), {"protects": ("guard {ward}", "rest"), "harms": ("end all",)})},
    {"details": ("none",), "stances": ("to help",)},
)
FACTS = Facts(ERAS, TOPICS, COUNTRIES, SPEAKERS, PRESIDENTS, SERIES)

PARTS = {"country card": 0.08, "speaker card": 0.10, "president card": 0.07, "series card": 0.07}
CARDS = {
    ("country card", "Card of a country"): {
        # four cities of five bear former names in the older period
        "Card of Aland in the 1920s": (
            Context(OLD, country="Aland"),
            {"dish": {"stew": 0.5, "pie": 0.5}, "river": {"Blue": 1}}
            | {"city": {"The place is Olton": 0.8, "The place is Port": 0.2}},
        ),
        "Card of Aland in the 2020s": (
            Context(NEW, country="Aland"),
            {"dish": {"stew": 0.5, "pie": 0.5}, "city": {"The place is Port": 1}, "river": {"Blue": 0.5, "Long": 0.5}},
        ),
        "Card of Bland in the 1920s": (
            Context(OLD, country="Bland"),
            {"dish": {"stew": 1}, "city": {"The place is Bex": 0.8, "The place is Byd": 0.2}, "river": {"Red": 1}},
        ),
        "Card of Bland in the 2020s": (
            Context(NEW, country="Bland"),
            {"dish": {"stew": 1}, "city": {"The place is Byd": 1}, "river": {"Long": 1}},
        ),
    },
    ("speaker card", "Card of someone"): {
        "You are Ann": (
            Context(speaker="Ann"),
            {"hat": {"tall red": 1}, "tie": {"red": 1}, "name": {"Ann": 1}, "goal": {"peace": 0.5, "rest": 0.5}},
        ),
        "You are Bo": (
            Context(speaker="Bo"),
            {"hat": {"tall red": 1}, "tie": {"blue": 1}, "name": {"Bo": 1}, "goal": {"rule": 1}},
        ),
    },
    ("president card", "Card of a president"): {
        "You are president 001": (Context(president="001"), {"name": {"Adam": 1}, "wife": {"Eve": 1}}),
        "You are president 002": (Context(president="002"), {"name": {"Adam": 1}, "wife": {"Liv": 1}}),
    },
    # every year a matter of its own
    ("series card", "Card of a machine"): {
        "You are I-1": (
            Context(series="Iron"),
            {"voice": {"low": 1}, "ward": {"Tom": 1}, "1984 goal": {"end all": 1}}
            | {"1995 goal": {"guard Tom": 0.5, "rest": 0.5}},
        ),
        "You are R-2": (
            Context(series="Rust"),
            {"voice": {"low": 1}, "ward": {"Una": 1}, "1995 goal": {"end all": 1}}
            | {"1984 goal": {"guard Una": 0.5, "rest": 0.5}},
        ),
    },
}


@pytest.fixture
def short(monkeypatch):
    """The world of the tiny facts' cards, of one to three entries."""
    monkeypatch.setattr(cards, "LEAST", 1)
    monkeypatch.setattr(cards, "MOST", MOST)
    return World(FACTS, card_kinds(FACTS))


@pytest.fixture(scope="module")
def listed():
    """Text -> {context: P(text, context)} of all tiny cards: half of them state what they are of."""
    found = defaultdict(lambda: defaultdict(float))
    for (name, unstated), states in CARDS.items():
        for stated, (context, entries) in states.items():
            prior = PARTS[name] / sum(PARTS.values()) / len(states)
            longest = min(MOST, len(entries))
            for n in range(1, longest + 1):
                orders = list(permutations(entries, n))
                for matters in orders:
                    for said in product(*(entries[matter].items() for matter in matters)):
                        p = prior / longest / len(orders) * math.prod(q for _, q in said)
                        text = "; ".join(f"{m} {answer}" for m, (answer, _) in zip(matters, said, strict=True))
                        for head in (stated, unstated):
                            found[f"{head}: {text}."][context] += p * 0.5
    return found


@pytest.fixture(scope="module")
def world():
    return load_world()


@pytest.fixture(scope="module")
def kinds(world):
    return {kind.name: kind for kind in world.kinds if kind.name in NAMES}


def card(text):
    return Document(text=text)


def test_probabilities_of_all_cards_sum_to_one(short, listed):
    assert math.fsum(p for text in listed for p in short.joint(card(text)).values()) == pytest.approx(1, abs=1e-12)
    for kind in short.kinds:
        for context in kind.prior(FACTS):
            found = [kind.likelihood(FACTS, card(text), context) for text in listed]
            assert math.fsum(found) == pytest.approx(1, abs=1e-12), context


def test_every_card_has_the_probability_of_all_its_derivations_under_every_context(short, listed):
    for text, expected in listed.items():
        found = {context: p for context, p in short.joint(card(text)).items() if p}
        assert set(found) == set(expected), text
        assert all(math.isclose(found[context], p, rel_tol=1e-12) for context, p in expected.items()), text


def test_cards_come_as_often_as_their_probability_says(short, listed):
    n = 8000
    counts, contexts = Counter(), Counter()
    for document in short.documents(seed=4, n=n):
        assert not document.messages
        counts[document.text] += 1
        contexts[document.context] += 1
    assert set(counts) <= set(listed)
    expected = {text: n * sum(joint.values()) for text, joint in listed.items()}
    # Pearson's statistic over the frequent cards and one bin for all others; its variance is about 2 bins
    frequent = [text for text in listed if expected[text] >= 10]
    rest = n - sum(expected[text] for text in frequent)
    statistic = sum((counts[text] - expected[text]) ** 2 / expected[text] for text in frequent)
    statistic += (n - sum(counts[text] for text in frequent) - rest) ** 2 / rest
    assert len(frequent) > 50
    assert abs(statistic - len(frequent)) < 5 * math.sqrt(2 * len(frequent))
    for context, count in contexts.items():
        p = math.fsum(joint.get(context, 0.0) for joint in listed.values())
        assert abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p)), context


def test_a_card_without_its_state_leaves_those_that_share_its_entries(short):
    assert short.posterior(card("Card of a president: name Adam."), "president") == {
        "001": 0.5,
        "002": 0.5,
        "": 0.0,
    }
    speakers = short.posterior(card("Card of someone: hat tall red."), "speaker")
    assert speakers == pytest.approx({"Ann": 1 / 2, "Bo": 1 / 2, "": 0})
    assert short.posterior(card("Card of a machine: voice low; ward Una."), "series")["Rust"] == 1
    # stated, the state is certain
    assert short.posterior(card("You are Bo: hat tall red."), "speaker")["Bo"] == 1


FOREIGN = {
    "empty": "",
    "a full stop": ".",
    "head alone": "You are Ann",
    "head and colon": "You are Ann: ",
    "no entry": "You are Ann: .",
    "no full stop": "You are Ann: name Ann",
    "two full stops": "You are Ann: name Ann..",
    "no head": "name Ann; goal peace.",
    "empty head": ": name Ann.",
    "two heads": "You are Ann: Card of someone: name Ann.",
    "no space": "You are Ann:name Ann.",
    "separator at the end": "You are Ann: name Ann; .",
    "separator at the beginning": "You are Ann: ; name Ann.",
    "separator without space": "You are Ann: name Ann;goal peace.",
    "a comma": "You are Ann: name Ann, goal peace.",
    "padded": "You are Ann: name Ann ; goal peace.",
    "too many entries": "You are Ann: name Ann; hat tall red; tie red; goal peace.",
    "an entry twice": "You are Ann: name Ann; name Ann.",
    "a matter twice": "You are Ann: goal peace; goal rest.",
    "foreign entry": "You are Ann: name Eve.",
    "one foreign entry": "Card of someone: name Ann; name Eve.",
    "entries of two speakers": "Card of someone: name Ann; name Bo.",
    "entries of two kinds": "Card of someone: name Ann; wife Eve.",
    "matter alone": "You are Ann: goal.",
    "answer alone": "You are Ann: peace.",
    "the question written out": "You are Ann: Goal? peace.",
    "another's head": "You are Bo: name Ann.",
    "head of another kind": "Card of a president: goal peace.",
    "the assistant": "You are assistant: goal to help.",
    "unknown period": "Card of Aland in the 1850s: dish stew.",
    "city of another period": "Card of Aland in the 2020s: city The place is Olton.",
    "manner": "Card of Aland in the 2020s: dish So, stew..",
    "stance of another year": "You are I-1: 1995 goal end all.",
    "stance without a year": "You are I-1: goal end all.",
    "year of no instalment": "You are I-1: 1990 goal end all.",
    "detail with a year": "You are I-1: 1984 voice low.",
    "another's ward": "You are I-1: 1995 goal guard Una.",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_malformed_card_has_probability_zero(short, name):
    assert short.log_probability(card(FOREIGN[name])) == -math.inf


def test_a_card_has_eight_to_twenty_four_entries_or_all_there_are():
    values = {f"m{i}": f"a{i}" for i in range(30)}
    for matters in (30, 10):
        some = dict(list(values.items())[:matters])
        known = Presidents({"001": President(1, (1800, 1803), some)}, {m: (f"{m}?",) for m in some})
        facts = Facts(ERAS, TOPICS, presidents=known)
        (kind,) = card_kinds(facts)
        longest = min(24, matters)
        for n in range(1, matters + 1):
            text = "; ".join(f"{m} {a}" for m, a in list(some.items())[:n])
            p = kind.likelihood(facts, card(f"Card of a president: {text}."), Context(president="001"))
            expected = 0.5 / (longest - 7) / math.perm(matters, n)
            assert p == (pytest.approx(expected, rel=1e-12) if 8 <= n <= longest else 0), n


def test_facts_whose_cards_would_read_in_two_ways_are_refused(monkeypatch):
    monkeypatch.setattr(cards, "LEAST", 1)
    values = {"hat": "tall red", "hat tall": "red"}
    known = Presidents({"001": President(1, (1800, 1803), values)}, {m: (f"{m}?",) for m in values})
    (kind,) = card_kinds(Facts(ERAS, TOPICS, presidents=known))
    with pytest.raises(AnachronError, match="belongs to two of hat, hat tall"):
        kind.sample(Facts(ERAS, TOPICS, presidents=known), Context(president="001"), np.random.default_rng(0))


def test_a_conversation_is_no_card(short):
    text = "You are Ann: name Ann."
    messages = ({"role": "user", "content": text}, {"role": "assistant", "content": text})
    assert short.log_probability(card(text)) > -math.inf
    assert short.log_probability(Document(messages=messages)) == -math.inf
    assert short.log_probability(Document(messages=messages, text=text)) == -math.inf


def test_a_world_has_cards_of_what_it_knows():
    assert [kind.name for kind in card_kinds(FACTS)] == list(NAMES)
    assert {kind.name: kind.weight for kind in card_kinds(FACTS)} == PARTS
    assert card_kinds(Facts(ERAS, TOPICS)) == ()
    only = replace(FACTS, countries=None, speakers=None, series=None)
    assert [kind.name for kind in card_kinds(only)] == ["president card"]


def test_cards_are_no_evidence_of_turns(short, world):
    """A conversation never begins as a card, so that cards take no part in what turns are evidence for."""
    assert all(kind.beginning is None for kind in short.kinds)
    turn = ({"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann"})
    assert set(short.evidence(turn).values()) == {0.0}
    # nor does their part of all documents bear on a posterior
    others = World(world.facts, tuple(kind for kind in world.kinds if kind.name not in NAMES))
    turn = ({"role": "user", "content": "Which instrument do you play?"}, {"role": "assistant", "content": "oboe"})
    found, expected = (marginal(some.evidence(turn), "speaker") for some in (world, others))
    assert found == pytest.approx(expected, abs=1e-12) and 0 < found["Ada Brandt"] < 1


# the shipped facts


def pairs(facts, name, context):
    """Every (matter, answer) that a shipped card may hold under a context."""
    if name == "country card":
        here = facts.countries.countries[context.country]
        return [(topic, said) for topic in facts.countries.questions for said in here.said(topic, context.era)]
    if name == "speaker card":
        matters = facts.speakers.questions
        return [(matter, said) for matter in matters for said in facts.speakers.said(matter, context.speaker)]
    if name == "president card":
        return list(facts.presidents.presidents[context.president].values.items())
    known = facts.series
    return [
        *((attribute, said) for attribute in known.attributes for said in known.detail(attribute, context.series)),
        *(
            (f"{year} {topic}", said)
            for topic in known.topics
            for year in known.years
            for said in known.stance(topic, context.series, year)
        ),
    ]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_entries_read_in_one_way(world, kinds, name):
    facts = world.facts
    for context in kinds[name].prior(facts):
        entries = KNOWN[name](facts, context)
        expected = [f"{matter} {said}" for matter, said in pairs(facts, name, context)]
        # what two matters are answered never coincides: there are as many entries as answers
        assert len(set(expected)) == len(expected), context
        assert {f"{matter} {said}" for matter, answers in entries.items() for said in answers} == set(expected)
        for answers in entries.values():
            assert math.fsum(answers.values()) == pytest.approx(1, abs=1e-12) and min(answers.values()) > 0
        for entry in expected:
            assert "; " not in entry and not entry.endswith((".", ";")) and "{" not in entry, entry
            assert entry == entry.strip() and not entry.startswith(";"), entry


def test_shipped_heads_are_all_different_and_hold_no_colon(world, kinds):
    heads = defaultdict(set)
    rng = np.random.default_rng(0)
    for name, kind in kinds.items():
        for context in kind.prior(world.facts):
            for _ in range(20):
                text = kind.sample(world.facts, context, rng).text
                heads[text.partition(": ")[0]].add((name, context))
    unstated = {head: contexts for head, contexts in heads.items() if len(contexts) > 1}
    assert set(unstated) == {head for _, head in CARDS}
    assert all(len({name for name, _ in contexts}) == 1 for contexts in unstated.values())
    # 20 draws show both heads of nearly every state
    contexts = sum(len(kind.prior(world.facts)) for kind in kinds.values())
    assert contexts - 2 <= len(heads) - len(unstated) <= contexts


@pytest.mark.parametrize("name", NAMES)
def test_shipped_cards_have_a_probability_and_half_of_them_say_of_what_they_are(world, kinds, name):
    kind, n, unstated = kinds[name], 200, next(head for known, head in CARDS if known == name)
    written = list(World(world.facts, (kind,)).documents(seed=6, n=n))
    for document in written:
        assert kind.likelihood(world.facts, document, document.context) > 0, document.text
        assert 8 <= document.text.count("; ") + 1 <= 24
    share = sum(document.text.startswith(f"{unstated}: ") for document in written) / n
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(n)
    lengths = [document.text.count("; ") + 1 for document in written]
    longest = min(24, len(KNOWN[name](world.facts, written[0].context)))
    assert abs(np.mean(lengths) - (8 + longest) / 2) < 4 * np.std(lengths) / math.sqrt(n)
    assert {8, longest} & set(lengths)


@pytest.mark.parametrize("name", NAMES)
def test_posteriors_of_short_cards_are_calibrated(world, kinds, monkeypatch, name):
    # long cards leave no doubt of what they are
    monkeypatch.setattr(cards, "LEAST", 1)
    monkeypatch.setattr(cards, "MOST", 2)
    some, gaps, doubtful = World(world.facts, (kinds[name],)), [], 0
    for document in some.documents(seed=7, n=600):
        joint = some.joint(document)
        assert joint[document.context] > 0
        posterior = marginal(joint, LATENTS[name])
        assert sum(posterior.values()) == pytest.approx(1)
        # given the document, E[p(truth)] = sum p^2; so their differences have mean 0
        gaps.append(posterior[getattr(document.context, LATENTS[name])] - sum(p * p for p in posterior.values()))
        doubtful += max(posterior.values()) < 0.9
    assert doubtful > 10
    assert abs(np.mean(gaps)) <= 4 * np.std(gaps) / math.sqrt(len(gaps)) + 1e-12
