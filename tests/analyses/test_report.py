"""The report: complete, offline, deterministic, and closed to what its texts may contain."""

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from analyses.captions import percent
from analyses.console import bar, summary
from analyses.findings import headline, suppressions
from analyses.measurements import Result
from analyses.page import data_block
from analyses.report import report_html, sections, write_report
from interp.errors import AnachronError
from tests.analyses import synthetic

SECTIONS = ["topics", "cosine_to_truth", "auroc", "dose_response", "suppression", "losses", "samples", "measurements"]
STUDIES = [
    "conditions",
    "latents",
    "latents_by_layer",
    "latents_by_year",
    "attribution",
    "sampled",
    "by_step",
]  # parts that only a whole experiment fills
DRAWN = [name for name in STUDIES if name != "attribution"]  # by the study that is made up; tests/analyses/attribution
PAYLOAD = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'><!-- {{ 7 * 7 }} & \" '"


class Page(HTMLParser):
    """What a browser would make of the text: elements, scripts' contents, visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[tuple[dict, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        else:
            self.text += data

    def data(self, key: str, value: str):
        return json.loads(next(text for attributes, text in self.scripts if attributes.get(key) == value))


@pytest.fixture(scope="module", autouse=True)
def small_plotly():
    """A stand-in for the 5 MB of plotly.js, which most tests needn't parse; `real` gives it back."""
    import plotly.offline

    real = plotly.offline.get_plotlyjs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plotly.offline, "get_plotlyjs", lambda: 'window.Plotly = {"version": "é"};')
        yield real


@pytest.fixture
def real_plotly(small_plotly, monkeypatch):
    monkeypatch.setattr("plotly.offline.get_plotlyjs", small_plotly)
    return small_plotly()


@pytest.fixture(scope="module")
def html() -> str:
    return report_html(synthetic.result())


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def hostile_result() -> Result:
    """A result in which every free text is hostile."""
    full = synthetic.result()
    hostile = [
        replace(m, split=f"test/{PAYLOAD}")
        if m.split == "test/money"
        else replace(m, direction=PAYLOAD)
        if m.direction == "pca"
        else m
        for m in full.measurements
    ]
    sample = dict.fromkeys(("topic", "question", "base", "tuned", PAYLOAD), PAYLOAD)
    loss = {"model": PAYLOAD, "seed": 0, "step": 1, "loss": 1.0}
    return replace(
        full,
        experiment=PAYLOAD,
        model=PAYLOAD,
        config={"group": PAYLOAD, PAYLOAD: PAYLOAD, "nested": {"key": [PAYLOAD]}, "command": PAYLOAD},
        versions={PAYLOAD: PAYLOAD},
        measurements=hostile,
        samples=[sample, *full.samples],
        losses=[loss, *full.losses],
    )


@pytest.fixture(scope="module")
def attacked() -> str:
    return report_html(hostile_result())


def test_sections_stand_in_order_and_none_is_left_out(page):
    ids = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
    assert ids == [*SECTIONS, "absent", "setup"]
    parts = sections(synthetic.result())
    assert [part.id for part in parts if not part.absent] == SECTIONS
    assert [part.id for part in parts if part.absent] == STUDIES


def test_every_anchor_and_label_has_its_target(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    labels = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert {link.removeprefix("#") for link in links} | set(labels) <= set(ids)


def test_headline_numbers_are_those_of_the_result():
    changed = synthetic.result()
    rows = [
        replace(m, estimate=0.4321) if (m.metric, m.model, m.edit, m.split) == ("broad", "tuned", "none", "test") else m
        for m in changed.measurements
    ]
    text = Page(report_html(replace(changed, measurements=rows))).text
    assert percent(0.4321) in text
    assert percent(synthetic.SHARES["tuned"]) not in text


def test_measurement_table_holds_every_row(page):
    table = page.data("id", "measurement-data")
    full = synthetic.result()
    assert [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] == [
        vars(m) for m in full.measurements
    ]
    assert table["filters"] == ["metric", "model", "edit", "direction", "split", "condition", "layer"]


def test_same_result_same_bytes(tmp_path, html):
    write_report(synthetic.result(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == html.encode()


def test_nothing_is_fetched(page):
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    style = page.text  # the style element's text is among it
    assert "@import" not in style and "url(" not in style


def test_only_the_pages_own_scripts_may_run(page):
    policy = next(
        a["content"] for tag, a in page.elements if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    allowed = re.search(r"script-src ([^;]*);", policy)[1].split()
    executed = [text for attributes, text in page.scripts if "type" not in attributes]
    digests = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in executed]
    assert allowed == digests and len(digests) == 2


def test_plotly_is_embedded_once_and_cannot_end_its_script(real_plotly):
    html = report_html(synthetic.result())
    assert html.count(real_plotly) == 1
    assert "</script" not in real_plotly.lower() and "<!--" not in real_plotly and "\r" not in real_plotly


def test_no_text_breaks_out(attacked, html):
    hostile, plain = Page(attacked), Page(html)
    assert len(hostile.scripts) == len(plain.scripts)
    assert "img" not in {tag for tag, _ in hostile.elements}
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert hostile.text.count("window.broken = 1") >= 10  # shown as text
    assert "{{ 7 * 7 }}" in hostile.text  # Jinja doesn't render what it inserts
    assert [text for attributes, text in hostile.scripts if "type" not in attributes] == [
        text for attributes, text in plain.scripts if "type" not in attributes
    ]


def test_figure_labels_are_escaped_for_plotly(attacked):
    topics_figure = Page(attacked).data("data-for", "topics-figure")
    names = {name for trace in topics_figure["data"] for name in trace["y"]}
    assert any("&lt;script&gt;" in name for name in names)
    assert not any("<" in name for name in names)
    for figure in ("cosine_to_truth", "losses"):
        assert "<img" not in json.dumps(Page(attacked).data("data-for", f"{figure}-figure"))


def test_a_data_block_survives_any_text():
    value = {"a": PAYLOAD, "b": "é\u2028\u2029\\", "<!--": [None, True, 0.1]}
    block = data_block(value)
    assert json.loads(block) == value
    assert not set("<>&") & set(block)
    with pytest.raises(ValueError, match="JSON compliant"):
        data_block(math.nan)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda m: not m.split.startswith("test/"), "topics"),
        (lambda m: m.metric != "cosine_to_truth", "cosine_to_truth"),
        (lambda m: m.metric != "auroc", "auroc"),
        (lambda m: m.edit != "add", "dose_response"),
        (lambda m: m.edit not in ("clamp", "ablate"), "suppression"),
    ],
)
def test_a_part_without_its_rows_is_left_out_and_said_so(change, gone):
    full = synthetic.result()
    parts = sections(replace(full, measurements=[m for m in full.measurements if change(m)]))
    assert [part.id for part in parts if part.absent and part.id not in STUDIES] == [gone]


@pytest.mark.parametrize("metric", ["narrow", "coherence", "perplexity_ratio"])
def test_a_metric_beside_may_be_missing(metric):
    full = synthetic.result()
    parts = sections(replace(full, measurements=[m for m in full.measurements if m.metric != metric]))
    assert [part.id for part in parts if part.absent] == STUDIES


def test_an_unmarked_result_is_reported():
    full = synthetic.result()
    unmarked = replace(full, measurements=[replace(m, chosen=False) for m in full.measurements if m.layer in (None, 2)])
    assert [part.id for part in sections(unmarked) if part.absent] == STUDIES


def test_an_empty_result_says_what_is_missing():
    page = Page(report_html(synthetic.result(measurements=[], samples=[], losses=[], config={})))
    assert [attributes["id"] for tag, attributes in page.elements if tag == "section"] == ["absent", "setup"]
    assert page.text.count("Left out: ") == len(SECTIONS + STUDIES)


def test_a_measurement_that_is_not_finite_is_refused():
    full = synthetic.result()
    with pytest.raises(AnachronError, match=r"measurement 0 \(broad, base\)"):
        report_html(
            replace(full, measurements=[replace(full.measurements[0], estimate=math.nan), *full.measurements[1:]])
        )


def test_measurements_that_cannot_be_told_apart_are_refused():
    full = synthetic.result()
    with pytest.raises(AnachronError, match="2 measurements"):
        headline(replace(full, measurements=[*full.measurements, full.measurements[0]]))


def test_rows_without_their_columns_are_refused():
    with pytest.raises(AnachronError, match="samples: row 0"):
        sections(synthetic.result(samples=[{"topic": "light", "base": "gas jets"}]))
    with pytest.raises(AnachronError, match="losses: row 1 has no step"):
        sections(synthetic.result(losses=[*synthetic.losses()[:1], {"model": "tuned", "seed": 0, "loss": 1.0}]))


def test_what_an_edit_removed_and_kept():
    def share(metric: str, estimate: float, model: str = "tuned", **where):
        return synthetic.row(metric, model, estimate, 0.0, **where)

    edit = {"edit": "clamp", "direction": "truth", "layer": 1}
    rows = [
        share("broad", 0.1, "base"),
        share("broad", 0.6),
        share("narrow", 0.8, split="narrow"),
        share("broad", 0.2, **edit),
        share("broad", 0.9, **edit, split="validation"),
        share("narrow", 0.6, **edit, split="narrow"),
        share("narrow", 0.1, **edit, split="validation"),
    ]
    (found,) = suppressions(synthetic.result(measurements=rows))
    assert found.removed == pytest.approx((0.6 - 0.2) / (0.6 - 0.1))
    assert found.narrow_kept == pytest.approx(0.6 / 0.8)
    assert (found.coherence, found.perplexity_ratio) == (None, None)
    unmoved = [share("broad", 0.6, "base"), *rows[1:]]
    assert suppressions(synthetic.result(measurements=unmoved))[0].removed is None


def test_console_summary(capsys):
    summary(synthetic.result())
    text = capsys.readouterr().out
    assert "0.640 [0.620 0.660]" in text
    assert "1850s" in text
    assert re.search(r"tuned minus control\s+clamp\s+2", text)
    assert re.search(r"random\s+clamp\s+2", text)
    summary(synthetic.result(measurements=[], seeds=[3]))
    assert "0 measurements, seeds 3" in capsys.readouterr().out


def test_bar():
    assert bar(0.0) == ""
    assert bar(1.0, width=4) == bar(7.0, width=4) == "████"
    assert bar(0.5 + 1 / 32, width=4) == "██▏"


BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")


def hostile_study() -> Result:
    """A result with conditions in which every free text is hostile."""
    full = synthetic.study()
    rows = [replace(m, condition=PAYLOAD) if m.condition == "2025" else m for m in full.measurements]
    curves = [{**row, "metric": PAYLOAD, "model": PAYLOAD} for row in full.curves]
    shortlist = [{**row, "state": PAYLOAD} for row in full.config["latents"]["shortlist"]]
    config = {
        **full.config,
        "latents": {**full.config["latents"], "shortlist": shortlist},
        "group": PAYLOAD,
        "arms": {**full.config["arms"], PAYLOAD: 1},
        "trained": [PAYLOAD],
    }
    return replace(full, experiment=PAYLOAD, measurements=rows, curves=[*curves, *full.curves], config=config)


def test_no_text_breaks_out_of_a_study(html):
    page, plain = Page(report_html(hostile_study())), Page(html)
    assert len(page.scripts) == len(plain.scripts) + len(DRAWN)
    assert "img" not in {tag for tag, _ in page.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    for part in DRAWN:
        assert "<img" not in json.dumps(page.data("data-for", f"{part}-figure"))


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
@pytest.mark.parametrize(("attack", "figures"), [(hostile_result, 5), (hostile_study, 10)])
def test_in_a_browser_all_figures_are_drawn_and_no_text_runs(tmp_path, real_plotly, attack, figures):
    path = tmp_path / "report.html"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += [
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
    ]
    probe = "<script>document.title = 'ran'</script>"  # not named by the policy, so it must not run
    path.write_text(report_html(attack()).replace("</body>", f"{probe}</body>"), encoding="utf-8")
    dom = subprocess.run(
        [BROWSER, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=300, check=True
    ).stdout
    seen = Page(dom)
    assert sum("js-plotly-plot" in attributes.get("class", "") for _, attributes in seen.elements) == figures
    assert "<title>ran</title>" not in dom
    assert "img" not in {tag for tag, _ in seen.elements}
    rows = dom[dom.index('id="measurements-table"') :].count("<tr>")
    assert rows > 100
