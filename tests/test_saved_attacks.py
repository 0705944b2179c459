"""A thousand attacks on saved models: each is refused, or changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aemodel.saved.manifest import SavedModelError
from aemodel.saved.reader import find_model, load_model
from tests import attacks
from tests.fixtures import FIXTURES

ROOT = Path(__file__).parents[1]
SHIPPED_PATIENTS = {
    "age": [19.0, 5.0, None, 30.9, 10.0],
    "relapse_site": ["bm", "iem", "bm", None, "iem"],
    "months_to_relapse": [20.0, 18.0, None, None, 17.9],
    "sex": ["female", "male", None, "male", "female"],
    "race_ethnicity": ["hispanic", "nh_asian", None, "martian", "other_unknown"],
}
KINDS = [attack.__name__ for attack in attacks.GENERAL]
MANY, FEW, POSTERIOR = 62, 2, 15
"""Attacks of each kind on the small model, on the shipped one, and on the small one's posterior: over 1,000 in all."""
QUICK = 6
"""Attacks of each kind on the small model and its posterior, with every change of the code."""


def small_patients():
    frame = pd.read_csv(FIXTURES / "patients.csv")
    return {name: [None if pd.isna(value) else value for value in frame[name]] for name in frame}


def tried(model, kinds, seeds, patients, *, posterior=False):
    """Outcomes of attacks: half of them in each of two processes."""
    every = [[kind, seed] for kind in kinds for seed in range(seeds)]
    order = {"model": str(model), "patients": patients, "posterior": posterior}
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(run, [order | {"attacks": part} for part in (every[::2], every[1::2]) if part])
        found = [attack for half in halves for attack in half]
    assert len(found) == len(every)
    return sorted(found, key=lambda attack: (kinds.index(attack["kind"]), attack["seed"]))


def run(order):
    """A process that holds only what a scorer does, without threads that a fork would lose."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.attacks"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=900,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def findings(found):
    return [attack for attack in found if attack["outcome"] not in ("refused", "unchanged")]


@pytest.mark.slow
def test_attacks_on_a_small_model():
    assert findings(tried(FIXTURES / "format3", KINDS, MANY, small_patients())) == []


@pytest.mark.slow
def test_attacks_on_the_shipped_model():
    assert findings(tried(find_model("aall1331"), KINDS, FEW, SHIPPED_PATIENTS)) == []


@pytest.mark.slow
def test_attacks_on_the_posterior():
    """Through h5netcdf: damaged HDF5 has been seen to hang it, so that it must never come to see any."""
    found = tried(FIXTURES / "format3", attacks.ON_POSTERIOR, POSTERIOR, small_patients(), posterior=True)
    assert findings(found) == []


def test_there_are_a_thousand_attacks():
    assert len(KINDS) * (MANY + FEW) + len(attacks.ON_POSTERIOR) * POSTERIOR >= 1000


def test_trial_tells_what_changes_and_what_does_not():
    found = tried(FIXTURES / "format3", ["nothing", "another_model"], 1, small_patients())
    assert [attack["outcome"] for attack in found] == ["unchanged", "CHANGED"]


def test_some_attacks_of_each_kind_are_refused_and_others_change_nothing():
    """One that never does harm would test nothing. The posterior is not read here."""
    found = tried(FIXTURES / "format3", [kind for kind in KINDS if kind != "foreign_posterior"], QUICK, small_patients())
    assert findings(found) == []
    refused = Counter(attack["kind"] for attack in found if attack["outcome"] == "refused")
    assert [kind for kind in KINDS if not refused[kind]] == ["foreign_posterior"]


REFUSALS = {
    "external storage": "is stored elsewhere",
    "external link": "is a link",
    "soft link": "is a link",
    "virtual array": "is stored elsewhere",
    "long texts": "its labels have more than 2,000,000 characters",
    "large attribute": "the attribute 'x' is of a kind that no draws have",
    "NaN": "not all finite numbers",
    "bomb": "its arrays take more than .* bytes, of a file of",
    "nothing stored": "its arrays take more than .* bytes, of a file of",
    "huge chunk": "its arrays take more than .* bytes, of a file of",
    "foreign filter": "is packed by another filter than deflate",
    "records": "is of a type that no draws have",
    "opaque": "is of a type that no draws have",
    "whole numbers": "not all finite numbers",
    "group in a group": "is a Group",
    "type": "is a Datatype",
    "array at the top": "is a Dataset",
    "foreign group": "the group 'elsewhere' is not one of posterior, prior",
}


@pytest.mark.parametrize("kind", attacks.FORGED_POSTERIORS)
def test_forged_posterior_is_refused_for_what_it_is(tmp_path, kind):
    folder = shutil.copytree(FIXTURES / "format3", tmp_path / "model")
    attacks.forge_posterior(folder, np.random.default_rng(1), kind)
    model = load_model(folder)
    with pytest.raises(SavedModelError, match=REFUSALS[kind]) as refused:
        _ = model.posterior, model.prior
    assert len(str(refused.value)) < 400
    if kind not in ("NaN", "whole numbers"):
        with pytest.raises(SavedModelError, match=REFUSALS[kind]):
            _ = model.idata


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: os.kill(os.getpid(), 9), "ended with status 9"),
        (lambda: os._exit(0), "ended with status 0"),
        (lambda: "fine", "fine"),
    ],
    ids=["crash", "silence", "answer"],
)
def test_end_of_a_child_is_told(work, message):
    assert attacks.in_child(work) == message


def test_child_that_hangs_is_told_and_ended(monkeypatch):
    monkeypatch.setattr(attacks, "PATIENCE", 0.2)
    assert attacks.in_child(lambda: attacks.time.sleep(60) or "woke") == "hung"
