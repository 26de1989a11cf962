"""Placeholder, being written."""

from __future__ import annotations

import argparse

from replication.scale import Scale

HELP = "submit a study to Slurm as a chain of jobs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Exit status of the command."""
    raise NotImplementedError
