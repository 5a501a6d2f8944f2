"""Ten thousand damaged files in two processes: no traceback, no hang, no memory out of bounds."""

import json
import subprocess
import sys
from pathlib import Path

MOST_MEGABYTES = 500
FILES = 5_000
SEEDS = (1, 2)


def test_damaged_files_end_in_a_clean_error_or_in_an_import_that_adds_up():
    words = [sys.executable, "-m", "tests.formats.fuzz", "--files", str(FILES), "--seed"]
    root = Path(__file__).parents[2]
    runs = [
        subprocess.Popen(
            [*words, str(seed)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in SEEDS
    ]
    for run in runs:
        out, err = run.communicate(timeout=600)
        assert run.returncode == 0, err
        found = json.loads(out)
        assert found["peak_megabytes"] <= MOST_MEGABYTES
        ended = {what: found[what] for what in ("refused", "read", "read in part", "nothing kept")}
        assert sum(ended.values()) == FILES
        # If nearly all were refused, or nearly none, the readers would hardly have been tried.
        assert ended["read"] > 0.1 * FILES
        assert ended["read in part"] > 0.1 * FILES
        assert ended["refused"] > 0.3 * FILES
