"""The calculator's page: its answers, its text, what it forbids itself, and what writing it refuses. No browser needed."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import aemodel
from aemodel.pages import calculator
from aemodel.pages.description import beside_words
from aemodel.publication.tables import read_tables
from tests.calculators import BOLD, check_policy, page_data, scored
from tests.publications import publication_texts, simulate_patients
from tests.streams import run
from tests.test_imports import HEAVY, loaded_after, without


@pytest.fixture(scope="module")
def page(shipped, tmp_path_factory):
    return aemodel.write_calculator(shipped, tmp_path_factory.mktemp("calculator") / "page.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hostile_page(hostile, tmp_path_factory):
    path = tmp_path_factory.mktemp("calculator") / "hostile.html"
    return aemodel.write_calculator(hostile, path).read_text(encoding="utf-8")


def element(page, name):
    """Content of the only element of a name without attributes."""
    found = re.findall(f"<{name}>(.*?)</{name}>", page, flags=re.S)
    assert len(found) == 1
    return found[0]


# Answers.


def is_scored(held, supports, model):
    """Whether what a page holds of a fit is what `score` says of every profile."""
    risks, support = scored(model)
    np.testing.assert_allclose(np.reshape(held["risks"], risks.shape), risks, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.array(supports)[[int(digit) for digit in held["support"]]], support.ravel())


def test_every_profile_equals_score(page, shipped):
    data = page_data(page)
    is_scored(data, data["supports"], shipped)


def test_all_is_told_of_the_model_and_of_each_combination_of_levels_known_or_not(page, hostile_page, shipped, tmp_path):
    data, about, risks = page_data(page), shipped.tables.about, shipped.risks
    assert (len(data["risks"]), len(data["support"])) == (4 * 5 * 3 * 7 * 11 * 2 * 3, 4 * 5 * 3 * 7 * 11 * 2)
    for key in ("title", "citation", "doi", "patients"):
        assert data[key] == getattr(about, key)
    assert data["notes"][:-1] == list(about.notes)
    assert "taken as tested and not significant (35 tests)" in data["notes"][-1]
    nulls = {(null.event, null.grade, null.covariate) for null in shipped.tables.nulls if not null.stated}
    for (event, by_grade), (j, grade), (k, covariate) in itertools.product(
        zip(data["events"], data["assumed"], strict=True), enumerate(data["grades"]), enumerate(data["covariates"])
    ):
        assert (k in by_grade[j]) == ((event["name"], grade, covariate["name"]) in nulls)
    assert [c["label"] for c in data["covariates"]] == [c.label for c in risks.covariates]
    labels = [level["label"] for c in data["covariates"] for level in c["levels"]]
    assert labels == [level.label for c in risks.covariates for level in c.levels]
    assert [event["label"] for event in data["events"]] == [event.label for event in shipped.tables.events]
    assert (data["published"], data["digest"]) == (risks.published.tolist(), shipped.tables.digest)
    fitted = aemodel.Fitted(shipped.tables, None, shipped.diagnostics, shipped.settings, risks)
    assert aemodel.write_calculator(fitted, tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert any("7" in failure for failure in page_data(hostile_page)["failures"])


# Two fits in one page.


def test_the_other_fit_s_answers_are_those_of_score(model, other, tmp_path):
    data = page_data(aemodel.write_calculator(model, tmp_path / "page.html", other).read_text(encoding="utf-8"))
    assert data["beside"]["words"] == beside_words(model.settings, other.settings, model.tables)
    is_scored(data, data["supports"], model)
    is_scored(data["beside"], data["supports"], other)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"selection": False}, "when nothing is assumed of what the publication leaves out"),
        ({"ordering": None}, "when nothing is assumed of the order of groups that the publication states"),
        (
            {"ordering": None, "selection": False},
            "when nothing is assumed of the order of groups that the publication states and of what the publication leaves out",
        ),
        (
            {"selection": False, "prior_scale": 2.0},
            "in the other fit (Evidence used beside the margins: orderings of groups, with significant tests at both grades. "
            "Prior scales of effects times 2)",
        ),
        ({"ordering": "order"}, "in the other fit (Evidence used beside the margins: orderings of groups and tests that "),
    ],
)
def test_what_the_other_fit_holds_under_is_true_of_its_settings(model, changed, words):
    assert beside_words(model.settings, {**model.settings, **changed}, model.tables).startswith(words)


def test_a_fit_of_other_counts_is_not_set_beside(model, shipped, tmp_path):
    other = replace(model, tables=read_tables(publication_texts(simulate_patients(seed=12, patients=240))))
    for beside, message in (
        (shipped, "the two models must have the same"),
        (other, "it was fitted to other counts"),
        (1, "expected"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^beside: {message}"):
            aemodel.write_calculator(model, tmp_path / "page.html", beside)
    assert os.listdir(tmp_path) == []


# The page.


def test_the_page_is_small_ascii_and_whole(page):
    assert len(page.encode()) < 500_000
    assert page.isascii()
    assert page.index('<meta charset="utf-8">') < 100
    assert "{{" not in page.replace(element(page, "script"), "").replace(element(page, "style"), "")


def test_policy_allows_nothing_but_this_style_and_this_script(page):
    check_policy(page)
    assert len(element(page, "script")) > 1000


WAYS_OUT = r"\bsrc\s*=|url\(|@import|\bfetch\b|XMLHttpRequest|WebSocket|sendBeacon|import\("
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function\b|srcdoc|\son\w+=|\sstyle="


def test_nothing_in_the_page_fetches_or_makes_markup_or_code_of_text(page):
    assert re.findall(f"{WAYS_OUT}|{MARKUP}", page) == []


# Text that would be markup.


def test_hostile_text_comes_back_whole_and_ends_no_element(hostile_page, page):
    data = page_data(hostile_page)
    assert [data["covariates"][0]["label"], data["events"][0]["label"], data["title"]] == [BOLD] * 3
    assert "{{script}}" in data["citation"]
    assert hostile_page.lower().count("</script") == page.lower().count("</script") == 2
    assert not re.search("<b>|<img|<!--", hostile_page)


# Writing.


def test_write_returns_the_path_and_leaves_nothing_beside_it(shipped, tmp_path):
    path = tmp_path / "page.html"
    assert aemodel.write_calculator(shipped, str(path)) == path
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", IsADirectoryError, "is a folder; name a file in it"),
        ("page", ValueError, "must end in .html"),
        ("nowhere/page.html", FileNotFoundError, "no folder"),
    ],
)
def test_a_path_that_cannot_be_a_page_is_refused(shipped, tmp_path, name, error, message):
    with pytest.raises(error, match=f"^path: .*{message}"):
        aemodel.write_calculator(shipped, tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", ["aall1331", None, SimpleNamespace(risks=1)])
def test_what_is_no_model_is_refused(wrong, tmp_path):
    with pytest.raises(TypeError, match="model: expected a model from load_model or fit, not"):
        aemodel.write_calculator(wrong, tmp_path / "page.html")


def test_more_profiles_than_a_page_holds_are_refused(shipped, tmp_path, monkeypatch):
    monkeypatch.setattr(calculator, "MOST_NUMBERS", 27_719)
    with pytest.raises(ValueError, match="model: its 420 combinations of levels make 27720 numbers"):
        aemodel.write_calculator(shipped, tmp_path / "page.html")


def test_writing_loads_nothing_heavy_and_needs_no_pandas(tmp_path):
    path = str(tmp_path / "page.html")
    code = f'aemodel.write_calculator(aemodel.load_model("aall1331"), {path!r})'
    assert loaded_after(without("pandas") + code) & {*HEAVY, "pyarrow", "duckdb"} == set()


# On the command line.


def test_command_writes_the_page_of_the_shipped_model_by_default(page, shipped, tmp_path):
    for model in ([shipped.folder], []):
        result = run("calculator", *model, tmp_path / "page.html")
        assert (result.exit_code, result.stdout) == (0, "")
        assert "Calculator written into" in result.stderr
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == page


def test_command_sets_another_fit_beside(model, other, tmp_path):
    for name, fit in (("a", model), ("b", other)):
        aemodel.save_model(fit, tmp_path / name)
    result = run("calculator", tmp_path / "a", tmp_path / "page.html", "--beside", tmp_path / "b")
    assert result.exit_code == 0, result.output
    aemodel.write_calculator(aemodel.load_model(tmp_path / "a"), tmp_path / "same.html", aemodel.load_model(tmp_path / "b"))
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "same.html").read_bytes()
    assert "--beside: the two models must" in run("calculator", tmp_path / "page.html", "--beside", tmp_path / "b").output
