"""What loads what: scoring stays light, public names exist, and modules import one way along the flow."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import aemodel

PACKAGE = Path(aemodel.__file__).parent
ROOMS = ("publication", "scoring", "inference", "answers", "pages", "saved", "cli_scoring", "cli")
HEAVY = ("pymc", "arviz", "pytensor", "nutpie", "xarray", "scipy", "numba", "matplotlib")
FRAMES = ("pandas", "polars", "pyarrow", "dask", "pyspark")
LIGHT = [
    *(f"aemodel.publication.{name}" for name in "arrays texts schema records tables rules patients codes markup".split()),
    *(
        f"aemodel.scoring.{name}"
        for name in "risks frames csv_files eager lazy sql score cohort files progress whole exports".split()
    ),
    *("aemodel.inference.diagnostics", "aemodel.inference.record", "aemodel.saved.manifest", "aemodel.saved.arrays"),
    *("aemodel.saved.reader", "aemodel.pages.description", "aemodel.pages.score_command", "aemodel.pages.calculator"),
    *("aemodel.pages.render", "aemodel.pages.console", "aemodel.cli_scoring", "aemodel.cli"),
]
PATIENT = {
    "age": [19.0],
    "relapse_site": ["bm"],
    "months_to_relapse": [20.0],
    "sex": ["female"],
    "race_ethnicity": ["hispanic"],
}
SCORE = f"""
import pyarrow as pa
aemodel.score(aemodel.load_model("aall1331"), pa.table({PATIENT!r}), events=["sepsis"])
"""


def loaded_after(code):
    """Top-level modules a fresh interpreter holds after the code."""
    program = (
        f"import sys, json\nimport aemodel\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_import_loads_nothing_but_the_package():
    assert loaded_after("") & {*HEAVY, *FRAMES, "numpy", "narwhals", "duckdb", "click", "rich"} == set()


def test_scoring_loads_nothing_heavy_nor_another_frame():
    """But pandas, which PyArrow itself loads."""
    assert loaded_after(SCORE) & {*HEAVY, "polars", "dask", "pyspark"} == set()


HIDE = """
class Hidden:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in LIBRARIES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden)
"""


def without(*libraries):
    """Code that makes libraries look as if they were not installed."""
    return HIDE.replace("LIBRARIES", repr(libraries))


def test_scoring_a_pyarrow_table_needs_no_pandas():
    """PyArrow itself loads pandas with the first array it makes, where pandas is installed."""
    loaded_after(without(*HEAVY, "pandas", "polars") + SCORE)


def test_scoring_a_polars_frame_loads_no_pandas():
    found = loaded_after(SCORE.replace("import pyarrow as pa", "import polars").replace("pa.table", "polars.DataFrame"))
    assert found & {*HEAVY, "pandas", "pyarrow"} == set()


def test_scoring_on_the_command_line_needs_and_loads_nothing_heavy(tmp_path):
    """Into files of either kind, printed, and of a cohort."""
    path = tmp_path / "patients.csv"
    path.write_text(",".join(PATIENT) + "\n" + ",".join(str(values[0]) for values in PATIENT.values()) + "\n")
    into = [[str(tmp_path / "out.csv")], [str(tmp_path / "out.parquet")], [], ["--cohort"]]
    commands = [["score", "aall1331", str(path), *options, "--events", "sepsis"] for options in into]
    code = f"from aemodel.cli import main\nfor command in {commands!r}:\n    main(command, standalone_mode=False)"
    assert loaded_after(f"{without(*HEAVY, *FRAMES)}\n{code}") & {*HEAVY, *FRAMES, "rich"} == set()
    assert loaded_after(code) & {*HEAVY, *FRAMES, "rich"} == set()


def test_scoring_a_relation_needs_and_loads_nothing_heavy():
    columns = ", ".join(f"{values[0]!r} AS {name}" for name, values in PATIENT.items())
    code = f"""
import duckdb
relation = duckdb.connect().sql({f"SELECT {columns}"!r})
model = aemodel.load_model("aall1331")
assert aemodel.score(model, relation).fetchall()
assert aemodel.score_cohort(model, relation).fetchall()
assert aemodel.score_summary(model, relation)["scored"] == 1
"""
    assert loaded_after(without(*HEAVY, *FRAMES) + code) & {*HEAVY, *FRAMES} == set()


def test_showing_a_model_loads_nothing_heavy():
    """Nor a frame of any kind: what is shown stands in the manifest."""
    found = loaded_after("from aemodel.cli import main\nmain(['show', 'aall1331'], standalone_mode=False)")
    assert found & {*HEAVY, "pandas", "polars", "pyarrow", "duckdb"} == set()


def test_help_on_the_command_line_loads_no_numbers():
    found = loaded_after("from aemodel.cli import main\nmain(['--help'], standalone_mode=False)")
    assert found & {*HEAVY, "pandas", "numpy", "narwhals", "duckdb"} == set()


def test_light_modules_load_nothing_heavy():
    """One after the other in one process: the first that does is named."""
    heavy = {*HEAVY, *FRAMES}
    loaded_after(f"""
from importlib import import_module
for name in {LIGHT!r}:
    import_module(name)
    assert not {heavy!r} & set(sys.modules), name
""")


def test_one_module_touches_arviz():
    assert [
        path.stem for path in modules() if any(name.split(".")[0] in ("arviz", "arviz_stats") for name, _ in imports_of(path))
    ] == ["idata"]


# Public names.


def test_public_names_are_the_same_wherever_they_are_listed():
    """Where they are loaded from, what readers of types are told, what `dir` and a star have; each with a docstring."""
    told = [node for node in ast.walk(ast.parse(Path(aemodel.__file__).read_text())) if isinstance(node, ast.ImportFrom)]
    typed = {(alias.asname, node.module) for node in told for alias in node.names if node.module.startswith("aemodel.")}
    assert typed == {(name, f"aemodel.{module}") for name, module in aemodel._HOME.items()}
    names = {}
    exec("from aemodel import *", names)
    contract = (
        "load_tables fit calibration_table identification_table posterior_epred posterior_predict save_model load_model score "
        "score_summary margin_loglik SavedModelError"
    )
    assert set(contract.split()) <= set(aemodel.__all__) <= set(names) & set(dir(aemodel))
    assert [name for name in aemodel.__all__ if names[name].__name__ != name or not names[name].__doc__] == []
    assert aemodel.__version__ == version("aemodel")
    with pytest.raises(AttributeError, match="module 'aemodel' has no attribute 'nothing'"):
        _ = aemodel.nothing


def test_without_the_fitting_libraries_the_error_says_what_to_install():
    program = (
        without("arviz", "pymc", "nutpie") + "try:\n    aemodel.fit\nexcept ImportError as error:\n    message = str(error)\n"
    )
    loaded_after(f"{program}assert 'aemodel.fit needs' in message and \"pip install 'aemodel[fit]'\" in message, message")


# One direction.


def modules():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Names of imported modules, each with whether the import is inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in ast.walk(f)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module, id(node) in inside))
    return found


def own(path, *, lazy):
    return [name for name, inside in imports_of(path) if name.startswith("aemodel.") and (lazy or not inside)]


def test_rooms_import_one_way():
    """Lazily too."""
    for path in modules():
        here = ROOMS.index(room_of(path))
        for name in own(path, lazy=True):
            assert ROOMS.index(name.split(".")[1]) <= here, f"{path.name} imports {name}"


def test_the_package_does_not_know_of_its_validation():
    for path in modules():
        assert "validation" not in {name.split(".")[0] for name, _ in imports_of(path)}, path.name


def test_only_the_command_line_scoring_and_models_read_back_import_lazily():
    for path in modules():
        lazy = {name for name, inside in imports_of(path) if inside and name.startswith("aemodel.")}
        assert not lazy or path.stem in ("cli", "cli_scoring", "score", "reader"), (path.name, lazy)


def test_modules_do_not_import_in_circles():
    """Lazily neither."""
    graph = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): own(path, lazy=True) for path in modules()}
    done, under_way = set(), []

    def visit(name):
        assert name not in under_way, " -> ".join([*under_way, name])
        if name in done or name not in graph:
            return
        under_way.append(name)
        for other in graph[name]:
            visit(other)
        done.add(under_way.pop())

    for name in graph:
        visit(name)


def test_answers_do_not_know_how_models_are_sampled():
    """But what is to be expected of a right model, which is found by fitting again."""
    for path in set((PACKAGE / "answers").glob("*.py")) - {PACKAGE / "answers" / "expected.py"}:
        assert not {"aemodel.inference.fitting", "aemodel.inference.model"} & set(own(path, lazy=True)), path.name


def test_modules_and_functions_stay_short():
    """Readable in one sitting; split what does two things."""
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, path.name
        for each in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
            told = each.body[0].end_lineno if ast.get_docstring(each) else each.lineno
            assert each.end_lineno - told < 70, f"{path.name}: {each.name}"
