"""The calculator in a browser: what it shows, by keyboard, on a phone, in the dark, on paper, and what it never does."""

from __future__ import annotations

import itertools
import re
import threading
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import urlencode

import numpy as np
import pytest

import aemodel
from aemodel.pages.description import beside_words
from tests.browser import DESK, PHONE, look_at, needs_chromium
from tests.calculators import BOLD, LONG, page_data, profiles, scored
from tests.test_figures import contrast

pytestmark = needs_chromium

PATIENT = {"age_band": "19-30", "relapse_group": "bm_early", "sex": "female", "race_ethnicity": "hispanic"}


@pytest.fixture(scope="module")
def written(shipped, hostile, pair, tmp_path_factory):
    """Paths of pages: of the shipped model, of one with hostile texts whose checks failed, and of two fits."""
    folder = tmp_path_factory.mktemp("calculator")
    models = {"shipped": (shipped,), "hostile": (hostile,), "pair": pair}
    pages = {name: folder / f"{name}.html" for name in models}
    return {name: aemodel.write_calculator(fits[0], pages[name], *fits[1:]) for name, fits in models.items()}


@pytest.fixture(scope="module")
def pair(model, other):
    """Two fits, the other one without assumptions, and with a sampler that failed."""
    return model, replace(other, diagnostics=replace(other.diagnostics, divergences=7))


def chosen_labels(page):
    return page.eval_on_selector_all("input:checked", "found => found.map(input => input.parentElement.textContent)")


WORDS = (files("aemodel.pages") / "static" / "words.js").read_text(encoding="utf-8")


def in_words(page, expression, given):
    """What the page's own sentences are, of an expression of `model, chosen, e` or what else is given."""
    names = ", ".join(given)
    return page.evaluate(f"({{ {names} }}) => {{ {WORDS}\nreturn {expression}; }}", given)


def cell(page, event, grade):
    data = page_data(page.content())
    place = [[e["name"] for e in data["events"]].index(event), data["grades"].index(grade)]
    return page.locator(f"#cell-{place[0]}-{place[1]}")


# Numbers.


READ_ALL = """async (addresses) => {
    const found = [];
    for (const address of addresses) {
        const turned = new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
        location.hash = address;
        await turned;
        const cells = [...document.querySelectorAll("td")].map((cell) => [cell.id, [
            ...[...cell.querySelectorAll("data")].flatMap((data) => data.value.split(" ").map(Number)),
            cell.querySelector(".support").textContent.trim(),
        ]]);
        const text = (id) => document.getElementById(id).textContent;
        found.push([Object.fromEntries(cells), ["what", "risk", "range", "compared", "both-ways", "few"].map(text),
            [...document.querySelectorAll("#counted li")].map((line) => line.textContent), text("peek-risk")]);
    }
    return found;
}"""


@pytest.fixture(scope="module")
def told(browser, written):
    return all_told(browser, written["shipped"])


def all_told(browser, address):
    """All that is said of every profile, event and grade that a page shows, worked out in one evaluation, with its data."""
    page = browser.new_page()
    page.goto(address.as_uri())
    data = page_data(page.content())
    places = [(e, g) for e, event in enumerate(data["events"]) for g in range(2) if event["only"] is None or g == event["only"]]
    chosen = list(itertools.product(*(range(len(c["levels"]) + 1) for c in data["covariates"])))
    every = "chosen.map((one) => places.map(([e, g]) => sentencesOf(model, one, e, g)))"
    said = in_words(page, every, {"model": data, "chosen": chosen, "places": places})
    page.close()
    return data, chosen, places, said


@pytest.mark.slow
def test_every_profile_shown_equals_score_in_the_words_made_for_it(show, shipped, told):
    """Through the page itself: each selection put into the address, risks and sentences read from the document."""
    data, _, places, said = told
    risks, support = scored(shipped)
    addresses = []
    for i, profile in enumerate(profiles(shipped)):
        e, g = places[i % len(places)]
        shown = {"show.event": data["events"][e]["name"], "show.grade": data["grades"][g]}
        addresses.append(urlencode({k: v for k, v in profile.items() if v is not None} | shown))
    # The page starts without a selection: going there from nowhere would change nothing.
    found = show(chosen=PATIENT).evaluate(READ_ALL, addresses)
    for i, (cells, texts, counted, peek) in enumerate(found):
        numbers = [cells[f"cell-{e}-{g}"] for e, g in places]
        np.testing.assert_allclose([n[:3] for n in numbers], [risks[i, e, g] for e, g in places], rtol=0, atol=1e-6)
        assert [n[3] for n in numbers] == [support[i, e, g] for e, g in places]
        expected = said[i][i % len(places)]
        assert texts == [expected[key] for key in ("what", "risk", "range", "compared", "both", "few")]
        assert counted == expected["counted"]
        assert peek == f"{'Assumption: ' * expected['assumed']}{expected['risk']}; {expected['range']}"


def test_every_sentence_keeps_to_the_rules(told, shipped):
    """One denominator, no ratio alone or of what is rare or assumed, the time in each, counts as published, assumption first."""
    data, chosen, places, said = told
    usual = {(row.event, row.grade): row for row in shipped.tables.rows if row.covariate == "total" and row.exact}
    for one, sentences in zip(chosen, said, strict=True):
        nothing = all(i == len(c["levels"]) for i, c in zip(one, data["covariates"], strict=True))
        for (e, g), s in zip(places, sentences, strict=True):
            key = (data["events"][e]["name"], data["grades"][g])
            text = " ".join([s["what"], s["risk"], s["range"], s["compared"], s["both"], *s["counted"]])
            assert not re.search(r"in 1,000|could be|average|fewest|NaN|undefined|null", text), text
            assert all(data["period"] in line for line in (s["what"], s["compared"], s["both"]) if line)
            assert s["assumed"] == (s["support"] == "prior") == s["what"].startswith("Assumption: ")
            ratio = re.search(r"[0-9.]+ times as many", s["compared"])
            if ratio:
                row = usual[key]
                assert min(s["mean"], row.observed_low / row.n) >= 0.01
                assert re.search(r"in 100, against .* in 100 overall .*: \S+ (more|fewer), [0-9.]+ times", s["compared"])
                assert abs(float(ratio[0].split()[0]) - s["mean"] / (row.observed_low / row.n)) < 0.051
            if s["assumed"]:
                assert not ratio
                assert "range" not in s["compared"]
                assert s["both"] == ""
            if key in usual and not usual[key].observed_low and not nothing and not s["assumed"]:
                assert s["compared"].endswith(": too rare to tell how this patient differs.")
                assert s["meaning"] == "There is hardly a difference from the cohort to tell of."
            if key in usual:
                assert f"{usual[key].observed_low} of {usual[key].n}" in s["compared"]
            if nothing or "about the same" in s["compared"]:
                assert "Published numbers" not in s["meaning"]


def test_what_was_not_counted_is_told_by_covariate_or_by_level(browser, written):
    """A covariate by which nothing was counted, and a level in no row of one by which others were."""
    page = browser.new_page()
    page.goto(written["shipped"].as_uri())
    data = page_data(page.content())
    sepsis = [event["name"] for event in data["events"]].index("sepsis")

    def sentences(model, chosen=(2, 4, 1, 6)):
        return in_words(page, "sentencesOf(model, chosen, e, 0)", {"model": model, "chosen": chosen, "e": sepsis})

    assumed = " Assumed to have been tested and not significant, which narrows the range: by sex."
    assert sentences(data)["uncounted"].endswith(f"at this grade: by sex.{assumed}")
    assert sentences(data | {"assumed": [[[], []]] * len(data["events"])})["uncounted"].endswith("at this grade: by sex.")
    data["counts"][sepsis][0] = [row for row in data["counts"][sepsis][0] if row["at"] != {"0": [2]}]
    assert sentences(data)["uncounted"].endswith(f"at this grade: for 19-30 years, by sex.{assumed}")
    assert sentences(data, [3, 4, 2, 6])["meaning"] == "The publication gives this toxicity at this grade."
    page.close()


def test_a_page_of_two_fits_tells_both_of_every_answer(browser, show, pair, written):
    *_, said = all_told(browser, written["pair"])
    risks, support = scored(pair[1])
    words = beside_words(pair[0].settings, pair[1].settings, pair[0].tables)
    for i, sentences in enumerate(said):
        assert len(sentences) == risks[i, ..., 0].size - 1  # death is one thing
        for s in sentences:
            assert s["beside"].startswith(f"{s['risk']}; ")
            assert f"in 100, risk {s['beside'].split(', risk ')[1].split(',')[0]}, {words}" in s["beside"]
            assert ("an assumption there" in s["beside"]) == (s["other"]["support"] == "prior")
    page = show("pair", chosen={"arm": "high", "show.event": "rash"})
    mean, other = (cell(page, "rash", "3-5").locator(f".{which}").get_attribute("value") for which in ("risk", "other"))
    profile = profiles(pair[1]).index({"arm": "high", "stage": None, "region": None})
    rash = pair[1].risks.events.index("rash")
    assert float(other) == pytest.approx(risks[profile, rash, 0, 0], abs=1e-6)
    assert float(mean) != float(other)
    assert (
        page.locator("#beside")
        .text_content()
        .endswith(f"{words}{' (an assumption there)' * (support[profile, rash, 0] == 'prior')}.")
    )
    assert f"Other fit: {words}." in page.locator("#caption").text_content()
    assert "The fit of the other model failed its checks" in page.locator("#failed").text_content()
    assert show().locator("#beside").is_hidden()


def test_published_counts_of_chosen_levels_are_those_of_the_tables(told, shipped):
    data, chosen, places, said = told
    rows = {row.key: row for row in shipped.tables.rows}
    for one, sentences in zip(chosen, said, strict=True):
        known = [(c, c["levels"][i]) for c, i in zip(data["covariates"], one, strict=True) if i < len(c["levels"])]
        for (e, g), s in zip(places, sentences, strict=True):
            place = data["events"][e]["name"], data["grades"][g]
            keys = [(*place, c["name"], level["name"], level["label"]) for c, level in known] + [
                (*place, "total", "all", "All patients")
            ]
            there = [(rows[key[:4]], key[4]) for key in keys if key[:4] in rows]
            assert sorted(line.rsplit(", ", 1)[0] for line in s["counted"]) == sorted(
                f"{label}: {row.observed_low} of {row.n}" for row, label in there
            )
            for line in s["counted"]:
                count, n, printed = re.search(r": (\d+) of (\d+), (\S+) in 100$", line).groups()
                assert abs(float(printed) - 100 * int(count) / int(n)) <= (0.5001 if "." not in printed else 0.0501)


def test_the_answer_is_that_of_the_chosen_cell(show):
    page = show(chosen=PATIENT | {"show.event": "sepsis", "show.grade": "4-5"})
    shown = cell(page, "sepsis", "4-5")
    assert page.locator("td.shown").count() == 1
    assert "shown" in shown.get_attribute("class")
    for name in ("risk", "range"):
        assert page.locator(f"#{name}").get_attribute("value") == shown.locator(f".{name}").get_attribute("value")
        assert page.locator(f"#{name}").text_content() == shown.locator(f".{name}").text_content()


def test_dots_are_a_hundred_and_as_many_as_the_words_say(show):
    page = show(chosen=PATIENT | {"show.event": "infections", "show.grade": "3-5"})
    having, without = (page.locator(f"#dots .{kind}").count() for kind in ("dot:not(.without)", "without"))
    assert having + without == 100
    assert page.locator("#risk").text_content() == f"{having} in 100"
    assert f"{having} in 100" in page.locator("#dots svg").get_attribute("aria-label")


def test_without_a_choice_it_is_the_whole_cohort_as_counted(show):
    page = show(chosen={"show.event": "infections"})
    assert page.locator("#profile").text_content() == "Any patient of the cohort"
    assert "whole cohort, of whom 242 of 661 (37 in 100) had it" in page.locator("#compared").text_content()
    assert chosen_labels(page)[:4] == ["Not known (averaged over the cohort)"] * 4


def test_death_is_one_cell_and_what_the_paper_says_of_it_stands_beside(show):
    page = show(chosen={"show.event": "death", "show.grade": "4-5"})
    assert page.locator("td[colspan='2']").count() == 1
    assert page.locator("#grade").is_hidden()
    assert "2 deaths from progression" in page.locator("#notes").text_content()


def test_a_covariate_without_a_frequency_is_folded_away_and_small_groups_say_so(show):
    page = show()
    assert page.locator("details").count() == 1
    assert "no toxicity was counted by it; choosing adds an assumption" in page.locator("summary").text_content()
    page.locator("summary").click()
    page.get_by_label("Non-Hispanic, other (only 5 patients of the cohort)").check()
    assert page.locator("#few").text_content() == "Fewer than 10 of the 661 patients are expected to be like this: about 5."
    page.goto("about:blank")
    assert show(chosen={"race_ethnicity": "hispanic"}).locator("details").get_attribute("open") is not None


def test_a_link_is_offered_only_where_it_can_be_opened(show, browser, written):
    assert show().locator("#share").is_hidden()
    with browser.new_context() as context:
        page = context.new_page()
        text = written["shipped"].read_text(encoding="ascii")
        page.route("**", lambda route: route.fulfill(body=text, content_type="text/html"))
        page.goto("http://calculator.test/")
        page.locator("#copy").press("Enter")
        page.wait_for_selector("#copied:not(:empty)")
        assert page.locator("#link").input_value().startswith("http://calculator.test/")


def test_a_grade_that_was_not_published_says_so(show):
    page = show(chosen=PATIENT | {"show.event": "febrile_neutropenia", "show.grade": "4-5"})
    assert "prior. The publication does not give this toxicity at this grade" in page.locator("#support").text_content()
    assert page.locator("#counted-heading").is_hidden()


def test_a_small_risk_is_never_zero(show):
    page = show(chosen={"show.event": "oral_mucositis", "show.grade": "4-5"})
    assert page.locator("#risk").text_content() == "0.1 in 100"
    assert page.locator("#range").text_content() == "risk below 0.3 in 100"
    assert page.locator("#dots .without").count() == 100


def test_failed_checks_are_in_plain_sight(show):
    assert "failed its checks" in show("hostile").locator("#failed").text_content()
    assert show().locator("#failed").is_hidden()


@pytest.mark.parametrize(
    ("mean", "lower", "upper", "words"),
    [
        (0.13, 0.08, 0.19, ["13 in 100", "risk between 8 and 19 in 100"]),
        (0.02, 0.004, 0.05, ["2 in 100", "risk between 0.4 and 5 in 100"]),
        (0.0094, 0.001, 0.02, ["0.9 in 100", "risk between 0.1 and 2 in 100"]),
        (0.002, 0.0001, 0.003, ["0.2 in 100", "risk below 0.3 in 100"]),
        (1e-5, 1e-6, 1e-4, ["fewer than 0.1 in 100", "risk below 0.1 in 100"]),
        (0.9999, 0.98, 1.0, ["more than 99.9 in 100", "risk above 98 in 100"]),
        (0.995, 0.99, 0.999, ["99.5 in 100", "risk between 99 and 99.9 in 100"]),
    ],
)
def test_risks_in_words(browser, mean, lower, upper, words):
    page = browser.new_page()
    answer = {"mean": mean, "lower": lower, "upper": upper}
    assert in_words(page, "[inHundred(answer.mean), rangeInWords(answer)]", {"answer": answer}) == words
    page.close()


# The address.


def test_the_link_reproduces_the_selection(show):
    page = show()
    page.locator("summary").click()
    for label in (
        "10-18 years",
        "Isolated extramedullary relapse before 18 months",
        "Male",
        "Non-Hispanic Asian",
        "Grade 4 or higher",
    ):
        page.get_by_label(label, exact=True).check()
    page.get_by_label("Toxicity").select_option(label="Hyperglycemia")
    link = page.locator("#link").input_value()
    assert link == page.url
    text = page.locator("main").inner_text()
    page.goto("about:blank")
    page.goto(link)
    assert page.locator("main").inner_text() == text
    assert "10-18 years" in text


def test_a_level_in_the_link_that_the_model_does_not_have_is_told(show):
    page = show(chosen={"age_band": "45", "blood": "blue", "sex": "male"})
    assert page.get_by_role("alert").text_content().endswith("left out: age_band = 45; blood = blue.")
    assert page.locator("#profile").text_content().startswith("Male; age at enrollment, ")
    page.get_by_label("1-9 years").check()
    assert page.locator("#problem").is_hidden()


def test_names_with_any_characters_come_back_from_the_link(show):
    page = show("hostile")
    page.locator("summary").click()
    page.get_by_label("Coast").check()
    page.goto(page.locator("#link").input_value())
    page.reload()
    assert page.get_by_label("Coast").is_checked()


# By keyboard.


def tab_to(page, selector):
    """Press Tab until something matching has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"no Tab leads to {selector}")


@pytest.mark.parametrize("size", [PHONE, DESK])
def test_every_control_works_by_keyboard(show, size):
    page = show(size=size)
    page.locator("details").evaluate("folded => folded.open = true")
    for k, covariate in enumerate(page_data(page.content())["covariates"]):
        tab_to(page, f"[name=covariate-{k}]")
        small = {level["label"]: level["patients"] for level in covariate["levels"] if level["patients"] < 10}
        levels = [
            f"{label} (only {small[label]} patients of the cohort)" if label in small else label
            for label in (level["label"] for level in covariate["levels"])
        ]
        labels = [*levels, "Not known (averaged over the cohort)"]
        for label in labels:  # from "not known", Down goes round to the first
            page.keyboard.press("ArrowDown")
            assert label in chosen_labels(page)
            assert page.evaluate("document.activeElement.parentElement.textContent") == label
        page.keyboard.press("ArrowDown")
    assert page.locator("#profile").text_content() == "1-9 years; Marrow relapse before 36 months; Male; Hispanic, any race"
    if size == PHONE:
        tab_to(page, "#peek")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "result-heading"
    tab_to(page, "#event")
    page.keyboard.press("ArrowDown")
    assert page.locator("#what").text_content().startswith("Infections and infestations, grade 3 or higher")
    tab_to(page, "[name=grade]")
    page.keyboard.press("ArrowRight")
    assert page.locator("#what").text_content().startswith("Infections and infestations, grade 4 or higher")
    tab_to(page, "#about a")
    tab_to(page, "#clear")
    page.keyboard.press("Space")
    assert page.locator("#profile").text_content() == "Any patient of the cohort"


def test_every_focus_is_seen(show):
    """Whatever Tab leads to, it or its label is outlined, and is not hidden below what floats."""
    page = show(size=PHONE)
    seen = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        found = page.evaluate("""() => {
            const on = document.activeElement;
            const outlined = [on, on.closest("label")].some((e) => e && parseFloat(getComputedStyle(e).outlineWidth) >= 2
                && getComputedStyle(e).outlineStyle !== "none");
            const box = on.getBoundingClientRect();
            const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return [on.tagName + (on.id || on.name), outlined, top !== null && (on === top || on.contains(top))];
        }""")
        if not found[0].startswith("BODY"):
            assert found[1:] == [True, True], found
            seen.add(found[0])
    assert len(seen) >= 9


def test_a_change_is_announced_with_what_it_is_about(show):
    page = show()
    page.get_by_label("19-30 years").check()
    status = page.get_by_role("status").first.text_content()
    assert "Infections total" in status
    assert "in 100" in status
    assert "risk between" in status
    assert "overall" in status


# What it never does.


# By the two directives that the policy has of this: what is fetched, of any kind, and where forms go.
REACH = {
    "fetch": "(address) => fetch(address, { mode: 'no-cors' }).then(() => 'went', () => 'refused')",
    "form": """(address) => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", () => done("refused"));
        const form = Object.assign(document.createElement("form"), { action: address, target: "_blank" });
        document.body.append(form);
        setTimeout(done, 500, "went");
        form.submit();
    })""",
}


@pytest.fixture
def server():
    """A server on this machine: its address, and an event that is set by the first request it gets."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self):
            if self.rfile.readline():  # a browser may open a connection ahead of a request that it then forbids
                asked.set()
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("way", REACH)
def test_code_in_the_page_could_reach_nothing(browser, written, server, way):
    """The page's policy keeps code that is run in it from getting to a server; from a page without one it gets there."""
    address, asked = server
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(written["shipped"].as_uri())
        assert page.evaluate(REACH[way], address) == "refused"
        assert not asked.wait(0.5)
        context.new_page().evaluate(f"(address) => {{ ({REACH[way]})(address); }}", address)
        assert asked.wait(10)


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'document.ran = true' }))",
        "document.body.insertAdjacentHTML('beforeend', '<b onclick=1>bold</b>')",
        "document.body.append(Object.assign(document.createElement('style'), { textContent: 'body { color: red }' }))",
    ],
)
def test_code_and_style_from_elsewhere_are_refused(browser, written, attempt):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(written["shipped"].as_uri())
        colour = page.evaluate("getComputedStyle(document.body).color")
        page.evaluate(f"() => {{ try {{ {attempt}; }} catch {{ }} }}")
        found = page.evaluate("[document.ran, document.querySelector('body > b'), getComputedStyle(document.body).color]")
        assert found == [None, None, colour]


def test_hostile_labels_stay_text(show):
    page = show("hostile")
    page.locator("summary").click()
    page.get_by_label(LONG).check()
    page.get_by_label(BOLD).first.check()
    assert page.title() == f"Risk calculator: {BOLD}"
    assert page.locator("h1").text_content() == BOLD
    assert page.locator("legend").first.text_content() == BOLD
    assert page.locator("th[scope=row]").first.text_content() == BOLD
    assert page.locator("#event option").first.text_content() == BOLD
    assert page.locator("#limits li", has_text=BOLD).count() == 1
    assert page.evaluate("[document.hacked, document.querySelectorAll('img, h1 b, li b, label b').length]") == [None, 0]


def test_a_doi_that_is_none_is_no_link(show):
    assert show("hostile").locator("#citation a").count() == 0
    assert show().locator("#citation a").get_attribute("href") == "https://doi.org/10.3324/haematol.2025.287386"


# How it looks.


@pytest.mark.parametrize(
    ("name", "chosen", "size", "scheme"),
    [
        ("hostile", {}, PHONE, "dark"),
        ("hostile", {}, DESK, "light"),
        ("pair", {}, PHONE, "light"),
        ("shipped", PATIENT | {"age_band": "45"}, DESK, "light"),
    ],
    ids=str,
)
def test_axe_finds_nothing(show, name, chosen, size, scheme):
    look_at(show(name, chosen, size=size, scheme=scheme))


@pytest.mark.parametrize("name", ["shipped", "hostile"])
@pytest.mark.parametrize("width", [320, 700, 1280])
def test_nothing_is_wider_than_the_screen(show, name, width):
    page = show(name, size=(width, 800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_every_mark_stands_out_three_to_one(show, scheme):
    """Lines and fills of scales, dots and icons against what they are drawn on, of chosen and of other cells."""
    page = show(chosen=PATIENT, scheme="dark" if scheme == "print" else scheme)
    if scheme == "print":
        page.emulate_media(media="print")
    found = page.evaluate("""() => [...document.querySelectorAll(".scale *, .dot, .hatch, .glyph")].map((mark) => {
        const style = getComputedStyle(mark);
        const colours = mark instanceof SVGElement ? [style.stroke, style.fill] : [style.borderTopColor];
        let behind = mark.parentElement;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [mark.getAttribute("class"), colours.filter((c) => /^rgb\\(/.test(c)), getComputedStyle(behind).backgroundColor];
    })""")
    assert {"axis", "bracket", "mean", "counted", "glyph data", "glyph pooled"} <= {kind for kind, _, _ in found}
    for kind, colours, behind in {(kind, tuple(colours), behind) for kind, colours, behind in found}:
        paper, *marks = ([int(n) / 255 for n in re.findall(r"\d+", c)] for c in (behind, *colours))
        assert marks, kind
        assert max(contrast(mark, paper) for mark in marks) >= 3, (kind, colours, behind)


def test_the_dark_page_is_dark(show):
    colours = {
        scheme: show(scheme=scheme).evaluate(
            "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)"
        )
        for scheme in ("light", "dark")
    }
    assert max(colours["dark"]) < 60
    assert min(colours["light"]) > 230


def test_on_paper_the_limits_and_the_patient_are_there_and_the_controls_are_not(show):
    page = show(chosen=PATIENT, scheme="dark")
    page.emulate_media(media="print")
    for selector in ("#limits", "header .warning", "#profile", "#headline", "#dots", "table", "#citation"):
        assert page.locator(selector).first.is_visible(), selector
    for selector in ("#patient", "#shown", "#copy", "#peek"):
        assert page.locator(selector).is_hidden(), selector
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"


def test_every_sheet_has_choices_date_and_digest_and_the_answer_comes_before_the_limits(show, shipped):
    page = show(chosen=PATIENT, size=(688, 1000))
    page.emulate_media(media="print")
    sheet = page.locator("#sheet").text_content()
    for words in (
        "19-30 years; Marrow relapse before 36 months; Female; Hispanic",
        str(date.today()),
        shipped.tables.digest[:16],
    ):
        assert words in sheet
    # A heading of a table, of which the body is the rest of the page: browsers repeat it on every sheet.
    assert page.locator("#sheet").evaluate("sheet => getComputedStyle(sheet).display") == "table-header-group"
    assert page.evaluate("getComputedStyle(document.body).display") == "table"
    tops = [page.locator(part).bounding_box()["y"] for part in ("#sheet", "#headline", "#all", "#limits", "#about")]
    assert tops == sorted(tops)
