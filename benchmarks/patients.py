"""Fitting own patients beside the publication, by how many there are; and bambi on as many rows, of one event at one grade.

    python benchmarks/patients.py [--rows 661 1e5 1e7] [--bambi 661 1e4]

Patients are counted by profile first, so that the model's cost should not depend on their number. Each runs in a process of
its own; reading and counting is timed apart from fitting. Chains are short: an R-hat of a few hundredths is theirs, one far
above that says that they do not agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[661, 1e5, 1e7])
    parser.add_argument("--bambi", type=float, nargs="*", default=[661, 1e4])
    parser.add_argument("--one", nargs=2, metavar=("KIND", "ROWS"), help="run one only, and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        kind, rows = arguments.one
        print(json.dumps((ours if kind == "aemodel" else theirs)(int(float(rows)))))
        return
    print(f"{'':10s}{'rows':>12s}{''.join(f'{title:>14s}' for title in COLUMNS)}")
    for kind, sizes in (("aemodel", arguments.rows), ("bambi", arguments.bambi)):
        for rows in sizes:
            command = [sys.executable, "-W", "ignore", __file__, "--one", kind, str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            cells = "".join(f"{found[title]:>14.2f}" if title in found else f"{'-':>14s}" for title in COLUMNS)
            print(f"{kind:10s}{int(rows):>12,d}{cells}", flush=True)


COLUMNS = ("gradient, ms", "counting, s", "sampling, s", "steps a draw", "R-hat")


def simulated(rows: int):
    """Patients by the shipped model's cells and mean risks: covariates' levels, and every event's worst grade."""
    import numpy as np
    import pandas as pd

    import aemodel

    model = aemodel.load_model("aall1331")
    risks, rng = model.risks, np.random.default_rng(1)
    published = (risks.levels < np.array([len(c.levels) for c in risks.covariates])).all(axis=1)
    share = np.where(published, risks.weight, 0)
    cell = rng.choice(len(share), size=rows, p=share / share.sum())
    patients = pd.DataFrame({c.name: np.array(c.names)[risks.levels[cell, k]] for k, c in enumerate(risks.covariates)})
    event = "hyperglycemia"
    risk = risks.draws[:, :, risks.events.index(event)].mean(axis=0)[cell]
    worst = (rng.random(rows)[:, None] < risk).sum(axis=1)
    return model.tables, patients, event, worst


def ours(rows: int) -> dict[str, float]:
    import numpy as np
    import nutpie

    from aemodel.inference.design import all_margins, make_design
    from aemodel.inference.evidence import choose_evidence
    from aemodel.inference.idata import diagnose
    from aemodel.inference.own_patients import make_own_profiles
    from aemodel.inference.posterior import make_density

    tables, patients, event, worst = simulated(rows)
    patients[event] = np.array([0, 3, 4])[worst]
    design = make_design(tables)
    started = time.perf_counter()
    own = make_own_profiles(tables, design, patients, "disjoint")
    counting = time.perf_counter() - started
    evidence = choose_evidence(tables, "both", True)
    density = make_density(design, all_margins(design, tables.frequencies), evidence, own=own)
    sampler, at = density.sampler(), density.start
    started = time.perf_counter()
    for _ in range(500):
        density(at)
    gradient = (time.perf_counter() - started) / 500 * 1e3
    started = time.perf_counter()
    idata = nutpie.sample(sampler, draws=300, tune=300, chains=2, cores=2, seed=1, progress_bar=False)
    sampling = time.perf_counter() - started
    steps = float(idata["sample_stats"]["n_steps"].mean())
    return dict(zip(COLUMNS, (gradient, counting, sampling, steps, diagnose(idata).r_hat), strict=True))


def theirs(rows: int) -> dict[str, float]:
    import bambi as bmb

    tables, patients, event, worst = simulated(rows)
    patients[event] = (worst > 0).astype(int)
    model = bmb.Model(f"{event} ~ {' + '.join(f'(1|{c.name})' for c in tables.covariates)}", patients, family="bernoulli")
    model.build()
    started = time.perf_counter()
    model.fit(draws=300, tune=300, chains=2, cores=2, random_seed=1, progressbar=False)
    return {"sampling, s": time.perf_counter() - started}


if __name__ == "__main__":
    main()
