"""State probabilities of a fitted or loaded model, for answers that need more than its risks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from aemodel.inference.design import make_design
from aemodel.inference.forward import PARAMETERS, Forward, make_forward, states_of, thinned
from aemodel.publication.errors import InputError


@dataclass(frozen=True)
class ModelForward:
    """The forward map of one model and where each family's states lie among all."""

    forward: Forward
    family_slices: tuple[slice, ...]

    def events_having(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
        """Which states have an event at a grade, for each pair: (pair, state)."""
        return np.array([self.forward.design.states_having(event, grade) for event, grade in pairs])


def make_model_forward(model: Any) -> tuple[ModelForward, xr.Dataset, int]:
    """The forward map, the thinned draws and the seed from which a model's risk draws came.

    Raises
    ------
    ValueError
        The model was fitted by a version with other parameters: only its risks can be had.
    """
    if missing := PARAMETERS - set(model.posterior.data_vars):
        raise InputError(
            "model",
            f"{model.name} was fitted by an earlier version (it has no {', '.join(sorted(missing))}): its risks can be "
            "scored; for this, fit the publication again",
        )
    return _forward_of(model), thinned(model.posterior), int(model.settings["seed"])


def _forward_of(model: Any) -> ModelForward:
    design = make_design(model.tables)
    slices = tuple(slice(int(a), int(b)) for a, b in pairwise(design.edges))
    return ModelForward(make_forward(design), slices)


def model_states(model: Any) -> tuple[ModelForward, Iterator[NDArray[np.float64]]]:
    """The forward map, and state probabilities (state, cell) behind each of a model's risk draws, families end to end.

    From the branch logits that are kept with the risks; of models saved before they were, from draws of the parameters.
    """
    if model.branch_logits is None:
        forward, draws, seed = make_model_forward(model)
        return forward, forward.forward.states(draws, seed)
    forward = _forward_of(model)
    return forward, states_of(forward.forward.design, model.branch_logits)
