"""The sampler's diagnostics and the gate every fit must pass. Light: a saved model carries them without ArviZ."""

from __future__ import annotations

from dataclasses import dataclass

GATE = {"r_hat": 1.01, "ess": 400.0, "divergences": 0, "bfmi": 0.3}
"""What every fit must meet: at most the first and third, at least the second and fourth."""


@dataclass(frozen=True)
class Diagnostics:
    """The worst of each sampler diagnostic over all parameters (Vehtari et al. 2021; Betancourt 2016)."""

    r_hat: float
    ess_bulk: float
    ess_tail: float
    divergences: int
    bfmi: float
    worst: str

    @property
    def passed(self) -> bool:
        return not self.failures()

    def failures(self) -> list[str]:
        """What the gate finds wrong, in words; empty if the run passed."""
        found = []
        if not self.r_hat <= GATE["r_hat"]:
            found.append(f"R-hat {self.r_hat:.3f} > {GATE['r_hat']}: chains disagree")
        if not min(self.ess_bulk, self.ess_tail) >= GATE["ess"]:
            least = min(self.ess_bulk, self.ess_tail)
            found.append(f"effective sample size {least:.0f} < {GATE['ess']:.0f} ({self.worst}): take more draws")
        if self.divergences > GATE["divergences"]:
            found.append(f"{self.divergences} divergent transitions: the posterior was not explored everywhere")
        if not self.bfmi >= GATE["bfmi"]:
            found.append(f"E-BFMI {self.bfmi:.2f} < {GATE['bfmi']}: energy explored too slowly")
        return found

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED: " + "; ".join(self.failures())
        return (
            f"Sampler diagnostics {verdict} (R-hat {self.r_hat:.3f}, bulk ESS {self.ess_bulk:.0f}, "
            f"tail ESS {self.ess_tail:.0f}, {self.divergences} divergences, E-BFMI {self.bfmi:.2f})"
        )
