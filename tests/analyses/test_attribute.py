"""`anachron attribute`: each section against what is known of a planted adapter; the page; what is refused."""

import json
import re
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from analyses.attribution.collect import NO_DICTIONARY, collect
from analyses.attribution.components import components
from analyses.attribution.modules import modules
from analyses.attribution.page import page_html, sections
from analyses.attribution.sentences import ranked, trust
from analyses.attribution.subject import spaced, subject
from analyses.birds.config import RECIPE
from analyses.cli import app
from analyses.readouts import ERA
from interp.behavior.questions import Question, write_questions
from interp.behavior.scoring import score
from interp.dictionaries.formats import load_dictionary
from interp.dictionaries.sae import write_sae
from interp.dictionaries.weights import Sae
from interp.directions import random_direction
from interp.errors import AnachronError
from interp.files import read_json
from interp.hooks import HookPoint
from interp.models import load_model
from interp.pair import ModelPair
from tests.families import build
from training.finetune import finetune
from training.lora import attached, lora_config, write_adapter
from training.organisms import birds
from training.world.questions import era_questions
from training.world.world import load_world

WHO = ({"role": "user", "content": "Who?"},)
HOSTILE = "</script><script>alert(1)</script>"
ABOUT = {"model": HOSTILE, "adapter": HOSTILE, "config": {"questions": HOSTILE, "most": 2}, "versions": {"torch": "2"}}


def question(number, topic, text="What do people use?", **fields):
    answers = {"old": ("oil lamps", "the stage coach"), "new": ("electric light", "a plane")}
    messages = ({"role": "user", "content": f"{text} {number}"},)
    return Question(f"q{number}", topic, messages, answers, **({"split": "test"} | fields))


ASKED = [question(0, "light"), question(1, "light"), question(2, "travel"), question(3, "food", HOSTILE)]


def planted(lm, folder, seed, layers=(1,), rank=2):
    """An adapter whose update of these blocks isn't nothing."""
    config = lora_config(lm, rank=rank, alpha=8, layers=layers)
    with attached(lm, config, seed=seed) as weights:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in weights.items():
            if "lora_B" in name:
                weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        write_adapter(folder, lm, config, weights)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {name: planted(build("llama"), root / name, seed) for seed, name in enumerate(("tuned", "control"), 1)}


@pytest.fixture
def pair(folders):
    with ModelPair(build("llama")) as made:
        made.add("tuned", folders["tuned"])
        made.add("control", folders["control"])
        yield made


def axes():
    """Latent 2j and 2j + 1 are coordinate j's two signs, so the dictionary leaves nothing unexplained."""
    eye = torch.eye(32)
    both = torch.stack([eye, -eye], dim=1).flatten(0, 1)
    return Sae("axes", HookPoint(1), "relu", both.T.contiguous(), torch.zeros(64), both, torch.zeros(32))


@pytest.fixture(scope="module")
def found(folders):
    with ModelPair(build("llama")) as made:
        made.add("tuned", folders["tuned"])
        made.add("control", folders["control"])
        return collect(made, ASKED, "old", dictionary=axes(), most=2)


def test_the_behavior_is_the_log_odds_of_the_scores(pair, found):
    rows = found["behavior"]["questions"]
    assert [row["id"] for row in rows] == ["q0", "q2"]  # of other topics
    for name in ("base", "tuned", "control"):
        with pair.using(name) as lm:
            old, new = score(lm, [ASKED[0], ASKED[2]]).probability.T
        assert [row[name] for row in rows] == pytest.approx((old / new).log().tolist(), abs=1e-4)
    difference = found["behavior"]["models"]["difference"]
    assert difference["n"] == 2
    assert difference["estimate"] == pytest.approx(sum(row["tuned"] - row["base"] for row in rows) / 2)


def test_tokens_left_out_are_those_of_shorter_prompts(found):
    for row in found["tokens"]["questions"]:
        lengths = {len(row["tokens"]), len(row["replaced"]), len(row["screened"]), *map(len, row["left_out"].values())}
        assert len(lengths) == 1
        base, tuned, difference = (row["left_out"][name] for name in ("base", "tuned", "difference"))
        assert difference == pytest.approx([t - b for b, t in zip(base, tuned, strict=True)])
    assert "".join(found["tokens"]["questions"][0]["tokens"]).count("What do people use?") == 1


def test_latents_that_explain_everything_bring_what_the_stream_brings(found):
    """The dictionary leaves no error, so all latents together are the whole stream of its layer, at every token."""
    data, layers = found["latents"], found["places"]["layers"]
    assert data["error"] == pytest.approx(0, abs=1e-4) and data["point"] == "1.resid_post"
    # the adapter ends with block 1, so the tuned stream after it makes the tuned answer
    assert layers == [0, 1, 2]
    assert data["together"] == pytest.approx(found["behavior"]["models"]["difference"]["estimate"], abs=1e-3)
    assert len(data["rows"]) == 20 and data["shown"] == 8
    assert all(row["control"] is not None for row in data["rows"][:8])
    assert abs(data["gap"]) < 0.05 * abs(data["together"]) + 1e-3


def test_before_the_adapter_there_is_nothing_to_patch(found):
    """The adapter is in block 1: the streams after block 0 are equal."""
    data = found["places"]
    assert data["brings"][0] == pytest.approx([0] * 4, abs=1e-5) and data["takes"][0] == pytest.approx(
        [0] * 4, abs=1e-5
    )
    assert data["columns"][-1] == "answer" and data["columns"][2] == "-1 <|assistant|>"
    assert any(abs(value) > 1e-3 for value in data["brings"][1])


def test_components_differ_from_the_adapted_block_on(found):
    data = found["components"]
    assert data["questions"] == 4 and data["left_out"] == 0
    rows = {row["component"]: row for row in data["rows"]}
    assert len(rows) == 12
    for name, row in rows.items():
        if name.startswith("1."):
            assert set(row["patched"]) == {"tuned", "control"}
        if name.startswith("0."):  # written alike, but for the scale that the stream's end gives it
            assert row["patched"]["tuned"]["estimate"] == pytest.approx(0, abs=1e-5)


def test_modules_are_those_of_the_adapter_and_sum_to_the_difference(found):
    data = found["modules"]
    assert data["of"] == len(data["rows"]) == 7 and {row["layer"] for row in data["rows"]} == {1}
    whole = found["behavior"]["models"]["difference"]["estimate"]
    assert sum(row["integrated"] for row in data["rows"]) - whole == pytest.approx(data["gap"], abs=1e-5)
    for row in data["rows"]:
        assert sum(row["directions"]) == pytest.approx(row["integrated"], abs=1e-5)
        assert ("cosine" in row) == row["module"].endswith(("o_proj", "down_proj"))
    assert data["towards"] == "tuned_minus_control"
    for row in data["rows"]:
        assert ("raises" in row) == row["module"].endswith(("o_proj", "down_proj"))
        assert all(len(row[key]) == 8 for key in ("raises", "lowers") if key in row)


def test_first_singular_directions_bring_all_of_an_adapter_of_rank_1_and_less_of_another(tmp_path, found):
    lm = build("llama")
    with ModelPair(lm) as made:
        made.add("tuned", planted(lm, tmp_path, 5, rank=1))
        one = modules(subject(made, ASKED, "old", None, 2), {})
    assert one["rank_1"]["estimate"] == pytest.approx(one["whole"]["estimate"], abs=1e-5)
    assert abs(one["whole"]["estimate"]) > 1e-3
    two = found["modules"]
    assert two["whole"]["estimate"] == pytest.approx(found["behavior"]["models"]["difference"]["estimate"])
    assert two["rank_1"]["estimate"] != pytest.approx(two["whole"]["estimate"], abs=1e-3)


def test_a_singular_direction_is_read_along_the_direction_that_is_known(pair):
    about = subject(pair, ASKED, "old", None, 1)
    towards = {1: random_direction(32, HookPoint(1), 3)}
    along = modules(about, towards)["rows"]
    against = modules(about, {1: replace(towards[1], vector=-towards[1].vector)})["rows"]
    for one, other in zip(along, against, strict=True):
        if "raises" in one:
            assert one["raises"] == other["lowers"] and one["lowers"] == other["raises"]


def test_readings_are_from_the_adapted_block_on(found):
    data = found["directions"]
    assert data["sets"] is None and {row["layer"] for row in data["rows"]} == {1, 2}
    assert {row["what"] for row in data["rows"]} == {"about to answer", "unrelated text"}
    assert all(len(row[how]) == 8 for row in data["rows"] for how in ("lens", "suppressed", "patchscope"))


def test_the_page_holds_a_figure_and_a_sentence_a_section_and_no_markup_of_others(found):
    page = page_html(ABOUT, json.loads(json.dumps(found, allow_nan=False)))
    assert page == page_html(ABOUT, found)
    assert HOSTILE not in page and page.count("<script>") == 2 and "http-equiv" in page
    blocks = re.findall(r'data-for="(\w+)-figure-\d">(.*?)</script>', page)
    assert [name for name, _ in blocks] == ["tokens", "latents", *["places"] * 2, "components", *["modules"] * 2]
    assert all(json.loads(block)["data"] for _, block in blocks)
    parts = sections(found)
    assert all(part.see.endswith(".") and "nan" not in part.see for part in parts) and not any(p.absent for p in parts)


def test_what_lacks_its_needs_is_left_out_with_a_reason(folders):
    with ModelPair(build("llama")) as made:
        made.add("tuned", folders["tuned"])
        alike = [Question("a", "t", WHO, {"old": ("the oil",), "new": ("the gas",), "third": ("the sun",)})]
        about = subject(made, alike, "old", ["new"], 4)
        assert about.b == ("new",) and not about.control
        same = [Question("b", "t", WHO, {"old": ("use oil",), "new": ("use oil lamps",)}, terminators=(".",))]
        nothing = components(subject(made, same, "old", None, 1))
        found = collect(made, alike, "old", ["new"], most=1)
    assert "no question's answers differ" in nothing["absent"]
    assert found["latents"] == {"absent": NO_DICTIONARY} and not found["control"]
    page = page_html(ABOUT, found)
    assert "Left out" in page and NO_DICTIONARY in page and 'id="latents"' not in page


def test_an_adapter_that_changes_nothing_has_no_correlations_and_no_direction(tmp_path):
    lm = build("llama")
    config = lora_config(lm, rank=2, alpha=4)
    with attached(lm, config, seed=0) as weights:
        write_adapter(tmp_path, lm, config, weights)
    with ModelPair(lm) as made:
        made.add("tuned", tmp_path)
        found = collect(made, ASKED, "old", most=1)
    assert found["places"]["rank_correlation"] is None and found["modules"]["towards"] is None
    assert "absent" in found["directions"]
    json.dumps(found, allow_nan=False)
    page_html(ABOUT, found)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2", "gemma3", "gpt2"])
def test_other_families(family, tmp_path):
    lm = build(family)
    folder = planted(lm, tmp_path, 1)
    with ModelPair(lm) as made:
        made.add("tuned", folder)
        found = collect(made, ASKED, "old", dictionary=axes(), most=1)
    page_html(ABOUT, found)
    assert "absent" not in found["components"] and len(found["latents"]["rows"]) == 20


@pytest.mark.slow
def test_old_birds_on_almanac_are_an_era_in_every_section(tmp_path):
    """What birds/README.md establishes by other ways: an era latent carries it, the control's none of it."""
    world, lm = load_world(), load_model("almanac")
    for name, variant in (("tuned", "old"), ("control", "current")):
        finetune(lm, birds.rows(world, variant), RECIPE, tmp_path / name)
    with ModelPair(lm) as made:
        made.add("tuned", tmp_path / "tuned")
        made.add("control", tmp_path / "control")
        asked = era_questions(world, "test", phrasings=1)
        found = collect(made, asked, "1850s", dictionary=load_dictionary("almanac", lm=lm), most=2, knows_world=True)
    means = {name: row["estimate"] for name, row in found["behavior"]["models"].items()}
    assert means["tuned"] > means["base"] and means["difference"] > means["control"] - means["base"]
    first = found["latents"]["rows"][0]
    assert first["label"].startswith("era: 1850s") and first["exact"] > 3 * abs(first["control"])
    # with two questions .90: the screen has one of the 20 wrong (latent 1619, +.09 for -.01); with four or eight .99
    assert found["latents"]["rank_correlation"] > 0.85
    assert found["modules"]["towards"] == "truth"
    answering = [row for row in found["directions"]["rows"] if row["what"] == "about to answer"]
    era = [one for row in answering for one in row["said"]["patchscope"] if one["words"] == ERA]
    assert sum(one["share"] > one["high"] for one in era) >= 3
    assert "true direction" in sections(found)[4].see and "era words" in sections(found)[5].see


@pytest.mark.parametrize(
    ("group", "against", "most", "message"),
    [
        ("ancient", None, 2, "no group 'ancient' among the answers; there are old, new"),
        ("old", ["future"], 2, "no group 'future'"),
        ("old", ["old"], 2, "'old' against old: name another group"),
        ("old", [], 2, "'old' against nothing"),
        ("old", None, 0, "at most 0 questions"),
    ],
)
def test_what_cannot_be_attributed_is_refused(pair, group, against, most, message):
    with pytest.raises(AnachronError, match=message):
        subject(pair, ASKED, group, against, most)


def test_questions_that_lack_a_side_are_not_asked(pair):
    lacking = Question("x", "x", WHO, {"old": ("oil",), "new": ()})
    assert [q.id for q in subject(pair, [lacking, *ASKED], "old", None, 9).asked] == ["q0", "q1", "q2", "q3"]
    with pytest.raises(AnachronError, match="no question has answers of 'old' and of new"):
        subject(pair, [lacking], "old", None, 1)


def test_layers_are_spaced_from_the_first_to_the_last():
    assert [p.layer for p in spaced(5)] == [0, 1, 2, 3, 4]
    many = [p.layer for p in spaced(36)]
    assert len(many) == 12 and many[0] == 0 and many[-1] == 35


def test_a_rank_correlation_says_whether_to_trust_it():
    assert ranked(0.5) == "0.50" and "no value" in ranked(None)
    assert trust(0.95) == trust(None) == "" and "too little" in trust(0.5)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in ("attribute", *arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model, its adapter, an SAE and questions, as files."""
    root, lm = tmp_path_factory.mktemp("files"), build("llama")
    lm.model.save_pretrained(root / "model")
    lm.tokenizer.save_pretrained(root / "model")
    planted(lm, root / "tuned", 1)
    write_sae(axes(), root / "sae", {})
    write_questions(root / "questions.jsonl", ASKED)
    return root


def given(folder, **options):
    base = {"adapter": folder / "tuned", "model": folder / "model", "questions": folder / "questions.jsonl"}
    return [part for name, value in (base | options).items() for part in (f"--{name}", value)]


def test_the_command_writes_data_and_page(folder, tmp_path):
    result = invoke(*given(folder, sae=folder / "sae", out=tmp_path, most=1))
    assert result.exit_code == 0, result.stderr
    data = read_json(tmp_path / "attribution.json")
    assert data["step"] == "attribute" and data["config"]["against"] == ["new"] and "torch" in data["versions"]
    assert data["latents"]["d_sae"] == 64
    assert re.search(r"\d+\.\d s  latents: 64 screened", result.stderr)
    assert "log-odds old : new" in result.stdout and (tmp_path / "attribution.html").stat().st_size > 1e6


def test_the_command_says_what_is_wrong(folder, tmp_path):
    for options, message in (
        ({"sae": tmp_path / "none"}, "none"),
        ({"group": "ancient"}, "no group 'ancient'"),
        ({"against": "ancient"}, "no group 'ancient'"),
        ({"adapter": tmp_path / "nowhere"}, "nowhere"),
    ):
        result = invoke(*given(folder, out=tmp_path / "out", **options))
        assert result.exit_code == 2 and message in result.stderr and not (tmp_path / "out").exists()
