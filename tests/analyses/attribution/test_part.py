"""Attribution as a part of an experiment: whose log-odds, of which answers, and what the report makes of it."""

import json
from dataclasses import replace

import pytest
import torch

from analyses.attribution.collect import collect
from analyses.attribution.part import SMALL, attribution_of, fewer_answers, one_opener_an_era, rounded
from analyses.report import report_html, sections
from interp.behavior.questions import Question
from interp.behavior.scoring import score
from interp.dictionaries.weights import Sae
from interp.errors import AnachronError
from interp.hooks import HookPoint
from interp.pair import ModelPair
from tests.analyses import synthetic
from tests.families import build
from training.lora import attached, lora_config, write_adapter
from training.world.questions import era_questions
from training.world.world import load_world

HOSTILE = "</script><script>alert(1)</script>"
MANY = {"old": [f"the lamp {i}" for i in range(40)], "new": [f"a plane {i}" for i in range(3)], "none": []}


def question(number, text="What do people use?", **answers):
    given = answers or {"old": ("oil lamps", "the stage coach"), "new": ("electric light", "a plane")}
    return Question(f"q{number}", f"t{number}", ({"role": "user", "content": f"{text} {number}"},), given)


ASKED = [question(0), question(1, HOSTILE), question(2)]


def planted(lm, folder, seed):
    """An adapter of block 1 whose update isn't nothing."""
    config = lora_config(lm, rank=2, alpha=8, layers=(1,))
    with attached(lm, config, seed=seed) as weights:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in weights.items():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        write_adapter(folder, lm, config, weights)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root, lm = tmp_path_factory.mktemp("adapters"), build("llama")
    folders = {name: planted(lm, root / name, seed) for seed, name in enumerate(("tuned-3", "shuffled-3"), 1)}
    with ModelPair(lm) as made:
        for name, folder in folders.items():
            made.add(name, folder)
        yield made


@pytest.fixture(scope="module")
def found(pair):
    return attribution_of(pair, ASKED, "old", "shuffled", None, 3, condition="2027")


def test_the_rows_are_the_log_odds_of_the_seeds_two_adapters(pair, found):
    rows, data = found
    assert [(m.metric, m.model, m.condition, m.n) for m in rows] == [
        ("log_odds", model, "2027", 2) for model in ("base", "tuned", "shuffled")
    ]
    asked = [q for q in ASKED if q.id in {row["id"] for row in data["behavior"]["questions"]}]
    for name, row in zip(("base", "tuned-3", "shuffled-3"), rows, strict=True):
        with pair.using(name) as lm:
            old, new = score(lm, asked).probability.T
        assert row.estimate == pytest.approx(float((old / new).log().mean()), abs=1e-4)
        assert row.low <= row.estimate <= row.high
    assert data["about"] == {
        "tuned": "tuned-3",
        "control": "shuffled-3",
        "asked": 3,
        "answers": 2,
        "of": 2,
        "openers": 1,
    }


def test_it_is_what_collect_finds_rounded(pair, found):
    names = {"tuned": "tuned-3", "control": "shuffled-3"}
    whole = collect(pair, ASKED, "old", most=2, seed=3, sizes=SMALL, **names)
    data = {key: value for key, value in found[1].items() if key != "about"}
    assert data == rounded(whole) and json.loads(json.dumps(data, allow_nan=False)) == data
    assert len(data["modules"]["rows"]) == 7 and len(data["components"]["rows"]) == SMALL.components
    assert data["control"] and set(data["components"]["rows"][0]["patched"]) == {"tuned", "control"}
    # the adapter is in block 1: nothing differs after block 0
    assert data["places"]["brings"][0] == pytest.approx([0] * 3, abs=1e-5)
    assert len(json.dumps(data, indent=1)) < 150_000


def test_what_has_no_listed_answers_is_skipped_with_a_reason(pair):
    open_ones = [Question("o", "o", ASKED[0].messages)]
    for asked, group in ((open_ones, "old"), (ASKED, "judged"), ([question(0, old=("oil",), new=())], "old")):
        rows, data = attribution_of(pair, asked, group, "shuffled", None, 3)
        assert rows == [] and set(data) == {"absent"} and f"no answers of {group}" in data["absent"]


def test_what_cannot_be_attributed_does_not_end_a_run(pair):
    eye = torch.eye(16)  # of a model of another width
    other = Sae("other", HookPoint(1), "relu", eye, torch.zeros(16), eye, torch.zeros(16))
    rows, data = attribution_of(pair, ASKED, "old", "shuffled", other, 3)
    assert rows == [] and "16" in data["absent"]
    with pytest.raises(AnachronError, match="the pair has no tuned-7 and no shuffled-7, only base, tuned-3"):
        attribution_of(pair, ASKED, "old", "shuffled", None, 7)


def test_fewer_answers_are_as_many_of_each_group():
    whole = question(0, **{group: tuple(answers) for group, answers in MANY.items()})
    few = fewer_answers(whole, 8)
    assert {group: len(answers) for group, answers in few.answers.items()} == {"old": 5, "new": 3, "none": 0}
    assert few.answers["old"] == tuple(f"the lamp {i}" for i in (0, 8, 16, 24, 32))
    assert fewer_answers(whole, 43) == whole
    mannered = replace(whole, openers=("", "I say,"))
    assert {len(answers) for answers in fewer_answers(mannered, 1).answers.values()} == {0, 1}


def test_openers_of_the_world_are_one_an_era_and_others_stay():
    world = load_world()
    asked = era_questions(world, "test", phrasings=1)[0]
    assert one_opener_an_era(asked).openers == ("", *(era.openers[0] for era in world.facts.eras.values()))
    assert one_opener_an_era(ASKED[0]) is ASKED[0]


def test_rounding_keeps_significant_digits_whole_numbers_and_words():
    data = {"a": [0.000123456, -12345.678, 7, True, None, "1.23456789"], "b": (2 / 3,)}
    assert rounded(data) == {"a": [0.0001235, -12350.0, 7, True, None, "1.23456789"], "b": [0.6667]}


def result(attribution):
    full = synthetic.result()
    return replace(full, config=dict(full.config) | {"attribution": attribution})


def test_the_report_shows_every_figure_in_one_section(found, monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    made = result(json.loads(json.dumps(found[1])))
    [section] = [part for part in sections(made) if part.id == "attribution"]
    shown, left = section.data["parts"], section.data["absent"]
    assert [part.id for part in shown] == ["tokens", "places", "components", "modules", "directions"]
    assert [part.id for part in left] == ["latents"]
    assert "2 of 3 test questions" in section.see and "tuned-3" in section.see
    page = report_html(made)
    for name, figures in {"tokens": 1, "places": 2, "components": 1, "modules": 2}.items():
        for i in range(1, figures + 1):
            assert f'data-for="attribution-{name}-figure-{i}"' in page
    assert HOSTILE not in page and page.count("<script>") == 2
    assert page.count('id="attribution"') == 1 and "rank_correlation" not in page.split('id="setup"')[1]


def test_the_report_says_why_there_is_none():
    for config, reason in (({"absent": "the model is open."}, "the model is open"), ({}, "nothing was attributed")):
        [section] = [part for part in sections(result(config)) if part.id == "attribution"]
        assert section.absent == reason
    [section] = [part for part in sections(synthetic.result()) if part.id == "attribution"]
    assert section.absent == "nothing was attributed"
