"""What answers rest on: flags of made tables whose right ones are plain, and the measure against a slow one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import aemodel
from aemodel.inference.design import all_margins, make_design
from aemodel.inference.effects import reference_states
from aemodel.inference.forward import make_forward, make_model_forward
from aemodel.inference.information import level_variances, measured_risks
from aemodel.publication.tables import read_tables
from aemodel.scoring.risks import SUPPORT, support_by_shares
from tests.publications import NO_TESTS, covariate_table

SIZES = {"arm": (("low", "high"), 150), "age": (("young", "middle", "old"), 100), "site": (("east", "west"), 150)}
ABOUT = 'name = "made"\ntitle = "A made trial"\ncitation = "Nobody."\npatients = 300\n' + "".join(
    covariate_table(name, levels, "open = true\n" * (name == "site")) for name, (levels, _) in SIZES.items()
)
COHORT = "covariate,level,by,by_level,n,source\n" + "".join(
    f"{name},{level},,,{n},T\n" for name, (levels, n) in SIZES.items() for level in levels
)
COUNTS = {
    ("common", "3-5"): {"arm": (60, 90), "age": (40, 50, 60)},
    ("common", "4-5"): {"arm": (20, 40), "age": (15, 20, 25)},
    ("never_severe", "3-5"): {"arm": (30, 40)},
    ("never_severe", "4-5"): {"arm": (0, 0)},
    ("few", "3-5"): {"age": (0, 0, 6)},
    ("some", "3-5"): {"age": (5, 10, 20)},
    ("oldest_only", "3-5"): {"total": (60,), "age": (None, None, 35)},
    ("total_only", "3-5"): {"total": (50,)},
}
LEVELS = {name: levels for name, (levels, _) in SIZES.items()} | {"total": ("all",)}


def made_texts():
    grades = {event: " ".join(g for name, g in COUNTS if name == event) for event, _ in COUNTS}
    rows = [
        f"{event},{grade},{name},{level},{ {'total': 300, 'arm': 150, 'age': 100}[name] },{n},count,{n},no,T\n"
        for (event, grade), by in COUNTS.items()
        for name, counts in by.items()
        for level, n in zip(LEVELS[name], counts, strict=True)
        if n is not None
    ]
    return {
        "publication.toml": ABOUT,
        "events.csv": "event,label,parent,relation,grades\n" + "".join(f"{e},{e},,,{g}\n" for e, g in grades.items()),
        "frequencies.csv": "event,grade,covariate,level,n,printed,unit,count,derived,source\n" + "".join(rows),
        "cohort.csv": COHORT,
    } | NO_TESTS


def draws_at(design, margins, *, scale=0.4, size=20):
    """Draws near the cohort's published rates, of effects near none."""
    rng = np.random.default_rng(1)
    p = np.maximum(reference_states(margins), 1e-6)
    taken, refused = design.paths
    logit = np.log(p @ taken) - np.log(p @ refused)
    sizes = {"branch": len(design.branches), "pool": len(design.pools), "term": len(design.terms)}
    sizes |= {"sharing_pool": len(design.sharing), "contrast": design.matrix.shape[1]}
    values = {
        "cohort_log_odds": (("branch",), lambda shape: logit + 0.05 * rng.standard_normal(shape)),
        "scale": (("pool", "term"), lambda shape: np.full(shape, scale)),
        "alike": (("sharing_pool", "term"), lambda shape: np.full(shape, 0.5)),
        "own": (("branch", "contrast"), lambda shape: 0.1 * rng.standard_normal(shape)),
        "shared": (("sharing_pool", "contrast"), lambda shape: 0.1 * rng.standard_normal(shape)),
    }
    made = {n: (("chain", "draw", *dims), make((1, size, *(sizes[d] for d in dims)))) for n, (dims, make) in values.items()}
    return xr.Dataset(made)


@pytest.fixture(scope="module")
def made():
    tables = read_tables(made_texts())
    design = make_design(tables)
    return tables, design, draws_at(design, all_margins(design, tables.frequencies))


@pytest.fixture(scope="module")
def risks(made):
    tables, design, draws = made
    return measured_risks(tables, make_forward(design), draws, 1)


def answer(risks, event, grade, **known):
    """Flag and shares of a patient of whom levels are known."""
    sets = np.array([[1 << c.names.index(known[c.name]) if c.name in known else c.everything for c in risks.covariates]])
    place = 0, risks.events.index(event), risks.grades.index(grade)
    return SUPPORT[risks.support(sets)[place]], *risks.told(sets)[(slice(None), *place)].tolist()


@pytest.mark.parametrize(
    ("event", "grade", "known", "expected"),
    [
        ("common", "3-5", {"arm": "high"}, "data"),
        ("common", "4-5", {"age": "old"}, "data"),
        ("common", "3-5", {"site": "east"}, "prior"),  # nothing was counted by it
        ("never_severe", "3-5", {"arm": "high"}, "data"),
        ("never_severe", "4-5", {"arm": "high"}, "pooled"),  # its zeros teach the effect nothing
        ("never_severe", "3-5", {"age": "old"}, "pooled"),
        ("few", "3-5", {"age": "old"}, "pooled"),  # its six patients tell less than others add, but something
        ("oldest_only", "3-5", {"age": "old"}, "data"),
        ("oldest_only", "3-5", {"age": "young"}, "pooled"),  # not counted at this level
        ("total_only", "3-5", {"age": "old"}, "pooled"),
        ("total_only", "4-5", {"age": "old"}, "prior"),  # never published at this grade
        ("total_only", "3-5", {}, "data"),  # the cohort's own rate
        ("total_only", "4-5", {}, "prior"),
    ],
)
def test_flags_of_made_tables(risks, event, grade, known, expected):
    assert answer(risks, event, grade, **known)[0] == expected, answer(risks, event, grade, **known)


def test_few_patients_of_its_own_are_told_of(risks):
    _, own, pooled = answer(risks, "few", "3-5", age="old")
    assert 0.25 < own < pooled


def test_shares_of_answers_are_those_of_covariates_by_how_far_they_move_it(risks):
    sets = np.array([[0b10, 0b100, 0b11]])
    moved = risks._moved(sets)[0, :2]
    alone = [risks.told_of(k, np.eye(2 + k)[1 + k][None])[:, 0] for k in (0, 1)]
    expected = (alone * (moved / moved.sum(axis=0))[:, None]).sum(axis=0)
    np.testing.assert_allclose(risks.told(sets)[:, 0], expected, rtol=1e-12)


def test_flags_and_shares_of_some_events_are_those_of_all_and_new_levels_prior(risks):
    sets = np.array([[0b10, 0b110, 0b11], [0b11, 0b111, 0b11], [0b10, 0b100, risks.covariates[2].new]])
    assert (risks.support(sets[2:]) == SUPPORT.index("prior")).all()
    some, place = risks.of(["few", "common"], ["4-5"]), [risks.events.index("few"), risks.events.index("common")]
    np.testing.assert_array_equal(some.support(sets), risks.support(sets)[:, place, 1:])
    np.testing.assert_allclose(some.told(sets[:2]), risks.told(sets[:2])[:, :, place, 1:])


@pytest.mark.parametrize(
    ("own", "pooled", "flag"), [(0.3, 0.2, "data"), (0.25, 0.25, "data"), (0.2, 0.3, "pooled"), (0.3, 0.19, "prior")]
)
def test_rule_of_flags(own, pooled, flag):
    assert SUPPORT[support_by_shares(np.array([own, pooled]))] == flag


# The measure by finite differences of the model and an inverse of the whole precision.


@pytest.mark.parametrize("power", [1, 0.25])
@pytest.mark.parametrize("chosen", [0, 1, 2], ids=["no rows", "its own", "all"])
def test_variances_are_those_of_the_whole_precision(made, chosen, power):
    tables, design, draws = made
    draws = draws.isel(draw=[0])
    draws = draws.assign(own=0 * draws["own"], shared=0 * draws["shared"])
    found = level_variances(tables, design, draws, power=power)[chosen].astype(float)
    names = ("cohort_log_odds", "own", "shared")
    sizes = [draws[name].size for name in names]
    rows = tables.frequencies[~tables.frequencies["derived"]]
    inside = np.array([design.cells.having(r.covariate, r.level) for r in rows.itertuples()]) * design.cells.n
    states = np.array([design.states_having(r.event, r.grade) for r in rows.itertuples()], dtype=float)

    def state_risks(step):
        parts = np.split(step, np.cumsum(sizes)[:-1])
        moved = {n: draws[n] + part.reshape(draws[n].shape) for n, part in zip(names, parts, strict=True)}
        p = next(make_forward(design, deviation=0.0).states(draws.assign(moved), 0))
        return p[:, : len(design.cells.n)]

    def level_odds(step):
        p, odds = state_risks(step), []
        for event, grade in product(risks_events(tables), design.grades):
            risk = p[design.states_having(event, grade)].sum(axis=0)
            # Covariates of this cohort are independent: at a level, patients are as those who are at it.
            by_level = [risk @ w for w in level_weights(design)]
            odds.append(np.log(np.array(by_level) / (1 - np.array(by_level))))
        return np.array(odds)[:, 1:] - np.array(odds)[:, :1]

    def slopes(function):
        steps = 1e-2 * np.eye(sum(sizes))
        return np.stack([(function(step) - function(-step)) / 2e-2 for step in steps], axis=-1)

    jacobian, effects = slopes(lambda step: ((states @ state_risks(step)) * inside).sum(axis=1)), slopes(level_odds)
    effects[..., : sizes[0]] = 0
    p = state_risks(np.zeros(sum(sizes)))
    noise = 1e-4 * np.eye(len(rows))
    family = [design.family_of(event) for event in rows["event"]]
    for i, j in product(range(len(rows)), repeat=2):
        if family[i] == family[j]:
            both = (states[i] * states[j]) @ p - (states[i] @ p) * (states[j] @ p)
            noise[i, j] += (both * design.cells.n * (inside[i] > 0) * (inside[j] > 0)).sum()
    expected = np.empty_like(found)
    site = np.tile([term.covariate == "site" for term in design.terms], (3, 1))
    scale = np.where(site | (chosen == 2), 0.4, 1.0)
    for e, event in enumerate(risks_events(tables)):
        used = [np.zeros(len(rows), dtype=bool), (rows["event"] == event).to_numpy(), np.ones(len(rows), dtype=bool)][chosen]
        kept = np.ix_(used, used)
        information = power * jacobian[used].T @ np.linalg.inv(noise[kept]) @ jacobian[used]
        inverse = np.linalg.inv(np.diag(1 / prior_variance(design, scale)) + information)
        for g in range(len(design.grades)):
            gradient = effects[e * len(design.grades) + g]
            before = gradient**2 @ prior_variance(design, np.where(site, 0.4, 1.0))
            expected[:, :, e, g] = gradient @ inverse @ gradient.T / before.sum()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def risks_events(tables):
    return [event.name for event in tables.events]


def level_weights(design):
    inside = [np.ones(len(design.share), dtype=bool)]
    inside += [design.cells.levels[:, k] == i for k, c in enumerate(design.cells.covariates) for i in range(len(c.levels))]
    return [design.share * here / design.share[here].sum() for here in inside]


def prior_variance(design, scale):
    """Every branch is of incidence or severity here: half of the effects' variance is shared."""
    spread = np.array([{"incidence": 2.0, "severity": 1.5}[kind] for kind in np.array(design.kinds)[design.pool_of]])
    by_contrast = scale[:, design.term_of] ** 2 / 2
    return np.concatenate([spread**2 + 1.2**2, by_contrast[design.pool_of].ravel(), by_contrast[:2].ravel()])


# Models that are saved, and tables.


def test_age_of_infections_is_data_in_the_shipped_publication(shipped):
    forward, draws, seed = make_model_forward(shipped)
    found = measured_risks(shipped.tables, forward, draws, seed)
    for grade in ("3-5", "4-5"):
        assert {answer(found, "infections", grade, age_band=band)[0] for band in ("1-9", "10-18", "19-30")} == {"data"}
        assert answer(found, "sepsis", grade, relapse_group="bm_early")[0] == "pooled"
    race = SUPPORT.index("prior")
    assert (found.source[[c.name for c in found.covariates].index("race_ethnicity")] == race).all()


def test_risk_table_says_why(shipped):
    patients = pd.DataFrame({"age_band": ["19-30", None], "sex": ["female", None]})
    patients = patients.assign(relapse_group=None, race_ethnicity=None)
    found = aemodel.risk_table(shipped, patients, why=True).set_index(["patient", "event", "grade"])
    assert list(found.columns) == ["risk", "lower", "upper", "support", "own", "pooled", "moved_by", "published"]
    assert found.loc[(0, "infections_total", "3-5"), "published"] == "44 of 83 age_band 19-30"
    assert found.loc[(0, "infections_total", "3-5"), "moved_by"] in ("age_band", "sex")
    assert found.loc[(1, "infections_total", "3-5"), "moved_by"] == ""
    assert found.loc[(0, "febrile_neutropenia", "4-5"), "published"] == ""
