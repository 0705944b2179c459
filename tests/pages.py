"""Runs the code blocks of README and docs as their reader would, and compares or renews the output printed there.

The blocks of a page run from top to bottom, Python in one namespace, in one empty folder. What stands in an HTML comment
directly above a block says more of it:

- ``output of the block above``: what that block prints, errors included; a line of ``...`` stands for any lines;
- ``file: NAME``: the block is the content of a file, written for the blocks that follow;
- ``not run: REASON``: only for commands that change the machine or take hours (`NEVER_RUN`).

Blocks of ``text``, and those for the documentation's builder, are shown and not run. `small_fits` makes fits short enough for a test.
``python -m tests.pages`` runs all pages and writes new output into them: for when the shipped model has been refitted.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass
from inspect import signature
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from warnings import catch_warnings, simplefilter

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEVER_RUN = ("make ", "git clone ", "pip install ", "spark-submit ", "python -m validation ")
BLOCK = re.compile(r"(?P<above>(?:^<!-- .+? -->\n)*)^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
COMMENT = re.compile(r"<!-- (.+?) -->")
NUMBER = re.compile(r"\d+\.\d+|\d+")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands (line of its first line of text, and the text's place in the page) and what it is."""

    line: int
    place: tuple[int, int]
    language: str
    notes: tuple[str, ...]
    text: str

    def note(self, name: str) -> str | None:
        found = [note.partition(":")[2].strip() for note in self.notes if note.partition(":")[0] == name]
        return found[0] if found else None


def blocks_of(page: str) -> list[Block]:
    return [
        Block(
            page[: m.start("text")].count("\n") + 1,
            m.span("text"),
            m["language"],
            tuple(COMMENT.findall(m["above"])),
            m["text"],
        )
        for m in BLOCK.finditer(page)
    ]


def run_page(path: Path, folder: Path) -> list[tuple[Block, str]]:
    """Run a page's blocks in a folder: the blocks that show output, each with what was really printed."""
    shutil.copy(ROOT / "notebooks" / "patients.csv", folder)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown, printed = [], ""
    with chdir(folder):
        for block in blocks_of(path.read_text()):
            if block.note("output of the block above") is not None:
                shown.append((block, printed))
            elif (name := block.note("file")) is not None:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(block.text)
            elif block.note("not run") is None:
                try:
                    printed = _run(block, namespace, path.name)
                except BaseException as error:
                    raise AssertionError(f"{path}, line {block.line}: {type(error).__name__}: {error}") from error
    return shown


def _run(block: Block, namespace: dict[str, Any], page: str) -> str:
    if block.language == "python":
        with redirect_stdout(StringIO()) as out:
            # Line numbers in a traceback are the page's.
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
        return out.getvalue()
    if block.language == "sh":
        return "".join(_shell(line) for line in block.text.replace("\\\n", " ").splitlines() if line and line[0] != "#")
    directive = block.language.startswith("{")  # of the documentation's builder
    assert directive or block.language in ("text", "toml", "json"), f"nothing runs blocks of {block.language!r}"
    return ""


def _shell(line: str) -> str:
    """A command of the package, in this process, where `small_fits` reaches it; ``> file`` is understood."""
    from click.testing import CliRunner

    from aemodel.cli import main

    words = shlex.split(line, comments=True)
    assert words[0] == "aemodel", f"only aemodel is run, not {words[0]!r}; say `not run: REASON` above"
    words, target = (words[:-2], words[-1]) if ">" in words else (words, None)
    found = CliRunner().invoke(main, words[1:], prog_name="aemodel")
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    # A small fit does not pass the gate, and says so; an error that is shown on the page is expected there.
    assert found.exit_code == 0 or "diagnostics failed" in found.output or "Error: " in found.output, found.output
    if found.exit_code in (2, 3):
        return found.output
    assert found.exit_code == 0 or words[1] == "fit", found.output
    if target is not None:
        Path(target).write_text(found.stdout)
        return found.stderr
    return found.output


def same_output(shown: str, printed: str) -> bool:
    """Whether two outputs agree but for white space and, in the last digit of a decimal number, rounding."""
    want, have = ([" ".join(line.split()) for line in text.strip().splitlines()] for text in (shown, printed))
    return _same_lines(want, have)


def _same_lines(want: list[str], have: list[str]) -> bool:
    if not want:
        return not have
    if want[0] == "...":
        return any(_same_lines(want[1:], have[skipped:]) for skipped in range(len(have) + 1))
    return bool(have) and _same_line(want[0], have[0]) and _same_lines(want[1:], have[1:])


def _same_line(want: str, have: str) -> bool:
    return NUMBER.sub("#", want) == NUMBER.sub("#", have) and all(
        a == b or ("." in a and abs(float(a) - float(b)) < 1.5 * 10.0 ** -len(a.partition(".")[2]))
        for a, b in zip(NUMBER.findall(want), NUMBER.findall(have), strict=True)
    )


@contextmanager
def small_fits() -> Iterator[None]:
    """Fits of few draws, each made once: what a page shows is run, at a size that a test can wait for."""
    import aemodel
    from aemodel.inference import fitting

    real, made = fitting.fit, {}

    def small(tables: Any, **options: Any) -> Any:
        given = signature(real).bind(tables, **options)
        given.apply_defaults()
        given.arguments |= {"seed": 1, "draws": 40, "chains": 2, "tune": 60, "progress": False}
        key = (tables.digest, repr(given.kwargs))
        if key not in made:
            with catch_warnings():
                simplefilter("ignore", UserWarning)  # so few draws cannot pass the gate
                made[key] = real(*given.args, **given.kwargs)
        return made[key]

    fitting.fit = aemodel.fit = small
    try:
        yield
    finally:
        fitting.fit = aemodel.fit = real


def renewed(page: str, shown: list[tuple[Block, str]]) -> str:
    """The page with what was really printed; shortened output (with ``...``) is renewed line by line, if it has changed."""
    for block, printed in reversed(shown):
        if same_output(block.text, printed):
            continue
        start, end = block.place
        page = page[:start] + (_shortened(block.text, printed) if "\n..." in block.text else _tidy(printed)) + page[end:]
    return page


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


def _shortened(old: str, printed: str) -> str:
    """As many first and last lines of the new output as the old one had about its only ``...``."""
    before, _, after = _tidy(old).partition("\n...\n")
    lines = _tidy(printed).splitlines()
    last = len(after.splitlines())
    return "\n".join([*lines[: len(before.splitlines())], "...", *(lines[-last:] if last else [])]) + "\n"


def main() -> None:
    with small_fits():
        for path in PAGES:
            with TemporaryDirectory() as folder:
                page = path.read_text()
                new = renewed(page, run_page(path, Path(folder)))
            if new != page:
                path.write_text(new)
            sys.stdout.write(f"{path.relative_to(ROOT)}: {'new output' if new != page else 'as it was'}\n")


if __name__ == "__main__":
    main()
