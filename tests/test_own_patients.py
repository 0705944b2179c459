"""Patients of one's own beside a publication: read, counted, in the likelihood and in a fit; and what is refused."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import aemodel
from aemodel.inference import fitting
from aemodel.inference.design import all_margins, family_averages, make_design
from aemodel.inference.effects import state_probabilities
from aemodel.inference.evidence import choose_evidence
from aemodel.inference.intervals import pack
from aemodel.inference.model import build_model
from aemodel.inference.own_patients import known_patients, make_own_profiles, patients_term
from aemodel.inference.posterior import DIMS, make_density
from aemodel.inference.record import evidence_words
from aemodel.inference.saddlepoint import joint_loglik
from aemodel.publication.cells import remaining_cells
from tests.publications import EVENTS, LEVELS
from tests.reference import patients_loglik
from tests.streams import run

pytestmark = pytest.mark.xdist_group("fits")

NAMES = [line.split(",")[0] for line in EVENTS.splitlines()[1:]]
NOTHING = dict.fromkeys(NAMES, 0)


@pytest.fixture(scope="module")
def design(invented):
    return make_design(invented)


@pytest.fixture(scope="module")
def probabilities(design):
    """State probabilities (state, cell) at three draws of random logits."""
    logits = np.random.default_rng(4).normal(-0.5, 1.0, size=(3, len(design.branches), len(design.cells.n)))
    return [state_probabilities(*design.paths, one, np) for one in logits]


@pytest.fixture(scope="module")
def profiles(invented, design):
    def make(patients, overlap="disjoint"):
        return make_own_profiles(invented, design, patients, overlap)

    return make


@pytest.fixture(scope="module")
def with_gaps(invented_patients):
    """The same patients, a third of what is known of them forgotten at random."""
    forgotten = np.random.default_rng(4).random(invented_patients.shape) < 1 / 3
    return invented_patients.astype(object).mask(forgotten, None)


def patients_value(own, p):
    return patients_term(own)(p)[0]


def margin_values(design, margins, p):
    """Log likelihood of each family's margins, (family,)."""
    edges = np.cumsum([0] + [len(family.grades) for family in design.families])
    averages = family_averages(design, margins)
    parts = [(average @ p[edges[i] : edges[i + 1]].T).ravel() for i, average in enumerate(averages)]
    return joint_loglik(np.log(np.concatenate(parts)), *pack([m.margins for m in margins]))[0]


def by_rows(design, patients, p):
    """The slow twin's value."""
    names = [covariate.name for covariate in design.cells.covariates]
    cells = [{k: LEVELS[k][i] for k, i in zip(names, row, strict=True)} for row in design.cells.levels]
    families = [([event.name for event in family.events], family.grades) for family in design.families]
    parts = np.split(p, np.cumsum([len(family.grades) for family in design.families])[:-1])
    rows = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in patients.astype(object).to_dict("records")]
    return patients_loglik(rows, cells, design.cells.n, families, parts)


def patient(**known):
    """One row: a patient of whom only this is known."""
    return pd.DataFrame([dict.fromkeys([*LEVELS, *NAMES]) | known])


# The likelihood.


def test_patients_are_multinomial_and_unknowns_averaged(invented_patients, with_gaps, design, profiles, probabilities):
    for rows in (invented_patients, with_gaps):
        own = profiles(rows)
        for p in probabilities:
            assert patients_value(own, p) == pytest.approx(by_rows(design, rows, p), abs=1e-6)


def same_profiles(one, other, names=("states", "weights", "counts")):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_order_of_rows_does_not_matter_and_more_of_them_cost_no_more(with_gaps, profiles, probabilities):
    once, many = profiles(with_gaps), profiles(pd.concat([with_gaps] * 40))
    same_profiles(once, profiles(with_gaps.sample(frac=1, random_state=1)))
    same_profiles(once, many, ["states", "weights"])
    np.testing.assert_array_equal(many.counts, 40 * once.counts)
    assert patients_value(many, probabilities[0]) == pytest.approx(40 * patients_value(once, probabilities[0]), rel=1e-12)


def test_unknown_covariate_has_the_cohorts_composition_and_a_family_of_which_nothing_is_known_none(profiles, design):
    n = np.where(design.cells.having("stage", "local_small"), design.cells.n, 0)
    np.testing.assert_allclose(profiles(patient(stage="local_small", neuropathy=3)).weights, [n / n.sum()], atol=1e-9)
    assert profiles(patient(neuropathy=3)).counts.tolist() == [[1.0]]


def test_event_without_a_column_is_not_known(invented_patients, profiles):
    nulls = invented_patients.astype(object).assign(anemia=None, vomiting=None)
    same_profiles(profiles(invented_patients.drop(columns=["anemia", "vomiting"])), profiles(nulls))


def test_coordinates_are_by_how_many_patients_are_known(invented, design, profiles):
    """Of an event where its grade and the covariate's level are known; errors fall with the root of the patients' number."""
    some = pd.concat(
        [patient(arm="low", stage="local_small", neuropathy=4), patient(arm="low", neuropathy=0), patient(arm="low")]
    )
    own = profiles(some, "disjoint")
    known = {(event, covariate): n for (event, _, covariate), n in known_patients(own, design).items()}
    assert known == {("neuropathy", "arm"): 2, ("neuropathy", "stage"): 1, ("neuropathy", "region"): 0}
    margins = all_margins(design, invented.frequencies)
    none, some, many = (
        make_density(design, margins, own=each).centring.own
        for each in (None, *(replace(own, counts=own.counts * times) for times in (1e4, 1e6)))
    )
    arm = [design.terms[t].covariate == "arm" for t in design.term_of]
    lies = ["neuropathy" in branch.name for branch in design.branches]  # no margin counts it by arm
    np.testing.assert_allclose(many[np.ix_(lies, arm)], some[np.ix_(lies, arm)] / 10, rtol=1e-12)
    np.testing.assert_array_equal(many[np.logical_not(lies)], none[np.logical_not(lies)])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"vomiting": 4}, {"vomiting": 4, "stomach_upset": 4}),
        ({"stomach_upset": 0}, {"stomach_upset": 0, "vomiting": 0}),
        ({"neuropathy": 2}, {"neuropathy": 0}),
        ({"neuropathy": 5}, {"neuropathy": 4}),
        ({"toxic_death": 5, "rash": 0}, {"toxic_death": 5, "any_toxicity": 5, "rash": 0}),
        ({"rash": 5}, {"rash": 4, "any_toxicity": 5, "toxic_death": 5}),
        ({"blood_toxicity": 3, "anemia": 0}, {"low_platelets": 3, "anemia": 0, "blood_toxicity": 3}),
    ],
    ids=str,
)
def test_grade_implies_what_it_must(given, same, profiles):
    np.testing.assert_array_equal(profiles(patient(**given)).states, profiles(patient(**same)).states)


@pytest.mark.parametrize("publication", ["invented", "aall1331"])
def test_grades_of_a_state_are_that_state(publication, request):
    tables = request.getfixturevalue(publication)
    design = make_design(tables)
    covariates = dict.fromkeys([c.name for c in tables.covariates])
    before = 0
    for family in design.families:
        names = [event.name for event in family.events]
        for i, grades in enumerate(family.grades):
            row = pd.DataFrame([covariates | dict(zip(names, grades, strict=True))])
            own = make_own_profiles(tables, design, row, "disjoint")
            assert np.flatnonzero(own.states[0]).tolist() == [before + i]
        before += len(family.grades)


def test_dead_with_a_severe_infection_is_in_the_state_of_dead_of_it(aall1331):
    """The publication counts deaths within grade 4-5 infections; patients may have died of something else."""
    design = make_design(aall1331)
    covariates = dict.fromkeys([c.name for c in aall1331.covariates])
    rows = [{"infections": 4, "death": 5}, {"infections": 5}, {"infections": 4, "any_ae": 4}, {"infections": 4, "death": 0}]
    one, two, three, four = (
        make_own_profiles(aall1331, design, pd.DataFrame([covariates | row]), "disjoint").states for row in rows
    )
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(three, four)
    assert not (one * three).any()


@pytest.mark.parametrize(
    "as_kind",
    [
        lambda rows: pl.from_dicts(rows.to_dict("records"), infer_schema_length=None),
        lambda rows: pa.Table.from_pylist(rows.to_dict("records")),
        lambda rows: rows.astype(dict.fromkeys(NAMES, "Int64")),
        lambda rows: rows.astype(dict.fromkeys(NAMES, "float64")),
        lambda rows: rows.map(lambda value: value if value is None else str(value)),
    ],
    ids=["polars", "pyarrow", "pandas Int64", "floats", "texts"],
)
def test_frames_of_every_kind(as_kind, with_gaps, profiles):
    same_profiles(profiles(with_gaps), profiles(as_kind(with_gaps)))


# Part of the published cohort.


def test_all_patients_are_the_rows_and_no_margins(invented_patients, profiles, probabilities):
    own = profiles(invented_patients, "subset")
    rest, margins = own.others
    assert rest.cells.n.sum() == 0
    for p in probabilities:
        assert margin_values(rest, margins, p).tolist() == [0, 0, 0]
        assert patients_value(own, p) == patients_value(profiles(invented_patients), p)


@pytest.mark.parametrize(
    "family", [pytest.param(0, marks=pytest.mark.slow), 1, 2], ids=["any_toxicity", "stomach_upset", "neuropathy"]
)
def test_margins_are_the_sum_over_what_one_patient_may_have_had(family, invented, design, profiles, probabilities):
    """Law of total probability: P(margins) = sum over states of P(state) P(margins of the others).

    Exact where risks are alike within the family's cells, but for the error of saddlepoints, which is below 0.005 nats.
    """
    covariates = {"arm": "high", "stage": "distant_small", "region": "north"}
    published = all_margins(design, invented.frequencies)
    first = np.unique(published[family].coarse, return_index=True)[1][published[family].coarse]
    events = [event.name for event in design.families[family].events]
    states = [covariates | dict(zip(events, state, strict=True)) for state in design.families[family].grades]
    one = [profiles(patient(**state)) for state in states]
    others = [profiles(patient(**{**NOTHING, **state}), "subset").others for state in states]
    for p in (value[:, first] for value in probabilities):
        total = [patients_value(own, p) + margin_values(*rest, p)[family] for own, rest in zip(one, others, strict=True)]
        assert np.logaddexp.reduce(total) == pytest.approx(margin_values(design, published, p)[family], abs=0.005)


def test_others_are_the_cohort_without_them(invented_patients, profiles):
    """Arm by stage is published, so the families' cells are exact."""
    half = invented_patients.iloc[::2]
    rest, _ = profiles(half, "subset").others
    others = invented_patients.iloc[1::2]
    for arm in LEVELS["arm"]:
        for stage in LEVELS["stage"]:
            n = rest.cells.n[rest.cells.having("arm", arm) & rest.cells.having("stage", stage)].sum()
            assert n == pytest.approx(((others["arm"] == arm) & (others["stage"] == stage)).sum(), abs=1e-6)


def test_covariate_without_published_frequencies_may_be_unknown(invented_patients, profiles):
    half = invented_patients.iloc[::2].assign(region=None)
    assert profiles(half, "subset").others[0].cells.n.sum() == pytest.approx(120, abs=1e-6)


@pytest.mark.parametrize("patients", [1, 40, 75])
def test_patients_of_a_level_that_the_cohort_splits(aall1331, aall1331_cells, patients):
    """Of ages 10-18, the cohort counts 18 with 19-20 by relapse group: 75 in marrow early are more than expected, yet can be."""
    level = {"age_band": "10-18", "relapse_group": "bm_early", "sex": None, "race_ethnicity": None}
    sets = [[1 << c.names.index(level[c.name]) if level[c.name] else c.everything for c in aall1331.covariates]]
    cells = remaining_cells(aall1331, np.array(sets), np.array([patients]))
    assert cells.n.min() >= 0
    for covariate, name, n in [("age_band", "10-18", 270), ("relapse_group", "bm_early", 209), ("total", "all", 661)]:
        assert cells.n[cells.having(covariate, name)].sum() == pytest.approx(n - patients, abs=1e-6)
    assert cells.n[cells.having("age_band", "1-9")].sum() == pytest.approx(308, abs=1e-6)
    assert aall1331_cells.n.sum() == pytest.approx(661)


@pytest.mark.parametrize(
    ("level", "patients", "message"),
    [
        ({"age_band": "10-18", "relapse_group": "bm_early"}, 83, "cannot all be in the published cohort"),
        (
            {"sex": "female", "relapse_group": "iem_early"},
            6,
            "6 of them are in 'sex female iem_early', where cohort.csv counts 5",
        ),
        ({}, 662, '662 of them are in "the cohort\'s size", where cohort.csv counts 661'),
    ],
)
def test_patients_the_cohort_cannot_have(aall1331, level, patients, message):
    sets = [[1 << c.names.index(level[c.name]) if c.name in level else c.everything for c in aall1331.covariates]]
    with pytest.raises(ValueError, match=message):
        remaining_cells(aall1331, np.array(sets), np.array([patients]))


def test_without_margins_of_a_patient_counts_fall(aall1331):
    """A patient of the shipped publication, whose cells are fractional: all families can be fitted without him."""
    design = make_design(aall1331)
    row = {"age": 12, "relapse_site": "bm", "months_to_relapse": 20, "sex": "male", "race_ethnicity": None}
    outcomes = {event.name: 0 for event in aall1331.events} | {"infections": 3, "infections_total": 3, "any_ae": 3}
    _, margins = make_own_profiles(aall1331, design, pd.DataFrame([row | outcomes]), "subset").others
    before = all_margins(design, aall1331.frequencies)
    assert [m.margins.n.sum() for m in margins] == pytest.approx([m.margins.n.sum() - 1 for m in before])
    assert sum(m.margins.counts.sum() for m in margins) < sum(m.margins.counts.sum() for m in before)


# What is refused.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neuropathy": 6}, "column 'neuropathy': impossible grade 6 (row 1); allowed: a whole number from 0 to 5"),
        *(
            ({"neuropathy": grade}, f"column 'neuropathy': impossible grade {grade!r} (row 1)")
            for grade in (3.5, -1, "severe", True, "TRUE", "", np.inf)
        ),
        ({"toxic_death": 1}, "column 'toxic_death': impossible grade 1 (row 1); allowed: 5, or 0 for none, or null"),
        ({"toxic_death": 4}, "column 'toxic_death': impossible grade 4 (row 1)"),
        ({"vomiting": 4, "stomach_upset": 3}, "row 1: stomach_upset 3 with vomiting 4 cannot be"),
        ({"vomiting": 3, "stomach_upset": 0}, "row 1: stomach_upset 0 with vomiting 3 cannot be"),
        ({"vomiting": 5, "stomach_upset": 4}, "row 1: stomach_upset 4 with vomiting 5 cannot be"),
        ({"toxic_death": 5, "any_toxicity": 4}, "row 1: any_toxicity 4 with toxic_death 5 cannot be"),
        ({"toxic_death": 0, "any_toxicity": 5}, "row 1: any_toxicity 5 with toxic_death 0 cannot be"),
        ({"anemia": 4, "any_toxicity": 3}, "row 1: any_toxicity 3 with anemia 4 cannot be"),
        ({"blood_toxicity": 3, "anemia": 0, "low_platelets": 0}, "row 1: blood_toxicity 3 with anemia 0 with low_platelets 0"),
        ({"arm": "hihg"}, "column 'arm': impossible value 'hihg' (row 1)"),
    ],
    ids=str,
)
def test_row_that_cannot_be_is_refused(changes, message, profiles):
    rows = pd.concat([patient(**known).astype(object) for known in ({"neuropathy": 3}, changes)])
    with pytest.raises(aemodel.PatientsError, match=f"^patients: .*{re.escape(message)}") as found:
        profiles(rows)
    assert found.value.rows == (1,)


def test_contradiction_names_the_rows(profiles):
    rows = pd.concat([patient(vomiting=4, stomach_upset=3 + (i % 2)) for i in range(16)])
    with pytest.raises(ValueError, match=r"rows 0, 2, 4, 6, 8 and 3 more: stomach_upset 3 with vomiting 4"):
        profiles(rows)


@pytest.mark.parametrize(
    ("patients", "message"),
    [
        (patient(), "no outcome is known; give worst grades in columns named as the events: any_toxicity"),
        (pd.DataFrame({"arm": ["low"], "stage": [None], "region": [None]}), "no outcome is known"),
        (pd.DataFrame({"neuropathy": [3]}), "no column for treatment arm"),
        (patient(neuropathy=3).iloc[:0], "the frame has no rows"),
        (pd.concat([patient(neuropathy=1), patient(rash=0)]), "nothing above 1, as if they said yes or no"),
    ],
    ids=["all null", "no column", "no covariate", "no rows", "yes or no"],
)
def test_frame_without_what_is_needed_is_refused(patients, message, profiles):
    with pytest.raises(ValueError, match=message):
        profiles(patients)


SENSELESS = [
    *(({"overlap": value}, "overlap: with patients, say 'disjoint'") for value in ("neither", None, "Subset", 1)),
    ({"patients": None, "overlap": "subset"}, "overlap: 'subset' is said of patients, but no patients are given"),
    ({"patients": {}, "overlap": "disjoint"}, "patients: expected a pandas or polars DataFrame or a pyarrow Table, not dict"),
    ({"overlap": "subset", "power": 0.5}, "power: patients who are a subset of the published cohort are no other cohort"),
    *(({"power": power}, "power: expected a number above 0 and at most 1") for power in (0, -1, 1.5, np.nan, np.inf)),
    *(({"power": power}, "power: expected a number above 0 and at most 1") for power in (True, "half", None)),
]


@pytest.mark.parametrize(("options", "message"), SENSELESS, ids=str)
def test_patients_overlap_and_power_that_make_no_sense_are_refused(invented, invented_patients, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        aemodel.fit(invented, seed=1, **{"patients": invented_patients, "overlap": "disjoint", **options})


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("stage", "'stage' must be known of everybody, as frequencies are published by it; not known in rows 0, 2"),
        (
            "neuropathy",
            "'neuropathy' must be known of everybody, as its frequency at grade 3-5 is published; not known in rows 0, 2",
        ),
    ],
)
def test_subset_of_whom_something_is_not_known_is_refused(column, message, invented_patients, profiles):
    rows = invented_patients.astype(object).head(4)
    rows.loc[[0, 2], column] = None
    with pytest.raises(ValueError, match=message):
        profiles(rows, "subset")


def test_subset_with_more_events_than_published_is_refused(invented_patients, profiles):
    n = int((invented_patients["neuropathy"] >= 4).sum())
    rows = invented_patients.head(n + 40).assign(neuropathy=4)
    said = r"(\d+) of their (\d+) have neuropathy [34]-5 \(stage (\w+)\), \d+ of (\d+) in the publication: they cannot be"
    with pytest.raises(ValueError, match=said) as caught:
        profiles(rows, "subset")
    theirs, their, stage, published = re.search(said, str(caught.value)).groups()
    assert int(theirs) == int(their) == rows["stage"].str.startswith(stage).sum()
    assert int(published) == invented_patients["stage"].str.startswith(stage).sum()


def test_subset_that_leaves_contradictory_margins_is_refused(invented_patients, profiles):
    """No count is exceeded, but those left without the event could not have it with what nests in it."""
    rows = invented_patients.copy()
    changed = rows.index[(rows["stomach_upset"] >= 3) & (rows["vomiting"] == 0)]
    other = rows.index[(rows["stomach_upset"] >= 3) & (rows["vomiting"] >= 3)]
    kept = rows.drop(index=other[:5]).drop(index=changed[5:])
    with pytest.raises(ValueError, match="they cannot be a subset"):
        profiles(pd.concat([kept, rows.loc[changed[:5]]]), "subset")


# A publication that counts less.


def test_power_multiplies_what_is_published_and_nothing_else(invented_evidence, invented_patients):
    """Log densities are prior + patients + power times margins, orderings and nulls."""
    design = make_design(invented_evidence)
    evidence, margins = choose_evidence(invented_evidence, "both", True), all_margins(design, invented_evidence.frequencies)
    own = make_own_profiles(invented_evidence, design, invented_patients, "disjoint")
    models = [build_model(make_density(design, margins, evidence, 1.0, own, power)) for power in (0.0, 0.25, 1.0)]
    point = models[0].initial_point()
    none, some, full = (float(model.compile_logp(mode="FAST_COMPILE")(point)) for model in models)
    assert some == pytest.approx(0.75 * none + 0.25 * full, abs=1e-8)
    alone = models[2]
    kept = [*alone.free_RVs, next(each for each in alone.potentials if each.name == "patients")]
    assert none == pytest.approx(float(alone.compile_logp(vars=kept, mode="FAST_COMPILE")(point)), abs=1e-8)


def test_power_is_told(invented):
    for settings in ({"ordering": None, "selection": False}, {"seed": 1}):  # the latter of a model that had none
        assert evidence_words(settings, invented) == "Evidence used beside the margins: none."
    assert "times 2" in evidence_words({"prior_scale": 2.0}, invented)
    assert evidence_words({"power": 0.5}, invented).endswith("What is published counts with power 0.5.")


# From the shell.


@pytest.mark.parametrize("overlap", ["disjoint", "subset"])
def test_shell_reads_the_same_patients(overlap, profiles, invented_folder, invented_patients, tmp_path, monkeypatch):
    given, file = {}, tmp_path / "ours.csv"

    def stop(*_, **options):
        given.update(options)
        raise ValueError("seen")

    monkeypatch.setattr(fitting, "fit", stop)
    invented_patients.to_csv(file, index=False)
    ended = run("fit", invented_folder, "--out", tmp_path / "model", "--patients", file, "--overlap", overlap)
    assert "seen" in ended.stderr
    assert given["overlap"] == overlap
    np.testing.assert_array_equal(profiles(given["patients"]).counts, profiles(invented_patients).counts)


# In a fit.


SHORT = {"draws": 250, "chains": 2, "tune": 250, "attempts": 1, "progress": False}


@pytest.fixture(scope="module")
def fit(invented):
    def run(patients):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # so few draws fail the gate
            return aemodel.fit(invented, seed=1, patients=patients, overlap="disjoint", **SHORT)

    return run


@pytest.fixture(scope="module")
def worse(fit):
    """With patients of whom four in five had neuropathy, most at grade 4, by region only."""
    rows = pd.DataFrame({"arm": None, "stage": None, "region": ["north"] * 100, "neuropathy": [4] * 50 + [3] * 30 + [0] * 20})
    return fit(rows)


@pytest.fixture(scope="module")
def saved(worse, tmp_path_factory):
    return aemodel.save_model(worse, tmp_path_factory.mktemp("own") / "model")


@pytest.mark.slow
def test_patients_with_higher_rates_raise_risks(worse, fit):
    """Published about one in five; 100 patients weigh about 100 to 240."""
    usual = fit(patient(rash=0))
    whole = pd.DataFrame({"arm": [None], "stage": [None], "region": [None]})
    before, after = (
        aemodel.posterior_epred(m, whole).sel(event="neuropathy").mean(("chain", "draw", "patient")).values
        for m in (usual, worse)
    )
    assert (after > before + 0.1).all()


@pytest.mark.slow
def test_fit_keeps_nothing_of_patients(worse, saved, invented):
    """Parameters, the sampler's statistics and the published counts only; the count of all patients in settings and card."""
    assert set(worse.idata.groups()) == {"posterior", "prior", "sample_stats", "observed_data"}
    assert set(worse.posterior.data_vars) == set(DIMS)
    assert worse.idata["observed_data"]["n"].values.max() <= invented.n
    assert {k: v for k, v in saved.settings.items() if "patient" in k} == {"patients": 100}
    assert (worse.settings["patients"], worse.settings["overlap"]) == (100, "disjoint")
    assert "100 patients" in (saved.folder / "card.md").read_text()
    counts = aemodel.calibration_table(worse)[["n", "observed"]]
    assert counts.to_numpy().tolist() == invented.frequencies[["n", "observed"]].to_numpy().tolist()
    assert set(aemodel.load_model(saved.folder).idata.groups()) == set(worse.idata.groups())
