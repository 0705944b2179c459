"""Risk draws: the posterior as everybody downstream uses it, one array of risks by cell, with what carries each.

Light: NumPy only, so that a saved model scores without the libraries it was fitted with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aemodel.publication.arguments import real_number
from aemodel.publication.arrays import Bools, Floats, Ints
from aemodel.publication.grades import short_name
from aemodel.publication.schema import Covariate
from aemodel.publication.texts import shown

SUPPORT = ("data", "pooled", "prior")
"""What carries an answer: published counts of this event, those of others by pooling, or priors and assumptions only."""

TINY = 1e-12

CHUNK = 256
"""Profiles whose draws are held at once where only summaries are wanted."""


@dataclass(frozen=True)
class RiskDraws:
    """Posterior risks of every event and grade in every cell.

    Cells are all combinations of the covariates' levels, an open covariate having one more: a level not in the
    publication, drawn afresh from that covariate's hierarchy.

    Attributes
    ----------
    draws
        Probabilities (sample, cell, event, grade), float32; samples are chains end to end.
    levels
        Positions of levels, (cell, covariate).
    weight
        Patients the cohort is expected to have in each cell, (cell,). Cells of a new level have those of all levels.
    movement
        How far each covariate moves the log odds, root mean square over draws, (covariate, cell, event, grade).
    source
        Position in `SUPPORT` of what each covariate's effects rest on, (covariate, event, grade).
    published
        Whether the publication gives any frequency of the event at the grade, (event, grade).
    chains
        How many chains the samples come from.
    logits
        Branch logits that the risks were computed from, (sample, branch, cell); None of a model that was read back, which
        keeps them in a file of their own.
    variances
        Covariances of the effects of all covariates' levels, end to end, given no published rows, the event's own, and
        all: (3, any level, any level, event, grade), up to a factor (`aemodel.inference.information`). None in models saved
        before these were worked out, whose flags follow from ``movement`` and ``source``.
    counted
        Whether the event was counted at the grade and level, (any level, event, grade).
    shorts
        What names of columns have for a class of grades, where the publication says it.
    """

    covariates: tuple[Covariate, ...]
    events: tuple[str, ...]
    grades: tuple[str, ...]
    draws: NDArray[np.float32]
    levels: Ints
    weight: Floats
    movement: NDArray[np.float32]
    source: Ints
    published: Bools
    chains: int
    logits: NDArray[np.float32] | None = None
    variances: NDArray[np.float32] | None = None
    counted: Bools | None = None
    shorts: Mapping[str, str] = field(default_factory=dict)

    ARRAYS = ("draws", "levels", "weight", "movement", "source", "published")
    MEASURES = ("variances", "counted")

    def short(self, grade: str) -> str:
        """A class of grades in names of columns."""
        return short_name(grade, self.shorts.get(grade, ""))

    def of(self, events: Sequence[str], grades: Sequence[str]) -> RiskDraws:
        """These events and grades only, in this order."""
        if (tuple(events), tuple(grades)) == (self.events, self.grades):
            return self
        chosen = np.ix_([self.events.index(event) for event in events], [self.grades.index(grade) for grade in grades])
        there = [name for name in self.MEASURES if getattr(self, name) is not None]
        parts = {name: getattr(self, name)[..., *chosen] for name in ("draws", "movement", "source", "published", *there)}
        return replace(self, events=tuple(events), grades=tuple(grades), **parts)

    def weights(self, sets: Ints) -> Floats:
        """How each profile is spread over cells, (profile, cell), rows sum to 1.

        ``sets`` (profile, covariate) are sets of levels as bits (`aemodel.publication.rules`): within them a patient is
        a random member of the cohort.
        """
        inside = (sets[:, None, :] >> self.levels[None, :, :]) & 1
        weights = inside.all(axis=2) * self.weight
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def risks(self, sets: Ints) -> NDArray[np.float32]:
        """Risk draws of profiles: (sample, profile, event, grade)."""
        samples, cells, events, grades = self.draws.shape
        weights = self.weights(sets).astype(np.float32)
        flat = self.draws.reshape(samples, cells, events * grades)
        return np.matmul(weights, flat).reshape(samples, len(sets), events, grades)

    def standardised(self, sets: Ints, fixed: Sequence[int]) -> Floats:
        """Risk draws were the whole cohort within ``sets`` of the ``fixed`` covariates: (sample, event, grade).

        The other covariates keep the distribution they have in the cohort, unlike in `risks`, where they have that of
        the patients who are within the sets. ``sets`` is (covariate,), ``fixed`` holds positions of covariates.
        """
        inside = ((sets >> self.levels) & 1).all(axis=1)
        usual = self.usual
        others = np.delete(self.levels, fixed, axis=1)
        _, group = np.unique(others, axis=0, return_inverse=True)
        cohort = np.bincount(group[usual], weights=self.weight[usual], minlength=group.max() + 1)
        here = np.bincount(group[inside], weights=self.weight[inside], minlength=group.max() + 1)
        weight = self.weight[inside] * (cohort / np.where(here > 0, here, 1))[group[inside]]
        samples, _, events, grades = self.draws.shape
        flat = self.draws.reshape(samples, -1, events * grades)[:, inside].astype(np.float64)
        return np.einsum("c,scx->sx", weight / weight.sum(), flat).reshape(samples, events, grades)

    def summary(self, sets: Ints, interval: float) -> tuple[Floats, Floats, Floats]:
        """Posterior mean risk and equal-tailed interval of profiles: three arrays (profile, event, grade)."""
        # Averaged over cells in double precision, so that an answer does not depend on the company it is worked out in;
        # sorted in single, in which draws are stored and which takes half the time. One event and grade at a time and
        # samples last, so that little memory is touched, and in order; profiles together that lie in the same few cells.
        weights = self.weights(sets)
        samples, cells, *pairs = self.draws.shape
        by_cell = np.ascontiguousarray(self.draws.reshape(samples, -1).T).reshape(cells, -1, samples)
        mean, lower, upper = np.empty((3, len(sets), by_cell.shape[1]))
        for part in self._near(sets):
            used = weights[part].any(axis=0)
            of_used = weights[np.ix_(part, used)]
            for i in range(by_cell.shape[1]):
                draws = of_used @ by_cell[used, i].astype(np.float64)
                mean[part, i] = draws.mean(axis=1)
                ordered = np.sort(draws.astype(np.float32), axis=1)
                lower[part, i], upper[part, i] = (sorted_quantile(ordered, (1 + side * interval) / 2) for side in (-1, 1))
        shape = (len(sets), *pairs)
        return mean.reshape(shape), lower.reshape(shape), upper.reshape(shape)

    def _near(self, sets: Ints) -> Iterator[NDArray[np.intp]]:
        """Profiles that have one set of the levels of the covariate with most, so many at a time."""
        sizes = [len(covariate.levels) for covariate in self.covariates]
        widest = sets[:, np.argmax(sizes)] if sizes else np.zeros(len(sets), dtype=np.int64)
        for one in sorted(set(widest.tolist())):
            here = np.flatnonzero(widest == one)
            yield from (here[first : first + CHUNK] for first in range(0, len(here), CHUNK))

    def support(self, sets: Ints) -> Ints:
        """Position in `SUPPORT` of each profile's answers, (profile, event, grade).

        By the rule of `support_by_shares`; in models without measures by that of `support_by_movement`. Where nothing is
        known, ``data``: the cohort's own risk was counted. A grade that the publication never gives, and a new level, are
        ``prior``.
        """
        new, known = sets == np.array([c.new for c in self.covariates], dtype=np.int64), sets != self.everything
        if not self.covariates:
            flags = np.zeros((len(sets), *self.published.shape), dtype=np.int64)
        elif self.variances is None:
            flags = support_by_movement(self._moved(sets), known, new, self.source)
        else:
            flags = np.where(known.any(axis=1)[:, None, None], support_by_shares(self.told(sets)), 0)
        return np.where(self.published & ~(known & new).any(axis=1)[:, None, None], flags, SUPPORT.index("prior"))

    def moved_by(self, sets: Ints) -> Ints:
        """Which known covariate moves each answer most, (profile, event, grade); -1 where nothing is known."""
        if not self.covariates:
            return np.full((len(sets), *self.published.shape), -1)
        known = (sets != self.everything)[:, :, None, None]
        most = np.where(known, self._moved(sets), -1.0).argmax(axis=1)
        return np.where(known.any(axis=1), most, -1)

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """Labels of answers to a profile, an event's grades after each other."""
        return {"event": self.events, "grade": self.grades}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The same, event with grade."""
        return list(product(self.events, self.grades))

    @property
    def usual(self) -> Bools:
        """Which cells hold no new level, (cell,)."""
        return np.asarray((self.levels < np.array([len(c.levels) for c in self.covariates])).all(axis=1))

    @property
    def everything(self) -> Ints:
        """The sets of a patient of whom nothing is known, (covariate,)."""
        return np.array([c.everything for c in self.covariates], dtype=np.int64)

    def knowing(self, fixed: Any, levels: Any) -> Ints:
        """Sets (profile, covariate) of patients of whom ``levels`` (profile, ...) of ``fixed`` covariates are known."""
        sets = np.repeat(self.everything[None], len(levels), axis=0)
        sets[:, fixed] = 1 << np.asarray(levels, dtype=np.int64)
        return sets

    def _moved(self, sets: Ints) -> Floats:
        """Mean square log odds by which each covariate moves answers, (profile, covariate, event, grade)."""
        squares = self.movement.astype(float) ** 2
        return np.moveaxis(np.tensordot(squares, self.weights(sets), axes=(1, 1)), -1, 0)

    def told(self, sets: Ints) -> Floats:
        """Shares of what sets each profile apart from the cohort that published rows tell: (2, profile, event, grade).

        Own is what the event's own rows tell by themselves, pooled what all others add to that; the rest is prior. Each known
        covariate counts as far as it moves the answer. Zero where nothing is known.
        """
        known = (sets != self.everything)[:, :, None, None]
        moved = np.where(known, self._moved(sets), 0.0)
        moved /= np.maximum(moved.sum(axis=1, keepdims=True), 1e-300)
        shares = (self.told_of(k, within) * moved[:, k] for k, within in enumerate(self.within(sets)))
        return np.asarray(sum(shares))

    def source_of(self, k: int, of: Floats) -> Ints:
        """Position in `SUPPORT` of what sums of one covariate's effects rest on, as for `told_of`: (answer, event, grade)."""
        if self.variances is None:
            return np.repeat(self.source[k][None], len(of), axis=0)
        return np.where(self.published, support_by_shares(self.told_of(k, of)), SUPPORT.index("prior"))

    def told_of(self, k: int, of: Floats) -> Floats:
        """Shares, own and pooled, of sums of one covariate's effects, ``of`` (answer, level): (2, answer, event, grade)."""
        assert self.variances is not None
        assert self.counted is not None
        first = sum(len(c.levels) for c in self.covariates[:k])
        levels = slice(first, first + len(self.covariates[k].levels))
        none, own, every = self.variances[:, levels, levels].astype(float)
        seen = of[:, :, None, None] * self.counted[levels]
        before, after = (np.einsum("al,lmeg,am->aeg", of, v, of, optimize=True) + TINY for v in (none, every))
        left = before - np.einsum("aleg,lmeg,ameg->aeg", seen, none - own, seen, optimize=True)
        ratio = np.clip(after / before, TINY, 1 - TINY)
        part = np.clip(np.log(np.maximum(left / before, TINY)) / np.log(ratio), 0, 1)
        return np.array([(1 - ratio) * part, (1 - ratio) * (1 - part)])

    def within(self, sets: Ints) -> Iterator[Floats]:
        """How profiles are spread over the levels of one covariate after another: (profile, level), rows sum to 1."""
        for k, covariate in enumerate(self.covariates):
            n = np.bincount(self.levels[:, k], weights=self.weight)[: len(covariate.levels)]
            inside = ((sets[:, k, None] >> np.arange(len(n))) & 1) * n
            yield inside / np.maximum(inside.sum(axis=1, keepdims=True), 1e-300)


def support_by_shares(told: Floats) -> Ints:
    """Positions in `SUPPORT` by shares that an event's own rows tell, and that others add, (2, ...).

    ``prior`` if together they tell less than half; otherwise ``data`` if its own tell no less than others add, or ``pooled``.
    """
    own, pooled = told
    return np.where(own + pooled < 0.5, 2, np.where(own >= pooled, 0, 1))


def support_by_movement(moved: Floats, known: Bools, new: Bools, source: Ints) -> Ints:
    """The rule of models that were saved without measures.

    Covariates the patient is known to have a level of compete by how far they move the risk (mean square log odds,
    ``moved`` (profile, covariate, event, grade)). Those with a published margin for the event count together. The answer
    is ``data`` if they move it at least as far as any other does, and also where nothing at all is known; otherwise it is
    what the covariate that moves it most rests on.
    """
    rests_on = np.where(new[:, :, None, None], 2, source[None])
    moved = np.where(known[:, :, None, None], moved, 0.0)
    by_data = np.where(rests_on == 0, moved, 0.0).sum(axis=1)
    by_other = np.where(rests_on > 0, moved, -1.0)
    most = by_other.argmax(axis=1)[:, None]
    other = np.take_along_axis(by_other, most, axis=1)[:, 0]
    flags = np.where(by_data >= other, 0, np.take_along_axis(rests_on, most, axis=1)[:, 0])
    has_data = np.any(known[:, :, None, None] & (rests_on == 0), axis=1)
    any_known = np.any(known, axis=1, keepdims=True)[:, :, None]
    return np.where(any_known & ~has_data, np.take_along_axis(rests_on, most, axis=1)[:, 0], flags)


def sorted_quantile(ordered: NDArray[np.floating[Any]], q: float) -> Floats:
    """The quantile of samples that are sorted along the last axis, as `numpy.quantile` has it by default."""
    position = q * (ordered.shape[-1] - 1)
    below = math.floor(position)
    above = min(below + 1, ordered.shape[-1] - 1)
    low, high = ordered[..., below].astype(np.float64), ordered[..., above].astype(np.float64)
    return np.asarray(low + (high - low) * (position - below))


def check_interval(interval: Any) -> float:
    """The interval's probability, if it is one."""
    return real_number("interval", interval, "a probability between 0 and 1, such as 0.9", below=1)


def tails(interval: Any) -> tuple[float, float]:
    """Probabilities of the ends of an equal-tailed interval, once it is checked."""
    interval = check_interval(interval)
    return (1 - interval) / 2, (1 + interval) / 2


def cell_count(covariates: tuple[Covariate, ...]) -> int:
    """How many cells there are, those of new levels included."""
    return math.prod(len(c.levels) + c.open for c in covariates)


def cells_with_new(covariates: tuple[Covariate, ...], n: Floats) -> tuple[Any, Any]:
    """Cells that also hold new levels of open covariates, and their weights; published cells keep their order, first."""
    shape = tuple(len(c.levels) for c in covariates)
    wide = tuple(len(c.levels) + c.open for c in covariates)
    table = np.zeros(wide)
    table[tuple(slice(size) for size in shape)] = n.reshape(shape)
    for axis, covariate in enumerate(covariates):
        if covariate.open:
            index: list[Any] = [slice(None)] * len(shape)
            index[axis] = len(covariate.levels)
            table[tuple(index)] = table.sum(axis=axis)
    # A profile of an empty cell still needs weights: independence takes over where the cohort has nobody.
    shares = [table.sum(axis=tuple(j for j in range(len(wide)) if j != i)) for i in range(len(wide))]
    independent = np.ones(())
    for share in shares:
        independent = np.multiply.outer(independent, np.where(share > 0, share, 1e-3 * share.sum()))
    table = table + 1e-9 * independent / independent.sum()
    every = np.indices(wide).reshape(len(wide), -1).T if wide else np.zeros((1, 0), dtype=np.int64)
    is_new = (every == np.array(shape)).any(axis=1)
    order = np.argsort(is_new, kind="stable")
    return every[order].astype(np.int64), table.ravel()[order]


def risks_of(model: Any) -> RiskDraws:
    """A model's risk draws, if it is one."""
    if not isinstance(risks := getattr(model, "risks", None), RiskDraws):
        name = f": load_model({shown(model)})?" if isinstance(model, str) else ""
        raise TypeError(f"model: expected what load_model or fit returns, not {type(model).__name__}{name}")
    return risks
