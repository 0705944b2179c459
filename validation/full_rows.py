"""What only the patients could tell: bambi's logistic regressions on the rows of simulated patients, nobody's in fact.

The same simulated patients as in `validation.ranks.one_round` for the same seed, of whom that round sees margins.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from validation.laboratory import Laboratory
from validation.ranks import covered, simulated_round, true_risks

EVENTS = 3
"""Events that are regressed, each the first of its family."""


def one_regression(laboratory: Laboratory, seed: int, *, draws: int = 500, tune: int = 500) -> dict[str, Any]:
    """Logistic regressions of some events at grade 3-5 on the covariates, bambi's defaults, on all simulated patients.

    Returns
    -------
    dict
        ``covered``, ``width`` and ``overall``, as `validation.ranks.one_round` has them, and ``seconds``.

    Raises
    ------
    ImportError
        bambi is not installed; the extra ``bench`` has it.
    """
    import bambi

    started = time.monotonic()
    _, made = simulated_round(laboratory, seed)
    cells, design = laboratory.design.cells, laboratory.design
    profiles = pd.DataFrame({c.name: np.array(c.names)[cells.levels[:, k]] for k, c in enumerate(cells.covariates)})
    events = [family.events[0].name for family in design.families][:EVENTS]
    predicted = []
    for event in events:
        having = design.states_having(event, "3-5")
        rows = profiles.assign(y=made.counts[having].sum(axis=0), n=made.table)
        model = bambi.Model(f"p(y, n) ~ {' + '.join(c.name for c in cells.covariates)}", rows[rows["n"] > 0], family="binomial")
        options = {"random_seed": seed, "progressbar": False, "chains": 2, "cores": 1}
        fitted = model.fit(draws=draws, tune=tune, **options)
        model.predict(fitted, data=rows.assign(n=1), kind="response_params")
        predicted.append(fitted.posterior["p"].stack(sample=("chain", "draw")).transpose("sample", ...).values)
    names = [event.name for event in laboratory.tables.events]
    truth = true_risks(laboratory, made)[:, [names.index(event) for event in events], :1]
    after = np.stack(predicted, axis=2)[..., None]
    found = covered(truth, after, cells.n, [f"{event} 3-5" for event in events])
    return {"seed": seed, **found, "seconds": time.monotonic() - started}
