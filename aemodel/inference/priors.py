"""Every prior of the model, in one place, with its reason and what it implies.

Logits of branches are intercept + shared effect of the branch's pool + its own effect, summed over covariate terms.
Effects of a term sum to zero over its levels, so a scale s puts a standard deviation of s * sqrt(2) on the log odds
ratio between two levels of any covariate, however many levels it has.

- Intercepts are given to each branch separately: rates differ between events by orders of magnitude for reasons no
  pooling should blur. Normal(-1, 1.5) puts 90 % of root events between 3 % and 81 % of patients; Normal(0, 1.5) within a
  parent is nearly flat over 8-92 %; Normal(-1.5, 2) for severity covers 0.8-86 % of those with the event.
- Scales are half-normal, one for each pool and covariate term. A branch's effects are part shared by its pool (older
  patients fare worse in general), part its own; `ALIKE` is the prior of the shared part of their variance. Composition
  shares nothing and is centred at zero: what shifts one event within another says nothing about a third; its scale is
  the one at which marginal log odds ratios come out alike whatever an event's depth of nesting. Between two levels of a
  covariate they have prior standard deviations of 0.5 to 1.1 (`tests/test_priors.py`): odds ratios of 0.2 to 5 are
  expected at the ends.
- `DEVIATION` lets patients' log odds depart from additivity in the covariates, which no margin can test: its scale is
  half-normal(0.15), an odds ratio of 1.16 at one standard deviation. See `aemodel.inference.forward`.
"""

from __future__ import annotations

INTERCEPT = {"incidence": (-1.0, 1.5), "severity": (-1.5, 2.0), "composition": (0.0, 1.5)}
"""Mean and standard deviation of a branch's intercept (log odds), by pool."""

SCALE = {"incidence": 0.5, "severity": 0.5, "composition": 0.6}
"""Half-normal scale of the effects (log odds), by pool; one scale for each pool and term."""

ALIKE = (2.0, 2.0)
"""Beta prior of the share of the effects' variance that a pool's branches have in common: their correlation."""

SHARING = ("incidence", "severity")
"""Pools whose branches have effects in common."""

DEVIATION = 0.15
"""Half-normal scale of cells' deviations from additivity (log odds)."""


def describe() -> dict[str, object]:
    """The priors as plain values, for the manifest of a saved model."""
    return {
        "intercept": {pool: {"normal": list(values)} for pool, values in INTERCEPT.items()},
        "scale": {pool: {"half_normal": value} for pool, value in SCALE.items()},
        "alike": {pool: {"beta": list(ALIKE)} for pool in SHARING},
        "deviation": {"half_normal": DEVIATION},
    }
