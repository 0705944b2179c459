"""Figures as SVG elements that a page may hold under a policy without inline styles."""

from __future__ import annotations

import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np

from aemodel.answers.drawing import INK

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
DROPPED = {"font-family"}
"""The page's own font is used."""


def figure_svg(axes: Any, name: str, description: str) -> str:
    """The figure of one or several matplotlib axes as an ``svg`` element: text stays text, ink takes the page's colour.

    Styles become attributes; ids that nothing refers to go, the others begin with ``name`` (letters, digits and hyphens),
    so that figures of one page keep apart. ``description`` is what a screen reader says of it.
    """
    from matplotlib import pyplot, rc_context

    figure = np.ravel(axes)[0].figure
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    text = buffer.getvalue()
    used = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', text))
    root = ElementTree.fromstring(text)
    _prune(root)
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        _flatten(element, name, used)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.clear()
    # A point is 4/3 of a page's pixels.
    size = {side: f"{4 / 3 * float(length):.0f}" for side, length in (("width", width), ("height", height))}
    root.attrib.update(viewBox=f"0 0 {width} {height}", role="img", **size)
    root.attrib["aria-label"] = description
    root.attrib["class"] = "wide" if float(width) > 400 else "narrow"
    return re.sub(r"\s*\n\s*", " ", ElementTree.tostring(root, encoding="unicode")).replace("> <", ">\n<")


def _prune(root: ElementTree.Element) -> None:
    """Without matplotlib's notes about itself, and its one style sheet, whose rule the page repeats."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)


def _flatten(element: ElementTree.Element, name: str, used: set[str]) -> None:
    attributes = element.attrib
    style = attributes.pop("style", "")
    for part in filter(None, (part.strip() for part in style.split(";"))):
        key, value = (text.strip() for text in part.split(":", 1))
        if key not in DROPPED:
            attributes[key] = value.removesuffix("px") if key == "font-size" else value
    if (link := attributes.pop(LINK, None)) is not None:
        attributes["href"] = f"#{name}-{link[1:]}"
    if (own := attributes.pop("id", None)) in used:
        attributes["id"] = f"{name}-{own}"
    for key, value in attributes.items():
        if value.startswith("url(#"):
            attributes[key] = f"url(#{name}-{value[5:]}"
        elif value == INK and key in ("fill", "stroke"):
            attributes[key] = "currentColor"
