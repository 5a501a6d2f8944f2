"""Damaged files through every reader: each ends in a clean error, or in an import that adds up.

``python -m tests.formats.fuzz --files 10000 --seed 1`` prints what became of them, and fails on
anything else: another exception, more than ten seconds, more than 500 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from ea_arrow.creation import init
from ea_arrow.errors import EaArrowError
from ea_arrow.joining import choose, sampled
from ea_arrow.normalise import Normaliser
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.registry import open_predictions, read_ground_truth
from tests.formats.conftest import cases
from tests.formats.dataset import coco_ground_truth, write_json
from tests.formats.test_contract import draw_images

SECONDS = 10
MEGABYTES = 500
TOKENS = (
    *(
        b"nan",
        b"-1",
        b"1e400",
        b"9" * 30,
        b"0x1F",
        b"null",
        b"true",
        b"\\ud800",
        b"\x00",
        b"\xff\xfe",
    ),
    *(b"[" * 3000, b"{" * 50, b'"', b"}", b",", b"\n", b"\r", b"\t", b" " * 100, b"-0", b"1e-320"),
    *(b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"<object>", b"18446744073709551616", b"inf"),
    *(b"\xc3\xa9", b"99999999", b"..", b"../../../etc", b"'", b";", b"\x80\x05", b"PAR1"),
)


class Hang(Exception):
    """A file took too long."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A damaged copy: cut, repeated, overwritten, or with something put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        end = min(len(data), at + chance.choice((1, 2, 8, 64, 512)))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            data[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            data[at:at] = data[at:end] * chance.choice((1, 3, 50))
        elif data and kind == 5:
            place = min(at, len(data) - 1)
            data[place] = chance.randrange(256)
        elif data:
            place = min(at, len(data) - 1)
            data[place] ^= 1 << chance.randrange(8)
    return bytes(data)


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
            self.paths[what, name] = into, written if isinstance(written, list) else [written]

    def one(self) -> str:
        """Damage one file of one case and read it; say what became of it."""
        what, name, case = self.chance.choice(self.cases)
        whole, given = self.paths[what, name]
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        victim = self.chance.choice(files)
        victim.write_bytes(mutated(victim.read_bytes(), self.chance))
        paths = [copy / path.relative_to(whole) for path in given]
        detect = self.chance.random() < 0.2
        try:
            read = self._labels if what == "labels" else self._predictions
            return read(case, paths, None if detect else case.format)
        except EaArrowError as error:
            assert error.message.strip(), "an error without a message"
            assert len(str(error)) < 3000, "an endless message"
            str(error).encode()
            return "refused"
        except BaseException:
            kept = Path(tempfile.mkdtemp(prefix="fuzz-")) / f"{what}-{name}"
            shutil.copytree(copy, kept)
            print(f"{what} {name}, {victim.name}: kept in {kept}", file=sys.stderr)
            raise

    def _predictions(self, case, paths, form):
        options = case.options(paths[0].parent) if callable(case.options) else dict(case.options)
        options.pop("format", None)
        reading = Reading(
            options.get("box"),
            options.get("relative"),
            options.get("one_based", False),
            options=options.get("options", {}) if form else {},
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
                    self._normalise(normalise, joining.apply(raw), counts)
            for note, number in source.notes.items():
                assert note.strip()
                assert number >= 0
        return "read" if not counts["refused"] else "read in part"

    def _labels(self, case, paths, form):
        options = case.options(paths[0].parent) if callable(case.options) else dict(case.options)
        reading = Reading(
            options.get("box"),
            images=self.images if case.images else options.get("images"),
            options=options.get("options", {}) if form else {},
        )
        truth = read_ground_truth(paths[0], form, reading)
        normalise = Normaliser(
            truth.data_units, truth.ontology.to_table(), truth.coordinates, "labels"
        )
        counts = Counter()
        for raw in truth.labels:
            self._normalise(normalise, raw, counts)
        return "read" if not counts["refused"] else "read in part"

    def _normalise(self, normalise, raw, counts):
        from ea_arrow.rejects import reject_rows

        raw.validate(full=True)
        batch = normalise(raw)
        batch.rows.validate(full=True)
        assert batch.rows.num_rows + batch.rejected.num_rows == raw.num_rows
        if batch.rejected.num_rows:
            rows = reject_rows(batch, import_id="i", iteration="x", source="s")
            assert all(rows["message"].to_pylist())
            json.dumps(rows["payload"].to_pylist())
        counts["refused"] += batch.rejected.num_rows


def run(files: int, seed: int) -> Counter[str]:
    """Damage and read so many files; return how many ended how."""

    def too_long(*_):
        raise Hang

    signal.signal(signal.SIGALRM, too_long)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(Path(folder), seed)
        for _ in range(files):
            signal.alarm(SECONDS)
            found[fuzzer.one()] += 1
            signal.alarm(0)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    try:
        found = run(given.files, given.seed)
    except BaseException:
        traceback.print_exc()
        return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**found, "peak_megabytes": peak}))
    return int(peak > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
