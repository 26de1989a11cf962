"""Studies as commands: list, show, plan, prepare, run, evaluate, status, submit, collect, publish, doctor."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import (
    collect,
    grid,
    plan,
    prepare,
    publish,
    published,
    scales,
    schedule,
    scoring,
    sides,
    status,
    studies,
    submit,
)
from experiments import options as options_of
from experiments.jobs import one_line, quiet
from replication import preemption, ranks
from replication.config import Run, encode
from replication.runs import find_runs, folder_of
from replication.scale import Scale


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a run failed, 2 the request cannot be carried out, 75 preempted: try again later."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # The doctor reads its own options: argparse keeps none that start with a dash for a subcommand's rest.
    parser = options_of.parser(MODULES)
    options = parser.parse_args(given[:1] if given[:1] == ["doctor"] else given)
    options.rest = given[1:]
    try:
        return int(COMMANDS[options.command](options))
    except preemption.Preempted as left:
        print(f"experiments: {one_line(left)}; the same command continues", file=sys.stderr)
        return preemption.EXIT_STATUS
    except (ValueError, FileNotFoundError) as error:
        print(f"experiments: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has had enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (RuntimeError, OSError) as error:
        print(f"experiments: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: stopped; the same command continues where it stood", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> int:
    scale = scales.load(options.scale)
    for name, question in studies.names(scale).items():
        print(f"{name:24s} {len(studies.runs(name, scale, seeds=1)):4d} runs a seed   {question}")
    for name in (name for name, side in sides.STUDIES.items() if options.scale in side.SCALES):
        own = sides.STUDIES[name].SCALES[options.scale]
        print(f"{name:24s} {len(sides.arms(own, 0)):4d} runs a seed   {sides.question(name)}")
    print(f"{scoring.STUDY:24s} {len(published.PUBLISHED):4d} models        the authors' released checkpoints, scored")
    return 0


def _show(options: argparse.Namespace) -> int:
    scale = _scale(options, options.name.split("/")[0])
    if options.name in studies.names(scale):
        for run in studies.runs(options.name, scale, seeds=options.seeds):
            print(f"{run.digest()}  {folder_of(run, options.runs).status:9s} {run.name()}")
        return 0
    run = _named(options.name, scale, options.seeds)
    print(json.dumps(encode(run) | {"name": run.name(), "digest": run.digest()}, indent=1))
    return 0


def _plan(options: argparse.Namespace) -> int:
    scale = _scale(options, options.study)
    print(plan.report(_chosen(options, scale), scale, options))
    return 0


def _run(options: argparse.Namespace) -> int:
    scale = _scale(options, options.study)
    if options.study == scoring.STUDY:
        return _published(options, scale)
    runs = _chosen(options, scale)
    root = options.runs / "_scratch" if options.set else options.runs
    # One vLLM serves all runs: they are scored after the training, not each at its end.
    engine = options.engine or scale.engine
    at_once = not options.no_eval and engine == "transformers"
    asked = schedule.Order(
        runs,
        scale,
        root,
        workers=options.workers or scale.workers,
        with_evals=at_once,
        with_base=at_once and not options.set and options.index is None,
        mirror=options.mirror,
    )
    if ranks.world() > 1 or options.index is not None:
        return _run_here(options, asked)
    began = time.monotonic()
    ended = schedule.execute(asked)
    trained = [run for run in runs if folder_of(run, root).status == "complete"]
    if not at_once and not options.no_eval:
        ended += scoring.score_runs(trained, scale, root, engine=engine, with_base=not options.set)
    print(f"{len(ended)} jobs in {(time.monotonic() - began) / 60:.1f} min, under {root / scale.name}")
    return _report_failures([done for done in ended if done.error])


def _run_here(options: argparse.Namespace, asked: schedule.Order) -> int:
    """One run after the other in this process, which may be one rank of many and may be told to leave."""
    preemption.listen()
    ended = schedule.inline(asked)
    if not asked.with_evals and not options.no_eval and ranks.rank() == 0:
        print(f"trained; score by one process: python -m experiments evaluate {options.study} ...")
    return _report_failures([done for done in ended if done.error])


def _published(options: argparse.Namespace, scale: Scale) -> int:
    if options.set or getattr(options, "no_eval", False):
        raise ValueError("published checkpoints are scored, not trained: --set and --no-eval do not apply")
    shelf = scoring.Shelf(options.only, options.branch, options.copies, options.base)
    began = time.monotonic()
    ended = scoring.score_published(scale, options.runs, shelf, engine=options.engine or scale.engine)
    where = options.runs / scale.name / scoring.STUDY
    print(f"{len(ended)} models in {(time.monotonic() - began) / 60:.1f} min, under {where}")
    return _report_failures([done for done in ended if done.error])


def _evaluate(options: argparse.Namespace) -> int:
    scale = _scale(options, options.study)
    if options.rescore:
        return _rescore(options, scale)
    if options.study == scoring.STUDY:
        return _published(options, scale)
    asked = tuple(scale.eval(name).name for name in options.ask)
    runs = [replace(run, evals=asked or run.evals) for run in _chosen(options, scale) if run.evals]
    root = options.runs / "_scratch" if options.set else options.runs
    absent = [run for run in runs if folder_of(run, root).status != "complete"]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(runs)} runs are not trained yet, the first is {absent[0].name()}; "
            f"train them with `python -m experiments run {options.study} --scale {options.scale}`"
        )
    engine = options.engine or scale.engine
    # The base is scored once, by the grid's first point.
    with_base = not options.set and not options.index
    if options.index is not None:
        _leave_when_told()
    # One engine for all, or one process that a signal reaches; else several side by side.
    if engine == "vllm" or options.index is not None:
        alone = options.index is None
        ended = scoring.score_runs(runs, scale, root, engine=engine, with_base=with_base, base_last=not alone)
    else:
        workers = options.workers or scale.workers
        ended = schedule.execute(schedule.Order(runs, scale, root, workers=workers, with_base=with_base))
    return _report_failures([done for done in ended if done.error])


def _leave_when_told() -> None:
    """At SIGTERM or SIGUSR1 leave at once with the exit status of preemption: every answer is on the disk already."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: os._exit(preemption.EXIT_STATUS))


def _rescore(options: argparse.Namespace, scale: Scale) -> int:
    """Every score of the chosen runs under each convention, from what was generated then."""
    from replication import rescore

    folders = _scored(options, scale)
    if not folders:
        raise FileNotFoundError(f"nothing of {options.study} is scored yet under {options.runs / scale.name}")
    for text in rescore.report(folders):
        print(text)
    return 0


def _scored(options: argparse.Namespace, scale: Scale) -> list[Path]:
    """Folders of all scores of a study's runs, the base's among them."""
    if options.study == scoring.STUDY:
        runs = sorted(path for path in (options.runs / scale.name / scoring.STUDY).glob(f"*{options.only or ''}*"))
    else:
        root = options.runs / "_scratch" if options.set else options.runs
        runs = [root / scale.name / "base", *(folder_of(run, root).path for run in _chosen(options, scale))]
    return [file.parent for run in runs for file in sorted((run / "evals").glob("step_*/*/scores.json"))]


def _doctor(options: argparse.Namespace) -> int:
    from replication import doctor

    quiet()
    return doctor.main(options.rest)


def _status(options: argparse.Namespace) -> int:
    scale = scales.load(options.scale)
    folders = find_runs(options.runs, scale=scale.name)
    if not folders:
        print(f"no runs under {options.runs / scale.name}")
        return 0
    print(status.table(folders))
    return 0


def _collect(options: argparse.Namespace) -> int:
    scale = _scale(options, options.study)
    counts = collect.collect(scale, options.runs, options.into, allow_dirty=options.allow_dirty)
    for study, count in sorted(counts.items()):
        print(f"{count:6d} scores  {options.into / scale.name / study}.jsonl")
    return 0


def _module(module: Any) -> Callable[[argparse.Namespace], int]:
    """A command that lives in a module of its own: HELP, arguments(parser), run(options, scale)."""
    return lambda options: module.run(options, _scale(options, getattr(options, "study", "")))


def _scale(options: argparse.Namespace, study: str) -> Scale:
    """The scale asked for; of a side study, its own at that size."""
    return sides.scale(study, options.scale) or scales.load(options.scale)


MODULES = {"prepare": prepare, "submit": submit, "publish": publish}
COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    **{name: _module(module) for name, module in MODULES.items()},
    "list": _list,
    "show": _show,
    "plan": _plan,
    "run": _run,
    "evaluate": _evaluate,
    "status": _status,
    "collect": _collect,
    "doctor": _doctor,
}


def _chosen(options: argparse.Namespace, scale: Scale) -> list[Run]:
    runs = studies.runs(options.study, scale, seeds=options.seeds)
    if options.only:
        runs = [run for run in runs if options.only in run.name()]
        if not runs:
            raise ValueError(f"--only {options.only!r} fits no run of {options.study}; see `show {options.study}`")
        runs = _with_parents(runs, scale, options)
    if options.set:
        # A branch must follow its trunk into the new configuration, name and all.
        renamed = {run.name(): studies.override(run, options.set) for run in runs}
        runs = [
            run
            if run.branch is None
            else replace(run, branch=replace(run.branch, parent=renamed[run.branch.parent].name()))
            for run in renamed.values()
        ]
    runs = _distinct(runs)
    method, index = getattr(options, "method", None), getattr(options, "index", None)
    if index is not None:
        return list(grid.point(runs, method, index))
    return [run for family in grid.points(runs, method) for run in family] if method else runs


def _distinct(runs: list[Run]) -> list[Run]:
    """Each run once: a value set for all lengths or seeds may have made some of them the same.

    Raises:
        ValueError: two runs of one name that differ.
    """
    found: dict[str, Run] = {}
    for run in runs:
        if found.setdefault(run.name(), run).digest() != run.digest():
            raise ValueError(f"two different runs would be called {run.name()}; narrow them down with --only")
    return list(found.values())


def _with_parents(runs: list[Run], scale: Scale, options: argparse.Namespace) -> list[Run]:
    everything = {run.name(): run for run in studies.runs(options.study, scale, seeds=options.seeds)}
    parents = {run.branch.parent: everything[run.branch.parent] for run in runs if run.branch}
    return [run for name, run in parents.items() if run not in runs] + runs


def _named(name: str, scale: Scale, seeds: int) -> Run:
    for study in studies.names(scale):
        for run in studies.runs(study, scale, seeds=seeds):
            if run.name() == name:
                return run
    raise ValueError(f"no study or run {name!r} at scale {scale.name!r}; see `python -m experiments list`")


def _report_failures(failed: list[schedule.Done]) -> int:
    for done in failed:
        print(f"FAILED {done.name}: {done.error}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} jobs failed; mend the cause and run the same command: the rest is kept", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
