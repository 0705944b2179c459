"""The sampler's diagnostics and the gate every fit must pass. Light: a saved model carries them without ArviZ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

GATE = {"r_hat": 1.01, "ess": 400.0, "divergences": 0, "bfmi": 0.3}
"""What every fit must meet: at most the first and third, at least the second and fourth."""


Measure = Annotated[float, Meta(ge=-1e15, le=1e15)]


@dataclass(frozen=True)
class Diagnostics:
    """The worst of each sampler diagnostic over all parameters (Vehtari et al. 2021; Betancourt 2016).

    ``approximation`` is about how far the saddlepoint's error of the log likelihood differs between draws, in nats; None of
    fits that did not measure it. More draws do not mend it, so the gate has no part in it.
    """

    r_hat: Measure
    ess_bulk: Measure
    ess_tail: Measure
    divergences: Annotated[int, Meta(ge=0)]
    bfmi: Measure
    worst: Annotated[str, Meta(max_length=5000)]
    approximation: Annotated[float, Meta(ge=0, le=1e15)] | None = None

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """What the gate finds wrong, in words; empty if the run passed."""
        found = []
        if not self.r_hat <= GATE["r_hat"]:
            found.append(f"R-hat {_beside(self.r_hat, 'r_hat', 3)} > {GATE['r_hat']}: chains disagree")
        least = min(self.ess_bulk, self.ess_tail, key=lambda size: (size == size, size))  # one that is none is the least
        if not least >= GATE["ess"]:
            told = _beside(least, "ess", 0)
            found.append(f"effective sample size {told} < {GATE['ess']:.0f} ({self.worst}): take more draws")
        if self.divergences > GATE["divergences"]:
            found.append(f"{self.divergences} divergent transitions: the posterior was not explored everywhere")
        if not self.bfmi >= GATE["bfmi"]:
            found.append(f"E-BFMI {_beside(self.bfmi, 'bfmi', 2)} < {GATE['bfmi']}: energy explored too slowly")
        return found

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED: " + "; ".join(self.failures())
        error = "" if self.approximation is None else f", counts' likelihood to about {self.approximation:.2g} nats"
        return (
            f"Sampler diagnostics {verdict} (R-hat {_beside(self.r_hat, 'r_hat', 3)}, "
            f"bulk ESS {_beside(self.ess_bulk, 'ess', 0)}, tail ESS {_beside(self.ess_tail, 'ess', 0)}, "
            f"{self.divergences} divergences, E-BFMI {_beside(self.bfmi, 'bfmi', 2)}{error})"
        )


def _beside(value: float, gate: str, digits: int) -> str:
    """A value in so many digits, or as many as tell it from its gate."""
    while value != GATE[gate] and float(f"{value:.{digits}f}") == GATE[gate]:
        digits += 1
    return f"{value:.{digits}f}"
