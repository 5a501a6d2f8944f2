"""The demo: a data set made on the spot, and the main job done on it, each command shown.

What is run here through the public API is what the command above it runs: a reader can paste it.
Everything goes to stdout, ledgers too, so that the tour can be piped and read in order.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import ea_arrow
from ea_arrow import demo_data
from ea_arrow.cli import output
from ea_arrow.cli.answers import print_metrics
from ea_arrow.cli.options import quoted
from ea_arrow.errors import EaArrowError
from ea_arrow.tables import local

if TYPE_CHECKING:
    from ea_arrow.project import Project

_PROJECT: Final = "project"
_WIDTH: Final = 80

_OUTCOMES: Final = """
  select m.iteration, c.name as class,
         count(*) filter (where outcome = 'TP') as found,
         count(*) filter (where outcome = 'FP') as false_alarms,
         count(*) filter (where outcome = 'FN') as missed
  from matches m join classes c using (feature_hash)
  group by all order by class, iteration"""

_BROKEN: Final = """
  select l.title, l.class, label_id, l.bbox_w::int as width,
         l.bbox_h::int as height, was.iou as iou_in_epoch_1
  from matches was join matches now using (label_id)
       join labels_details l using (label_id)
  where was.iteration = 'epoch-1' and was.outcome = 'TP'
    and now.iteration = 'epoch-2' and now.outcome = 'FN'
  order by l.class, label_id"""

_SHIFT: Final = """
  select p.iteration, median(p.bbox_x - l.bbox_x) as pixels_right,
         median(p.bbox_y - l.bbox_y) as pixels_down
  from predictions p
       join labels_details l using (data_hash, frame, feature_hash)
  where l.class = 'Triangle'
  group by all order by iteration"""


def run(directory: Path) -> None:
    """Make the demo's data set in a directory and show the main job on it.

    Args:
        directory: Where to; made if it is not there.

    Raises:
        EaArrowError: Something is there already, or it cannot be written.
    """
    home = local(directory)
    try:
        _check_free(home)
        home.mkdir(parents=True, exist_ok=True)
        demo_data.make(home)
    except OSError as error:
        raise EaArrowError(f"{home} cannot be written: {error.strerror}.") from error
    with redirect_stderr(sys.stdout):
        _Tour(directory.expanduser(), home).run()


def _check_free(home: Path) -> None:
    hint = "Give a directory that is not there yet: ea-arrow demo DIRECTORY"
    if home.exists() and not home.is_dir():
        raise EaArrowError(f"{home} is not a directory; nothing was changed.", hint=hint)
    if home.exists() and any(home.iterdir()):
        raise EaArrowError(f"{home} is not empty; nothing was changed.", hint=hint)


class _Tour:
    """The steps, in order.

    Args:
        shown: The directory as the person gave it, for the commands.
        home: The same, absolute.
    """

    def __init__(self, shown: Path, home: Path) -> None:
        self.shown, self.home = shown, home
        self.project: Project

    def run(self) -> None:
        """Take every step."""
        self._introduce()
        self._init()
        self._import()
        self._compare()
        self._query()
        self._next()

    def _introduce(self) -> None:
        _say(
            f"Made a data set in {self.shown}/: {demo_data.N_IMAGES} images with boxes, discs and "
            "triangles, their labels as Encord exports them, and what a detector found after "
            "each of two epochs, as pickles of prediction objects."
        )
        _say(
            "A line that begins with $ is a command, and below it stands its result. Paste metrics "
            "and query whenever you like; before you repeat init and import, delete the directory "
            f"{self._path(_PROJECT)}."
        )

    def _init(self) -> None:
        labels, images = self._path(demo_data.LABELS), self._path(demo_data.IMAGES)
        _step("1. Make a project from the labels")
        _command("init", self._path(_PROJECT), "--labels", labels, "--images", images)
        self.project = ea_arrow.init(
            self.home / _PROJECT,
            self.home / demo_data.LABELS,
            images=self.home / demo_data.IMAGES,
        )
        if self.project.ledger:
            output.print_ledger(self.project.ledger)
        [objects] = self.project.sql(
            "select count(*) as n from labels where format != 'classification'"
        )
        _say(
            "Nothing gets lost on the way in: what is read is kept, or refused for a reason. "
            f"{objects['n']} of these labels are objects; the others say of each image whether it "
            "is light or dark, and have metrics of their own."
        )

    def _import(self) -> None:
        _step("2. Import the predictions of both epochs")
        for epoch in demo_data.EPOCHS:
            file = f"{epoch.name}.pkl"
            _command("import", self._path(file), *self._there)
            result = self.project.import_predictions(self.home / file)
            output.print_ledger(result.ledger)
            click.echo()
            print_metrics(self.project, [result.iteration])
        _say(
            "The pickles were read without running anything in them. Epoch 1 has predictions of a "
            "class that the ontology does not know: refused, counted, and kept in the view "
            "rejects. The twelve numbers are COCO's, equal to those of pycocotools to the last bit."
        )

    def _compare(self) -> None:
        names = list(self.project.iterations)
        first, last = (_average_precision(self.project, name) for name in names)
        _step("3. Is epoch 2 better?")
        _command("metrics", *self._there)
        print_metrics(self.project, names)
        _say(f"AP went from {first[None]:.2f} to {last[None]:.2f}. So it seems.")
        _step("4. For every class?")
        _command("metrics", "--by", "class", *self._there)
        print_metrics(self.project, names, by="class")
        for name, value in last.items():
            if value < first[name]:
                _say(f"No: AP of {name} fell from {first[name]:.2f} to {value:.2f}.")

    def _query(self) -> None:
        _step("5. What went wrong: objects missed, or false alarms?")
        self._sql(_OUTCOMES)
        _say("Only Triangles have more of both. Are they seen, but in the wrong place?")
        _step("6. Which objects broke: found in epoch 1, missed in epoch 2?")
        broken = [row["class"] for row in self._sql(_BROKEN)]
        _say(f"{broken.count('Triangle')} of the {len(broken)} are Triangles.")
        _step("7. Where does each epoch put the Triangles?")
        *_, last = self._sql(_SHIFT)
        _say(
            f"Epoch 2 puts them {last['pixels_right']:.0f} pixels too far right and "
            f"{last['pixels_down']:.0f} too far down. More training will not mend that: look "
            "at the code that writes polygons. The mean over classes hid it; the rows show it."
        )

    def _next(self) -> None:
        _step("Next")
        if shutil.which("ea-arrow") is None:
            activate = shlex.join([".", str(Path(sys.executable).with_name("activate"))])
            _say("To have ea-arrow on your path in this shell:")
            click.echo(f"\n  {activate}")
        _say("Go in and look around; within the project, --project is not needed:")
        commands = (
            ("cd", self._path(_PROJECT)),
            ("ea-arrow", "ls"),
            ("ea-arrow", "show", "epoch-1"),
            ("ea-arrow", "query", "select * from rejects"),
            ("ea-arrow", "query", "describe matches"),
        )
        _print_commands(*commands)
        _say("Then bring your own, from COCO or Encord; each import is kept under its own name:")
        click.echo()
        click.echo("  ea-arrow init my-project --labels LABELS")
        click.echo("  cd my-project")
        click.echo("  ea-arrow import PREDICTIONS")

    def _sql(self, sql: str) -> Any:
        _command("query", *self._there, sql)
        rows = self.project.sql(sql)
        output.emit(rows.to_arrow(), "table")
        return rows

    @property
    def _there(self) -> tuple[str, str]:
        return "--project", self._path(_PROJECT)

    def _path(self, name: str) -> str:
        path = str(self.shown / name)
        return f"./{path}" if path.startswith("-") else path  # else it would be an option


def _average_precision(project: Project, name: str) -> dict[str | None, float]:
    """AP of each class by its name, and under None that of all."""
    rows = project.metrics(name)
    return {row["class"]: row["value"] for row in rows if row["metric"] == "AP"}


def _step(title: str) -> None:
    click.echo()
    click.secho(title, bold=True)


def _say(text: str) -> None:
    click.echo()
    click.echo(textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def _command(*words: str) -> None:
    _print_commands(("ea-arrow", *words))


def _print_commands(*commands: tuple[str, ...]) -> None:
    click.echo()
    for words in commands:
        click.secho(f"$ {' '.join(map(quoted, words))}", fg="cyan")
