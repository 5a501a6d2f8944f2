"""Named subsets of data units: their names, their conditions, and what two processes do to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import ea_arrow
from ea_arrow.errors import EaArrowError, ProjectError, QueryError, SliceError
from tests.builders import RESULTS, make_project

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> ea_arrow.Project:
    """Two images, one.jpg of 100 × 50 pixels and two.jpg of 640 × 480."""
    return make_project(tmp_path / "p", results=RESULTS)


def folder(project: ea_arrow.Project) -> Path:
    return project.root / ".ea-arrow" / "slices"


def files(project: ea_arrow.Project) -> list[str]:
    return sorted(path.name for path in folder(project).iterdir())


def units(project: ea_arrow.Project, **asked: Any) -> set[str]:
    """Titles of the data units that an answer is about."""
    titles = {row["data_hash"]: row["title"] for row in project.data_units}
    return {titles[row["data_hash"]] for row in project.matches("base", **asked)}


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["007", "a.b_c-d", "null", "-", "ALL", "x.json", "x" * 100])
def test_valid_names(project: ea_arrow.Project, name: str) -> None:
    assert project.add_slice(name, "width > 200") == 1
    assert project.slices == {name: "width > 200"}
    assert units(project, slice=name) == {"two.jpg"}
    project.remove_slice(name)
    assert project.slices == {}
    assert files(project) == []


@pytest.mark.parametrize(
    "name", ["", "all", "..", ".x", "a b", "../x", "a\\b", "ü", "a\n", "a\0", "x" * 101]
)
def test_other_names_are_refused(project: ea_arrow.Project, name: str) -> None:
    with pytest.raises(SliceError) as caught:
        project.add_slice(name, "true")
    assert str(caught.value) == (
        f"{name!r} is not a valid name of a slice: expected A–Z a–z 0–9 . _ -, not first a dot, "
        "and not 'all'."
    )
    for refused in (project.remove_slice, lambda name: project.metrics("base", slice=name)):
        with pytest.raises(SliceError, match="There is no slice"):
            refused(name)
    assert project.slices == {}
    assert not folder(project).exists()


def test_a_slice_is_not_replaced_unless_asked(project: ea_arrow.Project) -> None:
    assert project.add_slice("large", "width > 200") == 1
    with pytest.raises(SliceError) as caught:
        project.add_slice("large", "width > 1")
    assert str(caught.value) == (
        "There is a slice 'large' already: width > 200\nReplace it with --replace (replace=True)."
    )
    assert project.slices == {"large": "width > 200"}
    assert project.add_slice("large", "width > 1", replace=True) == 2
    assert project.add_slice("new", "false", replace=True) == 0
    assert project.slices == {"large": "width > 1", "new": "false"}
    assert files(project) == ["large.json", "new.json"]


def test_an_unknown_slice_names_the_others(project: ea_arrow.Project) -> None:
    with pytest.raises(SliceError) as caught:
        project.metrics("base", slice="night")
    assert str(caught.value) == "There is no slice 'night'.\nThere are none yet."
    project.add_slice("night", "true")
    project.add_slice("day", "true")
    for method in (project.metrics, project.matches, project.curves, project.confusion):
        with pytest.raises(SliceError) as caught:
            method("base", slice="nigth")
        assert caught.value.hint == "Did you mean 'night'? There are: day, night."
    with pytest.raises(SliceError, match="no slice 'dusk'"):
        project.remove_slice("dusk")
    with pytest.raises(SliceError, match="no slice 'all'"):
        project.metrics("base", slice="all")


def test_slices_are_there_when_the_project_is_opened_again(project: ea_arrow.Project) -> None:
    conditions = {"b": "title = 'ü''s \"日本\"'", "a": "width > 1\n-- é"}
    for name, where in conditions.items():
        project.add_slice(name, where)
    assert list(ea_arrow.open(project.root).slices.items()) == sorted(conditions.items())


# -- conditions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("true", {"one.jpg", "two.jpg"}),
        ("width > 200 -- comment\n", {"two.jpg"}),
        ("/* width */ height < 100\n\n", {"one.jpg"}),
        ("title like 'o%' or\ntitle = 'it''s -- no comment'", {"one.jpg"}),
        ('"width" < 200', {"one.jpg"}),
    ],
)
def test_a_condition_means_the_same_stored_given_and_together(
    project: ea_arrow.Project, where: str, found: set[str]
) -> None:
    assert project.add_slice("s", where) == len(found)
    assert units(project, slice="s") == found
    assert units(project, where=where) == found
    assert units(project, slice="s", where="title = 'one.jpg' -- or") == found & {"one.jpg"}
    project.add_slice("two", "title = 'two.jpg' -- that")
    assert units(project, slice="two", where=where) == found & {"two.jpg"}


def test_or_in_a_slice_and_in_a_condition_bind_less_than_both(project: ea_arrow.Project) -> None:
    project.add_slice("any", "width > 200 or width < 200")
    assert units(project, slice="any", where="false or false") == set()
    assert units(project, slice="any", where="height < 100 or false") == {"one.jpg"}


def test_a_condition_follows_the_project(project: ea_arrow.Project) -> None:
    """Data units where something is wrong, according to the matches of the moment."""
    where = (
        "data_hash in (select data_hash from matches where iteration = 'base' and outcome = 'FP')"
    )
    assert project.add_slice("wrong", where) == 1
    assert units(project, slice="wrong") == {"one.jpg"}
    path = project.root / "other.json"
    path.write_text(json.dumps([{**RESULTS[2], "bbox": [0, 0, 9, 9]}]))
    project.import_predictions(path, "base", mode="replace")
    assert units(project, slice="wrong") == {"two.jpg"}


def test_a_condition_that_is_wrong_is_not_stored(project: ea_arrow.Project) -> None:
    project.add_slice("s", "true")
    for where in ("nope > 1", "", "true; select 1"):
        with pytest.raises(QueryError):
            project.add_slice("s", where, replace=True)
        with pytest.raises(QueryError):
            project.add_slice("t", where)
    assert project.slices == {"s": "true"}


def test_a_condition_that_has_become_wrong_says_so(project: ea_arrow.Project) -> None:
    project.add_slice("s", "true")
    (folder(project) / "s.json").write_text('{"where": "nope > 1"}')
    with pytest.raises(QueryError, match="nope"):
        project.metrics("base", slice="s")


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null", b'{"where"', b"\0" * 20]
)
def test_a_broken_file_is_named_and_can_be_removed(
    project: ea_arrow.Project, content: bytes
) -> None:
    project.add_slice("good", "width > 200")
    project.add_slice("bad", "true")
    (folder(project) / "bad.json").write_bytes(content)
    for use in (lambda: project.slices, lambda: project.metrics("base", slice="bad")):
        with pytest.raises(SliceError, match=r"bad\.json: cannot be read") as caught:
            use()
        assert caught.value.hint == "Remove it with 'ea-arrow slices bad --remove'."
    assert units(project, slice="good") == {"two.jpg"}, "the others can be used"
    with pytest.raises(SliceError, match="bad"):
        project.add_slice("bad", "true")
    project.remove_slice("bad")
    assert project.slices == {"good": "width > 200"}
    project.add_slice("bad", "true")
    assert project.slices.keys() == {"good", "bad"}


def test_a_broken_file_can_be_replaced(project: ea_arrow.Project) -> None:
    project.add_slice("bad", "true")
    (folder(project) / "bad.json").write_bytes(b"")
    assert project.add_slice("bad", "width > 200", replace=True) == 1
    assert project.slices == {"bad": "width > 200"}


def test_a_place_that_cannot_be_written_is_said(project: ea_arrow.Project) -> None:
    folder(project).write_text("in the way")
    with pytest.raises(ProjectError, match="slices: cannot be written"):
        project.add_slice("s", "true")
    assert project.slices == {}


def test_other_files_in_the_folder_are_no_slices(project: ea_arrow.Project) -> None:
    project.add_slice("s", "true")
    for name in (".hidden.json", ".s.0123abcd", "notes.txt"):
        (folder(project) / name).write_text("?")
    assert project.slices == {"s": "true"}


# -- other processes -------------------------------------------------------------------------------

RACE = """
import sys, time
from pathlib import Path
import ea_arrow
from ea_arrow.errors import SliceError
from ea_arrow.slices import Slices

root, me = sys.argv[1:]
project = ea_arrow.open(root)
slices = Slices(project._store)  # DuckDB, which checks the condition, would only blur the race
Path(root, f"ready-{me}").touch()
while not Path(root, "go").exists():
    pass
won = []
for number in range(60):
    try:
        slices.add(f"s{number}", f"width > {me} -- " + "x" * 2000)
        won.append(number)
    except SliceError as error:
        assert "already" in str(error), error
print(*won)
"""


def test_of_processes_that_add_the_same_slice_exactly_one_wins(project: ea_arrow.Project) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(project.root), str(me)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in (1, 2)
    ]
    while not all((project.root / f"ready-{me}").exists() for me in (1, 2)):
        assert all(racer.poll() is None for racer in racers)
    (project.root / "go").touch()
    said = [racer.communicate(timeout=60) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said
    won = [set(map(int, out.split())) for out, _ in said]
    assert won[0] | won[1] == set(range(60))
    assert not won[0] & won[1]
    wanted = {f"s{n}": f"width > {me} -- {'x' * 2000}" for me in (1, 2) for n in won[me - 1]}
    assert project.slices == wanted
    assert len(files(project)) == 60, "no temporary file is left"


KILLED = """
import os, signal, sys
import ea_arrow
from ea_arrow import slices

slices.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
ea_arrow.open(sys.argv[1]).add_slice("s", "width > 200", replace=sys.argv[2] == "replace")
"""


@pytest.mark.parametrize("how", ["create", "replace"])
def test_a_process_killed_in_between_leaves_no_half_slice(
    project: ea_arrow.Project, how: str
) -> None:
    if how == "replace":
        project.add_slice("s", "width > 1")
    before = project.slices
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(project.root), how], capture_output=True, check=False
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert project.slices == before
    project.add_slice("s", "width < 200", replace=how == "replace")
    assert project.slices == {"s": "width < 200"}
    assert units(project, slice="s") == {"one.jpg"}


def test_a_slice_removed_by_another_process_is_gone_here(project: ea_arrow.Project) -> None:
    project.add_slice("s", "true")
    other = ea_arrow.open(project.root)
    other.remove_slice("s")
    with pytest.raises(SliceError, match="no slice 's'"):
        project.remove_slice("s")
    assert issubclass(SliceError, EaArrowError)
    assert files(project) == []
