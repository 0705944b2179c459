"""Figures have a mark for each row of the table they draw, and labels in words."""

from __future__ import annotations

import pytest
from matplotlib import pyplot

import aemodel
from aemodel.answers.plots import SOURCES, WORDS, plot_calibration, plot_identification, plot_prior


@pytest.fixture(scope="module")
def effects(shipped):
    return aemodel.identification_table(shipped)


@pytest.fixture(scope="module")
def prior(shipped):
    return aemodel.prior_predictive_table(shipped)


@pytest.fixture(scope="module")
def calibration(shipped):
    return aemodel.calibration_table(shipped)


def marks(axis, marker):
    """Points drawn with a marker, (x, y) each."""
    lines = [line for line in axis.get_lines() if line.get_marker() == marker]
    return [point for line in lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def labels(axis):
    return [tick.get_text() for tick in axis.get_yticklabels()]


@pytest.mark.parametrize("grade", ["3-5", "4-5"])
def test_identification_has_a_dot_for_each_event_and_covariate(effects, grade):
    figure = plot_identification(effects, grade=grade)
    rows = effects[effects["grade"] == grade]
    for axis, covariate in zip(figure.axes, rows["covariate"].unique(), strict=True):
        mean = rows[rows["covariate"] == covariate].groupby("event", sort=False)["contraction"].mean()
        assert [x for x, _ in marks(axis, "o")] == pytest.approx(mean.tolist())
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Age band", "Relapse group", "Sex", "Race ethnicity"]
    assert labels(figure.axes[0])[:2] == ["Infections total", "Infections"]
    assert f"grade {grade}" in figure.get_supxlabel()


def test_identification_explains_the_colours_it_uses(effects):
    (legend,) = plot_identification(effects).legends
    used = set(effects[effects["grade"] == "3-5"]["source"])
    assert {text.get_text() for text in legend.get_texts()} == {WORDS[source] for source in used}


def test_every_source_has_a_colour_and_words():
    assert set(SOURCES) == set(WORDS) == {"data", "null", "pooled", "ordering", "prior"}


def test_prior_has_two_dots_for_each_event_and_a_cross_for_each_published_rate(prior):
    (axis,) = plot_prior(prior).axes
    rows = prior[(prior["quantity"] == "cohort risk") & (prior["grade"] == "3-5")]
    assert [x for x, _ in marks(axis, "o")] == pytest.approx([*rows["prior_median"], *rows["posterior_median"]])
    assert [x for x, _ in marks(axis, "x")] == pytest.approx(rows["published"].tolist())
    assert [len(lines.get_segments()) for lines in axis.collections] == [len(rows), len(rows)]
    assert labels(axis)[-1] == "Any ae"
    assert axis.get_xlabel() == "Cohort risk, grade 3-5"


def test_odds_ratios_are_on_a_logarithmic_scale_without_crosses(prior):
    (axis,) = plot_prior(prior, quantity="odds ratio sex", grade="4-5").axes
    assert axis.get_xscale() == "log"
    assert marks(axis, "x") == []


@pytest.mark.parametrize("wrong", [{"quantity": "odds"}, {"grade": "5"}])
def test_prior_of_nothing_is_refused(prior, wrong):
    with pytest.raises(ValueError, match="nothing to draw for .*; choose from cohort risk, highest less lowest profile risk"):
        plot_prior(prior, **wrong)


@pytest.mark.parametrize("grade", ["3-5", "4-5"])
def test_calibration_has_a_dot_and_two_lines_for_each_published_row(calibration, grade):
    (axis,) = plot_calibration(calibration, grade=grade).axes
    rows = calibration[(calibration["grade"] == grade) & ~calibration["derived"]]
    assert [x for x, _ in marks(axis, "o")] == pytest.approx((100 * rows["observed_rate"]).tolist())
    assert [len(lines.get_segments()) for lines in axis.collections] == [len(rows), len(rows)]
    assert [text.split(":  ")[-1] for text in labels(axis)] == rows["level"].tolist()
    assert sum(":  " in text for text in labels(axis)) == rows["event"].nunique()


@pytest.mark.parametrize("plot", [plot_identification, plot_calibration])
def test_grade_without_rows_is_refused(effects, calibration, plot):
    table = effects if plot is plot_identification else calibration
    with pytest.raises(ValueError, match="grade: nothing to draw at grade '1-2'; choose from 3-5"):
        plot(table, grade="1-2")


def test_figures_are_not_kept_by_pyplot(effects, prior, calibration):
    for figure in (plot_identification(effects), plot_prior(prior), plot_calibration(calibration)):
        figure.canvas.draw()
    assert pyplot.get_fignums() == []
