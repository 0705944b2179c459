"""Texts and pages made from templates; pages let nothing else in, and stand in their place whole. Light."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, pass_eval_context

from aemodel.publication.errors import InputError
from aemodel.scoring.risks import RiskDraws
from aemodel.scoring.whole import check_place, whole

NOTICE = {
    "not_for": "Not for treatment decisions.",
    "rests_on": {
        "data": "the event's own published rows",
        "pooled": "the rest of the publication",
        "prior": "assumptions",
    },
}
"""What every page and card says alike: each sentence stands here once."""


def check_page(model: Any, path: Path) -> None:
    """Refuse what is no model, and a place where no page can be, before anything is worked out.

    Raises
    ------
    TypeError, ValueError, OSError
        ``model`` is not a model; the path does not end in ``.html``, is no place for a file, or its folder is not there.
    """
    if not isinstance(getattr(model, "risks", None), RiskDraws):
        raise TypeError(f"model: expected a model from load_model or fit, not {type(model).__name__}")
    check_place(path, "path")
    if path.suffix.lower() != ".html":
        raise InputError("path", f"{str(path)!r} must end in .html")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: no folder {str(path.parent)!r}; make it first")


def check_comparable(argument: str, model: Any, other: Any) -> None:
    """Refuse to set a model beside one of other events, grades, covariates or levels.

    Raises
    ------
    TypeError, ValueError
        ``other`` is no model, or speaks of other things.
    """
    if not hasattr(other, "risks") or not hasattr(other, "settings"):
        raise TypeError(f"{argument}: expected a model from load_model or fit, not {type(other).__name__}")
    mine, its = ((r.events, r.grades, [(c.name, c.names) for c in r.covariates]) for r in (model.risks, other.risks))
    if mine != its:
        problem = "the two models must have the same events, grades, covariates and levels; name fits of one publication"
        raise InputError(argument, problem)


def card(facts: Mapping[str, Any], states: Mapping[str, Any] | None = None) -> str:
    """The model card as Markdown, of `aemodel.pages.description.model_facts`; with the ``states`` of its files, if given."""
    return rendered("card.md", facts=facts, states=states)


def rendered(template: str, **values: Any) -> str:
    """A template of this folder filled in. In a page all texts are escaped; in Markdown each keeps to its line."""
    return _environment().get_template(template).render(**values)


def write_page(path: Path, template: str, styles: tuple[str, ...], script: str | None = None, **values: Any) -> None:
    """Write a page, in ASCII, which stands in its place only once it is whole."""
    style = "\n".join(source("static", name) for name in styles)
    page = rendered(template, style=style, script=script, policy=_policy(style, script), **values)
    with whole(path, "path") as partial:
        partial.write_bytes(page.encode("ascii", "xmlcharrefreplace"))


def source(folder: str, name: str) -> str:
    return (files("aemodel.pages") / folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=lambda name: name is not None and name.endswith(".html"),
        finalize=_in_its_place,
        keep_trailing_newline=True,
        loader=FunctionLoader(lambda name: source("templates", name)),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals.update(notice=NOTICE, why=_why, plain=_plain, counted=_counted, share=lambda value: f"{value:.0%}")
    return environment


@pass_eval_context
def _in_its_place(context: Any, value: Any) -> Any:
    """A publication's words in Markdown: one line, without what readers would take for HTML."""
    return value if context.autoescape else " ".join(str(value).split()).replace("<", "&lt;")


def _why(settings: Mapping[str, Any]) -> str:
    own = " and rows of patients" if settings.get("patients") else ""
    return (
        f"These risks come from published tables{own} by a statistical model; no other group of patients has been used to "
        "check them."
    )


def _plain(value: Any) -> str:
    """Nested settings in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({_plain(v)})" if isinstance(v, Mapping) else f"{key} {_plain(v)}" for key, v in value.items())
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list) else str(value)


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _policy(style: str, script: str | None) -> str:
    """Content security policy: this style and this script, and nothing from anywhere."""
    scripts = "" if script is None else f"script-src {_digest(script)}; "
    return (
        f"default-src 'none'; style-src {_digest(style)}; {scripts}base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
