"""Latent pages in a browser: headless Chromium from file://, where one is found; all is read off the document."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyses.pages.write import write_page
from tests.analyses import chromium, latent_pages

pytestmark = pytest.mark.skipif(not chromium.executable(), reason=f"none of {', '.join(chromium.NAMES)} on the path")

LATENTS = 16384
SHOWN = "document.getElementById('detail').dataset.state === 'shown'"
ROWS = "[...document.querySelectorAll('#latents tbody tr[id]')]"
TITLE = "document.querySelector('#detail h2').firstChild.textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    write_page(latent_pages.page(300, missing=frozenset({3})), folder / "small.html")
    write_page(latent_pages.hostile_page(), folder / "hostile.html")
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.html"
    # in a process of its own, where types of millions of arguments aren't checked
    code = (
        "import sys; from analyses.pages.write import write_page; from tests.analyses.latent_pages import page; "
        f"write_page(page({LATENTS}, examples=4, tokens=16), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, path], cwd=Path(__file__).parents[2], check=True, timeout=120)
    return path


@pytest.fixture
def small(browser, files):
    browser.open(files / "small.html")
    browser.until(SHOWN)
    yield browser
    assert not browser.complaints()


def typed(browser, text):
    browser.evaluate(
        f"(() => {{ const s = document.getElementById('search'); s.value = {json.dumps(text)}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    return browser.evaluate("view.order.map((row) => columns.latent[row])")


def sorted_by(browser, key):
    browser.evaluate(f"document.querySelector('#latents thead button[data-key={json.dumps(key)}]').click()")
    return browser.evaluate("view.order.map((row) => columns.latent[row])")


def chosen(browser):
    browser.until(SHOWN)
    return browser.evaluate(TITLE)


def test_16k_latents_are_in_view_within_two_seconds_and_little_is_drawn(browser, large):
    browser.open(large)
    first = browser.evaluate("performance.getEntriesByName('first-view')[0].startTime")
    browser.until(SHOWN)
    # two frames on, what was drawn has been painted
    painted = browser.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
    )
    print(f"{LATENTS} latents: table after {first:.0f} ms, detail painted after {painted:.0f} ms")
    assert first < 2000
    assert browser.evaluate(f"{ROWS}.length") < 80
    assert browser.evaluate("document.getElementById('latents').getAttribute('aria-rowcount')") == str(LATENTS + 1)
    assert browser.requests() == [large.as_uri()]
    for action in (
        "control('search').value = 'telegraph'; arrange(); drawRows()",
        "control('search').value = ''; view.sort = {key: 'auroc', sign: 1}; refresh()",
    ):
        took = browser.evaluate(f"(() => {{ const t = performance.now(); {action}; return performance.now() - t; }})()")
        print(f"{action}: {took:.0f} ms")
        assert took < 1000
    assert not browser.complaints()


def test_the_last_of_16k_rows_can_be_scrolled_to(browser, large):
    browser.open(large)
    browser.evaluate("scroller.scrollTop = scroller.scrollHeight")
    last = browser.evaluate("columns.latent[view.order.at(-1)]")
    browser.until(f"document.getElementById('row-{last}') !== null")
    box = browser.evaluate(
        f"(() => {{ const r = document.getElementById('row-{last}').getBoundingClientRect(); "
        "const s = scroller.getBoundingClientRect(); return [r.height, r.top - s.top, s.bottom - r.bottom]; })()"
    )
    assert box[0] == browser.evaluate("ROW") and box[1] > 0 and box[2] >= -1
    assert browser.evaluate("scroller.scrollHeight") == pytest.approx(LATENTS * 34, abs=100)


def test_a_hostile_page_shows_its_texts_and_runs_none(browser, files):
    browser.open(files / "hostile.html")
    for latent, text in enumerate(latent_pages.HOSTILE):
        browser.evaluate(f"location.hash = '#latent={latent}'")
        browser.until(f"{TITLE} === 'Latent {latent}' && {SHOWN}")
        tokens = browser.evaluate("[...document.querySelectorAll('.token')].map((t) => t.textContent)")
        assert len(tokens) == 3 and tokens[1] == " plain"
        assert tokens[0] == tokens[2] == browser.evaluate(f"visible({json.dumps(text)})")
        if latent < 6:  # nothing invisible in it
            assert tokens[0] == text
        # an element for each token hovered, its title read out
        browser.evaluate("document.querySelector('.token').dispatchEvent(new Event('pointerover', {bubbles: true}))")
    page = browser.evaluate("document.body.textContent")
    assert "⟨U+202E⟩" in page and "⟨U+2028⟩" in page and "⟨U+D83D⟩" in page and "⟨U+0000⟩" in page
    shown = browser.evaluate("[...document.querySelectorAll('header, section')].map((s) => s.textContent).join('')")
    assert not set(shown) & set("\u202e\u2028\u2029\u200f\u2066\x00\x07")
    assert browser.evaluate("window.broken") is None
    assert (
        browser.evaluate("document.querySelectorAll('img, script:not([type]), [onerror], [onmouseover]').length") == 1
    )
    assert browser.evaluate("[...document.links].every((a) => /^#/.test(a.getAttribute('href')))")
    for text in latent_pages.HOSTILE:
        assert typed(browser, text) or not text.strip()
    assert browser.requests() == [(files / "hostile.html").as_uri()]
    assert not browser.complaints()


def test_the_policy_refuses_markup_and_script(browser, files):
    browser.open(files / "small.html")
    refused = browser.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch (error) { return error.name; } })()"
    )
    assert refused == "TypeError"  # trusted types
    browser.evaluate(
        "(() => { const s = document.createElement('style'); s.textContent = 'body { display: none }'; "
        "document.head.append(s); })()"
    )
    assert browser.evaluate("getComputedStyle(document.body).display") == "block"
    blocked = browser.evaluate("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')")
    assert blocked == "refused"


def test_it_opens_sorted_by_the_first_difference(small):
    estimates = small.evaluate("view.order.map((row) => columns.contrast.tuned_minus_base.estimate[row])")
    assert estimates == sorted(estimates, reverse=True) and len(estimates) == 300
    assert chosen(small) == f"Latent {small.evaluate('columns.latent[view.order[0]]')}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("latent", lambda row: row.latent),
        ("q", lambda row: row.contrasts["tuned_minus_base"].q),
        ("frequency tuned", lambda row: -row.frequency["tuned"]),
        ("auroc", lambda row: -row.labels[0].auroc if row.labels else 1),
        ("label", lambda row: row.labels[0].state if row.labels else "~"),
        ("group", lambda row: row.group),
    ],
)
def test_sorting_by_a_heading(small, key, value):
    found = sorted_by(small, key)
    values = [float(f"{v:.4g}") if isinstance(v := value(latent_pages.row(latent)), float) else v for latent in found]
    assert values == sorted(values)
    direction = small.evaluate(f"document.querySelector('th:has([data-key={json.dumps(key)}])').ariaSort")
    assert direction == ("descending" if key in ("frequency tuned", "auroc") else "ascending")
    again = sorted_by(small, key)
    known = [latent for latent in again if latent_pages.row(latent).labels]
    if key in ("label", "auroc"):  # those without a label stay last
        assert set(again[: len(known)]) == set(known)
    else:
        assert value(latent_pages.row(again[0])) == max(map(value, map(latent_pages.row, range(300))))


def test_searching(small):
    assert typed(small, "123") == [123]
    assert typed(small, "OLD spell") == [7]
    assert set(typed(small, "era: 1850s")) == {i for i in range(300) if i % 3 and i % 2 == 0}
    page = latent_pages.page(300)

    def peak(example):
        return example.tokens[example.values.index(max(example.values))]

    wanted = {i for i in range(300) if i != 3 and any("naïve" in peak(e) for e in page.details[i].examples)}
    assert set(typed(small, "naïve")) == wanted
    assert typed(small, "no such thing") == []
    assert "No latent fits" in small.evaluate("grid.tBodies[0].textContent")
    assert small.evaluate("control('count').textContent") == "0 of 300 latents"
    assert len(typed(small, "")) == 300


def test_filters(small):
    rows = [latent_pages.row(i) for i in range(300)]
    small.evaluate("control('found').click()")
    found = set(small.evaluate("view.order"))
    assert found == {row.latent for row in rows if row.contrasts["tuned_minus_base"].q <= 0.05}
    small.evaluate(
        "(() => { const s = control('group'); s.value = [...s.options].find((o) => o.text === 'tuned-only').value; "
        "s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert set(small.evaluate("view.order")) == {i for i in found if rows[i].group == "tuned-only"}
    small.evaluate("control('found').click()")
    small.evaluate(
        "(() => { const s = control('group'); s.value = ''; s.dispatchEvent(new Event('input', {bubbles: true})); "
        "const k = control('kind'); k.value = [...k.options].find((o) => o.text === 'topic').value; "
        "k.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert set(small.evaluate("view.order")) == {i for i in range(300) if i % 3}
    assert small.evaluate("labelText(labelOf(1))") == "topic: birds"


def test_the_address_opens_a_latent(browser, files):
    browser.open(files / "small.html", "#latent=17")
    assert chosen(browser) == "Latent 17"
    assert browser.evaluate("document.querySelector('#row-17').className") == "chosen"
    page = latent_pages.page(300)
    parts = browser.evaluate("[...document.querySelectorAll('#detail h3')].map((h) => h.textContent)")
    assert parts[:5] == [
        "Where it is most active",
        "Tokens it promotes",
        "Tokens it suppresses",
        "Active together with",
        "How strongly it is active",
    ]
    titles = browser.evaluate("[...document.querySelectorAll('.histogram title')].map((t) => t.textContent)")
    assert titles[0] == f"0 to 1: {page.details[17].histogram.counts[0]} tokens"
    links = "[...document.querySelectorAll('#detail .wrap a')]"
    assert browser.evaluate(f"{links}.map((a) => a.getAttribute('href'))") == ["#latent=18", "#latent=19"]
    browser.evaluate(f"{links}[0].click()")
    browser.until(f"{TITLE} === 'Latent 18'")
    browser.evaluate("history.back()")
    browser.until(f"{TITLE} === 'Latent 17'")
    browser.evaluate("location.hash = '#latent=99999'")
    browser.until("document.getElementById('detail').textContent === 'This page has no latent 99999.'")
    browser.evaluate("location.hash = '#latent=3'")
    browser.until("document.getElementById('detail').textContent.includes('no examples of this latent')")
    assert not browser.complaints()


def test_tokens_are_coloured_by_their_activation(small):
    small.evaluate("location.hash = '#latent=17'")
    small.until(f"{TITLE} === 'Latent 17' && {SHOWN}")
    examples = latent_pages.page(300).details[17].examples
    largest = max(value for example in examples for value in example.values)
    heats = small.evaluate(
        "[...document.querySelectorAll('.example .text')].map((e) => "
        "[...e.children].map((t) => Number(t.style.getPropertyValue('--heat'))))"
    )
    for example, heat in zip(examples, heats, strict=True):
        assert heat == pytest.approx([value / largest for value in example.values], abs=2e-3)
    hottest = "[...document.querySelectorAll('.token')].find((t) => t.style.getPropertyValue('--heat') === '1.000')"
    assert small.evaluate(f"getComputedStyle({hottest}).backgroundColor") == "rgba(213, 94, 0, 0.62)"
    title = small.evaluate(f"{hottest}.title")
    assert title.endswith(f" · {float(f'{largest:.3g}'):g}")
    small.evaluate(f"{hottest}.dispatchEvent(new Event('pointerover', {{bubbles: true}}))")
    assert small.evaluate("document.querySelector('.legend output').textContent") == title
    assert small.evaluate("document.querySelector('.legend').textContent").startswith(f"0{float(f'{largest:.3g}'):g}")


def test_keys(small):
    order = small.evaluate("view.order.map((row) => columns.latent[row])")
    for key, at in [("j", 1), ("j", 2), ("k", 1)]:
        small.press(key)
        assert chosen(small) == f"Latent {order[at]}"
    small.press("/")
    assert small.evaluate("document.activeElement.id") == "search"
    small.press("j")
    assert small.evaluate("control('search').value") == "j"  # typed, not a step
    typed(small, "")
    small.press("Escape")
    assert small.evaluate("document.activeElement.id") == "latents"
    for key, at in [("End", 299), ("ArrowUp", 298), ("Home", 0), ("ArrowDown", 1)]:
        small.press(key)
        assert chosen(small) == f"Latent {order[at]}"
        assert small.evaluate("location.hash") == f"#latent={order[at]}"
        assert small.evaluate("grid.getAttribute('aria-activedescendant')") == f"row-{order[at]}"
        inside = (
            "(() => { const r = document.querySelector('tr.chosen').getBoundingClientRect(); "
            "const s = scroller.getBoundingClientRect(); "
            "return r.top >= s.top + ROW - 1 && r.bottom <= s.bottom + 1; })()"
        )
        assert small.evaluate(inside)
    small.press("Enter")
    assert small.evaluate("document.activeElement.id") == "detail"


def test_a_click_chooses(small):
    latent = small.evaluate("columns.latent[view.order[4]]")
    box = small.evaluate(
        f"(() => {{ const r = document.getElementById('row-{latent}').cells[1].getBoundingClientRect(); "
        "return [r.x + 5, r.y + 5]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        small.command("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
    small.until(f"{TITLE} === 'Latent {latent}'")
    assert small.evaluate("location.hash") == f"#latent={latent}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_on_the_hottest_token_can_be_read(small, theme):
    small.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    ink, ground = small.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.getElementById('detail')).backgroundColor]"
        ".map((c) => c.match(/\\d+/g).map(Number))"
    )

    def luminance(rgb):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    assert (luminance(ink) > luminance(ground)) == (theme == "dark")
    hot = [0.62 * heat + 0.38 * g for heat, g in zip((213, 94, 0), ground, strict=True)]
    light, dark = sorted((luminance(ink), luminance(hot)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_without_a_way_to_unpack_it_says_so_and_the_table_works(browser, files):
    script = browser.command("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream")[
        "identifier"
    ]
    try:
        browser.open(files / "small.html")
        browser.until(SHOWN)
        assert "this browser can't unpack it" in browser.evaluate(
            "document.querySelector('#detail [role=alert]').textContent"
        )
        assert browser.evaluate(f"{ROWS}.length") > 10
    finally:
        browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_file_cut_off_says_so(browser, files, tmp_path):
    text = (files / "small.html").read_text(encoding="utf-8")
    (tmp_path / "cut.html").write_text(text[: text.index('id="chunk-1"') - 40], encoding="utf-8")
    browser.open(tmp_path / "cut.html", "#latent=299")
    browser.until(SHOWN)
    assert "it was cut off" in browser.evaluate("document.querySelector('#detail [role=alert]').textContent")
