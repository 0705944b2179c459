"""Every prior of the model, in one place, with its reason and what it implies.

A branch's logit in a cell is its intercept, plus what effects shared by all events do to it, plus effects of its own.

- Intercepts of a pool's branches are exchangeable: normal about a mean of their own, with a spread that is learned. Rates
  of a table's events are of one order, which a table of rare events says itself. The spread is log-normal, away from zero:
  events are never all equally frequent, and a spread near zero would only trouble the sampler. Of an event alone, 90 % of
  risks are expected between 0.2 % and 90 % a priori.
- Two effects of each covariate are shared by all events: one moves every event's marginal log odds at both grades (older
  patients fare worse in general), one the log odds of the higher grade given the lower. `ALIKE` is the prior of the shared
  part of the variance of all such effects. What moves events within an event (composition) beyond that is shared by none.
- Effects of a term sum to zero over its levels, so a scale s puts a standard deviation of s sqrt(2) on the log odds ratio
  between two levels of any covariate, however many levels it has. Ordered covariates have a trend over their levels, with
  that standard deviation between the first and the last, and a departure from it, a scale each.
- Scales are half-normal, one for each pool and term, and wide: a scale of 1 allows odds ratios of 4 at one standard
  deviation. They are learned from all events; narrow ones would shrink what a table has few of, large differences.
- Where a table is by two covariates together, their levels together have effects too (`INTERACTION`), of half the scale:
  effects that are not additive are mostly smaller than those of either.
- `DEVIATION` lets patients' log odds depart from additivity in the covariates, which no one-way margin can test: its scale is
  half-normal(0.15), an odds ratio of 1.16 at one standard deviation. See `aemodel.inference.forward`.
"""

from __future__ import annotations

INTERCEPT = {"incidence": (-2.0, 2.0), "severity": (-1.5, 1.5), "composition": (0.0, 1.0)}
"""Mean and standard deviation of the mean of a pool's intercepts (log odds)."""

SPREAD = (1.2, 0.4)
"""Median, and standard deviation of the logarithm, of the log-normal spread of a pool's intercepts about their mean."""

SCALE = {"incidence": 1.0, "severity": 1.0, "composition": 1.0}
"""Half-normal scale of the effects (log odds), by pool; one scale for each pool and term."""

INTERACTION = 0.5
"""What `SCALE` is multiplied by for effects of levels of two covariates together, beyond those of each."""

ALIKE = (2.0, 2.0)
"""Beta prior of the share of the effects' variance that is common to all events."""

SHARING = ("incidence", "severity")
"""Pools that have a part in common: the former's moves marginal log odds, the latter's those of the higher grade."""

DEVIATION = 0.15
"""Half-normal scale of cells' deviations from additivity (log odds)."""


def describe(together: bool = False) -> dict[str, object]:
    """The priors as plain values, for the manifest of a saved model; ``together`` if it has effects of two covariates."""
    found: dict[str, object] = {
        "intercept_mean": {pool: {"normal": list(values)} for pool, values in INTERCEPT.items()},
        "intercept_spread": {"log_normal": list(SPREAD)},
        "scale": {pool: {"half_normal": value} for pool, value in SCALE.items()},
        "alike": {pool: {"beta": list(ALIKE)} for pool in SHARING},
        "deviation": {"half_normal": DEVIATION},
    }
    return found | ({"interaction": INTERACTION} if together else {})
