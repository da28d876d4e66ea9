"""Doubles and builders that tests share."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Public data sets and real answers, which are not part of the project: tests that read them are skipped without them.
PUBLISHED = Path(os.environ.get("RLAIF_PUBLISHED_DATA") or ROOT.parent / "shared" / "data")
EMBEDDED_PROMPTS = str(ROOT / "assets" / "prompts")  # short ones, which scripted labelers can read
