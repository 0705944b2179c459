"""The checklist of TRIPOD+AI, as a report answers it."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Any

from aemodel.pages.render import source
from aemodel.publication.schema import About


def checklist(about: About) -> dict[str, Any]:
    """Each item: where it is answered, as an id of the report, and what is not done, and why.

    What only the publication can tell is answered if its folder does. ``kinds`` counts items that are answered, in part or not.
    """
    items = []
    for item in tomllib.loads(source("templates", "tripod.toml"))["items"]:
        missing = "needs" in item and not getattr(about, item["needs"])
        why = f"the publication's folder has no {item['needs']}" if missing else item.get("why")
        items.append({"item": item["item"], "asks": item["asks"], "at": None if missing else item.get("at"), "why": why})
    kinds = Counter("not" if item["at"] is None else "in part" if item["why"] else "answered" for item in items)
    return {"items": items, "kinds": kinds}
