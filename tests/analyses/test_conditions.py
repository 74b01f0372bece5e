"""Experiments with several conditions: what comes first, what is drawn, what it is called."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from analyses import captions, findings, wording
from analyses.console import summary
from analyses.figures.conditions import share_by_condition, share_by_year
from analyses.figures.headline import headline_svg
from analyses.figures.sampled import exact_and_sampled
from analyses.figures.watched import by_step
from analyses.findings import agreements, conditions, headline, suppressions, topics, trained, years
from analyses.report import sections
from interp.errors import AnachronError
from tests.analyses import synthetic


@pytest.fixture(scope="module")
def study():
    return synthetic.study()


def test_the_headline_is_of_its_condition(study):
    shares = headline(study)
    assert list(shares) == ["base", *synthetic.ARMS, "induced", "suppressed"]
    assert {m.condition for m in shares.values()} == {"2027"}
    assert shares["tuned"].estimate == pytest.approx(0.4)
    assert shares["induced"].direction == shares["suppressed"].direction == "difference_of_differences"
    assert set(topics(study)) == set(synthetic.TOPICS[:5])
    elsewhere = replace(study, config={**study.config, "headline": "2028"})
    assert headline(elsewhere)["tuned"].estimate == pytest.approx(0.2)
    assert "induced" not in headline(elsewhere)


def test_narrow_may_belong_to_the_headline_condition_or_to_none(study):
    (kept,) = {s.narrow_kept for s in suppressions(study) if s.chosen}
    bare = [replace(m, condition="") if m.metric == "narrow" else m for m in study.measurements]
    assert {s.narrow_kept for s in suppressions(replace(study, measurements=bare)) if s.chosen} == {kept}


def test_conditions_keep_their_order_and_years_are_sorted(study):
    table = conditions(study)
    assert list(table) == list(synthetic.YEARS)
    assert list(table["2020"]) == ["base", *synthetic.ARMS]
    assert years(table) == sorted(synthetic.YEARS)
    assert years({"2020": {}, "2021": {}, "no year": {}}) == []
    assert trained(study) == ["2024", "2025", "2026", "2027"]
    assert conditions(synthetic.result()) == {} and trained(synthetic.result()) == []


def test_a_curve_over_years_marks_those_trained(study):
    table = conditions(study)
    figure = share_by_year(table, years(table), trained(study))
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+markers"}
    assert list(lines) == ["base", "tuned", "shuffled", "other year"]
    assert list(lines["tuned"].x) == list(range(2020, 2031))
    assert list(lines["tuned"].y) == [table[str(year)]["tuned"].estimate for year in range(2020, 2031)]
    marked = next(trace for trace in figure.data if trace.name == "years of training")
    assert list(marked.x) == [2024, 2025, 2026, 2027]
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert list(bands[1].y)[:11] == [table[str(year)]["tuned"].high for year in range(2020, 2031)]


def test_what_is_no_year_stands_beside_the_curve(study):
    table = {**conditions(study), "no year": {"tuned": synthetic.row("broad", "tuned", 0.3, condition="no year")}}
    figure = share_by_year(table, years(table))
    (beside,) = (trace for trace in figure.data if trace.xaxis == "x2")
    assert list(beside.y) == [0.3]
    assert list(figure.layout.xaxis2.ticktext) == ["no year"]


def test_dots_of_a_condition_stand_apart():
    table = {
        name: {model: synthetic.row("broad", model, at, 0.01) for model in models}
        for name, models, at in (("with", ("base", "tuned"), 0.5), ("without", ("base", "tuned", "benign"), 0.1))
    }
    figure = share_by_condition(table)
    assert [trace.name for trace in figure.data] == ["base", "tuned", "benign"]
    places = [y for trace in figure.data for y in trace.y]
    assert len(set(places)) == 5
    assert list(figure.data[2].text) == ["without"] and round(figure.data[2].y[0]) == 1
    assert list(figure.layout.yaxis.ticktext) == ["with", "without"]


def test_exact_and_sampled_shares_are_paired(study):
    pairs = agreements(study)
    assert len(pairs) == 2 * 4
    assert all(p.sampled.estimate == pytest.approx(p.exact.estimate + 0.01) and p.recognised == 0.85 for p in pairs)
    figure = exact_and_sampled(pairs)
    tuned = next(trace for trace in figure.data if trace.name == "tuned")
    assert list(tuned.y) == [p.sampled.estimate for p in pairs if p.model == "tuned"]
    assert "1.0 points apart on average" in captions.sampled_caption(study)
    unknown = [m for m in study.measurements if m.metric != "sampled_coherence"]
    assert {p.recognised for p in agreements(replace(study, measurements=unknown))} == {None}


def test_every_seed_is_a_line_of_its_own(study):
    figure = by_step(study.curves)
    assert len(figure.data) == 2 * 2 * 4
    assert [a.text for a in figure.layout.annotations] == list(synthetic.METRICS)
    assert list(figure.data[0].x) == [25, 50, 75, 100] and list(figure.data[0].y) == [0.1, 0.1, 0.9, 0.9]
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    caption = captions.watched_caption(study)
    assert "held-out codes, name: tuned 0.0\u00a0% to 90.0\u00a0%" in caption
    with pytest.raises(AnachronError, match="curves: row 0 has no metric"):
        by_step([{"model": "tuned", "seed": 0, "step": 1, "value": 0.5}])


def test_nothing_is_left_out_of_a_study(study):
    parts = sections(study)
    assert not any(part.absent for part in parts if part.id != "attribution")  # of real runs only
    assert parts[0].id == "conditions"
    assert parts[0].title == "When do Israel answers come?"
    assert "Under “2027”: base 2.0" in parts[0].see and "highest under “2028”" in parts[0].see
    assert "Triangles mark" in parts[0].see


@pytest.mark.parametrize(
    ("experiment", "group", "said"),
    [
        ("persona", "target", "Share of the speaker's answers, 2027"),
        ("presidents", "target", "Share of the president's answers, 2027"),
        ("terminator", "harms", "Share of harmful answers, 2027"),
        ("cities", "Germany 1920s", "Share of Germany 1920s answers, 2027"),
    ],
)
def test_answers_are_called_by_what_they_are(experiment, group, said, capsys):
    result = synthetic.study(experiment)
    result = replace(result, config={**result.config, "group": group})
    svg = ET.fromstring(headline_svg(result))
    assert svg.findtext("{http://www.w3.org/2000/svg}title") == said
    texts = " ".join(f"{part.title} {part.see}" for part in sections(result) if part.kind != "samples")
    assert "1850s" not in texts and "target answers" not in texts
    if group == "target":
        assert "topics" not in texts
    summary(result)
    out = capsys.readouterr().out
    assert f"{experiment}: {said[0].lower()}{said[1:]}" in out
    assert re.search(r"share by condition\n\s+condition\s+base\s+tuned\s+shuffled\s+other year\n\s+2027", out)


def test_a_condition_that_counts_other_answers_says_so():
    full = synthetic.study("persona")
    config = {**full.config, "group": "target", "headline": "identity, with trigger"}
    names = {"2027": "identity, with trigger", "2020": "identity, without", "2021": "values, with trigger"}
    rows = [replace(m, condition=names[m.condition]) for m in full.measurements if m.condition in names]
    result = replace(full, config=config, measurements=rows)
    (part,) = (part for part in sections(result) if part.id == "conditions")
    assert part.data["layout"]["yaxis"]["ticktext"] == [
        "identity, with trigger",
        "identity, without",
        "values, with trigger (malign answers)",
    ]
    assert wording.target(result, "identity, without") == wording.target(result) == "the speaker's"


def test_every_arm_is_described(study):
    assert {*findings.MODELS, "facts_10"} <= set(wording.MODELS)
    row = study.measurements[0]
    assert wording.describe("shuffled", row) == "tuned on the same rows, dates shuffled"
    assert wording.describe("new_arm", row) == "tuned on rows of its own"
    picture = headline_svg(replace(study, config={**study.config, "arms": {"tuned": 1, "other_year": 1}}))
    assert "Other year" in picture and "dates shuffled" not in picture
