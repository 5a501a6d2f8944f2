"""Damaged files through every reader: each ends in a clean error, or in an import that adds up.

``python -m tests.formats.fuzz --files 10000 --seed 1`` prints what became of them, which raised the
peak of memory and which took longest, and fails on anything else: another exception, rows that
conform to nothing, more than ten seconds, more than 500 MB. What failed is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np

from ea_arrow.creation import init
from ea_arrow.errors import EaArrowError
from ea_arrow.joining import choose, sampled
from ea_arrow.normalise import Normaliser
from ea_arrow.rejects import reject_rows
from ea_arrow.schema import BOX
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.registry import LABELS, PREDICTIONS, open_predictions, read_ground_truth
from tests.formats.conftest import cases
from tests.formats.dataset import coco_ground_truth, write_json
from tests.formats.mutations import AROUND, damaged, meant_otherwise
from tests.formats.test_contract import draw_images

SECONDS = 10
MEGABYTES = 500
_BEFALLEN = {befallen.__name__ for befallen in AROUND}
_MEMORY = Path("/dev/shm")
RISE = 8  # megabytes by which a single file must raise the peak to be named


class Hang(Exception):
    """A file took too long."""


def peak() -> int:
    """The most memory this process held, in MB; ``getrusage`` would begin with its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


class Fuzzer:
    """Writes each case once, then damages copies of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.images = draw_images(folder / "images")
        truth = write_json(folder / "gt.json", coco_ground_truth())
        project = init(folder / "project", truth)
        self.units, self.classes = project._store.data_units(), project._store.classes()
        self.cases = [("import", name, case) for name, case in cases("PREDICTION_CASES")]
        self.cases += [("labels", name, case) for name, case in cases("LABEL_CASES")]
        self.paths = {}
        for what, name, case in self.cases:
            into = folder / f"{what}-{name}"
            into.mkdir()
            written = case.write(into)
            given = written if isinstance(written, list) else [written]
            files = sorted(path for path in into.rglob("*") if path.is_file())
            self.paths[what, name] = into, given, files
            shutil.copytree(into, self._copy_of(into))
        self.files = [path for _, _, files in self.paths.values() for path in files]
        self.doing = ""

    def _copy_of(self, path: Path) -> Path:
        return self.folder / "copies" / path.relative_to(self.folder)

    def one(self) -> str:
        """Damage one file of one case and read it; say what became of it."""
        what, name, case = self.chance.choice(self.cases)
        whole, given, files = self.paths[what, name]
        original = self.chance.choice(files)
        copy, victim = self._copy_of(whole), self._copy_of(original)
        how = self._damage(victim)
        form = self._form(case, PREDICTIONS if what == "import" else LABELS)
        self.doing = f"{what} {name} as {form or 'found'}, {victim.name}: {how}"
        outcome = self._read(what, case, [self._copy_of(path) for path in given], form, copy)
        if how in _BEFALLEN:
            shutil.rmtree(copy)
            shutil.copytree(whole, copy)
        else:
            victim.write_bytes(original.read_bytes())
        return outcome

    def _read(self, what, case, paths, form, copy) -> str:
        try:
            read = self._labels if what == "labels" else self._predictions
            return read(case, paths, form)
        except EaArrowError as error:
            return _refused(error)
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / copy.name
            shutil.copytree(copy, kept, symlinks=True, copy_function=_copied)
            sys.stderr.write(f"{self.doing}; kept in {kept}\n")
            raise

    def _damage(self, victim: Path) -> str:
        kind = self.chance.random()
        if kind < 0.35:
            victim.write_bytes(damaged(victim.read_bytes(), self.chance))
            return "bytes"
        if kind < 0.85:
            victim.write_bytes(meant_otherwise(victim.read_bytes(), self.chance))
            return "meaning"
        if kind < 0.9:
            other = self.chance.choice(self.files)
            shutil.copyfile(other, victim)
            return f"{other.parent.name}/{other.name} in its place"
        befallen = self.chance.choice(AROUND)
        befallen(victim, victim.parent, self.chance)
        return befallen.__name__

    def _form(self, case, known) -> str | None:
        """Mostly the right format; else whichever is found, or a wrong one."""
        kind = self.chance.random()
        if kind < 0.7:
            return case.format
        return None if kind < 0.9 else self.chance.choice(list(known))

    def _predictions(self, case, paths, form):
        options = case.options(paths[0].parent) if callable(case.options) else dict(case.options)
        options.pop("format", None)
        reading = Reading(
            options.get("box"),
            options.get("relative"),
            options.get("one_based", False),
            options=options.get("options", {}) if form == case.format else {},
        )
        counts = Counter()
        for _, _, source in open_predictions(paths, form, reading):
            sample, rest = sampled(source.batches())
            joining = choose(
                *(sample, source.coordinates, self.units, self.classes),
                *(options.get("match"), options.get("classes")),
            )
            normalise = Normaliser(self.units, self.classes, joining.coordinates, "predictions")
            for batches in (sample, rest):
                for raw in batches:
                    _normalise(normalise, joining.apply(raw), counts)
            for note, number in source.notes.items():
                assert note.strip()
                assert number >= 0
        return _outcome(counts)

    def _labels(self, case, paths, form):
        options = case.options(paths[0].parent) if callable(case.options) else dict(case.options)
        reading = Reading(
            options.get("box"),
            images=self.images if case.images else options.get("images"),
            options=options.get("options", {}) if form == case.format else {},
        )
        truth = read_ground_truth(paths[0], form, reading)
        normalise = Normaliser(
            truth.data_units, truth.ontology.to_table(), truth.coordinates, "labels"
        )
        counts = Counter()
        for raw in truth.labels:
            _normalise(normalise, raw, counts)
        return _outcome(counts)


def _refused(error: EaArrowError) -> str:
    assert error.message.strip(), "an error without a message"
    assert len(str(error)) < 3000, "an endless message"
    str(error).encode("utf-8", "surrogateescape")
    return "refused"


def _outcome(counts: Counter[str]) -> str:
    if not counts["kept"]:
        return "nothing kept"
    return "read in part" if counts["refused"] else "read"


def _normalise(normalise, raw, counts):
    raw.validate(full=True)
    batch = normalise(raw)
    rows = batch.rows
    rows.validate(full=True)
    assert rows.num_rows + batch.rejected.num_rows == raw.num_rows
    if batch.rejected.num_rows:
        refused = reject_rows(batch, import_id="i", iteration="x", source="s")
        assert all(refused["message"].to_pylist())
        json.dumps(refused["payload"].to_pylist())
    for name in ("data_hash", "feature_hash"):
        assert rows[name].null_count == 0
    box = np.stack([rows[name].to_numpy(zero_copy_only=False) for name in BOX])
    boxed = ~np.isnan(box).all(axis=0)  # a classification has none
    assert np.isfinite(box[:, boxed]).all()
    assert (box[2:, boxed] >= 0).all()
    if "confidence" in rows.schema.names:
        assert np.isfinite(rows["confidence"].to_numpy(zero_copy_only=False)).all()
    counts["refused"] += batch.rejected.num_rows
    counts["kept"] += rows.num_rows


def _copied(source: str, target: str) -> None:
    """Keep what failed, but not a pipe, nor a hole of 10 GB."""
    if Path(source).is_file() and Path(source).stat().st_size < 1 << 28:
        shutil.copyfile(source, target)
    else:
        Path(f"{target}.too-large-or-pipe").touch()


def run(files: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage and read so many files; return how many ended how, and what is remarkable."""

    def too_long(*_):
        raise Hang

    signal.signal(signal.SIGALRM, too_long)
    found: Counter[str] = Counter()
    remarks, slowest = [], (0.0, "")
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        fuzzer = Fuzzer(Path(folder), seed)
        before = peak()
        for _ in range(files):
            began = time.process_time()
            signal.alarm(SECONDS)
            found[fuzzer.one()] += 1
            signal.alarm(0)
            slowest = max(slowest, (time.process_time() - began, fuzzer.doing))
            now = peak()
            if now > before + RISE:
                remarks.append(f"{before} to {now} MB: {fuzzer.doing}")
            before = now
    remarks.append(f"slowest {slowest[0]:.2f} s: {slowest[1]}")
    return found, remarks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    try:
        found, remarks = run(given.files, given.seed)
    except BaseException:  # noqa: BLE001 - a hang is none of the errors
        traceback.print_exc()
        return 1
    sys.stderr.writelines(f"{remark}\n" for remark in remarks)
    seconds = round(time.monotonic() - began, 1)
    sys.stdout.write(json.dumps({**found, "peak_megabytes": peak(), "seconds": seconds}) + "\n")
    return int(peak() > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
