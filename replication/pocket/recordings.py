"""Where recorded speech lies on this machine, if it does: the Free Spoken Digit Dataset as one tar file.

Standard library only, so that a study can choose between recorded and synthetic speech before torch is loaded.
"""

from __future__ import annotations

import os
from pathlib import Path

from replication.provenance import ROOT

FILE = Path("speech") / "fsdd_recordings.tar"


def recordings() -> Path | None:
    """The tar of recordings in `$REPLICATION_DATA`, else in `data` of the checkout, else in `shared/data` beside it."""
    named = os.environ.get("REPLICATION_DATA")
    places = [*([Path(named)] if named else []), ROOT / "data", ROOT.parent / "shared" / "data"]
    return next((place / FILE for place in places if (place / FILE).is_file()), None)
