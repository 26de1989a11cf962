"""Placeholder, being written."""

from __future__ import annotations

import argparse

from replication.scale import Scale

HELP = "tokenise the data of a study into shards; continues what stands"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""


def run(options: argparse.Namespace, scale: Scale) -> int:
    """Exit status of the command."""
    raise NotImplementedError
