"""Errors of input carry what they say: argument, rows and remedy, through pickling too; a wrong type stays a TypeError."""

from __future__ import annotations

import pickle

import pandas as pd
import pytest

import aemodel

PATIENTS = {"age": [5.0, 12.0], "relapse_group": ["bm_late"] * 2, "sex": ["male"] * 2, "race_ethnicity": ["hispanic"] * 2}


def scored(**changes):
    return lambda: aemodel.score(aemodel.load_model("aall1331"), pd.DataFrame(PATIENTS | changes))


def graded(*grades):
    tables = aemodel.load_tables("aall1331")
    return lambda: aemodel.fit(tables, seed=1, patients=pd.DataFrame(PATIENTS | {"sepsis": list(grades)}), overlap="disjoint")


def scores(**options):
    return lambda: aemodel.score(aemodel.load_model("aall1331"), pd.DataFrame(PATIENTS), **options)


CASES = [
    (scored(age=[5.0, 99.0]), aemodel.PatientsError, "patients", (1,)),
    (scored(sex=["male", "woman"]), aemodel.PatientsError, "patients", (1,)),
    (graded(4, 9), aemodel.PatientsError, "patients", (1,)),
    (scores(events=["x"]), aemodel.InputError, "events", ()),
    (scores(interval=2), aemodel.InputError, "interval", ()),
    (lambda: aemodel.fit(aemodel.load_tables("aall1331"), seed=-1), aemodel.InputError, "seed", ()),
]


@pytest.mark.parametrize(("call", "kind", "argument", "rows"), CASES, ids=range(len(CASES)))
def test_errors_carry_their_argument_and_rows(call, kind, argument, rows):
    with pytest.raises(kind, match=f"^{argument}: ") as found:
        call()
    assert (found.value.argument, found.value.rows) == (argument, rows)
    assert isinstance(found.value, ValueError)
    again = pickle.loads(pickle.dumps(found.value))
    assert (str(again), again.argument, again.rows) == (str(found.value), argument, rows)


def test_a_wrong_type_stays_a_type_error():
    with pytest.raises(TypeError, match="seed: expected a whole number, not 'x'"):
        aemodel.fit(aemodel.load_tables("aall1331"), seed="x")
