"""Placeholder, being written."""

from __future__ import annotations

import argparse

from replication.scale import Scale

HELP = "write a model card and push a run's weights to the hub"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Exit status of the command."""
    raise NotImplementedError
