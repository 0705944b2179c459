"""A model to report on without fitting: draws of the parameters are invented, everything else is the package's."""

from __future__ import annotations

import arviz as az
import numpy as np
import xarray as xr

import aemodel
from aemodel.inference import priors
from aemodel.inference.design import make_design
from aemodel.inference.diagnostics import Diagnostics
from aemodel.inference.forward import make_forward
from aemodel.inference.information import measured_risks
from aemodel.publication.tables import read_tables
from tests.calculators import BOLD, LONG
from tests.publications import NO_TESTS, publication_texts, simulate_patients

SENTENCE = "a level whose label goes on and on, as if whoever wrote it had been paid by the word, and never comes to an end"

EVIDENCE = """
[[orderings]]
event = "any_toxicity"
covariate = "region"
within = { stage = "local" }
alpha = 0.05
[orderings.tiers]
"3-5" = [["coast"], ["north", "south"]]

[[nulls]]
unlisted = true
alpha = 0.05
"""


def invented_texts(*, patients=240):
    """The invented publication, with evidence in words and a discrepancy."""
    texts = publication_texts(simulate_patients(seed=11, patients=patients))
    about = texts["publication.toml"].replace("citation =", 'setting = "Two cycles, 2001-2003"\ncitation =')
    return texts | {
        "publication.toml": about + EVIDENCE,
        "discrepancies.csv": texts["discrepancies.csv"] + "rash,3-5,,,Table 2,about ten,eleven,taken as printed\n",
    }


def two_arms():
    """Two arms and nothing else, counts and no percentages, one test that was stated and no ordering; nothing at grade 5 but deaths."""
    arms = '{ name = "drug", label = "New drug" }, { name = "placebo", label = "Placebo" }'
    about = 'name = "arms"\ntitle = "Two arms"\ncitation = "Nobody."\npatients = 200\n'
    counts = "rash,3-5,20,17 rash,4-5,4,3 clot,3-5,9,2 clot,4-5,6,1 fatal_clot,5,2,0".split()
    rows = [
        f"{event},{grade},arm,{arm},100,{printed},count\n"
        for event, grade, drug, placebo in (row.split(",") for row in counts)
        for arm, printed in (("drug", drug), ("placebo", placebo))
    ]
    return {
        "publication.toml": f"""{about}
[[covariates]]
name = "arm"
label = "Arm"
levels = [{arms}]
[[nulls]]
events = ["rash"]
covariates = ["arm"]
source = "It is said."
""",
        "events.csv": "event,label,parent,relation,grades\nrash,Rash,,,3-5 4-5\nclot,Clot,,,3-5 4-5\nfatal_clot,Death from a clot,clot,fatal,5\n",
        "frequencies.csv": "event,grade,covariate,level,n,printed,unit\n" + "".join(rows),
        "cohort.csv": "covariate,level,n\narm,drug,100\narm,placebo,100\n",
    } | NO_TESTS


def own_grades(kind):
    """The invented publication counted at one class of its own, or at two, one of which it calls by another name."""
    texts = publication_texts(simulate_patients(seed=11, patients=240))
    declared = {
        "serious": '[[grades]]\nname = "serious"\nlabel = "Serious event"\n',
        "any": '[[grades]]\nname = "any"\nlabel = "Any grade"\n[[grades]]\nname = "severe"\nlabel = "Severe or worse"\n',
    }[kind]
    outer, inner = ("serious", "") if kind == "serious" else ("any", "severe")
    events = texts["events.csv"].replace("3-5 4-5", f"{outer} {inner}".strip()).replace("3-5", outer)
    lines = texts["frequencies.csv"].splitlines()
    rows = [line.replace("3-5", outer).replace("4-5", inner) for line in lines if inner or "4-5" not in line]
    about = texts["publication.toml"] + declared
    return texts | {"publication.toml": about, "events.csv": events, "frequencies.csv": "\n".join(rows) + "\n"}


def hostile_texts():
    """Its texts try to be markup, formulas, placeholders, code and a script's address, to leave their place, and not to fit."""
    texts = invented_texts()
    about = texts["publication.toml"].replace('"coast"', '"co=a&s#t %\\u00e9"')
    for old, new in (
        (
            'title = "An invented trial"',
            f'title = "{BOLD}"\ndoi = "javascript:document.hacked=true"\nnotes = ["{BOLD}", "{LONG}"]',
        ),
        ("No Journal", "{{script}} {{data}} {{style}} $x^2$ $& \\\\1 `code`"),
        ('label = "Treatment arm"', f'label = "{BOLD}"'),
        ('label = "Low dose"', f'label = "{SENTENCE}"'),
        ('label = "High dose"', 'label = "$\\\\frac{x$ & <i>"'),
        ('label = "North"', f'label = "{BOLD}"'),
        ('label = "South"', f'label = "{LONG}"'),
    ):
        assert old in about
        about = about.replace(old, new)
    return texts | {
        "publication.toml": about,
        "events.csv": texts["events.csv"].replace("Any toxicity", BOLD).replace("Anemia or low platelets", LONG),
        "cohort.csv": texts["cohort.csv"].replace("region,coast", "region,co=a&s#t %\u00e9"),
        "discrepancies.csv": texts["discrepancies.csv"].replace("about ten", BOLD),
    }


def small_model():
    """A `Fitted` of the invented publication that is saved and read in no time."""
    return drawn_model(publication_texts(simulate_patients(seed=11, patients=240)), chains=2, draws=5, divergences=3)


def drawn_model(texts, *, seed=1, ordering="both", selection=True, divergences=0, chains=4, draws=50):
    """A `Fitted` whose draws nobody sampled."""
    tables = read_tables(texts)
    design = make_design(tables)
    rng = np.random.default_rng(seed)
    posterior, prior = _parameters(design, rng, chains, draws, 0.3), _parameters(design, rng, 1, chains * draws, 1.0)
    forward = make_forward(design)
    risks = measured_risks(tables, forward, posterior, seed)
    settings = {"seed": seed, "draws": draws, "chains": chains, "tune": 1, "ordering": ordering, "selection": selection}
    settings |= {"prior_scale": 1.0, "priors": priors.describe()}
    diagnostics = Diagnostics(1.001, 900.0, 800.0, divergences, 0.9, "scale")
    return aemodel.Fitted(tables, az.InferenceData(posterior=posterior, prior=prior), diagnostics, settings, risks)


def _parameters(design, rng, chains, draws, spread):
    sizes = {
        "branch": len(design.branches),
        "pool": len(design.pools),
        "term": len(design.terms),
        "sharing_pool": len(design.sharing),
        "contrast": design.matrix.shape[1],
    }

    def values(dims, make):
        return (("chain", "draw", *dims), make((chains, draws, *(sizes[dim] for dim in dims))))

    def half_normal(shape):
        return abs(0.5 * spread * rng.standard_normal(shape))

    centre = np.array([priors.INTERCEPT[pool][0] for pool in design.kinds])
    own = values(("branch", "contrast"), lambda shape: 0.3 * spread * rng.standard_normal(shape))
    return xr.Dataset(
        {
            "cohort_log_odds": values(("branch",), lambda shape: centre[design.pool_of] + spread * rng.standard_normal(shape)),
            "intercept_mean": values(("pool",), lambda shape: centre + 0.1 * rng.standard_normal(shape)),
            "intercept_spread": values(("pool",), lambda shape: np.exp(0.1 * rng.standard_normal(shape))),
            "scale": values(("pool", "term"), half_normal),
            "alike": values(("sharing_pool", "term"), lambda shape: rng.beta(2, 2, shape)),
            "own": own,
            "shared": values(("sharing_pool", "contrast"), lambda shape: 0.3 * spread * rng.standard_normal(shape)),
        }
    )
