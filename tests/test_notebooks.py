"""Notebooks run, and what is committed is what they print: `make notebooks` renews it."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from tests.pages import same_output

pytestmark = pytest.mark.xdist_group("notebooks")

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = [path.name for path in sorted(FOLDER.glob("*.ipynb"))]
RESIDUE = re.compile(r"Warning|Traceback|it/s|\d%\||━|\x1b|\r|/home/|/Users/|/tmp/|0x[0-9a-f]{6,}")


def build():
    spec = importlib.util.spec_from_file_location("build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(name):
    return nbformat.read(FOLDER / name, as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def texts(notebook):
    """What a run prints, cell by cell: text, and that there is a picture."""
    found = []
    for cell in notebook.cells:
        parts = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            picture = "<picture>" if "image/png" in data else data.get("text/plain", "")
            parts.append(output["text"] if output.output_type == "stream" else picture)
        found.append("\n".join(parts))
    return found


def test_there_are_five_notebooks():
    assert len(NAMES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_committed_output_is_whole_clean_and_as_the_build_writes_it_and_ends_with_a_figure(name):
    notebook, text = committed(name), (FOLDER / name).read_text()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.get("name") != "stderr" and output.output_type != "error" for output in outputs(notebook))
    everything = "\n".join(texts(notebook) + [output.get("data", {}).get("text/html", "") for output in outputs(notebook)])
    assert RESIDUE.search(everything) is None
    (picture,) = (output.data["image/png"] for output in notebook.cells[-1].outputs if "data" in output)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert nbformat.writes(build().stripped(nbformat.reads(text, as_version=4)), indent=1) + "\n" == text


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_and_prints_what_is_committed(name, tmp_path):
    shutil.copy(FOLDER / name, tmp_path)
    run = build().run(tmp_path / name)
    assert all(output.get("name") != "stderr" for output in outputs(run))
    for number, (shown, printed) in enumerate(zip(texts(committed(name)), texts(run), strict=True), start=1):
        assert same_output(shown, printed), f"cell {number}: committed\n{shown}\nprinted now\n{printed}\nRun `make notebooks`."
