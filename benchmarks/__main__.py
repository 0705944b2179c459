"""All benchmarks in one run, into `benchmarks/RESULTS.md`: `python -m benchmarks [NAME ...]`, on an idle machine.

Each is a command of its own, quoted above what it printed. Parts that are not named keep what they had.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
COMMANDS = {
    "start": ["benchmarks/start.py"],
    "whole fit": ["benchmarks/whole_fit.py"],
    "fit": ["benchmarks/fit.py"],
    "patients": ["benchmarks/patients.py"],
    "scoring": ["benchmarks/scoring.py"],
}
PACKAGES = ("aemodel", "numpy", "numba", "pytensor", "pymc", "nutpie", "duckdb", "polars", "pandas")


def main(names: list[str]) -> None:
    if unknown := sorted(set(names) - set(COMMANDS)):
        raise SystemExit(f"unknown benchmarks {', '.join(unknown)}; there are {', '.join(COMMANDS)}")
    parts = _parts() if names and RESULTS.exists() else {}
    for name in names or COMMANDS:
        print(name, flush=True)
        command = [sys.executable, *COMMANDS[name]]
        done = subprocess.run(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, check=True, text=True)
        stated = f"{datetime.now(UTC):%Y-%m-%d}, {_machine()}; load before {os.getloadavg()[0]:.1f}"
        parts[name] = f"{stated}\n\n    python {shlex.join(COMMANDS[name])}\n\n```\n{done.stdout.strip(chr(10))}\n```\n"
        RESULTS.write_text(
            "# Benchmarks\n\nWritten by `make bench`; ratios are of runs side by side.\n\n"
            + "\n".join(f"## {each}\n\n{parts[each]}" for each in COMMANDS if each in parts),
            encoding="utf-8",
        )


def _parts() -> dict[str, str]:
    texts = re.split(r"^## (.+)\n\n", RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.rstrip("\n") + "\n" for name, text in zip(texts[::2], texts[1::2], strict=True)}


def _machine() -> str:
    found = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.+)", found)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = processor[1] if processor else platform.processor()
    return f"{cores} cores of {name}, Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main(sys.argv[1:])
