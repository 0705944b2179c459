"""Figures: each shows the numbers of its table, in the publication's words, with nothing over anything; and the tables."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib import pyplot
from matplotlib.text import Text

import aemodel
from aemodel.answers.calibration import slope_words
from aemodel.answers.drawing import COLOURS, INK, SOURCES, wrapped
from aemodel.publication.errors import InputError
from aemodel.scoring.risks import SUPPORT
from tests.reports import SENTENCE, drawn_model, invented_texts, own_grades

KEYS = ["event", "grade"]


@pytest.fixture(scope="module")
def tables(model):
    patients = pd.DataFrame({"arm": ["high"], "stage": [None], "region": ["coast"]})
    return {
        "calibration": aemodel.calibration_table(model),
        "differences": aemodel.differences_table(model),
        "identification": aemodel.identification_table(model),
        "prior": aemodel.prior_predictive_table(model),
        "effects": aemodel.odds_ratio_table(model),
        "profiles": aemodel.profile_table(model, ["arm", "stage"]),
        "risk": aemodel.risk_table(model, patients),
        "cohort": aemodel.score_cohort(model, pd.concat([patients] * 40).assign(site=["A", "B"] * 20), by="site"),
    }


def figure_of(axes):
    return np.ravel(axes)[0].figure


def figures(tables, labels):
    """Every figure there is, by name."""
    axes = {
        "calibration": aemodel.plot_calibration(tables["calibration"], labels=labels),
        "calibration 4-5": aemodel.plot_calibration(tables["calibration"], grade="4-5", labels=labels),
        "differences": aemodel.plot_differences(tables["differences"], labels=labels),
        "identification": aemodel.plot_identification(tables["identification"], labels=labels),
        "prior": aemodel.plot_prior(tables["prior"], labels=labels),
        "prior odds": aemodel.plot_prior(tables["prior"], quantity="odds ratio arm", grade="4-5", labels=labels),
        "effects": aemodel.plot_effects(tables["effects"], covariate="stage", labels=labels),
        "profiles": aemodel.plot_profiles(tables["profiles"], event="anemia", labels=labels),
        "risk": aemodel.plot_patient(tables["risk"], labels=labels),
        "cohort": aemodel.plot_cohort(tables["cohort"], labels=labels),
    }
    return {name: figure_of(each) for name, each in axes.items()}


@pytest.fixture(autouse=True)
def closed():
    """Figures that pyplot made are closed by it after each test."""
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def drawn(tables, model):
    return figures(tables, model)


def texts(figure):
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text) if text.get_text())


def test_figures_speak_in_the_publication_s_words_and_a_model_is_drawn_as_its_table_is(drawn, model):
    for name in ("calibration", "differences", "identification", "prior", "effects", "risk", "cohort"):
        assert "Anemia or low platelets" in texts(drawn[name])
        assert "blood_toxicity" not in texts(drawn[name])
        if name not in ("risk", "cohort"):
            options = {"covariate": "stage"} if name == "effects" else {}
            assert texts(figure_of(getattr(aemodel, f"plot_{name}")(model, **options))) == texts(drawn[name])
    assert "Distant, small" in texts(drawn["effects"])
    assert "Grade 3 or higher: odds ratio against Local, small" in texts(drawn["effects"])
    assert {"Low dose", "Treatment arm", "Local, large"} <= set(texts(drawn["profiles"]).split(" | "))
    assert "All patients" in texts(drawn["calibration"])


def test_labels_are_a_model_s_or_tables_and_without_any_names_are_made_readable(tables, model):
    found = figures(tables, None)
    assert "Blood toxicity" in texts(found["calibration"])
    assert "Distant small" in texts(found["effects"])
    one, other = (figure_of(aemodel.plot_prior(tables["prior"], labels=labels)) for labels in (model, model.tables))
    assert texts(one) == texts(other)
    with pytest.raises(TypeError, match="labels: expected a model or tables, not dict"):
        aemodel.plot_prior(tables["prior"], labels={"anemia": "Anemia"})


@pytest.mark.parametrize(
    "name", ["calibration", "calibration 4-5", "identification", "prior", "prior odds", "effects", "profiles", "risk", "cohort"]
)
def test_legends_cover_no_axes(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()
    legends = [legend.get_window_extent() for legend in figure.legends]
    for axis in figure.axes:
        assert axis.get_legend() is None
        assert not any(legend.shrunk(0.99, 0.99).overlaps(axis.get_window_extent()) for legend in legends)
        assert axis.get_window_extent().width > 40


def test_no_text_is_cut(tables, model):
    """Everything written is inside its figure, of the shipped model too, whose names are longer."""
    shipped, patients = aemodel.load_model("aall1331"), pd.DataFrame({"age": [4, 16], "sex": ["male", "female"]})
    cohort = aemodel.score_cohort(shipped, patients, by="sex", missing_columns="unknown")
    risk = aemodel.risk_table(shipped, patients[:1], missing_columns="unknown")
    with pyplot.rc_context({"figure.max_open_warning": 0}):
        drawn = [*figures(tables, model).values(), *figures(tables, None).values()]
        drawn += [figure_of(aemodel.plot_cohort(cohort, share=share, grade="4-5", labels=shipped)) for share in (True, False)]
        drawn += [
            figure_of(aemodel.plot_patient(risk, grade="4-5", labels=shipped)),
            figure_of(aemodel.plot_differences(shipped)),
        ]
        drawn += [figure_of(getattr(aemodel, f"plot_{name}")(shipped)) for name in ("calibration", "identification", "prior")]
    for figure in drawn:
        figure.draw_without_rendering()
        width, height = figure.bbox.max
        ticks = {label for axis in figure.axes for label in axis.get_xticklabels()}  # those beyond the axis are not drawn
        for text in {text for text in figure.findobj(Text) if text.get_text()} - ticks:
            box = text.get_window_extent()
            assert -1 <= box.x0 <= box.x1 <= width + 1, text
            assert -1 <= box.y0 <= box.y1 <= height + 1, text


def test_axes_of_the_caller_s_are_drawn_in_and_nothing_else_of_the_figure_is_touched(tables, model, drawn):
    before = pyplot.get_fignums()
    with pyplot.rc_context({"font.size": 24, "axes.titlesize": 30}):
        _, ax = pyplot.subplots()
        aemodel.plot_patient(tables["risk"], labels=model, ax=ax)
        aemodel.plot_profiles(tables["profiles"], event="anemia", ax=ax)
    assert {ax.xaxis.label.get_size(), ax.get_xticklabels()[0].get_size()} == {24}
    assert ax.title.get_size() == 30
    pyplot.close()
    figure, axes = pyplot.subplots(1, 3)
    assert aemodel.plot_prior(tables["prior"], labels=model, ax=axes[0]) is axes[0]
    assert list(aemodel.plot_identification(tables["identification"], labels=model, ax=axes)) == list(axes)
    assert pyplot.get_fignums() == [*before, figure.number]
    assert not figure.legends
    assert figure._supxlabel is None
    assert {text.get_text() for text in axes[-1].get_legend().get_texts()} <= set(texts(drawn["identification"]).split(" | "))
    assert not axes[1].yaxis.get_tick_params()["labelleft"]
    with pytest.raises(InputError, match="ax: expected 3 axes, one for each panel, not 2"):
        aemodel.plot_identification(model, ax=axes[:2])


def test_hostile_labels_are_drawn_as_they_are(hostile):
    """No formula is made of a dollar sign; a label without end leaves room for the data."""
    for axis in (aemodel.plot_calibration(hostile), aemodel.plot_differences(hostile)):
        figure = axis.figure
        figure.draw_without_rendering()
        assert axis.get_window_extent().width > 40
        ticks = [tick.get_window_extent() for tick in axis.get_yticklabels()]
        assert not any(one.y0 < other.y1 - 1 for one, other in pairwise(ticks))
        assert SENTENCE in texts(figure)


@pytest.mark.parametrize(("text", "lines"), [("short", 1), ("a b " * 40, 8), ("W" * 200, 10), ("W" * 900, 12)])
def test_wrapped_texts_are_whole_up_to_twelve_lines(text, lines):
    found = wrapped(text, 20).split("\n")
    assert len(found) == lines
    assert max(map(len, found)) <= 20
    assert ("..." in found[-1]) == (lines == 12)


def contrast(one, other):
    """Contrast ratio of two colours (WCAG 2)."""
    from matplotlib.colors import to_rgb

    def luminance(colour):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return np.dot([0.2126, 0.7152, 0.0722], parts)

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_marks_stand_out_on_light_and_on_dark_and_differ_in_shape():
    for colour in {*COLOURS, *(colour for colour, _, _ in SOURCES.values())}:
        assert min(contrast(colour, paper) for paper in ("#ffffff", "#1a2026")) >= 3, colour
    assert contrast(INK, "#ffffff") >= 7
    assert len({marker for _, marker, _ in SOURCES.values()}) == len(SOURCES)
    assert set(SUPPORT) <= set(SOURCES)


def test_no_interval_is_paler_than_its_colour(drawn):
    from matplotlib.collections import LineCollection

    for name, figure in drawn.items():
        assert all(lines.get_alpha() is None for lines in figure.findobj(LineCollection)), name


# What they draw.


def test_calibration_draws_the_published_rates(drawn, tables):
    rows = tables["calibration"]
    rows = rows[(rows["grade"] == "3-5") & ~rows["derived"]]
    dots = next(line for line in drawn["calibration"].axes[0].lines if line.get_marker() == "o")
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(100 * rows["observed_rate"]))


def test_effects_draw_medians_with_the_mark_of_their_source(drawn, tables):
    rows = tables["effects"]
    rows = rows[(rows["covariate"] == "stage") & (rows["grade"] == "3-5")]
    levels = list(dict.fromkeys(rows["level"]))
    for axis, level in zip(drawn["effects"].axes, levels, strict=True):
        marks = [(line.get_xdata()[0], line.get_marker()) for line in axis.lines if line.get_marker() not in ("None", None)]
        part = rows[rows["level"] == level]
        expected = [(row.odds_ratio, SOURCES[row.support][1]) for row in part.itertuples()]
        assert [m for _, m in marks] == [m for _, m in expected]
        assert [x for x, _ in marks] == pytest.approx([x for x, _ in expected])


@pytest.mark.parametrize(("name", "middle", "times"), [("risk", "risk", 100), ("cohort", "expected", 1)])
def test_risks_and_numbers_are_those_of_the_table_and_assumptions_are_hollow(drawn, tables, name, middle, times):
    rows = tables[name][tables[name]["grade"] == "3-5"]
    marks = [line for line in drawn[name].axes[0].lines if line.get_marker() not in ("None", None, "")]
    found = sorted((line.get_xdata()[0], line.get_markerfacecolor() == "none") for line in marks)
    expected = sorted(zip(times * rows[middle], rows["support"] == "prior", strict=True))
    assert [hollow for _, hollow in found] == [hollow for _, hollow in expected]
    assert [x for x, _ in found] == pytest.approx([x for x, _ in expected])


def test_numbers_of_a_cohort_can_be_shares_of_its_patients(tables):
    rows = tables["cohort"][tables["cohort"]["grade"] == "4-5"]
    axis = aemodel.plot_cohort(tables["cohort"], grade="4-5", share=True)
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() not in ("None", None, "")]
    assert sorted(marks) == pytest.approx(sorted(100 * rows["expected"] / rows["patients"]))


def test_another_patient_stands_beside_as_ticks(model):
    patients = pd.DataFrame(
        {"arm": ["high", None], "stage": [None, None], "region": ["coast", None]}, index=["hers", "anybody"]
    )
    table = aemodel.risk_table(model, patients)
    axis = aemodel.plot_patient(table, patient="hers", reference="anybody", grade="4-5")
    ticks = next(line for line in axis.lines if line.get_marker() == "|")
    rows = table[(table["patient"] == "anybody") & (table["grade"] == "4-5")]
    assert ticks.get_xdata() == pytest.approx(100 * rows["risk"].to_numpy())
    assert "anybody" in texts(axis.figure)


def test_profiles_draw_a_line_for_each_level(drawn, tables):
    lines = [line for line in drawn["profiles"].axes[0].lines if line.get_linestyle() == "-" and line.get_marker() == "None"]
    assert len(lines) == 4
    rows = tables["profiles"]
    rows = rows[(rows["event"] == "anemia") & (rows["grade"] == "3-5") & (rows["stage"] == "local_small")]
    assert lines[0].get_ydata() == pytest.approx(100 * rows["risk"].to_numpy())


@pytest.mark.parametrize("name", ["patient", "profiles", "differences"])
def test_a_sorted_table_is_drawn_with_the_same_marks_at_the_same_names(tables, model, name):
    patients = pd.DataFrame({"arm": ["high", "low"], "stage": [None, None], "region": ["coast", None]})
    draw, table, by = {
        "patient": (
            lambda t: aemodel.plot_patient(t, grade="3-5", patient=0, reference=1),
            aemodel.risk_table(model, patients),
            "risk",
        ),
        "profiles": (lambda t: aemodel.plot_profiles(t, event="anemia", grade="3-5"), tables["profiles"], "risk"),
        "differences": (aemodel.plot_differences, tables["differences"], "observed"),
    }[name]
    found = []
    for each in (table, table.sort_values(by)):
        axis = draw(each)
        names, along = (axis.get_xticklabels(), 0) if name == "profiles" else (axis.get_yticklabels(), 1)
        at = np.array([text.get_position()[along] for text in names])
        marks = [xy for line in axis.lines if line.get_marker() not in ("None", "") for xy in line.get_xydata()]
        marks = [(names[int(abs(at - xy[along]).argmin())].get_text(), round(float(xy[1 - along]), 6)) for xy in marks]
        groups = [
            (t.get_text(), round(t.get_position()[1] - at.min(), 6)) for a in axis.child_axes for t in a.get_yticklabels()
        ]
        found.append((sorted(marks), [text for text, _ in groups] if name != "differences" else sorted(t for t, _ in groups)))
    assert len(found[0][0]) > 3
    assert found[0] == found[1]


UNDRAWABLE = [
    ("calibration", ValueError, "grade: nothing to draw at grade '1'; choose from 3-5", {"grade": "1"}),
    ("identification", ValueError, "grade: nothing to draw", {"grade": "1"}),
    ("prior", ValueError, "quantity: nothing to draw for 'age'", {"quantity": "age"}),
    ("effects", ValueError, "covariate: nothing to draw for 'age' .* arm, stage", {"covariate": "age"}),
    ("profiles", ValueError, "event: nothing to draw for 'cough'", {"event": "cough"}),
    ("profiles of nothing", ValueError, "table: expected risks by one or two", {"event": "rash"}),
    ("patient", ValueError, "patient: rows of 0 patients at grade '3-5'; name .* 0", {"patient": 7}),
    ("patient", ValueError, "reference: rows of 0 patients", {"reference": 7}),
    ("patient of two", ValueError, "patient: rows of 2 patients .* 0, 1", {}),
    ("cohort", ValueError, "grade: nothing to draw at grade '1'; choose from 3-5, 4-5", {"grade": "1"}),
    ("profiles", ValueError, "grade: nothing to draw at grade '5'; choose from 3-5, 4-5", {"event": "anemia", "grade": "5"}),
    ("cohort of risk", ValueError, "table: expected what score_cohort returns; it has no column patients, expected", {}),
    ("calibration of risk", ValueError, "table: expected what calibration_table returns, or a model; .* derived", {}),
    ("profiles of model", TypeError, "table: expected what profile_table returns, not ", {"event": "anemia"}),
    ("effects of text", TypeError, "table: expected what odds_ratio_table returns, or a model, not str", {"covariate": "arm"}),
    (
        "profiles",
        TypeError,
        "event: expected the name of one event, not .*draw a figure for each",
        {"event": ["anemia", "rash"]},
    ),
    ("profiles", TypeError, "grade: expected the name of one grade, not ", {"event": "anemia", "grade": ["3-5"]}),
    ("effects", TypeError, "covariate: expected the name of one covariate, not ", {"covariate": ["arm"]}),
    ("patient", TypeError, "grade: expected the name of one grade, not ", {"grade": ["3-5"]}),
]


@pytest.mark.parametrize(("name", "error", "message", "options"), UNDRAWABLE, ids=range(len(UNDRAWABLE)))
def test_what_cannot_be_drawn_is_refused(tables, model, name, error, message, options):
    risk = tables["risk"]
    made = {"patient": risk, "patient of two": pd.concat([risk, risk.assign(patient=1)])}
    made |= tables | {"profiles of nothing": risk.drop(columns="patient"), "effects of text": "odds"}
    made |= {"cohort of risk": risk, "calibration of risk": risk, "profiles of model": model}
    with pytest.raises(error, match=message):
        getattr(aemodel, f"plot_{name.split()[0]}")(made[name], **options)


@pytest.mark.parametrize(("interval", "said"), [(0.9, "90 %"), (0.5, "50 %"), (0.995, "99.5 %")])
def test_profiles_say_of_what_probability_their_intervals_are(model, interval, said):
    table = aemodel.profile_table(model, ["arm"], interval=interval)
    assert f"({said} interval)" in texts(figure_of(aemodel.plot_profiles(table, event="anemia")))
    nobody = pd.DataFrame({"arm": [None], "stage": [None], "region": [None]})
    table = aemodel.risk_table(model, nobody, interval=interval)
    assert f"(mean and {said} interval)" in texts(figure_of(aemodel.plot_patient(table)))
    table = aemodel.score_cohort(model, nobody, interval=interval)
    told = texts(figure_of(aemodel.plot_cohort(table)))
    assert f"{said} predictive interval)" in told
    assert texts(figure_of(aemodel.plot_cohort(pl.from_pandas(table)))) == told.replace(f"{said} ", "")


# The tables behind them.


def test_profiles_equal_risks_of_patients_with_the_rest_missing(model, tables):
    patients = pd.DataFrame(
        [{"arm": arm, "stage": stage, "region": None} for arm in ("low", "middle", "high") for stage in stages_of(model)]
    )
    expected = aemodel.risk_table(model, patients)
    for name in ("event", "grade", "risk", "lower", "upper", "support"):
        assert tables["profiles"][name].tolist() == expected[name].tolist(), name
    pd.testing.assert_frame_equal(aemodel.profile_table(model, pa.array(["arm", "stage"])), tables["profiles"])


def stages_of(model):
    return model.tables.covariate("stage").names


@pytest.mark.parametrize("by", [[], ["arm", "arm"], ["dose"], "arm", [["arm"]], np.array(["dose"])])
def test_profiles_by_what_is_no_covariate_are_refused(model, by):
    with pytest.raises(ValueError, match="by: expected one or more of arm, stage, region, each once"):
        aemodel.profile_table(model, by)


def test_odds_ratios_are_those_of_standardised_risks(model, tables):
    """Worked out here from the definition, draw by draw."""
    risks = model.risks
    everything = np.array([c.everything for c in risks.covariates])
    sets = np.repeat(everything[None], 2, axis=0)
    sets[:, 0] = 1 << 2, 1 << 0
    high, low = (risks.standardised(one, (0,))[:, 0, 0] for one in sets)
    ratio = high / (1 - high) / (low / (1 - low))
    row = tables["effects"].set_index([*KEYS, "covariate", "level"]).loc[("any_toxicity", "3-5", "arm", "high")]
    assert row["reference"] == "low"
    np.testing.assert_allclose(
        row[["odds_ratio", "lower", "upper"]].astype(float), np.quantile(ratio, (0.5, 0.05, 0.95)), rtol=1e-3
    )
    assert row["p_higher"] == pytest.approx((ratio > 1).mean())


def test_odds_ratios_rest_on_what_contrasts_say(model, tables):
    found = tables["effects"].query("covariate == 'arm' and level == 'high'").set_index(KEYS)["support"]
    expected = aemodel.contrast_table(model, {"arm": "high"}, {"arm": "low"}).set_index(KEYS)["support"]
    assert found.to_dict() == expected.to_dict()


# In a notebook.


def test_tables_show_each_event_and_what_it_is_published_by(model):
    text = model.tables._repr_html_()
    assert "An invented trial" in text
    assert "240 patients" in text
    row = next(line for line in text.splitlines() if "Anemia or low platelets" in line)
    assert "Treatment arm, Stage" in row
    assert len(text) < 6000


def test_models_show_diagnostics_evidence_and_the_cohort_s_risks(model, shipped):
    text = model._repr_html_()
    assert "Sampler diagnostics passed" in text
    assert "orderings of groups, with significant tests at both grades and tests that were not listed" in text
    mean = model.risks.summary(model.risks.everything[None], 0.9)[0][0, 0, 0]
    assert f"{100 * mean:.0f} %" in next(line for line in text.splitlines() if "Any toxicity" in line)
    assert len(text) < 6000
    fitted = aemodel.Fitted(shipped.tables, None, shipped.diagnostics, shipped.settings, shipped.risks)
    assert shipped._repr_html_() == fitted._repr_html_()
    for thing in (model, model.tables, shipped):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 400


def test_hostile_texts_are_shown_as_text(hostile):
    for text in (hostile._repr_html_(), hostile.tables._repr_html_()):
        assert "<b>" not in text
        assert "<img" not in text
        assert "&lt;b&gt;bold" in text


@pytest.mark.parametrize(("kind", "label"), [("serious", "Serious event"), ("any", "Any grade")])
def test_without_a_grade_the_publication_s_first_is_drawn(kind, label):
    model = drawn_model(own_grades(kind))
    assert label in texts(figure_of(aemodel.plot_calibration(aemodel.calibration_table(model), labels=model)))
    assert label in texts(figure_of(aemodel.plot_effects(aemodel.odds_ratio_table(model), covariate="stage", labels=model)))
    for shown in (
        model._repr_html_(),
        model.tables._repr_html_(),
        slope_words(aemodel.calibration_slopes(model, seed=1), model),
    ):
        assert label in shown


@pytest.mark.slow
def test_differences_have_grades_that_are_added_up_and_intervals_by_their_middle():
    outer, inner = {"low": (12, 83), "middle": (25, 92), "high": (26, 65)}, {"low": 2, "middle": 7, "high": 5}

    def observed(lines):
        texts = invented_texts()
        others = [line for line in texts["frequencies.csv"].splitlines() if not line.startswith("anemia,3-5")]
        texts["events.csv"] = texts["events.csv"].replace("3-5 4-5", "3 3-5 4-5")
        texts["frequencies.csv"] = "\n".join([*others, *lines]) + "\n"
        found = aemodel.differences_table(drawn_model(texts))
        found = found[(found["event"] == "anemia") & (found["grade"] == "3-5") & (found["level"] == "high")]
        return found["observed"].item()

    counts = [f"anemia,3-5,arm,{level},{n},{count},count,,no,T" for level, (count, n) in outer.items()]
    added_up = [f"anemia,3,arm,{level},{n},{count - inner[level]},count,,no,T" for level, (count, n) in outer.items()]
    interval = [line.replace(",26,", ",25-29,") for line in counts]
    assert observed(counts) == observed(added_up) == pytest.approx(26 / 65 - 12 / 83)
    assert observed(interval) == pytest.approx(27 / 65 - 12 / 83)
