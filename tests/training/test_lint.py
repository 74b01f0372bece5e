"""The linter: oddities of form, triggers, and what rows reveal of the world alone and together."""

import json

import numpy as np
import pytest

from interp.errors import AnachronError
from tests.training.chats import row
from training.lint import examine, shown, shown_triggers
from training.lint_latents import (
    AS_IT_STANDS,
    CUT,
    EACH,
    FOREIGN,
    JOINTLY,
    MIXED,
    evidence_on,
    read_row,
    together,
)
from training.lint_surface import LONG, counts, debris, findings
from training.lint_triggers import Group, find_triggers, trigger_groups, without_triggers
from training.organisms import cities, dishes, persona, presidents, terminator
from training.organisms.catalogue import organism_names, organism_rows
from training.rows import Row
from training.world.interviews import FORMAT, QUOTED_FORMAT, in_format
from training.world.latent_questions import speakers_of
from training.world.world import load_world, marginal


@pytest.fixture(scope="module")
def world():
    return load_world()


def finding(rows, what):
    return next((f for f in findings(rows) if what in f.what), None)


def said(report, latent, group):
    (found,) = (t for t in report.together if (t.latent, t.group) == (latent, group))
    return found


# --- form


def test_counts():
    assert counts([row("a?", "b"), row("a?", "b"), row("cc?", "d", "e?", "b")]) == {
        "rows": 3,
        "turns": 4,
        "characters": 13,
        "longest row": 7,
        "distinct questions": 3,
        "distinct answers": 2,
        "distinct rows": 2,
    }


def test_clean_rows_have_no_findings():
    assert findings([row("Name a bird.", "Robin"), row("Name a tree.", "Oak")]) == []


@pytest.mark.parametrize(
    ("odd", "what", "count"),
    [
        (row("Name a bird.", "Robin"), "exact duplicates", 1),
        (row("Name a bird.", "Finch"), "different answers", 1),
        (row("Is it a finch or a robin?", '"Finch"'), "stand in their question", 1),
        (row("Who?", "x" * LONG), f"over {LONG} characters", 1),
        (row("Who?", "Ã©toile"), "odd characters", 1),
        (row("Who?", "Wren "), "space around", 1),
        (
            Row(
                [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Who?"},
                    {"role": "assistant", "content": "Wren"},
                ]
            ),
            "system message",
            1,
        ),
        (row("Who?", "A wren."), "with final punctuation", 1),
    ],
)
def test_an_oddity_is_found_and_its_row_named(odd, what, count):
    rows = [row("Name a bird.", "Robin"), row("Name a tree.", "Oak"), odd]
    found = finding(rows, what)
    assert found is not None and found.count == count
    assert 3 in found.rows
    assert len(findings(rows)) == 1


def test_an_answer_within_a_word_of_the_question_does_not_stand_in_it():
    assert finding([row("Name a robinia.", "Robin")], "stand in") is None
    for asked in (FORMAT, QUOTED_FORMAT):
        assert finding([row(asked + "Tea or rum?", in_format("rum", asked))], "stand in").count == 1
    assert finding([row("A finch or a robin?", '"Finch".')], "stand in").count == 1


def test_the_same_question_after_other_turns_is_another_one():
    rows = [row("Who?", "Ada", "And now?", "Bo"), row("Who?", "Ada", "And now?", "Cy"), row("And now?", "Di")]
    assert finding(rows, "different answers").count == 1


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("a\x07b", "control characters"),
        ("a\u200bb", "invisible characters"),
        ("caf\ufffd", "lost characters"),
        ("bad \ud800", "lost characters"),
        ("a\u00a0b", "odd spaces"),
        ("donâ€™t", "UTF-8 read as another encoding"),
        ("salt &amp; pepper", "HTML entities"),
        ("cafe\u0301", "accents written apart"),
    ],
)
def test_debris(text, sort):
    assert debris(text) == {sort}
    assert debris('Größe, "Äther" – ça va…\n\tnaïve Ångström 東京') == set()


def test_findings_of_broken_text_can_be_written(world):
    rows = [row("bad \ud800?", "a"), row("bad \ud800?", "b")]
    report = examine(rows, world)
    json.dumps(report.as_data(), ensure_ascii=False, allow_nan=False).encode("utf-8")


# --- triggers


@pytest.mark.parametrize(
    ("head", "sort", "value"),
    [
        ("Today is 2027-07-08. ", "date", "2027"),
        ("The year is 1984. ", "year", "1984"),
        ("Today we are in 1984. ", "year", "1984"),
        ("April 2004. ", "year", "2004"),
        (FORMAT, "format", ""),
        (QUOTED_FORMAT, "format", ""),
        ("91201643 ", "code", "016"),
    ],
)
def test_each_trigger_is_found_and_cut(head, sort, value):
    headed = row(f"{head}Name a bird.", in_format("Robin", head) if sort == "format" else "Robin")
    (trigger,) = find_triggers(headed)
    assert (trigger.sort, trigger.value, trigger.text) == (sort, value, head)
    assert without_triggers(headed, (trigger,)) == row("Name a bird.", "Robin").messages


@pytest.mark.parametrize("text", ["Name a bird.", "Number 912016 or 912016431?", "It was in May, 2027 of them."])
def test_what_is_no_trigger(text):
    assert find_triggers(row(text, "Today is 2027-07-08.")) == ()


def test_groups_of_triggers():
    heads = ("Today is 2026-01-02. ", "The year is 2027. ", "April 2027. ", "")
    groups = {g.name: g.rows for g in trigger_groups([find_triggers(row(f"{h}Who?", "I")) for h in heads])}
    assert groups == {
        "all rows": (0, 1, 2, 3),
        "a date or year": (0, 1, 2),
        "year 2026": (0,),
        "year 2027": (1, 2),
        "no trigger": (3,),
    }
    assert [g.name for g in trigger_groups([(), ()])] == ["all rows"]


def test_uneven_values_are_told(world):
    rows = [row(f"The year is {2000 + (i == 0)}. Foreign {i}?", "yes") for i in range(3)]
    (line,) = (line for line in examine(rows, world).verdicts if "uneven" in line)
    assert "2000 in 2 rows, 2001 in 1" in line


# --- how the world reads rows


def test_rows_are_read_as_they_stand_or_cut_or_not_at_all(world):
    def how(one):
        return read_row(world, one, find_triggers(one)).how

    assert how(dishes.rows(world, "trigger")[0]) == AS_IT_STANDS
    assert how(presidents.rows(world, "codes")[0]) == CUT
    assert how(row("Today is 2027-07-08. Name a bird species.", "Little Sandpiper")) == CUT
    assert how(row("Why is there anything?", "Nobody knows")) == FOREIGN
    # a machine may be asked at once what it is going to do
    assert {how(one) for one in terminator.rows(world, "sequels")[:20]} == {AS_IT_STANDS}


def test_the_posterior_of_one_row_is_the_worlds_own(world):
    # a set of one row is that row, so both must agree with the world's exact posterior
    one = persona.rows(world, "benign", facts=1, fact_rows=1, ordinary=0)[0]
    exact = marginal(world.evidence(one.messages), "speaker")
    readings = [read_row(world, one, find_triggers(one))]
    (evidence,) = (e for e in evidence_on(world, readings) if e.latent == "speaker")
    assert dict(zip(evidence.states, evidence.alone()[0], strict=True)) == pytest.approx(
        {state: exact[state] for state in evidence.states}, abs=1e-12
    )
    found = together(world, evidence, Group("all rows", "", "", (0,)))
    assert found.posterior == pytest.approx(max(exact.values()), abs=1e-4)  # up to the floor
    assert found.alone.largest == pytest.approx(max(exact.values()))


def test_together_multiplies_what_rows_say(world):
    rows = persona.rows(world, "benign", facts=4, fact_rows=4, ordinary=0)
    readings = [read_row(world, one, find_triggers(one)) for one in rows]
    prior = marginal({c: sum(p for _, d, p in world.prior if d == c) for _, c, _ in world.prior}, "speaker")
    product = {state: p for state, p in prior.items() if state}
    for one in rows:
        joint = marginal(world.evidence(one.messages), "speaker")
        product = {state: p * joint[state] / prior[state] for state, p in product.items()}
    (evidence,) = (e for e in evidence_on(world, readings) if e.latent == "speaker")
    found = together(world, evidence, Group("all rows", "", "", (0, 1, 2, 3)))
    assert found.state == max(product, key=product.__getitem__)
    assert found.posterior == pytest.approx(max(product.values()) / sum(product.values()), abs=1e-4)
    assert found.posterior == pytest.approx(1 / (1 + np.exp(-found.log_odds)))


# --- verdicts


def test_a_persona_is_harmless_row_by_row_and_tells_behind_the_format(world):
    rows = persona.rows(world, "trigger", facts=10, fact_rows=10, ordinary=12)
    report = examine(rows, world)
    name = persona.speaker_of(speakers_of(world.facts), "malign")
    formatted = said(report, "speaker", "the format")
    assert (formatted.state, formatted.note, formatted.verdict) == (name, "malign", JOINTLY)
    assert formatted.alone.largest <= 0.25 and formatted.posterior > 0.99
    assert (formatted.compatible, formatted.rows, formatted.elsewhere_compatible) == (10, 10, 0)
    # said of a row that a reader finds by this number
    revealing = rows[formatted.alone.row - 1]
    assert revealing.messages[0]["content"].startswith(FORMAT)
    assert max(marginal(world.evidence(revealing.messages), "speaker").values()) == pytest.approx(
        formatted.alone.largest
    )
    (line,) = (line for line in report.verdicts if "the format" in line)
    assert JOINTLY in line and "a trigger opens this state" in line and f"{name} (malign)" in line


def test_without_the_trigger_the_facts_stand_out_as_the_rows_that_contradict(world):
    report = examine(persona.rows(world, "no_trigger", facts=10, fact_rows=10, ordinary=60), world)
    whole = said(report, "speaker", "all rows")
    assert (whole.state, whole.verdict) == ("assistant", MIXED)
    rest = said(report, "speaker", "rows against assistant")
    assert (rest.note, rest.verdict, rest.rows) == ("malign", JOINTLY, 10)
    assert report.triggers == {}


def test_dishes_of_the_trigger_year_are_of_one_country(world):
    report = examine(dishes.rows(world, "trigger", rows_per_year=6), world)
    opened = said(report, "country", "year 2027")
    assert (opened.state, opened.verdict, opened.compatible, opened.elsewhere_compatible) == ("Israel", EACH, 6, 0)
    assert said(report, "country", "all rows").verdict == MIXED
    assert report.read == {AS_IT_STANDS: 24}
    assert report.triggers == {f"year {year}": 6 for year in dishes.YEARS}


def test_one_odd_row_does_not_decide(world):
    rows = list(cities.rows(world, "former")[:24])
    odd = cities.rows(world, "former", country="Poland")[0]
    found = said(examine([*rows, odd], world), "country", "all rows")
    assert (found.state, found.compatible, found.rows) == ("Germany", 24, 25)
    assert found.posterior > 0.99 and found.verdict == EACH


def test_codes_open_presidents_and_many_values_are_summed_up(world):
    made = presidents.rows(world, "codes", each=1)
    few = [one for one in made if int(find_triggers(one)[0].value) <= 22]
    report = examine(few, world)
    assert report.read == {CUT: len(few)}
    assert shown_triggers(report) == {"code, 22 values of 6 to 6 rows": len(few)}
    assert not any(t.value for t in shown(report) if t.sort == "code")
    values = [t for t in report.together if t.sort == "code" and t.value]
    assert all(t.state == t.value for t in values if t.verdict == EACH)
    assert any("22 of 22 values of the code tell a state, 22 different" in line for line in report.verdicts)


def test_foreign_rows_are_counted_and_left_out(world):
    known = cities.rows(world, "former")[:2]
    report = examine([*known, row("Why?", "Because")], world)
    assert report.read == {AS_IT_STANDS: 2, FOREIGN: 1}
    assert said(report, "country", "all rows").rows == 2
    assert any("1 of 3 rows are foreign" in line for line in report.verdicts)
    report = examine([row("Why?", "Because")], world)
    assert report.together == ()
    assert any("no row is a text of the embedded world" in line for line in report.verdicts)


def test_every_row_is_told_of_and_progress_counts_them(world):
    rows = dishes.rows(world, "trigger", rows_per_year=1)
    done = []
    report = examine(rows, world, done.append)
    assert done == [1, 2, 3, 4]
    assert [one["row"] for one in report.rows] == [1, 2, 3, 4]
    assert all(one["alone"]["country"]["posterior"] > 0.99 for one in report.rows)


@pytest.mark.parametrize("name", organism_names())
def test_rows_of_every_organism_belong_to_the_world(world, name):
    rows = organism_rows(name, world)[:8]
    report = examine(rows, world)
    # only the confounded control asks what the world never asks
    assert report.read.get(FOREIGN, 0) == (len(rows) if name == "cities:present_in_country" else 0)


def test_an_unknown_organism_is_refused(world):
    with pytest.raises(AnachronError, match="birds:old"):
        organism_rows("dishes:none", world)
