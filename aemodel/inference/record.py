"""What is recorded of a fit, declared: its settings, by which arguments are checked too, and a model's manifest. Light.

Formats that ever landed, all still read:

- 1: without ``performance`` and ``sha256``.
- 2: ``performance`` (the calibration's coverage, so that the card needs no new calibration) and ``sha256``, the digest of
  everything else in the manifest: a rule, a seed or a diagnostic changed by accident is found out. Digests tell damage,
  not forgery: who rewrites them all has made another model.
- 3: ``publications``, a list (of one, so far) in place of ``publication`` and its ``digest``; ``evidence``, all that the fit
  was told; a third file, ``branches``, with the logits that the risk draws come from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from importlib.metadata import version
from numbers import Real
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from aemodel.inference.diagnostics import Diagnostics
from aemodel.publication.arguments import whole_number
from aemodel.publication.cutoffs import Unseen
from aemodel.publication.errors import InputError
from aemodel.publication.evidence import Null, Ordering
from aemodel.publication.markup import html_table, in_range
from aemodel.publication.schema import MOST_CHARACTERS
from aemodel.publication.tables import Tables
from aemodel.publication.texts import MOST_NAME, shown
from aemodel.publication.words import words_of
from aemodel.scoring.risks import SUPPORT

VERSIONS = ("aemodel", "numpy", "pymc", "nutpie", "pytensor", "numba", "arviz", "xarray")
MOST_SEED = 2**64 - 1
"""What nutpie and NumPy both take."""
MOST_KEPT = 200_000
"""Draws of all chains: of a few hundred parameters each, about 1 GB."""
MOST_FILE_BYTES = 2_000_000_000

Count = Annotated[int, Meta(ge=0, le=10**9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Short = Annotated[str, Meta(max_length=MOST_NAME)]
Text = Annotated[str, Meta(max_length=MOST_CHARACTERS)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Value = float | Text | Annotated[tuple[float, ...], Meta(max_length=10)]
Prior = _Value | dict[Short, _Value | dict[Short, _Value]]


class ExpectedSlopes(Struct, frozen=True, forbid_unknown_fields=True):
    """Calibration slopes that a model fitted as this one was would have if it were true, by grade."""

    central90: dict[Short, tuple[float, float]]
    median: dict[Short, float]
    refits: Count
    seed: Annotated[int, Meta(ge=0)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `fit` was asked for, with its defaults, and what came of it; models of before have fewer.

    ``tune`` and ``target_accept`` are those of the run that is kept, ``failed_attempts`` what was wrong with those before it.
    """

    seed: Annotated[int, Meta(ge=0, extra={"most": MOST_SEED})]
    draws: Annotated[int, Meta(ge=4, le=100_000)] = 1000
    chains: Annotated[int, Meta(ge=2, le=100)] = 4
    tune: Annotated[int, Meta(ge=1, le=400_000, extra={"most": 100_000})] = 600
    attempts: Annotated[int, Meta(ge=1, le=3)] = 2
    target_accept: Annotated[float, Meta(ge=0.5, lt=1, description="a number from 0.5 to below 1, such as 0.95")] = 0.85
    failed_attempts: Annotated[tuple[Text, ...], Meta(max_length=3)] = ()
    ordering: Annotated[Literal["both", "either", "order"] | None, Meta(description="one of both, either, order or None")] = (
        "both"
    )
    selection: Annotated[bool, Meta(description="True or False")] = True
    prior_scale: Annotated[float, Meta(ge=0.001, le=1000, description="a number from 0.001 to 1,000")] = 1.0
    patients: Count = 0
    overlap: Literal["disjoint", "subset"] | None = None
    power: Annotated[float, Meta(gt=0, le=1, description="a number above 0 and at most 1")] = 1.0
    priors: Annotated[dict[Short, Prior], Meta(max_length=20)] = {}
    expected_slopes: ExpectedSlopes | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.seed > MOST_SEED:
            raise InputError("seed", f"expected at most {MOST_SEED:,}, not {shown(self.seed)}")
        if (kept := self.draws * self.chains) > MOST_KEPT:
            raise InputError("draws", f"{kept:,} of all chains, at most {MOST_KEPT:,} can be held in memory")
        if self.patients and self.overlap is None:
            raise InputError("overlap", "patients, but not how they overlap with the cohort")
        if self.power != 1 and self.overlap == "subset":
            problem = "patients who are a subset of the published cohort are no other cohort; leave power at 1"
            raise InputError("power", problem)


_KINDS = {field.name: field.type for field in msgspec.structs.fields(Settings)}


STANDARD = Settings(seed=0)
"""Of the defaults."""


def check_settings(**arguments: Any) -> Settings:
    """Settings from arguments as callers give them, NumPy's scalars among them.

    Raises
    ------
    TypeError, ValueError
        One is not what `Settings` declares.
    """
    return Settings(**{name: _checked(name, value) for name, value in arguments.items()})


def _checked(name: str, value: Any) -> Any:
    kind, meta = get_args(_KINDS[name])
    if kind is int:
        return whole_number(name, value, meta.ge, (meta.extra or {}).get("most", meta.le))
    try:
        real = kind is float and isinstance(value, Real) and not isinstance(value, bool)
        return msgspec.convert(float(value) if real else value, _KINDS[name])
    except (msgspec.ValidationError, OverflowError):
        if kind is bool:
            raise TypeError(f"{name}: expected {meta.description}, not {shown(value)}") from None
        raise InputError(name, f"expected {meta.description}, not {shown(value)}") from None


def as_json(value: Any) -> Any:
    """A declared record as JSON would give it back."""
    return msgspec.json.decode(msgspec.json.encode(value))


class UsedEvidence(Struct, frozen=True, forbid_unknown_fields=True):
    """All that a publication told a fit: counts, what listed events are known not to be, orderings and nulls.

    Of a count event, grade, covariate, level, patients, and the least and the most of them that had the event.
    """

    counts: tuple[tuple[str, str, str, str, Count, Count, Count], ...]
    unseen: tuple[Unseen, ...]
    orderings: tuple[Ordering, ...]
    nulls: tuple[Null, ...]


def used_evidence(tables: Tables, settings: Mapping[str, Any]) -> UsedEvidence:
    """What a fit with these settings is told by a publication."""
    counts = tuple((*row.key, row.n, row.observed_low, row.observed_high) for row in tables.rows if not row.derived)
    orderings = tables.orderings if settings.get("ordering") else ()
    return UsedEvidence(counts, tables.unseen, orderings, tables.nulls if settings.get("selection") else ())


class Performance(Struct, frozen=True, forbid_unknown_fields=True):
    """How many published frequencies there are, and which shares of them lie in their 50 and 90 % intervals."""

    rows: Count
    within50: Share
    within90: Share


class Publication(Struct, frozen=True, forbid_unknown_fields=True):
    """The texts of a publication's files, and their digest."""

    digest: Sha256
    files: dict[str, str]


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside the manifest; its name has the start of its digest in it."""

    name: Short
    bytes: Annotated[int, Meta(ge=0, le=MOST_FILE_BYTES)]
    sha256: Sha256


class Files(Struct, frozen=True, forbid_unknown_fields=True):
    """Of formats 1 and 2."""

    scoring: File
    posterior: File


class AllFiles(Files, frozen=True, forbid_unknown_fields=True):
    """Of format 3."""

    branches: File


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of all formats."""

    format: int
    name: str
    versions: Annotated[dict[Short, Short], Meta(max_length=50)]
    settings: Settings
    diagnostics: Diagnostics
    events: tuple[str, ...]
    grades: tuple[str, ...]
    samples: Annotated[int, Meta(ge=1, le=MOST_KEPT)]
    chains: Annotated[int, Meta(ge=1, le=MOST_KEPT)]

    def __post_init__(self) -> None:
        if self.samples % self.chains:
            raise ValueError(f"{self.samples} samples cannot come from {self.chains} chains")


class Format1(Manifest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first."""

    digest: Sha256
    publication: dict[str, str]
    files: Files

    @property
    def publications(self) -> tuple[Publication, ...]:
        return (Publication(self.digest, self.publication),)


class Format2(Format1, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """With a digest of its own."""

    performance: Performance
    sha256: Sha256


class Format3(Manifest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one that is written."""

    publications: tuple[Publication, ...]
    evidence: UsedEvidence
    files: AllFiles
    performance: Performance
    sha256: Sha256


FORMATS: dict[int, type[Manifest]] = {1: Format1, 2: Format2, 3: Format3}
FORMAT = max(FORMATS)
"""The one that is written."""


def make_manifest(model: Any, files: dict[str, Any], performance: dict[str, Any] | None) -> dict[str, Any]:
    """The manifest of a fitted model whose arrays are in ``files``, and whose calibration covers what ``performance`` says."""
    fields = {
        "format": FORMAT,
        "name": model.name,
        "versions": {name: version(name) for name in VERSIONS},
        "settings": dict(model.settings),
        "diagnostics": {name: value for name, value in asdict(model.diagnostics).items() if value is not None},
        "performance": performance,
        "events": list(model.risks.events),
        "grades": list(model.risks.grades),
        "samples": len(model.risks.draws),
        "chains": model.risks.chains,
        "publications": [{"digest": model.tables.digest, "files": dict(model.tables.texts)}],
        "evidence": as_json(used_evidence(model.tables, model.settings)),
        "files": files,
    }
    return fields | {"sha256": manifest_digest(fields)}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all fields but ``sha256``, as JSON with sorted keys; with the files' digests in it, that of the model."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


INTERVAL = 0.9


def model_html(model: Any) -> str:
    """A fitted or loaded model in a notebook."""
    risks, words = model.risks, words_of(model)
    mean, lower, upper = (values[0] for values in risks.summary(risks.everything[None], INTERVAL))
    lines = []
    for i, event in enumerate(risks.events):
        line = {"Event": words.event(event)}
        for j, grade in enumerate(risks.grades):
            line[words.grade(grade)] = in_range(mean[i, j], lower[i, j], upper[i, j])
        data = SUPPORT.index("data")
        own = [c.label for k, c in enumerate(risks.covariates) if (risks.source[k, i] == data).any()]
        lines.append(line | {"Its own margins speak of": ", ".join(own) or "no covariate"})
    caption = f"{model.name}: risk of a patient of whom nothing is known, {INTERVAL:.0%} interval"
    told = f"{escape(str(model.diagnostics))}.<br>{escape(evidence_words(model.settings, model.tables))}"
    return f"<p>{told}</p>\n{html_table(lines, caption)}"


def null_words(tables: Tables) -> str:
    """What a publication's nulls are tests of."""
    stated = {null.stated for null in tables.nulls} or {True}
    return f"tests that were {' or '.join(['not significant'] * (True in stated) + ['not listed'] * (False in stated))}"


def assumed_nulls(settings: Mapping[str, Any], tables: Tables) -> list[Null]:
    """Tests that a fit took as not significant because the publication does not list them."""
    return [null for null in tables.nulls if settings.get("selection") and not null.stated]


def notes_of(settings: Mapping[str, Any], tables: Tables) -> list[str]:
    """What readers of a fit's answers must know: the publication's notes, and what is assumed of what it does not list."""
    if not (tests := len(assumed_nulls(settings, tables))):
        return list(tables.about.notes)
    assumed = (
        "pairs of a toxicity and a characteristic that the publication does not list are taken as tested and not significant"
    )
    return [*tables.about.notes, f"An assumption: {assumed} ({tests} tests). No count says so, and it narrows most ranges."]


def evidence_words(settings: Mapping[str, Any], tables: Tables) -> str:
    """Which of a publication's evidence beside the margins went into a fit, in a sentence; old models' had none."""
    kinds = {
        "both": "orderings of groups, with significant tests at both grades",
        "either": "orderings of groups, with significant tests at either grade",
        "order": "orderings of groups",
    }
    used = [kinds[settings["ordering"]]] if settings.get("ordering") and tables.orderings else []
    used += [null_words(tables)] if settings.get("selection") and tables.nulls else []
    used += ["cutoffs of what was printed"] if tables.about.cutoffs else []
    told = [f"Evidence used beside the margins: {' and '.join(used) if used else 'none'}."]
    if (scale := float(settings.get("prior_scale", 1.0))) != 1:
        told.append(f"Prior scales of effects times {scale:g}.")
    if patients := settings.get("patients"):
        relation = {"subset": "part of", "disjoint": "not in"}[settings["overlap"]]
        told.append(f"Rows of {patients} patients who are {relation} the published cohort.")
    if (power := float(settings.get("power", 1.0))) != 1:
        told.append(f"What is published counts with power {power:g}.")
    return " ".join(told)
