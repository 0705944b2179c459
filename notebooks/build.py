"""Runs every notebook of this folder in place: `make notebooks`.

What is written depends on nothing but code and results: metadata, times and paths are left out, cells numbered.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebooks() -> list[Path]:
    return sorted(HERE.glob("*.ipynb"))


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook after a run in a new kernel, in the notebook's folder.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    # The kernel's own log would say on every start that it listens on this machine.
    options = {"timeout": 600, "record_timing": False, "extra_arguments": ["--log-level=ERROR"]}
    NotebookClient(notebook, kernel_name="python3", resources=place, **options).execute()
    return stripped(notebook)


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with nothing in it that another run would change."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def main() -> None:
    for path in notebooks():
        started = time.monotonic()
        notebook = run(path)
        nbformat.validate(notebook)
        path.write_text(nbformat.writes(notebook, indent=1) + "\n")
        sys.stdout.write(f"{path.name}: {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
