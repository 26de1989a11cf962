"""Where the published financial tweets lie on this machine, if they do: two CSV files in one folder.

Standard library only, so that a study can choose between published and synthetic tweets before torch is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path

from replication.provenance import ROOT

FOLDER = Path("sentiment") / "twitter_financial_sentiment"
FILES = {"train": "sent_train.csv", "validation": "sent_valid.csv"}


def tweets() -> Path | None:
    """The folder of tweets in `$REPLICATION_DATA`, else in `data` of the checkout, else in `shared/data` beside it."""
    named = os.environ.get("REPLICATION_DATA")
    places = [*([Path(named)] if named else []), ROOT / "data", ROOT.parent / "shared" / "data"]
    folders = (place / FOLDER for place in places)
    return next((folder for folder in folders if all((folder / file).is_file() for file in FILES.values())), None)
