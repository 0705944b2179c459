"""Many rounds in several processes: each result is a file of its own, so that a run goes on where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aemodel.publication.tables import Tables, load_tables
from aemodel.scoring.whole import whole
from validation.laboratory import Laboratory, make_laboratory
from validation.ranks import one_round

_laboratory: list[Laboratory] = []
"""This process's compiled model; made once by `_start`."""


Round = Callable[..., dict[str, Any]]
"""A function of a laboratory, a seed and options, to be found by its name."""


def run_rounds(
    publication: str,
    folder: Path,
    seeds: Sequence[int],
    *,
    what: Round = one_round,
    make: Callable[[Tables], Laboratory] = make_laboratory,
    processes: int = 2,
    **options: Any,
) -> list[dict[str, Any]]:
    """Rounds of ``what`` for each seed that has no result in ``folder`` yet, then all results in the order of seeds.

    Each process does them with a laboratory of the publication that it makes by ``make``.

    Raises
    ------
    ValueError
        The folder holds results of other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_options(folder, {"publication": publication, **options})
    missing = [seed for seed in seeds if not _file(folder, seed).exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(folder.name, total=len(seeds), completed=len(seeds) - len(missing))
        if missing:
            work = partial(what, **options)
            _in_processes(partial(_start, publication, make), folder, missing, processes, work, lambda: progress.advance(task))
    return read_rounds(folder, seeds)


def read_rounds(folder: Path, seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [json.loads(_file(folder, seed).read_text(encoding="utf-8")) for seed in seeds if _file(folder, seed).exists()]


def _in_processes(
    start: Callable[[], None], folder: Path, seeds: Sequence[int], processes: int, what: Round, advance: Callable[[], None]
) -> None:
    workers = min(processes, len(seeds))
    with ProcessPoolExecutor(workers, get_context("spawn"), start) as pool:
        futures = [pool.submit(_round, folder, seed, what) for seed in seeds]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start(publication: str, make: Callable[[Tables], Laboratory]) -> None:
    _laboratory.append(make(load_tables(publication)))


def _round(folder: Path, seed: int, what: Round) -> None:
    _write(_file(folder, seed), what(_laboratory[0], seed))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with whole(path, "folder") as new:
        new.write_text(json.dumps(content), encoding="utf-8")


def _check_options(folder: Path, options: Mapping[str, Any]) -> None:
    path = folder / "options.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != dict(options):
        raise ValueError(f"folder: {str(folder)!r} holds results of other options: {path.read_text(encoding='utf-8')}")
    _write(path, options)


def _file(folder: Path, seed: int) -> Path:
    return folder / f"round-{seed:06d}.json"
