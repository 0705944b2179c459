"""The report's page: what it tells, that texts stay texts, what it forbids itself, and what writing it refuses."""

from __future__ import annotations

import html
import os
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import aemodel
from aemodel import cli
from aemodel.answers.calibration import differences_table
from aemodel.pages.description import cohort_sizes
from aemodel.pages.render import source
from aemodel.pages.report_tables import point
from aemodel.publication.markup import in_range, per_cent
from tests.browser import DESK, PHONE, look_at, needs_chromium
from tests.calculators import BOLD, LONG, check_policy, page_data
from tests.reports import drawn_model, own_grades, two_arms

pytestmark = needs_chromium  # all of it, as pages are made once


@pytest.fixture(scope="module")
def written(model, other, hostile, tmp_path_factory):
    """Paths of pages: with another fit beside, without, and of hostile texts and a sampler that failed."""
    folder = tmp_path_factory.mktemp("report")
    return {
        "both": aemodel.write_report(model, folder / "both.html", other, tables=3),
        "alone": aemodel.write_report(model, folder / "alone.html", tables=0),
        "hostile": aemodel.write_report(hostile, folder / "hostile.html", tables=0),
    }


@pytest.fixture(scope="module")
def page(written):
    return {name: path.read_text(encoding="utf-8") for name, path in written.items()}


def section(page, key):
    return re.search(f'<section id="{key}".*?</section>', page, flags=re.S)[0]


def rows(page, key, caption):
    """Cells of the table with a caption, one list a row; cells that span rows stand in the first."""
    found = re.search(rf"<caption>Table \d+\. {re.escape(caption)}.*?</table>", section(page, key), flags=re.S)[0]
    lines = re.findall("<tr>(.*?)</tr>", found, flags=re.S)
    return [[html.unescape(cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]


# What it tells.


def test_every_section_is_there_and_in_the_contents(page):
    keys = re.findall('<section id="([^"]*)"', page["both"])
    assert keys == re.findall('<li><a href="#([^"]*)">', page["both"])
    assert keys == [
        *("summary", "what", "frequencies", "discrepancies", "diagnostics", "calibration", "evidence", "identification"),
        *("prior", "sensitivity", "tables", "contrasts", "equation", "limits", "checklist"),
    ]


def test_every_published_count_is_there(page, model):
    told = section(page["both"], "frequencies")
    for row in model.tables.frequencies.itertuples():
        assert f"{row.observed} ({row.observed / row.n:.1%})" in told


def test_figures_and_tables_are_numbered_in_their_order(page):
    for kind, pattern in (("Figure", r"<figcaption>Figure (\d+)\."), ("Table", r"<caption>Table (\d+)\.")):
        numbers = [int(number) for number in re.findall(pattern, page["both"])]
        assert numbers == list(range(1, len(numbers) + 1)), kind


def test_the_summary_tells_the_ends_of_the_tables(page, model):
    differences = differences_table(model)
    largest = differences["observed"].abs().nlargest(5)
    found = rows(page["both"], "summary", "The largest published differences between groups")[1:]
    assert [abs(float(line[-2])) for line in found] == [round(100 * value, 1) for value in largest]
    table = aemodel.calibration_table(model)
    worst = rows(page["both"], "summary", "The published frequency that fits worst")[1]
    assert float(worst[-1]) == round(table.loc[~table["derived"], "tail_probability"].min(), 2)
    assert len(rows(page["both"], "summary", "The highest risks")) == 6
    assert rows(page["both"], "summary", "Calibration slopes")[1][-1] == "not worked out"


def test_published_differences_are_those_of_the_rows(model):
    table, published = differences_table(model), model.tables.frequencies.set_index(["event", "grade", "level"])
    shares = published["observed"] / published["n"]
    for row in table.itertuples():
        expected = shares[(row.event, row.grade, row.level)] - shares[(row.event, row.grade, row.reference)]
        assert row.observed == pytest.approx(expected)
    assert (table["lower"] < table["predicted"]).all()
    assert (table["predicted"] < table["upper"]).all()


@pytest.mark.parametrize("grades", ["serious", "any"])
def test_a_report_and_a_calculator_name_the_publications_own_grades(grades, tmp_path):
    model = drawn_model(own_grades(grades))
    report = aemodel.write_report(model, tmp_path / "report.html", tables=0).read_text(encoding="utf-8")
    calculator = page_data(aemodel.write_calculator(model, tmp_path / "calculator.html").read_text(encoding="utf-8"))
    labels = {"serious": ["Serious event"], "any": ["Any grade", "Severe or worse"]}[grades]
    assert calculator["grade_labels"] == labels
    for label in labels:
        assert label in section(report, "summary")
    assert not re.search(r"[Gg]rade [34]", report.split("<main>")[1])


def test_a_publication_of_two_arms_is_told_of_as_one(tmp_path):
    """No second covariate, no ordering, no list, no setting; arms may have been drawn at random."""
    path = aemodel.write_report(drawn_model(two_arms()), tmp_path / "report.html", tables=3)
    page = path.read_text(encoding="utf-8")
    told = {key: element(page, key) for key in ("evidence", "identification", "tables", "contrasts", "limits", "card-outcome")}
    assert "Tests that were not significant" in told["evidence"]
    assert "They went into the fit" in told["evidence"]
    assert "as the publication states" in told["evidence"]
    assert "not listed" not in told["evidence"]
    assert "The publication states no ordering" in told["evidence"]
    assert told["tables"] == "How covariates go together There are no two covariates that could go together."
    assert "Unless patients were assigned to the two levels at random" in told["contrasts"]
    assert "lines keep apart alike" not in told["contrasts"]
    assert "Every covariate has a published margin" in told["limits"]
    assert "Death from a clot (fatal_clot): published at 3-5, 4-5, 5; grade 5 of clot" in told["card-outcome"]
    asked = rows(page, "checklist", "What TRIPOD+AI asks")
    assert ["5b", "Dates of enrolment and follow-up", "not done, because the publication's folder has no setting"] in asked


def test_the_three_things_that_flags_are_of_are_told_where_flags_are(page):
    told = element(page["both"], "flags")
    for words in ("Of a covariate's effects", "Of patients", "difference or an odds ratio between two levels"):
        assert words in told
    assert '<a href="#flags">' in section(page["both"], "contrasts")


def test_discrepancies_are_there(page):
    assert rows(page["both"], "discrepancies", "Discrepancies")[1] == ["Table 2", "about ten", "eleven", "taken as printed"]


def test_calibration_is_that_of_the_table(page, model):
    table = aemodel.calibration_table(model)
    table = table[~table["derived"]]
    found = rows(page["both"], "calibration", "Observed and predicted numbers of patients")[1:]
    assert [line[-5] for line in found] == [str(observed) for observed in table["observed"]]
    assert [line[-2] for line in found] == [f"{a}-{b}" for a, b in zip(table["lower90"], table["upper90"], strict=True)]
    assert "no validation" in section(page["both"], "calibration")


def test_orderings_are_told_with_and_without(page, model, other):
    told = section(page["both"], "evidence")
    mine, its = (aemodel.ordering_table(m)["p_ordered"].iloc[0] for m in (model, other))
    assert mine != its
    assert f"The published order has posterior probability {mine:.2f}, and {its:.2f} in the other fit." in told
    alone = section(page["alone"], "evidence")
    assert f"The published order has posterior probability {mine:.2f}." in alone
    assert "other fit" not in alone


def test_every_null_is_told_with_and_without(page, model, other):
    table = aemodel.selection_table(model, other)
    order = [event.name for event in model.tables.events]
    table = table.sort_values("event", key=lambda names: names.map(order.index), kind="stable")
    found = rows(page["both"], "evidence", "Tests that were not listed")
    assert found[0][3:8] == ["Publication", "Odds ratio, this fit", "P, this fit", "Odds ratio, other fit", "P, other fit"]
    for line, row in zip(found[1:], table.itertuples(), strict=True):
        numbers = [row.odds_ratio, row.p_nonsignificant, row.odds_ratio_without, row.p_without]
        assert [cell for cell in line if re.fullmatch(r"\d+\.\d\d", cell)] == [f"{number:.2f}" for number in numbers]


def test_risks_that_assumptions_move_most_stand_in_every_fit(page, model, other):
    found = rows(page["both"], "sensitivity", "The risks that these assumptions move most")
    assert found[0][-2:] == ["this fit", "fit 2, counts only"]
    risks = [
        pd.concat([aemodel.profile_table(fit, [name]).rename(columns={name: "level"}) for name in ("arm", "stage", "region")])
        for fit in (model, other)
    ]
    most = int((risks[0]["risk"] - risks[1]["risk"]).abs().to_numpy().argmax())
    assert len(found) == 11
    for cell, table in zip(found[1][-2:], risks, strict=True):
        row = table.iloc[most]
        assert cell == in_range(row["risk"], row["lower"], row["upper"])
    assert "fits that differ in their assumptions" in section(page["both"], "sensitivity")
    assert "No other fit was given to this report" in section(page["alone"], "sensitivity")


def test_shares_are_told_in_per_cent():
    found = {share: per_cent(share) for share in (0, 0.004, 0.0994, 0.0996, 0.5, 1)}
    assert list(found.values()) == ["0.0 %", "0.4 %", "9.9 %", "10 %", "50 %", "100 %"]
    assert in_range(0.05, 0.012, 0.123) == "5.0 % (1.2 to 12)"


def test_bounds_are_those_of_the_commonest_patients(page, model):
    risks = model.risks
    usual = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    levels = risks.levels[usual][risks.weight[usual].argmax()]
    patient = pd.DataFrame({c.name: [c.names[i]] for c, i in zip(risks.covariates, levels, strict=True)})
    found = rows(page["both"], "identification", "The commonest patients")[1:]
    for line, row in zip(found, aemodel.bounds_table(model.tables, patient).itertuples(), strict=True):
        for told, ends in zip(line[-3:-1], ((row.lower, row.upper), (row.lower_expected, row.upper_expected)), strict=True):
            assert told == f"{per_cent(ends[0]).removesuffix(' %')} to {per_cent(ends[1])}"


def test_the_equation_gives_the_model_s_risks(page, model):
    """Worked out from the page's tables alone, in every combination of levels, to what the page says."""
    branches = rows(page["both"], "equation", "Branches")[1:]
    states = rows(page["both"], "equation", "States")[1:]
    off = float(re.search(r"at most ([0-9.]+) in\s+100", section(page["both"], "equation"))[1]) / 100
    labels = [level.label for c in model.risks.covariates for level in c.levels]
    parts = []
    for first in range(1, len(branches) + 1, 8):
        found = rows(page["both"], "equation", f"Effects of levels on branches p{first} to")
        here = min(8, len(branches) + 1 - first)
        assert [line[-here - 1] for line in found[1:]] == labels
        parts.append([[float(cell) for cell in line[-here:]] for line in found[1:]])
    numbers = np.hstack(parts)
    words = {event.label: event.name for event in model.tables.events}
    farthest = 0.0
    for cell, levels in enumerate(model.risks.levels):
        if any(i == len(c.levels) for i, c in zip(levels, model.risks.covariates, strict=True)):
            continue
        mine = [labels.index(c.levels[i].label) for i, c in zip(levels, model.risks.covariates, strict=True)]
        log_odds = np.array([float(line[-1]) for line in branches]) + numbers[mine].sum(axis=0)
        p = 1 / (1 + np.exp(-log_odds))
        found = np.zeros(model.risks.published.shape)
        for *_, has, product in states:
            terms = [1 - p[int(n) - 1] if minus else p[int(n) - 1] for minus, n in re.findall(r"(\(1 - )?p(\d+)", product)]
            for event, grade in re.findall(r"(?:^|; )(.+?) (\d)(?=;|$)", has):
                e = model.risks.events.index(words[event])
                found[e] += np.prod(terms) * np.array([int(grade) >= 3, int(grade) >= 4])
        farthest = max(farthest, abs(found - model.risks.draws[:, cell].mean(axis=0)).max())
    assert farthest == pytest.approx(off, abs=0.0011)


def element(page, key):
    """All that an element of an id holds, as text."""

    class Inside(HTMLParser):
        depth, text = 0, ""

        def handle_starttag(self, tag, attrs):
            if self.depth or dict(attrs).get("id") == key:
                self.depth += 1

        def handle_endtag(self, tag):
            self.depth -= self.depth > 0

        def handle_data(self, data):
            self.text += data * (self.depth > 0)

    found = Inside()
    found.feed(page)
    return " ".join(found.text.split())


def test_every_item_of_the_checklist_is_answered_where_it_says_or_not_done(page):
    items = tomllib.loads(source("templates", "tripod.toml"))["items"]
    assert len({item["item"] for item in items}) == len(items) == 52
    told = rows(page["both"], "checklist", "What TRIPOD+AI asks")[1:]
    for item, (number, asks, answer) in zip(items, told, strict=True):
        assert (number, asks) == (item["item"], item["asks"])
        if "at" in item:
            assert answer.startswith(f'<a href="#{item["at"]}">answered')
            assert item["says"] in element(page["both"], item["at"]), item
        else:
            assert answer == f"not done, because {item['why']}"


def test_profiles_are_counted_by_what_carries_them(page, model):
    table = aemodel.identification_table(model, "risks")
    found = rows(page["both"], "identification", "Combinations of levels")[1:]
    counts = [sum(int(line[i]) for line in found) for i in (-3, -2, -1)]
    assert counts == [int((table["support"] == flag).sum()) for flag in ("data", "pooled", "prior")]


def test_contrasts_are_those_of_the_table_against_the_level_of_most_patients(page, model):
    sizes = cohort_sizes(model.risks, 1)
    stage = model.risks.covariates[1]
    usual = stage.names[sizes.index(max(sizes))]
    level = next(name for name in stage.names if name != usual)
    table = aemodel.contrast_table(model, {"stage": level}, {"stage": usual})
    labels = dict(zip(stage.names, (each.label for each in stage.levels), strict=True))
    found = rows(page["both"], "contrasts", "Stage: every level against that of most patients")[1:]
    mine = [line for line in found if f"{labels[level]}, against {labels[usual]}" in line]
    assert [line[-2] for line in mine] == [f"{p:.2f}" for p in table["p_higher"]]
    assert all((line[-3] == "") == (line[-1] == "prior") for line in found)
    assert len(rows(page["both"], "contrasts", "Of each level")) == 1 + sum(len(c.levels) - 1 for c in model.risks.covariates)


def test_uncertainty_of_the_tables_can_be_left_out(page):
    assert "<table>" in section(page["both"], "tables")
    assert "Left out of this report." in section(page["alone"], "tables")


def test_a_sampler_that_failed_is_told_first(page):
    assert "The sampler failed its checks." in page["hostile"].split("<main>")[0]
    assert "7 divergent transitions" in page["hostile"].split("<main>")[0]
    assert "The sampler failed" not in page["both"]


def test_limits_are_told(page):
    told = section(page["both"], "limits")
    for words in ("decisions about the treatment", "No external cohort", "causal questions"):
        assert words in told


@pytest.mark.slow
def test_the_shipped_model_and_a_fitted_one_of_the_same_draws_have_one_report(tmp_path):
    """But for the digest, of which a model that was not saved has none of its own."""
    shipped = aemodel.load_model("aall1331")
    risks = replace(shipped.risks, logits=shipped.branch_logits)
    fitted = aemodel.Fitted(shipped.tables, shipped.idata, shipped.diagnostics, shipped.settings, risks)
    found = [
        aemodel.write_report(model, tmp_path / f"{i}.html", tables=0).read_text(encoding="utf-8").split('<section id="limits"')
        for i, model in enumerate((shipped, fitted))
    ]
    assert found[0][0] == found[1][0]


# The page.


def test_the_page_is_ascii_and_says_its_encoding_first(page):
    for text in page.values():
        assert text.isascii()
        assert text.index('<meta charset="utf-8">') < 100


@pytest.mark.parametrize("name", ["both", "hostile"])
def test_policy_allows_nothing_but_this_style(page, name):
    check_policy(page[name])


class Tags(HTMLParser):
    """Every element's name, and every attribute with its value."""

    def __init__(self, text):
        super().__init__()
        self.names, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes.update(attrs)


@pytest.mark.parametrize("name", ["both", "hostile"])
def test_nothing_in_the_page_fetches_or_runs(page, name):
    tags = Tags(page[name])
    assert not tags.names & {"script", "link", "img", "image", "iframe", "object", "embed", "form", "base", "b", "i"}
    assert not {key for key, _ in tags.attributes if key in ("src", "style", "srcset", "xlink:href") or key.startswith("on")}
    assert all(value.startswith("#") for key, value in tags.attributes if key == "href")
    assert not re.search(r"url\((?!#)|@import", page[name])


def test_ids_are_there_once_and_what_is_referred_to_exists(page):
    ids = re.findall(r'\sid="([^"]*)"', page["both"])
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', page["both"])) <= set(ids)


def test_hostile_text_stays_text(page):
    text = page["hostile"]
    assert "<b>" not in text
    assert "<!--" not in text
    assert text.lower().count("</script") == 0
    assert html.escape(BOLD) in text
    assert html.escape(LONG) in text
    assert "{{style}}" in text
    assert "&amp;lt;" not in text


def test_no_zero_has_a_sign(page):
    assert point(-0.0004) == point(0.0004) == "0.0"
    assert (point(-0.0006), point(0.1)) == ("-0.1", "+10.0")
    assert not re.search(r"[-+]0\.0+(?!\d)", page["both"].split("<main>")[1])


def test_every_figure_says_what_it_is(page):
    figures = re.findall("<svg.*?>", page["both"])
    assert len(figures) == 2 + 2 + 2 + 3 + 2 + 1
    assert all('role="img"' in figure and re.search(r'aria-label="[^"]{20,}"', figure) for figure in figures)


def test_figures_take_the_colour_of_the_page(page):
    assert 'fill="currentColor"' in page["both"]
    assert "#1b2026" not in page["both"].split("</style>")[1]


# In a browser.


@pytest.mark.parametrize(
    ("name", "size", "scheme"), [("hostile", PHONE, "dark"), ("hostile", DESK, "light"), ("both", PHONE, "light")]
)
def test_axe_finds_nothing(show, name, size, scheme):
    look_at(show(name, size=size, scheme=scheme))


@pytest.mark.parametrize("name", ["both", "alone", "hostile"])
@pytest.mark.parametrize("width", [320, 700, 1280])
def test_nothing_is_wider_than_the_screen(show, name, width):
    page = show(name, size=(width, 800))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_text_makes_no_element_and_runs_nothing(show):
    page = show("hostile")
    assert page.evaluate("document.hacked") is None
    assert page.locator("b, img, script").count() == 0
    assert page.locator("h1").text_content() == BOLD


def test_figures_turn_light_in_the_dark(show):
    colours = {
        scheme: show(scheme=scheme).locator("svg text").first.evaluate("text => getComputedStyle(text).fill")
        for scheme in ("light", "dark")
    }
    assert colours == {"light": "rgb(27, 32, 38)", "dark": "rgb(235, 232, 225)"}


def test_on_paper_nothing_is_cut_off(show):
    """Frames that scroll on a screen are as wide as what they hold on a sheet of A4 less its margins."""
    page = show(size=(688, 1000))
    page.emulate_media(media="print")
    hidden = "found => found.filter(frame => frame.scrollWidth > frame.clientWidth + 1).map(frame => frame.ariaLabel)"
    assert page.eval_on_selector_all(".scroll", hidden) == []


# Writing.


def test_write_returns_the_path_and_leaves_nothing_beside_it(written):
    folder = written["both"].parent
    assert sorted(os.listdir(folder)) == ["alone.html", "both.html", "hostile.html"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": None}, TypeError, "model: expected a model from load_model or fit, not NoneType"),
        ({"path": "page.txt"}, ValueError, "path: .* must end in .html"),
        ({"path": "nowhere/page.html"}, FileNotFoundError, "path: no folder"),
        ({"compare": "other"}, TypeError, "compare: expected a model from load_model or fit, not str"),
        ({"tables": -1}, ValueError, "tables: expected 0, or 2 or more, not -1"),
        ({"tables": 1}, ValueError, "tables: expected 0, or 2 or more, not 1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_worked_out(model, tmp_path, monkeypatch, change, error, message):
    monkeypatch.chdir(tmp_path)
    arguments = {"model": model, "path": "page.html"} | change
    with pytest.raises(error, match=f"^{message}"):
        aemodel.write_report(arguments.pop("model"), arguments.pop("path"), **arguments)
    assert os.listdir(tmp_path) == []


def test_a_model_of_another_publication_is_not_compared(model, tmp_path):
    shipped = SimpleNamespace(risks=aemodel.load_model("aall1331").risks, settings={})
    with pytest.raises(ValueError, match="compare: the two models must have the same events, grades, covariates and levels"):
        aemodel.write_report(model, tmp_path / "page.html", shipped)


# On the command line.


def test_command_hands_on_what_it_was_given(monkeypatch, tmp_path):
    from aemodel.pages import report

    def note(model, path, others, *, tables):
        path.write_text(f"{model.name} {' '.join(other.name for other in others)} {tables}")
        return path

    monkeypatch.setattr(report, "write_report", note)
    arguments = ["report", "aall1331", str(tmp_path / "page.html"), "--compare", "aall1331", "--tables", "5"]
    result = CliRunner().invoke(cli.main, arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "Report written into" in result.stderr
    assert (tmp_path / "page.html").read_text() == "aall1331 aall1331 5"
