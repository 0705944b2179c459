"""What the calculator's tests compare pages with."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re

import numpy as np
import pyarrow as pa

import aemodel

BOLD = "</script><b>bold</b><img src=x onerror=document.hacked=true><!--"
LONG = "W" * 120


def page_data(page):
    """What a page's JSON holds."""
    return json.loads(re.search(r'<script type="application/json" id="model">(.*?)</script>', page, flags=re.S)[1])


def check_policy(page):
    """The page allows nothing but its own style and its own code, if it has any."""
    content = html.unescape(re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)[1])
    own = [(kind, text) for kind in ("style", "script") for text in re.findall(f"<{kind}>(.*?)</{kind}>", page, flags=re.S)]
    digests = [(kind, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()) for kind, text in own]
    assert dict(directive.split(maxsplit=1) for directive in content.split("; ")) == {
        "default-src": "'none'",
        **{f"{kind}-src": f"'sha256-{digest}'" for kind, digest in digests},
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def profiles(model):
    """A patient per combination of levels, each of which may be missing; in the order of the page."""
    covariates = model.risks.covariates
    names = [c.name for c in covariates]
    return [dict(zip(names, levels, strict=True)) for levels in itertools.product(*([*c.names, None] for c in covariates))]


def scored(model):
    """What `score` says of all profiles: risks (profile, event, grade, statistic) and support (profile, event, grade)."""
    patients = pa.table({c.name: pa.array([p[c.name] for p in profiles(model)], pa.string()) for c in model.risks.covariates})
    risks, support = [], []
    # A grade at a time: the support of both would be the weaker flag.
    for grade in model.risks.grades:
        table = aemodel.score(model, patients, grades=[grade])
        prefixes = [f"{event}_g{grade[0]}" for event in model.risks.events]
        risks.append([[table[f"{prefix}_{what}"].to_numpy() for what in ("risk", "lower", "upper")] for prefix in prefixes])
        support.append([table[f"{event}_support"].to_pylist() for event in model.risks.events])
    return np.moveaxis(np.array(risks), (0, 1, 2, 3), (2, 1, 3, 0)), np.moveaxis(np.array(support), (0, 1, 2), (2, 1, 0))
