"""Latent pages as files: they hold what was put in, same page same bytes, no text breaks out, nothing is fetched."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analyses.pages import write
from analyses.pages.data import Contrast, Detail, Example, Histogram, Label, Page
from analyses.pages.write import page_html, write_page
from interp.errors import AnachronError
from tests.analyses import latent_pages

SINKS = re.compile(  # ways from text to markup, script or network
    r"innerHTML|outerHTML|insertAdjacent|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\b|Function\("
    r"|\bfetch\b|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\b|setTimeout|localStorage|window\.open"
)


class Parsed(HTMLParser):
    """What a browser would make of the file: elements, contents of scripts, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.style = self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.cdata_elem == "style":
            self.style += data
        else:
            self.text += data

    def block(self, id: str) -> str:
        return next(text for attributes, text in self.scripts if attributes.get("id") == id)

    @property
    def table(self) -> dict:
        return json.loads(self.block("table-data"))

    def detail(self, latent: int) -> dict:
        columns = self.table["columns"]
        chunk = columns["chunk"][columns["latent"].index(latent)]
        return json.loads(zlib.decompress(base64.b64decode(self.block(f"chunk-{chunk}"))))[str(latent)]


@pytest.fixture(scope="module")
def html() -> str:
    return page_html(latent_pages.page())


@pytest.fixture(scope="module")
def parsed(html) -> Parsed:
    return Parsed(html)


@pytest.fixture(scope="module")
def attacked() -> Parsed:
    return Parsed(page_html(latent_pages.hostile_page()))


def test_every_number_of_the_table_stands_in_it(parsed):
    page, table = latent_pages.page(), parsed.table
    columns = table["columns"]
    assert columns["latent"] == list(range(12))
    for i, row in enumerate(page.rows):
        for name in page.models:
            assert columns["mean"][name][i] == pytest.approx(row.mean[name], rel=1e-3)
            assert columns["frequency"][name][i] == pytest.approx(row.frequency[name], rel=1e-3)
        for name in page.contrasts:
            contrast, shown = row.contrasts[name], columns["contrast"][name]
            for part in ("estimate", "low", "high", "q"):
                assert shown[part][i] == pytest.approx(getattr(contrast, part), rel=1e-3)
            assert shown["found"][i] == (contrast.q <= 0.05)
        labels = [(table["kinds"][k], table["states"][s]) for k, s, _ in columns["labels"][i]]
        assert labels == [(label.kind, label.state) for label in row.labels]
        assert table["groups"][columns["group"][i]] == row.group
    assert columns["description"][7] == "old spellings"


def test_every_detail_can_be_unpacked(parsed):
    page = latent_pages.page()
    for latent in range(12):
        detail, shown = page.details[latent], parsed.detail(latent)
        assert shown["histogram"] == {"edges": [0.0, 1.0, 2.0, 4.0, 9.0], "counts": list(detail.histogram.counts)}
        for name in ("promoted", "suppressed", "coactive"):
            assert shown[name] == [list(pair) for pair in getattr(detail, name)]
        for example, packed in zip(detail.examples, shown["examples"], strict=True):
            assert packed["tokens"] == list(example.tokens) and packed["source"] == example.source
            values = [0.0] * len(example.tokens)
            for at, value in zip(packed["active"][::2], packed["active"][1::2], strict=True):
                values[at] = value
            assert values == pytest.approx(list(example.values), rel=1e-3)


def test_a_row_names_the_tokens_at_the_peaks():
    examples = tuple(
        Example(tokens, values)
        for tokens, values in (
            ((" a", " b"), (1.0, 2.0)),
            ((" b", " c"), (3.0, 0.0)),
            ((" c", " d"), (0.5, 0.1)),
        )
    )
    page = replace(latent_pages.page(3), details={1: Detail(examples, promoted=((" x", 2.0), (" y", 1.0)))})
    columns = Parsed(page_html(page)).table["columns"]
    assert columns["active"] == [[], [" b", " c"], []]
    assert columns["promoted"] == [[], [" x", " y"], []]
    assert columns["chunk"] == [-1, 0, -1]


def test_details_are_asked_for_once_in_order_and_may_be_missing(monkeypatch):
    monkeypatch.setattr(write, "CHUNK", 4)
    page = latent_pages.page(11, missing=frozenset({2, 9}))
    parsed = Parsed(page_html(replace(page, rows=page.rows[::-1])))
    # the first is asked for by the type checker as well
    assert [latent for latent in page.details.asked if latent] == [1, 3, 4, 5, 6, 7, 8, 10]
    assert parsed.table["columns"]["chunk"] == [0, 0, -1, 0, 0, 1, 1, 1, 1, -1, 2]
    assert parsed.detail(10)["coactive"] == [[0, 0.5], [1, 0.25]]


def test_same_page_same_bytes_whatever_the_order(tmp_path, html):
    page = latent_pages.page()
    write_page(replace(page, rows=page.rows[::-1]), tmp_path / "a" / "latents.html")
    assert (tmp_path / "a" / "latents.html").read_bytes() == html.encode()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["latents.html"]


def test_a_q_just_above_the_bound_is_not_rounded_onto_it():
    page = latent_pages.page(1)
    contrasts = dict.fromkeys(page.contrasts, Contrast(1.0, 0.5, 1.5, 0.0500001))
    table = Parsed(page_html(replace(page, rows=[replace(page.rows[0], contrasts=contrasts)]))).table
    assert table["columns"]["contrast"]["tuned_minus_base"]["found"] == [0]


def test_nothing_is_fetched(html, parsed):
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster", "formaction"):
            assert attributes.get(name, "#").startswith(("#", "data:,")), (tag, attributes)
    assert "@import" not in parsed.style and "url(" not in parsed.style
    # the only address is the name of SVG's namespace
    assert set(re.findall(r"\w+://[^\"'\s]+", html)) == {"http://www.w3.org/2000/svg"}


def test_policy_names_the_one_script_and_the_one_style(parsed):
    metas = [attributes for tag, attributes in parsed.elements if tag == "meta"]
    policy = next(a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy")
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    [script] = [text for attributes, text in parsed.scripts if "type" not in attributes]

    def hashed(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert parts["default-src"] == "'none'"
    assert parts["script-src"] == hashed(script) and parts["style-src"] == hashed(parsed.style)
    assert "unsafe" not in policy and "http" not in policy
    # the policy counts from where it stands, so it stands before everything it governs
    assert [tag for tag, _ in parsed.elements[:4]] == ["html", "head", "meta", "meta"]
    assert not any("style" in a or any(name.startswith("on") for name in a) for _, a in parsed.elements)


def test_the_script_has_no_way_from_text_to_markup():
    for path in sorted(write.TEMPLATES.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert not SINKS.search(text), path
        assert "</script" not in text.lower() and "<!--" not in text, path
    assert {path.name for path in write.TEMPLATES.glob("*.js")} == set(write.SCRIPTS)


def test_no_text_breaks_out(attacked, parsed):
    def frame(page):  # elements outside the data, without what differs by number
        return [(tag, sorted(a)) for tag, a in page.elements if not a.get("id", "").startswith("chunk-")]

    facts = [element for element in frame(attacked) if element[0] in ("bdi", "strong")]
    assert [e for e in frame(attacked) if e not in facts] == [e for e in frame(parsed) if e[0] not in ("bdi", "strong")]
    assert len(attacked.scripts) == len(parsed.scripts) == 3
    assert "window.broken = 1" in attacked.text and "{{ 7 * 7 }}" in attacked.text  # shown, and not rendered
    assert not set("<>&") & set(attacked.block("table-data"))
    assert attacked.block("table-data").isascii()


def test_hostile_texts_survive_unharmed(attacked):
    table = attacked.table
    for latent, text in enumerate(latent_pages.HOSTILE):
        shown = attacked.detail(latent)
        assert shown["examples"][0] == {"tokens": [text, " plain", text], "active": [0, 1.0, 2, 2.0], "source": text}
        assert shown["promoted"] == [[text, 1.0]] and shown["suppressed"] == [[text, -1.0]]
        kind, state, _ = table["columns"]["labels"][latent][0]
        assert table["kinds"][kind] == table["states"][state] == table["columns"]["description"][latent] == text
        assert table["columns"]["active"][latent] == [text]
    assert set(table["columns"]["mean"]) == set(latent_pages.HOSTILE[:2])


def test_lone_surrogates_can_be_written(tmp_path):
    write_page(latent_pages.hostile_page(), tmp_path / "latents.html")
    written = (tmp_path / "latents.html").read_text(encoding="utf-8")
    assert "half ⟨U+D83D⟩ of a pair" in written and "\u202e" not in written


def test_a_page_may_have_little():
    row = replace(latent_pages.row(5), contrasts={}, labels=(), group="", description="")
    table = Parsed(page_html(Page("bare", {}, latent_pages.MODELS, [row]))).table
    assert table["contrasts"] == table["kinds"] == table["columns"]["description"] == []
    assert table["columns"]["chunk"] == [-1]


def changed(**change):
    page = latent_pages.page(3)
    return replace(page, rows=[page.rows[0], replace(page.rows[1], **change), page.rows[2]])


def detailed(**change):
    page = latent_pages.page(3)
    return replace(page, details={1: replace(page.details[1], **change)})


CONTRASTS = dict.fromkeys(latent_pages.CONTRASTS, Contrast(0.0, -1.0, 1.0, 0.5))


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (lambda: replace(latent_pages.page(1), rows=[]), "without rows"),
        (lambda: replace(latent_pages.page(1), models=("base", "base")), r"models of the page hold a name twice"),
        (lambda: changed(latent=0), "latent 0 is negative or stands in two rows"),
        (lambda: changed(latent=-1), "latent -1 is negative"),
        (lambda: changed(mean={"base": 1.0}), "latent 1: mean has base, the page base, control, tuned"),
        (lambda: changed(contrasts={}), "latent 1: contrasts has none"),
        (lambda: changed(frequency=dict.fromkeys(latent_pages.MODELS, 1.5)), "latent 1: frequency is 1.5"),
        (lambda: changed(mean=dict.fromkeys(latent_pages.MODELS, float("nan"))), "latent 1: mean activation is nan"),
        (lambda: changed(labels=(Label("era", "1850s", 1.2),)), "latent 1: AUROC is 1.2"),
        (
            lambda: changed(contrasts=CONTRASTS | {"tuned_minus_base": Contrast(0.0, 1.0, -1.0, 0.5)}),
            r"tuned_minus_base has the interval \[1.0, -1.0\]",
        ),
        (lambda: changed(contrasts=CONTRASTS | {"tuned_minus_base": Contrast(0.0, -1.0, 1.0, 2.0)}), "q is 2.0"),
        (lambda: detailed(examples=(Example(("a", "b"), (1.0,)),)), "example 0 has 2 tokens and 1 values"),
        (lambda: detailed(examples=(Example((), ()),)), "example 0 has 0 tokens"),
        (lambda: detailed(examples=(Example(("a",), (-1.0,)),)), "activation in example 0 is -1.0"),
        (lambda: detailed(histogram=Histogram((0.0, 1.0), (1, 2))), "2 counts and 2 edges"),
        (lambda: detailed(histogram=Histogram((0.0, 0.0), (1,))), "ascending edges"),
        (lambda: detailed(histogram=Histogram((0.0, 1.0), (-1,))), "count of the histogram is -1.0"),
        (lambda: detailed(promoted=(("a", float("inf")),)), "effect on a token is inf"),
        (lambda: detailed(coactive=((9, 0.5),)), "co-active latent 9 has no row"),
    ],
)
def test_what_would_be_shown_wrong_is_refused(page, message, tmp_path):
    with pytest.raises(AnachronError, match=message):
        write_page(page(), tmp_path / "latents.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("node"), reason="no node on the path to read the script")
def test_the_script_parses(parsed, tmp_path):
    script = Path(tmp_path / "script.js")
    script.write_text(next(text for attributes, text in parsed.scripts if "type" not in attributes), encoding="utf-8")
    subprocess.run(["node", "--check", script], check=True, timeout=60)
