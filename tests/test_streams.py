"""The command line where stdin, stdout or stderr is closed, full or without a reader, and where data hold a terminal's orders."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import aemodel
from aemodel import cli
from aemodel.inference.diagnostics import Diagnostics
from aemodel.scoring.progress import is_terminal, waiting
from tests.fixtures import FIXTURES
from tests.streams import command, in_terminal

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks")

HEADER = "id,age,relapse_site,months_to_relapse,sex,race_ethnicity"
PATIENTS = f"{HEADER}\np1,19,bm,20,female,hispanic\np2,45,iem,,,nh_asian\n"
MODEL = FIXTURES / "format3"
SCORE = ["score", "aall1331", "patients.csv", "--events", "sepsis", "--on-invalid", "null"]

# Arguments, and the exit code where nothing is wrong with the streams. The last word of a key says where the answer goes.
COMMANDS = {
    "help out": (["score", "--help"], 0),
    "version out": (["--version"], 0),
    "tables out": (["tables", "publication", "--format", "csv"], 0),
    "show out": (["show", MODEL], 0),
    "check out": (["check", MODEL], 1),
    "score out": (SCORE, 0),
    "score json out": ([*SCORE, "--format", "json"], 0),
    "score csv out": ([*SCORE, "--format", "csv"], 0),
    "score csv file": ([*SCORE[:3], "out.csv", *SCORE[3:]], 0),
    "score parquet file": ([*SCORE[:3], "out.parquet", *SCORE[3:]], 0),
    "cohort file": ([*SCORE[:3], "out.csv", *SCORE[3:], "--cohort"], 0),
    "calculator file": (["calculator", MODEL, "out.html"], 0),
    "report file": (["report", MODEL, "out.html"], 0),
    "fit file": (["fit", "publication", "--out", "model"], 1),
    "bad input file": (["score", "aall1331", "nowhere.csv"], 2),
    "bad usage file": (["score", "--unheard-of"], 2),
}
STREAMS = [
    {"stdout": "closed"},
    {"stderr": "closed"},
    {"stdin": "closed", "stderr": "gone"},
    {"stdin": "closed", "stdout": "closed", "stderr": "closed"},
    {"stdout": "full"},
    {"stderr": "full"},
    {"stdout": "gone", "stderr": "closed"},
]


@pytest.fixture(scope="module")
def stubbed(tmp_path_factory, invented_folder):
    """A folder with patients and a publication, where what takes long is not done and all libraries are loaded."""
    from aemodel.answers import calibration
    from aemodel.inference import fitting
    from aemodel.pages import report
    from aemodel.publication import margins
    from aemodel.saved import writer as saved
    from aemodel.scoring import score

    folder = tmp_path_factory.mktemp("place")
    (folder / "patients.csv").write_text(PATIENTS)
    (folder / "publication").symlink_to(invented_folder)
    table = calibration.calibration_table(aemodel.load_model(MODEL))
    fitted = SimpleNamespace(diagnostics=Diagnostics(1.2, 50.0, 60.0, 3, 0.5, "scale"))

    def made(path, *_):
        path.write_text("made")
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "calibration_table", lambda _: table)
        patch.setattr(margins, "family_margins", lambda *_: None)
        patch.setattr(fitting, "fit", lambda *_, **__: fitted)
        patch.setattr(saved, "save_model", lambda _, out: SimpleNamespace(folder=made(out)))
        patch.setattr(score, "now", lambda: "2020-01-01T00:00:00+00:00")
        patch.setattr(report, "write_report", lambda _, out, *__, **___: made(out))
        patch.chdir(folder)
        for arguments, _ in COMMANDS.values():
            CliRunner().invoke(cli.main, list(map(str, arguments)))
        left_in(folder)
        yield folder


@pytest.fixture
def place(stubbed, monkeypatch):
    monkeypatch.chdir(stubbed)
    return stubbed


def left_in(place):
    """Contents of what a command wrote, which is removed."""
    found = {path.name: path.read_bytes() for path in place.glob("*") if path.name.startswith(("out", "model"))}
    for name in found:
        (place / name).unlink()
    return found


def timeless(text):
    return re.sub(r"after \d+ s", "", text)


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_needs_no_stream_but_the_one_it_prints_on(place, what):
    """And says so on one that is there; a file it writes holds the same whatever is closed."""
    arguments, code = COMMANDS[what]
    usual, files = command(place, arguments), left_in(place)
    assert usual.code == code, usual
    assert bool(usual.out) == what.endswith("out")
    for streams in STREAMS:
        ended = command(place, arguments, **streams)
        out, err = streams.get("stdout", "kept"), streams.get("stderr", "kept")
        if usual.out and out != "kept":
            reason = {"closed": "it is closed", "full": "No space left on device"}
            said = "" if out == "gone" else f"Error: stdout: cannot be written: {reason[out]}\n"
            expected = (0 if out == "gone" else 2, "", said if err == "kept" else "")
        else:
            expected = (code, usual.out, timeless(usual.err) if err == "kept" else "")
        assert (ended.code, ended.out, timeless(ended.err)) == expected, streams
        assert left_in(place) == files, streams


def test_a_reader_that_stops_early_is_met_quietly_by_the_installed_command(place):
    """In a process of its own."""
    installed = os.path.join(os.path.dirname(sys.executable), "aemodel")
    with subprocess.Popen([installed, *SCORE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert (errors, process.returncode) == ("", 0)


def test_help_is_there_without_docstrings():
    code = "from aemodel.cli import main; main(prog_name='aemodel')"
    plain, bare = (
        subprocess.run(
            [sys.executable, *flags, "-c", code, "score", "-h"], capture_output=True, text=True, timeout=60, check=True
        )
        for flags in ([], ["-OO"])
    )
    assert "Score a file of patients" in plain.stdout
    assert bare.stdout == plain.stdout


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


written = io.StringIO()


@pytest.mark.parametrize("stream", [None, closed(), object(), written], ids=["none", "closed", "odd", "file"])
def test_nobody_watches_where_there_is_no_terminal(stream, monkeypatch):
    """As in a program without a console; and nothing is left in a log."""
    monkeypatch.setattr(sys, "stderr", stream)
    assert not is_terminal(stream)
    with waiting("Boiling"):
        pass
    assert stream is not written or written.getvalue() == ""


# Orders for terminals, in data.

ORDERS = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202etxt\u2066\u2028[red]x[/red]"
HARMLESS = r"\x1b]0;owned\x07\x1b[2J\x9b"
BOLD = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def hostile(tmp_path, monkeypatch, invented_folder):
    """Patients whose columns, cells and groups, and a publication whose texts, hold orders."""
    names, first, second = PATIENTS.splitlines()
    lines = [f"{names},{ORDERS}", f"{first.replace('p1', ORDERS)},a", f"{second},b"]
    (tmp_path / "patients.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "wrong.csv").write_text("\n".join([names, first.replace("female", ORDERS)]), encoding="utf-8")
    folder = shutil.copytree(invented_folder, tmp_path / "publication")
    about = (folder / "publication.toml").read_text(encoding="utf-8")
    title = f"title = {json.dumps(ORDERS)}"
    (folder / "publication.toml").write_text(re.sub(r"(?m)^title = .*$", lambda _: title, about), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (SCORE, 0),
        ([*SCORE, "--by", "id"], 0),
        ([*SCORE, "--by", ORDERS], 0),
        ([*SCORE, "--by", "nothing"], 2),
        ([*SCORE[:2], "wrong.csv"], 2),
        ([*SCORE[:3], f"{ORDERS.replace('/', '')}.csv", *SCORE[3:]], 0),
        ([*SCORE[:2], f"{ORDERS}.csv"], 2),
        (["score", f"--{ORDERS}"], 2),
        (["show", ORDERS], 2),
        (["tables", "publication"], 2),
    ],
    ids=["cell", "group", "grouping column", "columns", "value", "output", "input", "option", "model", "title"],
)
def test_data_give_a_terminal_no_orders(hostile, arguments, code):
    ended = command(hostile, arguments)
    texts = [ended.out, ended.err]
    assert ended.code == code, ended
    if code == 0:
        texts.append(BOLD.sub("", in_terminal(arguments, columns=300)))
    for text in texts:
        assert all(character.isprintable() or character == "\n" for character in text)
    assert all(HARMLESS in text for text in (texts[-1], ended.out + ended.err)), texts
    assert "[red]x" in texts[-1]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_programs_are_given_the_data_as_they_are(hostile, form):
    arguments = [*SCORE, "--format", form]
    out = command(hostile, arguments).out
    ids = [row["id"] for row in (json.loads(out) if form == "json" else csv.DictReader(io.StringIO(out, newline="")))]
    assert ids == [ORDERS, "p2"]
    shown = in_terminal(arguments)
    assert all(character.isprintable() or character == "\n" for character in shown)


# Caches.


@pytest.mark.slow
def test_a_package_that_cannot_be_written_to_fits_without_a_home(tmp_path, invented_folder):
    """Where neither Numba nor PyTensor nor Matplotlib has a place of its own for what it keeps; and not a word of it."""
    package = shutil.copytree(Path(aemodel.__file__).parent, tmp_path / "aemodel", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *package.rglob("*/")]:
        if folder.is_dir():
            (folder / "__pycache__").touch()  # a file in the place of a folder, which no permission overcomes
    home = tmp_path / "file"
    home.touch()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "PYTENSOR", "MPL", "XDG"))}
    variables |= {"HOME": str(home / "none"), "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    code = f"""
import warnings
import aemodel
assert aemodel.__file__.startswith({str(tmp_path)!r})
warnings.simplefilter("ignore")
tables = aemodel.load_tables({str(invented_folder)!r})
fitted = aemodel.fit(tables, seed=1, draws=20, chains=2, tune=50, attempts=1)
groups = fitted.idata.groups()
assert sorted(groups) == ["observed_data", "posterior", "prior", "sample_stats"], groups
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=900
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert not list(tmp_path.glob("aemodel-*"))
