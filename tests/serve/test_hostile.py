"""Folders of models whose content was changed by somebody who made all checksums anew."""

import os
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).parents[1] / "hostile.py"
FOLDERS = 140
"""Ten of each kind of change; `make campaign` tries thousands."""


def test_hostile_folders_are_refused_in_a_sentence_or_recommend_their_own_items() -> None:
    """In processes of their own, since a fault may end one."""
    told = subprocess.run(
        [sys.executable, str(CAMPAIGN), str(FOLDERS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    assert f"| all | {FOLDERS} |" in told.stdout
