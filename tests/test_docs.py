"""The code blocks of README and docs run, and print what stands under them: `make examples` renews it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import aemodel
from tests.pages import NEVER_RUN, PAGES, ROOT, blocks_of, run_page, same_output, small_fits

NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
RUN = [pytest.param(name, marks=pytest.mark.xdist_group("spark" if name.endswith("spark.md") else "pages")) for name in NAMES]
"""Pages that fit share their fits."""


@pytest.fixture(scope="module")
def short():
    with small_fits():
        yield


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
@pytest.mark.parametrize("name", RUN)
def test_blocks_run_and_print_what_is_shown(name, short, tmp_path, request):
    if name.endswith("spark.md"):
        request.getfixturevalue("spark")
    for block, printed in run_page(ROOT / name, tmp_path):
        assert same_output(block.text, printed), (
            f"{name}, line {block.line}: shown\n{block.text}\nprinted now\n{printed}\nRun `make examples`."
        )


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_run_or_read_and_every_output_has_one_above(name):
    """Only what changes the machine is not run."""
    page, readers = (ROOT / name).read_text(), {"toml": tomllib.loads, "json": json.loads}
    blocks = blocks_of(page)
    assert len(blocks) == len([line for line in page.splitlines() if line.startswith("```") and line != "```"])
    for above, block in zip([None, *blocks], blocks, strict=False):
        place = f"{name}, line {block.line}"
        if block.note("not run") is not None:
            assert all(line.startswith(NEVER_RUN) for line in block.text.splitlines()), place
        if block.note("output of the block above") is not None:
            assert above is not None, place
            assert above.language in ("python", "sh"), place
        readers.get(block.language, str)(block.text)


def test_pages_are_there_and_public_names_in_the_reference():
    """README and the pages of docs; a page that is lost would be tested no more."""
    assert {"README.md", *(f"docs/{name}.md" for name in ("tutorial", "statistics", "reference/api", "how-to/spark"))} <= set(
        NAMES
    )
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    assert [name for name in aemodel.__all__ if f":: {name}\n" not in text and f":: {name}()\n" not in text] == []


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  1.23\n", "a 1.24", True),
        ("a 1.23", "a 1.26", False),
        ("a 12", "a 13", False),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...\nd", "a\nb\nc", False),
        ("a", "a\nb", False),
        ("-0.001", "0.000", False),
    ],
)
def test_outputs_are_compared_but_for_white_space_and_rounding(shown, printed, same):
    assert same_output(shown, printed) is same


def test_the_class_for_mlflow_scores_as_score_does(shipped, monkeypatch):
    """With a stand-in for what it needs of mlflow, which is not installed: the base class, and a saved model's life."""
    (block,) = [block for block in blocks_of((ROOT / "docs/how-to/data-engineer.md").read_text()) if "mlflow" in block.text]
    patients = pd.DataFrame({"age": [7, 40], "relapse_group": ["bm_late", None], "sex": "male", "race_ethnicity": None})
    answers = []

    def save_model(path, python_model, artifacts, pip_requirements):
        python_model.load_context(SimpleNamespace(artifacts=dict.fromkeys(artifacts, "aall1331")))
        answers.append(python_model.predict(None, patients.head(1)))
        answers.append(python_model.predict(None, patients, {"events": np.array(["sepsis"]), "on_invalid": "null"}))

    mlflow = ModuleType("mlflow")
    mlflow.pyfunc = SimpleNamespace(PythonModel=object, save_model=save_model)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    exec(compile(block.text, "scorer.py", "exec"), {"__name__": "__main__"})
    whole, some = answers
    pd.testing.assert_frame_equal(whole, aemodel.score(shipped, patients.head(1)))
    pd.testing.assert_frame_equal(some, aemodel.score(shipped, patients, events=["sepsis"], on_invalid="null"))


def test_pages_quote_measured_times_from_one_place():
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    beside = blocks_of(ROOT.joinpath("docs/statistics.md").read_text())
    assert [block.text.strip("\n") in results for block in beside if "ESS" in block.text] == [True]
    measured = [line.replace("parquet", "Parquet").replace("csv", "CSV").split() for line in results.splitlines()]
    table = re.findall(
        r"^\| ([\d,]+) \| (\w+) \| ([\d,]+) \| (\d\.\d\d) \|$",
        (ROOT / "docs/how-to/data-engineer.md").read_text(),
        flags=re.MULTILINE,
    )
    assert len(table) == 5
    for row in table:
        assert [*row] in [[*line[:3], *line[4:5]] for line in measured]
