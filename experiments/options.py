"""The options of every command. Those that several share are parents, so that they read and mean the same."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import plan, studies

_SET = "change a value of every run, as optim.lr=3e-4; makes scratch runs under _scratch/, which are never collected"


def parser(modules: Mapping[str, Any]) -> argparse.ArgumentParser:
    """The whole command line; `modules` are commands that bring options of their own."""
    whole = argparse.ArgumentParser(prog="python -m experiments", description=_DESCRIPTION)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared, many, some, work = _shared(), _many(), _some(), _work()
    commands.add_parser("list", parents=[shared], help="studies of a scale, with their question")
    show = commands.add_parser("show", parents=[shared, many], help="the runs of a study, or all of one run")
    show.add_argument("name", help="a study or the name of a run")
    chosen = _some(optional=True)
    planned = commands.add_parser("plan", parents=[shared, many, chosen], help="what a study would train, and its cost")
    planned.add_argument("--json", action="store_true", help="machine-readable")
    plan.arguments(planned)
    run = commands.add_parser("run", parents=[shared, many, some, work], help="train and score; continues what stands")
    run.add_argument("--no-eval", action="store_true", help="train only")
    run.add_argument("--mirror", choices=("wandb", "trackio", "tensorboard"), help="show the metrics there too")
    told = "score what is trained and not yet scored"
    evaluate = commands.add_parser("evaluate", parents=[shared, many, some, work], help=told)
    again = "generate nothing: print kept scores under each published convention"
    evaluate.add_argument("--rescore", action="store_true", help=again)
    other = "score on this eval of the scale in place of the runs' own, as a sampling at another temperature"
    evaluate.add_argument("--ask", action="append", default=[], metavar="EVAL", help=other)
    for name, module in modules.items():
        module.arguments(commands.add_parser(name, parents=[shared, many], help=module.HELP))
    commands.add_parser("status", parents=[shared], help="where every run stands")
    gather = commands.add_parser("collect", parents=[shared], help="write the result tables from complete runs")
    gather.add_argument("study", nargs="?", default="", help="a side study (default: the scale's own studies)")
    gather.add_argument("--into", type=Path, default=Path("experiments/results"), help="(default experiments/results)")
    gather.add_argument("--allow-dirty", action="store_true", help="also runs made by code that is not committed")
    commands.add_parser("doctor", add_help=False, help="check model, engine and machine before a long run")
    return whole


_DESCRIPTION = "Studies as commands. Nothing is trained or scored twice; every command continues where it stood."


def _shared() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(add_help=False)
    scale = "pocket, desk, paper, paper_v1, or a Python file that defines SCALE (default pocket)"
    found.add_argument("--scale", default="pocket", help=scale)
    found.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run directories (default runs)")
    return found


def _many() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(add_help=False)
    found.add_argument("--seeds", type=positive, default=1, help="number of seeds, from 0 on (default 1)")
    return found


def _some(*, optional: bool = False) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(add_help=False)
    if optional:
        found.add_argument("study", nargs="?", default=studies.MAIN, help="a name that `list` prints (default study)")
    else:
        found.add_argument("study", help="a name that `list` prints")
    found.add_argument("--only", help="runs whose name contains this, and the trunks they branch from")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=_SET)
    return found


def _work() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(add_help=False)
    found.add_argument("--workers", type=positive, help="processes side by side (default: the scale's)")
    found.add_argument("--engine", choices=("transformers", "vllm"), help="what answers (default: the scale's engine)")
    shelf = found.add_argument_group("published", "for the study `published`: the authors' released checkpoints")
    shelf.add_argument("--branch", default="main", help='branch to score, or "all" (default main)')
    shelf.add_argument("--copies", type=Path, help="folder with copies in the hub's layout, in place of the hub")
    shelf.add_argument("--base", help="the base model beside them: a folder or a hub id (default: the scale's)")
    part = found.add_argument_group("grid", "a part of the grid; a point is a run, or a trunk with its branches")
    part.add_argument("--method", choices=("full", "lora"), help="full fine-tuning or LoRA alone")
    part.add_argument("--index", type=int, help="one grid point alone, in this process or these ranks, from 0 on")
    return found


def positive(text: str) -> int:
    """An option that counts something: 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value
