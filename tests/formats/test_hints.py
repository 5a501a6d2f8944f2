"""What to do with files that are of no format, or of several."""

import json
from types import SimpleNamespace

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.sources import registry
from ea_arrow.sources.formats import Reading
from ea_arrow.sources.registry import open_predictions, read_ground_truth
from tests.builders import GROUND_TRUTH, RESULTS


def refused(path):
    with pytest.raises(SourceError) as caught:
        list(open_predictions([path]))
    return caught.value


def test_the_file_inside_of_a_directory_is_named(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.txt").write_text("epoch 1\n")
    assert refused(folder).hint.startswith("See 'ea-arrow formats'")
    (folder / "results.json").write_text(json.dumps(RESULTS))
    found = refused(folder)
    assert "is not a directory of predictions in a known format" in found.message
    assert found.hint == f"Name the file inside: {folder / 'results.json'}."
    (folder / "again.json").write_text(json.dumps(RESULTS))
    assert refused(folder).hint == (
        f"Name one of the files inside: {folder / 'again.json'}, {folder / 'results.json'}."
    )
    (folder / "gt.json").write_text(json.dumps(GROUND_TRUTH))
    with pytest.raises(SourceError) as caught:
        read_ground_truth(folder, None, Reading())
    assert caught.value.hint == f"Name the file inside: {folder / 'gt.json'}."


def test_every_format_that_fits_is_named(tmp_path, monkeypatch):
    both = {n: SimpleNamespace(name=n, doc=n, sniff=lambda _: True) for n in ("darknet", "voc")}
    monkeypatch.setattr(registry, "PREDICTIONS", both)
    (tmp_path / "a.txt").write_text("x")
    found = refused(tmp_path / "a.txt")
    assert "2 formats: darknet (darknet); voc (voc)" in found.message
    assert found.hint.startswith("Name the right one: --format darknet or --format voc. ")
