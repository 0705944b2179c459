"""Fitting, side by side in one run: the joint likelihood, the product of binomials, and bambi on one row per patient.

    python benchmarks/fit.py [--draws 1000]

Each runs in a process of its own, so that peak memory is its own. The product of binomials has the same priors and
counts every patient once per margin; bambi gets what nobody has, the patients themselves (simulated from the shipped
model), for one event at one grade.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

KINDS = ("joint", "product", "bambi")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--kind", choices=KINDS, help="run one only, and print its figures as JSON")
    arguments = parser.parse_args()
    if arguments.kind:
        figures = {"joint": joint, "product": product, "bambi": bambi}[arguments.kind](arguments.draws)
        # bambi samples in processes of its own: the largest of those counts, beside the one that started them.
        used = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        peak = max(used) if arguments.kind != "bambi" else sum(used)
        print(json.dumps(figures | {"peak_mib": peak}))
        return
    results = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--kind", kind, "--draws", str(arguments.draws)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        results[kind] = json.loads(done.stdout.splitlines()[-1])
    show(results)


def show(results: dict[str, dict[str, float]]) -> None:
    rows = [
        ("compile, s", "compile", "{:.0f}"),
        ("sampling, s", "sampling", "{:.0f}"),
        ("smallest bulk ESS", "ess", "{:.0f}"),
        ("smallest bulk ESS a second", "ess_per_second", "{:.1f}"),
        ("divergences", "divergences", "{:.0f}"),
        ("peak memory, MiB", "peak_mib", "{:.0f}"),
        ("kernel, value and gradient, ms", "kernel_ms", "{:.2f}"),
        ("posterior sd of the cohort's first nested risk", "overall_sd", "{:.4f}"),
    ]
    print(f"{'':48s}" + "".join(f"{kind:>10s}" for kind in KINDS))
    for label, key, form in rows:
        print(f"{label:48s}" + "".join(f"{form.format(r[key]) if key in r else '-':>10s}" for r in results.values()))
    ratio = results["joint"]["ess_per_second"] / results["product"]["ess_per_second"]
    print(f"\nESS a second, joint over product: {ratio:.2f}")


def sample(model, draws: int):
    """Compile and sample as `aemodel.fit` does; the draws and both times."""
    import nutpie
    from threadpoolctl import threadpool_limits

    started = time.perf_counter()
    compiled = model.sampler() if hasattr(model, "sampler") else nutpie.compile_pymc_model(model)
    compile_time = time.perf_counter() - started
    started = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        idata = nutpie.sample(compiled, draws=draws, tune=600, chains=4, seed=1, progress_bar=False)
    return idata, compile_time, time.perf_counter() - started


def figures(idata, names: list[str], compile_time: float, sampling: float) -> dict[str, float]:
    import arviz as az

    ess = min(float(values.min()) for values in az.ess(idata["posterior"][names]).values())
    return {
        "compile": compile_time,
        "sampling": sampling,
        "ess": ess,
        "ess_per_second": ess / sampling,
        "divergences": int(idata["sample_stats"]["diverging"].sum()),
    }


def overall_sd(tables, design, posterior) -> float:
    """Posterior sd of the cohort's risk of the first event that has margins by two covariates."""
    import numpy as np

    from aemodel.inference.forward import make_forward, risk_draws, thinned

    counted = tables.frequencies[~tables.frequencies["derived"]].groupby("event", sort=False)["covariate"].nunique()
    event = counted[counted >= 2].index[0]
    risks = risk_draws(tables, make_forward(design), thinned(posterior), 1)
    everybody = np.array([[covariate.everything for covariate in risks.covariates]])
    return float(risks.risks(everybody)[:, 0, risks.events.index(event), 0].std())


def prepared():
    from aemodel.inference.design import all_margins, make_design
    from aemodel.publication.tables import load_tables

    tables = load_tables("aall1331")
    design = make_design(tables)
    return tables, design, all_margins(design, tables.frequencies)


def joint(draws: int) -> dict[str, float]:
    from aemodel.inference.posterior import DIMS, make_density

    tables, design, margins = prepared()
    idata, compile_time, sampling = sample(make_density(design, margins), draws)
    found = figures(idata, list(DIMS), compile_time, sampling)
    return found | {"kernel_ms": kernel_time(margins), "overall_sd": overall_sd(tables, design, idata["posterior"])}


def kernel_time(margins) -> float:
    """Milliseconds for value and gradient of all families, at random state probabilities."""
    import numpy as np

    from aemodel.inference.intervals import pack
    from aemodel.inference.saddlepoint import joint_loglik

    packed = pack([family.margins for family in margins])
    rng = np.random.default_rng(1)
    points = packed.target + 0.3 * rng.normal(size=(200, packed.target.size))
    joint_loglik(points[0], *packed)
    started = time.perf_counter()
    for point in points:
        joint_loglik(point, *packed)
    return (time.perf_counter() - started) / len(points) * 1e3


def product(draws: int) -> dict[str, float]:
    """One binomial per published row, in plain PyMC, with the same priors."""
    import numpy as np
    import pymc as pm
    import pytensor.tensor as pt

    from aemodel.inference.effects import make_centring, state_probabilities
    from aemodel.inference.model import prior_logits
    from aemodel.inference.posterior import coordinates

    tables, design, margins = prepared()
    rows = tables.frequencies[~tables.frequencies["derived"]]
    having = np.array([design.states_having(e, g) for e, g in zip(rows["event"], rows["grade"], strict=True)], dtype=float)
    inside = np.array([design.cells.having(c, v) for c, v in zip(rows["covariate"], rows["level"], strict=True)])
    weights = inside * design.cells.n
    weights /= weights.sum(axis=1, keepdims=True)
    with pm.Model(coords=coordinates(design)) as model:
        p = state_probabilities(*design.paths, prior_logits(design, make_centring(design, margins)), pt)
        rates = (pt.dot(having, p) * weights).sum(axis=1)
        pm.Binomial("count", rows["n"].to_numpy(), rates, observed=rows["observed"].to_numpy())
    idata, compile_time, sampling = sample(model, draws)
    found = figures(idata, [rv.name for rv in model.free_RVs], compile_time, sampling)
    return found | {"overall_sd": overall_sd(tables, design, idata["posterior"])}


def bambi(draws: int) -> dict[str, float]:
    """A hierarchical logistic regression of one event on simulated patients, fitted by bambi's defaults."""
    import bambi as bmb
    import numpy as np
    import pandas as pd

    import aemodel

    model = aemodel.load_model("aall1331")
    tables = model.tables
    rng = np.random.default_rng(1)
    published = (model.risks.levels < np.array([len(c.levels) for c in tables.covariates])).all(axis=1)
    share = np.where(published, model.risks.weight, 0)
    cell = rng.choice(len(share), size=tables.n, p=share / share.sum())
    patients = pd.DataFrame({c.name: np.array(c.names)[model.risks.levels[cell, k]] for k, c in enumerate(tables.covariates)})
    event = model.risks.events[0]
    risk = model.risks.draws[:, cell, 0, 0].mean(axis=0)
    patients[event] = (rng.random(tables.n) < risk).astype(int)
    terms = " + ".join(f"(1|{c.name})" for c in tables.covariates)
    started = time.perf_counter()
    fitted = bmb.Model(f"{event} ~ {terms}", patients, family="bernoulli")
    fitted.build()
    compile_time = time.perf_counter() - started
    started = time.perf_counter()
    idata = fitted.fit(draws=draws, tune=600, chains=4, cores=2, random_seed=1, progressbar=False)
    sampling = time.perf_counter() - started
    return figures(idata, list(idata["posterior"].data_vars), compile_time, sampling)


if __name__ == "__main__":
    main()
