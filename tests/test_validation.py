"""The laboratory: it simulates what a paper would print, fits the likelihood it says, and ranks fairly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy.stats import ks_2samp

from aemodel.inference.design import all_margins, make_design
from aemodel.inference.forward import make_forward
from aemodel.inference.integer_tables import sample_tables
from aemodel.inference.model import build_model, coordinates, prior_logits
from aemodel.validation.laboratory import laboratory_model, make_laboratory
from aemodel.validation.ranks import RANKED, one_round
from aemodel.validation.runs import read_rounds, run_rounds
from aemodel.validation.simulation import draw_prior, family_edges, shift_of_interaction, simulate
from aemodel.validation.summary import coverage_table, rank_table


@pytest.fixture(scope="module")
def design(invented):
    return make_design(invented)


@pytest.fixture(scope="module")
def simulated(invented, design):
    truth = draw_prior(design, np.random.default_rng(3))
    table = sample_tables(invented, 1, seed=3)[0]
    return simulate(invented, make_forward(design), truth, table, 3)


def test_published_rows_are_what_counting_patients_gives(invented, design, simulated):
    """Every patient a row of its own in each family: its cell, and its grade of every event."""
    for (first, last), family in zip(pairwise(family_edges(design)), design.families, strict=True):
        state, cell = np.nonzero(simulated.counts[first:last])
        each = np.repeat(np.arange(len(state)), simulated.counts[first:last][state, cell])
        grades = pd.DataFrame(family.grades[state[each]], columns=[event.name for event in family.events])
        cells = cell[each]
        assert (np.bincount(cells, minlength=len(simulated.table)) == simulated.table).all()
        rows = simulated.tables.frequencies
        for row in rows[rows["event"].isin(grades.columns)].itertuples():
            within = design.cells.having(row.covariate, row.level)[cells]
            assert (grades.loc[within, row.event] >= int(row.grade[0])).sum() == row.observed
            assert within.sum() == row.n
    assert simulated.tables.frequencies.drop(columns="observed").equals(invented.frequencies.drop(columns="observed"))


def test_simulated_parameters_have_the_models_priors(invented, design):
    rng = np.random.default_rng(1)
    ours = [draw_prior(design, rng) for _ in range(600)]
    with pm.Model(coords=coordinates(design)):
        prior_logits(design)
        theirs = pm.sample_prior_predictive(600, random_seed=1)["prior"]
    for name in ours[0]:
        mine = np.stack([each[name].values[0, 0] for each in ours])
        other = theirs[name].values[0]
        assert mine.shape == other.shape
        for place in np.ndindex(mine.shape[1:]):
            assert ks_2samp(mine[:, *place], other[:, *place]).pvalue > 1e-4, (name, place)


def test_each_likelihood_is_what_it_is_called(invented, design):
    """At random points: the package's model; a binomial for each row; the package's model and one covariate's binomials."""
    package = build_model(design, all_margins(design, invented.frequencies))
    model = laboratory_model(invented, design)
    package_logp, log_density = package.compile_logp(), model.compile_logp()
    parameters = model.compile_fn(model.unobserved_value_vars, inputs=model.value_vars, on_unused_input="ignore")
    names = [variable.name for variable in model.unobserved_value_vars]
    laboratory, forward = make_laboratory(invented), make_forward(design, deviation=0.0)
    rng = np.random.default_rng(5)

    def at(point, data):
        for name, value in data.items():
            model[name].set_value(np.asarray(value, dtype=model[name].dtype))
        return float(log_density(point))

    for _ in range(5):
        point = {name: rng.normal(0, 0.5, size=np.shape(value)) for name, value in package.initial_point().items()}
        drawn = dict(zip(names, parameters(point), strict=True))
        posterior = draw_prior(design, rng).map(lambda v, drawn=drawn: v.copy(data=np.asarray(drawn[v.name])[None, None]))
        p = next(iter(forward.states(posterior, 1)))[:, : len(design.cells.n)]
        rows = _binomials(invented, design, p)
        joint = at(point, laboratory.data(invented))
        prior = at(point, laboratory.data(invented) | {"joint_power": 0.0})
        assert joint == pytest.approx(float(package_logp(point)), rel=1e-9)
        assert at(point, laboratory.data(invented, "product")) - prior == pytest.approx(rows.sum(), rel=1e-6)
        event = next(event for event in rows.index.unique("event") if len(rows[event].index.unique()) > 1)
        twice = rows[event, rows[event].index[0]]
        assert at(point, laboratory.data(invented, "twice")) - joint == pytest.approx(twice.sum(), rel=1e-6)


def _binomials(tables, design, p):
    """Log probability of each row's count, but for the binomial coefficient, by event and covariate."""
    rows = tables.frequencies[~tables.frequencies["derived"]]
    found = []
    for row in rows.itertuples():
        n = design.cells.n * design.cells.having(row.covariate, row.level)
        rate = design.states_having(row.event, row.grade).astype(float) @ p @ n / n.sum()
        found.append(row.observed * np.log(rate) + (row.n - row.observed) * np.log1p(-rate))
    return pd.Series(found, index=pd.MultiIndex.from_frame(rows[["event", "covariate"]]))


def test_an_interaction_moves_odds_and_keeps_states_whole(invented, design):
    rng = np.random.default_rng(8)
    truth, table = draw_prior(design, rng), sample_tables(invented, 1, seed=8)[0]
    forward = make_forward(design)
    plain = simulate(invented, forward, truth, table, 8)
    moved = simulate(invented, forward, truth, table, 8, shift_of_interaction(design, rng, 1.0))
    edges = family_edges(design)
    for first, last in pairwise(edges):
        np.testing.assert_allclose(moved.p[first:last].sum(axis=0), 1, rtol=1e-9)
        assert np.abs(moved.p[first:last] - plain.p[first:last]).max() > 0.01


@pytest.mark.slow
def test_rounds_are_reproducible_and_go_on_after_being_killed(invented_folder, invented, tmp_path):
    """Killed in the middle of its rounds and started again, a run ends with what an undisturbed run gives."""
    command = [sys.executable, "-c", RUN.format(publication=str(invented_folder), folder=str(tmp_path / "joint"))]
    running = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 240
    while len(list((tmp_path / "joint").glob("round-*.json"))) < 2:
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "joint").glob("round-*.json")}
    found = run_rounds(str(invented_folder), tmp_path / "joint", range(1, 7), processes=1, draws=60, tune=100)
    assert [one["seed"] for one in found] == list(range(1, 7))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = one_round(make_laboratory(invented), 2, draws=60, tune=100)
    assert again["ranks"] == json.loads((tmp_path / "joint" / "round-000002.json").read_text())["ranks"]
    assert len(read_rounds(tmp_path / "joint", range(1, 100))) == 6
    assert set(coverage_table(found)["rounds"]) == {6}
    with pytest.raises(ValueError, match="other options"):
        run_rounds(str(invented_folder), tmp_path / "joint", range(1, 7), processes=1, draws=61, tune=100)


RUN = """
from pathlib import Path
from aemodel.validation.runs import run_rounds
if __name__ == "__main__":
    run_rounds({publication!r}, Path({folder!r}), range(1, 7), processes=1, draws=60, tune=100)
"""


def test_bands_hold_uniform_ranks_and_catch_others():
    """Of uniform ranks about one quantity in twenty leaves its 95 % band; ranks of an overconfident fit leave it."""
    rng = np.random.default_rng(4)
    uniform = [{"ranks": {f"q{k}": int(rng.integers(RANKED + 1)) for k in range(400)}} for _ in range(200)]
    table = rank_table(uniform)
    assert 0.91 < table["inside"].mean() < 0.99
    # Truth standard normal, draws of spread 0.6 about it displaced by what such a fit would be wrong by.
    narrow = []
    for _ in range(200):
        draws = rng.normal(0, 0.8, size=1)[:, None] + rng.normal(0, 0.6, size=(1, RANKED))
        narrow.append({"ranks": {"narrow": int((draws < rng.normal(0, 1) * 1.2).sum())}})
    assert not rank_table(narrow)["inside"].any()
