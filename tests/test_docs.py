"""The code blocks of README and docs run, and print what stands under them: `make examples` renews it."""

from __future__ import annotations

import json
import tomllib

import pytest

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
def test_only_what_changes_the_machine_is_not_run(name):
    for block in blocks_of((ROOT / name).read_text()):
        if block.note("not run") is not None:
            assert all(line.startswith(NEVER_RUN) for line in block.text.splitlines()), f"{name}, line {block.line}"


@pytest.mark.parametrize("name", NAMES)
def test_every_block_has_a_language_and_every_output_a_block_above(name):
    blocks = blocks_of((ROOT / name).read_text())
    fences = [line for line in (ROOT / name).read_text().splitlines() if line.startswith("```") and line != "```"]
    assert len(blocks) == len(fences)
    for above, block in zip([None, *blocks], blocks, strict=False):
        if block.note("output of the block above") is not None:
            assert above is not None, f"{name}, line {block.line}"
            assert above.language in ("python", "sh"), f"{name}, line {block.line}"


@pytest.mark.parametrize("name", NAMES)
def test_data_blocks_can_be_read(name):
    readers = {"toml": tomllib.loads, "json": json.loads}
    for block in blocks_of((ROOT / name).read_text()):
        if block.language in readers:
            readers[block.language](block.text)


def test_every_page_of_the_site_is_there():
    """README and the pages of docs; a page that is lost would be tested no more."""
    pages = {"README.md", "docs/tutorial.md", "docs/statistics.md", "docs/reference/api.md", "docs/how-to/spark.md"}
    assert pages <= set(NAMES)


def test_public_names_are_in_the_reference():
    import aemodel

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
