"""What the data say of each effect and each profile's risk, against what the prior already said; and what that was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aemodel.answers.contrasts import level_effects
from aemodel.answers.risk import long_table
from aemodel.inference.forward import KEPT_DRAWS, logit, make_model_forward, risk_draws
from aemodel.publication.arrays import Floats, Ints
from aemodel.publication.errors import InputError
from aemodel.publication.texts import shown
from aemodel.scoring.risks import SUPPORT, RiskDraws, support_by_shares, tails

COHORT = "cohort risk"
RANGE = "highest less lowest profile risk"


def identification_table(model: Any, of: Literal["effects", "risks"] = "effects") -> pd.DataFrame:
    """How much the published tables narrow each covariate effect, or each profile's risk.

    The effect of a level is the log odds of the risk standardised to that level (everything else as in the cohort) less
    the log odds of the cohort's risk. Contraction is 1 - (posterior sd / prior sd)^2: 1 is learned, 0 is all prior.
    Priors are taken at the fitted intercepts, so that only what was learned of effects counts as contraction.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    of
        ``"effects"`` of every level of every covariate, or the ``"risks"`` (log odds) of every combination of levels.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade; covariate and level, or one column per covariate; prior_sd, posterior_mean, posterior_sd
        (log odds), contraction; own and pooled, the shares of what sets the level or profile apart that the event's own
        published rows tell by themselves, and that all others add (NaN in models saved before they were worked out); support,
        the word that follows from these, as `score` gives it: ``data``, ``pooled`` or ``prior``. For effects also assumption:
        what else speaks of them, ``null`` (a test of this very pair that was not significant, or not listed) or
        ``ordering`` (a published ordering of the covariate's levels), or both; otherwise empty.

    Raises
    ------
    ValueError
        ``of`` is neither.
    """
    if of not in ("effects", "risks"):
        raise InputError("of", f"expected 'effects' or 'risks', not {shown(of)}")
    before = prior_risks(model)
    return of_effects(model, before) if of == "effects" else of_profiles(model.risks, before)


def of_effects(model: Any, before: RiskDraws) -> pd.DataFrame:
    """The table of effects, given risks from the prior."""
    risks: RiskDraws = model.risks
    after, prior = (np.concatenate(level_effects(each), axis=1) for each in (risks, before))
    levels = [(k, i) for k, covariate in enumerate(risks.covariates) for i in range(len(covariate.levels))]
    labels = {
        "covariate": [risks.covariates[k].name for k, _ in levels],
        "level": [risks.covariates[k].names[i] for k, i in levels],
    }
    sets = np.concatenate([risks.knowing([k], [[i]]) for k, i in levels])
    assumption = {"assumption": np.stack([effect_assumptions(model, k) for k, _ in levels])}
    return _measured(risks, labels, after, prior, sets, assumption)


def of_profiles(risks: RiskDraws, before: RiskDraws) -> pd.DataFrame:
    """The table of profiles' risks, given those from the prior."""
    levels = risks.levels[risks.usual]
    labels = {c.name: np.array(c.names)[levels[:, k]] for k, c in enumerate(risks.covariates)}
    after, prior = (logit(each.draws[:, risks.usual]) for each in (risks, before))
    return _measured(risks, labels, after, prior, 1 << levels, {})


def _measured(
    risks: RiskDraws, labels: Mapping[str, Any], after: Floats, prior: Floats, sets: Ints, more: Mapping[str, Any]
) -> pd.DataFrame:
    """A row for each event, grade and one of ``sets``, of draws (sample, set, event, grade), under ``labels`` (set,)."""
    prior_sd, posterior_sd = prior.std(axis=0), after.std(axis=0)
    own, pooled = np.full((2, *prior_sd.shape), np.nan) if risks.variances is None else risks.told(sets)
    columns = {
        **{name: np.broadcast_to(np.asarray(of)[:, None, None], prior_sd.shape) for name, of in labels.items()},
        "prior_sd": prior_sd,
        "posterior_mean": after.mean(axis=0),
        "posterior_sd": posterior_sd,
        "contraction": 1 - (posterior_sd / prior_sd) ** 2,
        "own": own,
        "pooled": pooled,
        "support": np.array(SUPPORT)[risks.support(sets)],
        **more,
    }
    dims = {**risks.dims, "": range(len(sets))}
    return long_table(dims, {name: np.moveaxis(of, 0, -1) for name, of in columns.items()}).drop(columns="")


def of_covariates(effects: pd.DataFrame) -> pd.DataFrame:
    """A table of effects by event, grade and covariate: mean contraction over levels, support by the mean shares, assumption.

    Levels differ in what they rest on; the first, or most, of them would not do for all. Models without shares have one flag.
    """
    groups = effects.groupby(["event", "grade", "covariate"], sort=False)
    mean = groups[["contraction", "own", "pooled"]].mean().assign(support=groups["support"].first())
    # Where no level rests on a row, the grade may be unpublished, whatever shares say.
    told = mean["own"].notna() & ~groups["support"].agg(lambda flags: (flags == "prior").all())
    flags = np.array(SUPPORT)[support_by_shares(mean[["own", "pooled"]].to_numpy().T)]
    support, assumption = mean["support"].where(~told, flags), groups["assumption"].first()
    return mean.assign(support=support, assumption=assumption)[["contraction", "support", "assumption"]]


def effect_assumptions(model: Any, k: int) -> NDArray[np.str_]:
    """What speaks of a covariate's effects that is no count, (event, grade): ``null``, ``ordering``, both, or nothing."""
    risks, tables = model.risks, model.tables
    name = risks.covariates[k].name
    nulls = {(null.event, null.grade) for null in tables.nulls if null.covariate == name and model.settings.get("selection")}
    ordered = model.settings.get("ordering") and name in {item.covariate for item in tables.orderings}
    null = np.array([[(event, grade) in nulls for grade in risks.grades] for event in risks.events])
    return np.where(null, "null and ordering", "ordering") if ordered else np.where(null, "null", "")


def prior_risks(model: Any) -> RiskDraws:
    """Risks from the prior of the effects at the fitted intercepts: how far an effect moves a risk depends on where it is."""
    (forward, draws, seed), prior = make_model_forward(model), model.prior
    size = draws.sizes["chain"] * draws.sizes["draw"]
    intercepts = draws["cohort_log_odds"].values.reshape(size, -1)[np.arange(prior.sizes["draw"]) % size]
    mixed = prior.assign(cohort_log_odds=(prior["cohort_log_odds"].dims, intercepts[None]))
    return risk_draws(model.tables, forward, mixed.isel(draw=slice(0, KEPT_DRAWS)), seed)


def prior_predictive_table(model: Any, *, interval: float = 0.9) -> pd.DataFrame:
    """What the priors imply for risks and odds ratios, beside what the posterior says of the same.

    Parameters
    ----------
    model
        From `fit` or `load_model`.
    interval
        Probability of the equal-tailed intervals.

    Returns
    -------
    pandas.DataFrame
        Columns event, grade, quantity, prior_median, prior_lower, prior_upper, posterior_median, posterior_lower,
        posterior_upper, published (the published rate of the cohort, or NaN). Quantities are ``cohort risk``, ``highest
        less lowest profile risk`` and, for each covariate, ``odds ratio {covariate}`` of its last level against its first.

    Raises
    ------
    ValueError
        ``interval`` is not a probability.
    """
    probabilities = (0.5, *tails(interval))
    forward, _, seed = make_model_forward(model)
    prior, columns = model.prior.isel(draw=slice(0, KEPT_DRAWS)), dict[str, Floats]()
    for when, risks in (("prior", risk_draws(model.tables, forward, prior, seed)), ("posterior", model.risks)):
        names, draws = _quantities(risks)
        ends = (f"{when}_{what}" for what in ("median", "lower", "upper"))
        columns |= dict(zip(ends, np.quantile(draws, probabilities, axis=0), strict=True))
    published = np.full((*model.risks.published.shape, len(names)), np.nan)
    for row in model.tables.rows:
        if row.covariate == "total" and row.exact and row.n and row.grade in model.risks.grades:
            place = model.risks.events.index(row.event), model.risks.grades.index(row.grade)
            published[*place, names.index(COHORT)] = row.observed_low / row.n
    return long_table({**model.risks.dims, "quantity": names}, columns | {"published": published})


def _quantities(risks: RiskDraws) -> tuple[list[str], Floats]:
    """Names of quantities, and their draws (sample, event, grade, quantity)."""
    found = {COHORT: risks.standardised(risks.everything, ()), RANGE: np.ptp(risks.draws[:, risks.usual], axis=1)}
    for covariate, effects in zip(risks.covariates, level_effects(risks), strict=True):
        found[f"odds ratio {covariate.name}"] = np.exp(effects[:, -1] - effects[:, 0])
    return list(found), np.stack(list(found.values()), axis=-1)
