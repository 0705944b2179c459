"""The calculator in a browser: what it shows, by keyboard, on a phone, in the dark, on paper, and what it never does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import urlencode

import numpy as np
import pytest

import aemodel
from tests.browser import chromium, needs_chromium
from tests.calculators import BOLD, LONG, hostile_model, invented_model, page_data, profiles, scored

pytestmark = needs_chromium

PHONE, DESK = (390, 844), (1280, 900)
PATIENT = {"age_band": "19-30", "relapse_group": "bm_early", "sex": "female", "race_ethnicity": "hispanic"}


@pytest.fixture(scope="module")
def shipped():
    return aemodel.load_model("aall1331")


@pytest.fixture(scope="module")
def written(shipped, tmp_path_factory):
    """Addresses of pages: of the shipped model, of one with hostile texts, and of one whose checks failed."""
    folder = tmp_path_factory.mktemp("calculator")
    models = {"shipped": shipped, "hostile": hostile_model(), "failed": invented_model(divergences=7)}
    return {name: aemodel.write_calculator(model, folder / f"{name}.html").as_uri() for name, model in models.items()}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def show(browser, written):
    """Opens a page, offline; whatever it asks for, and whatever goes wrong in it, ends the test."""
    contexts, wrong = [], []

    def open_page(name="shipped", chosen=(), *, size=DESK, scheme="light"):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: wrong.append(request.url) if request.url.split("#")[0] != written[name] else None)
        page.goto(written[name] + (f"#{urlencode(chosen)}" if chosen else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def chosen_labels(page):
    return page.eval_on_selector_all("input:checked", "found => found.map(input => input.parentElement.textContent)")


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
        found.push([...document.querySelectorAll("td")].map((cell) => [
            ...[...cell.querySelectorAll("data")].flatMap((data) => data.value.split(" ").map(Number)),
            cell.querySelector(".support").textContent.trim(),
        ]));
    }
    return found;
}"""


def test_every_profile_shown_equals_score(show, shipped):
    """Through the page itself: each selection put into the address, all its risks read from the table of the document."""
    addresses = [urlencode({k: v for k, v in profile.items() if v is not None}) for profile in profiles(shipped)]
    # The page starts without a selection: going there from nowhere would change nothing.
    found = show(chosen=PATIENT).evaluate(READ_ALL, addresses)
    risks, support = scored(shipped)
    shape = (len(addresses), len(shipped.risks.events), len(shipped.risks.grades))
    np.testing.assert_allclose(np.reshape([[c[:3] for c in row] for row in found], (*shape, 3)), risks, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.reshape([[c[3] for c in row] for row in found], shape), support)


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
    counts = [page.locator(f"#dots .{kind}").count() for kind in ("sure", "likely", "possible", "none")]
    assert sum(counts) == 100
    low, middle, high = np.cumsum(counts)[:3]
    assert page.locator("#risk").text_content() == f"{middle} in 100"
    assert page.locator("#range").text_content() == f"could be {low} to {high}"
    assert f"{middle} in 100, could be {low} to {high}" in page.locator("#dots svg").get_attribute("aria-label")


def test_without_a_choice_it_is_the_average(show):
    page = show()
    assert page.locator("#profile").text_content() == "Any patient of the cohort"
    assert page.locator("#compared").text_content().startswith("Nothing is chosen yet: this is the average")
    assert chosen_labels(page)[:4] == ["Not known (averaged over the cohort)"] * 4


def test_a_patient_is_compared_with_the_average(show, shipped):
    risks, _ = scored(shipped)
    names = [p == PATIENT for p in profiles(shipped)]
    event = shipped.risks.events.index("infections")
    patient, average = risks[names.index(True), event, 0, 0], risks[-1, event, 0, 0]
    text = show(chosen=PATIENT | {"show.event": "infections"}).locator("#compared").text_content()
    assert f"About {patient / average:.1f} times the cohort's average ({average * 100:.0f} in 100)." in text


def test_a_grade_that_was_not_published_says_so(show):
    page = show(chosen=PATIENT | {"show.event": "febrile_neutropenia", "show.grade": "4-5"})
    assert "prior. The publication does not give this toxicity at this grade" in page.locator("#support").text_content()


def test_a_small_risk_is_never_zero(show):
    page = show(chosen={"show.event": "oral_mucositis", "show.grade": "4-5"})
    assert page.locator("#risk").text_content() == "fewer than 1 in 100"
    assert page.locator("#range").text_content() == "could be fewer than 1 to 3 in 1,000"
    assert page.locator("#dots .none").count() == 100


def test_failed_checks_are_in_plain_sight(show):
    assert "failed its checks" in show("failed").locator("#failed").text_content()
    assert show().locator("#failed").is_hidden()


@pytest.mark.parametrize(
    ("risk", "words"),
    [
        (
            (0.13, 0.08, 0.19),
            ["13 in 100", "could be 8 to 19", "Of 100 such patients, about 13 would have it and 87 would not."],
        ),
        (
            (0.02, 0.004, 0.05),
            ["2 in 100", "could be fewer than 1 to 5", "Of 100 such patients, about 2 would have it and 98 would not."],
        ),
        (
            (0.0094, 0.001, 0.02),
            [
                "fewer than 1 in 100",
                "could be 1 to 20 in 1,000",
                "Of 1,000 such patients, about 9 would have it and 991 would not.",
            ],
        ),
        (
            (0.002, 0.001, 0.003),
            [
                "fewer than 1 in 100",
                "could be 1 to 3 in 1,000",
                "Of 1,000 such patients, about 2 would have it and 998 would not.",
            ],
        ),
        (
            (1e-5, 1e-6, 1e-4),
            [
                "fewer than 1 in 100",
                "could be fewer than 1 in 1,000",
                "Of 1,000 such patients, fewer than 1 would have it and the others would not.",
            ],
        ),
        (
            (0.9999, 0.98, 1.0),
            [
                "more than 99 in 100",
                "could be 98 to more than 99",
                "Of 100 such patients, more than 99 would have it and the others would not.",
            ],
        ),
    ],
)
def test_risks_in_words(browser, risk, words):
    page = browser.new_page()
    answer = dict(zip(("mean", "lower", "upper"), risk, strict=True))
    source = (files("aemodel.pages") / "static" / "words.js").read_text(encoding="utf-8")
    call = "[riskInWords(answer.mean), rangeInWords(answer), bothWays(answer)]"
    assert page.evaluate(f"(answer) => {{ {source}\nreturn {call}; }}", answer) == words
    page.close()


# The address.


def test_the_link_reproduces_the_selection(show):
    page = show()
    for label in (
        "10-18 years",
        "Isolated extramedullary relapse before 18 months",
        "Male",
        "Non-Hispanic Asian",
        "Grade 4 or higher",
    ):
        page.get_by_label(label, exact=True).check()
    page.get_by_label("Toxicity").select_option(label="Hyperglycemia")
    link = page.get_by_label("Link to this selection").input_value()
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
    page.get_by_label("Coast").check()
    page.goto(page.get_by_label("Link to this selection").input_value())
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
    for k, covariate in enumerate(page_data(page.content())["covariates"]):
        tab_to(page, f"[name=covariate-{k}]")
        labels = [*(level["label"] for level in covariate["levels"]), "Not known (averaged over the cohort)"]
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
    tab_to(page, "#link")
    tab_to(page, "#copy")
    page.keyboard.press("Enter")
    page.wait_for_selector("#copied:not(:empty)")
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
    assert len(seen) >= 10


def test_a_change_is_announced_with_what_it_is_about(show):
    page = show()
    page.get_by_label("19-30 years").check()
    status = page.get_by_role("status").first.text_content()
    assert "Infections total" in status
    assert "in 100" in status
    assert "could be" in status
    assert "the cohort's average" in status


# What it never does.


REACH = {
    "fetch": "(address) => fetch(address, { mode: 'no-cors' }).then(() => 'went', () => 'refused')",
    "picture": """(address) => new Promise((done) => {
        const image = Object.assign(new Image(), { onload: () => done("went"), onerror: () => done("refused") });
        image.src = address;
    })""",
    "frame": """(address) => new Promise((done) => {
        document.addEventListener("securitypolicyviolation", () => done("refused"));
        const frame = Object.assign(document.createElement("iframe"), { onload: () => setTimeout(done, 500, "went") });
        frame.src = address;
        document.body.append(frame);
    })""",
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
        page.goto(written["shipped"])
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
        page.goto(written["shipped"])
        colour = page.evaluate("getComputedStyle(document.body).color")
        page.evaluate(f"() => {{ try {{ {attempt}; }} catch {{ }} }}")
        found = page.evaluate("[document.ran, document.querySelector('body > b'), getComputedStyle(document.body).color]")
        assert found == [None, None, colour]


def test_hostile_labels_stay_text(show):
    page = show("hostile")
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
    ("name", "size", "scheme"), [("hostile", PHONE, "dark"), ("hostile", DESK, "light"), ("failed", PHONE, "light")]
)
def test_axe_finds_nothing(show, name, size, scheme):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(show(name, size=size, scheme=scheme), options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def test_axe_finds_nothing_wrong_with_a_patient_chosen(show):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(show(chosen=PATIENT | {"age_band": "45"}), options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("name", ["shipped", "hostile"])
@pytest.mark.parametrize("width", [320, 700, 1280])
def test_nothing_is_wider_than_the_screen(show, name, width):
    page = show(name, size=(width, 800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


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
