"""How long the package takes to start, beside importing NumPy and Narwhals alone: in turns, each in a new process.

    python benchmarks/start.py [--rows 1000] [--times 7]

Once as installed packages are found (an installer may leave them uncompiled, and where Python may not write bytecode it
compiles them every time), and once with all bytecode written beforehand, in a folder of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scoring import EVENTS, GENERATED

AEMODEL = [sys.executable, "-m", "aemodel.cli", "score", "aall1331"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--times", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        score, parquet = (_score(arguments.rows, Path(folder), form) for form in ("csv", "parquet"))
        commands = {
            "import numpy, narwhals": [sys.executable, "-c", "import numpy, narwhals"],
            "import aemodel": [sys.executable, "-c", "import aemodel"],
            f"score {arguments.rows:,} rows of CSV, all events": score,
            f"score {arguments.rows:,} rows of Parquet, all events": parquet,
            f"score {arguments.rows:,} rows of CSV, four events": [*score, "--events", ",".join(EVENTS)],
        }
        for label, environment in (("as found", dict(os.environ)), ("compiled", with_bytecode(folder))):
            print(f"\n{'Bytecode ' + label:42s}{'seconds':>10s}{'times':>8s}")
            floor = 0.0
            for name, seconds in _timed(commands, environment, arguments.times).items():
                floor = floor or seconds
                print(f"{name:42s}{seconds:>10.3f}{seconds / floor:>8.2f}")


def with_bytecode(folder: str) -> dict[str, str]:
    """The environment, with bytecode kept in the folder, where there is none yet."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}


def _score(rows: int, folder: Path, form: str) -> list[str]:
    """The command that scores so many rows, once they are there."""
    from aemodel.scoring.files import connect

    path = folder / f"patients.{form}"
    with connect() as connection:
        relation = connection.sql(GENERATED.format(rows=rows))
        relation.write_csv(str(path)) if form == "csv" else relation.write_parquet(str(path))
    return [*AEMODEL, str(path), str(folder / f"scored.{form}")]


def _timed(commands: dict[str, list[str]], environment: dict[str, str], times: int) -> dict[str, float]:
    """Median seconds of each command, once it has run for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(times + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


if __name__ == "__main__":
    main()
