"""How a format is declared: its name and documentation, its sniff, its reader and its options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ea_arrow.errors import SourceError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ea_arrow.sources.base import GroundTruth, PredictionSource
    from ea_arrow.sources.images import Images
    from ea_arrow.sources.samples import Sample

Layout = Literal["xywh", "xyxy", "cxcywh", "yxhw", "yxyx"]
LAYOUTS: Final = ("xywh", "xyxy", "cxcywh", "yxhw", "yxyx")
"""The four numbers of a box: corner and size, two corners, centre and size; y may come first."""


@dataclass(frozen=True)
class Reading:
    """What the caller knows about files better than the files say.

    Attributes:
        box: The order of a box's numbers; None: as the format has them.
        relative: Coordinates are fractions of the data unit, or pixels; None: as the format has
            them.
        one_based: Pixels are counted from 1 and corners are inclusive, as in VOC's devkit.
        images: The directory of the images, for ground truth that lacks their sizes; or what is
            known of them.
        ontology: The ontology of Encord label rows, where it is a file of its own.
        options: The format's own options, by name; checked against its declaration.
    """

    box: Layout | None = None
    relative: bool | None = None
    one_based: bool = False
    images: Path | Images | None = None
    ontology: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """What a source is made of.

    Attributes:
        root: The file or the directory that was given; of several files, the directory they are in.
        paths: The files; a directory that was given stands for itself.
    """

    root: Path
    paths: tuple[Path, ...]

    @property
    def one(self) -> Path:
        """The only file.

        Raises:
            SourceError: There are several, or it is a directory.
        """
        if len(self.paths) != 1 or self.paths[0].is_dir():
            raise SourceError(f"{self.root}: expected a single file.")
        return self.paths[0]

    def listed(self, *suffixes: str) -> list[Path]:
        """The files, those of a directory searched for by suffix (``.txt``), in order of name."""
        found: list[Path] = []
        for path in self.paths:
            if path.is_dir():
                inner = (p for p in path.rglob("*") if p.suffix.lower() in suffixes)
                found += sorted(p for p in inner if p.is_file() and not p.name.startswith("."))
            else:
                found.append(path)
        return found

    def name_of(self, path: Path) -> str:
        """A file's path below the root, for messages and rejects."""
        try:
            return path.relative_to(self.root).as_posix() if path != self.root else path.name
        except ValueError:
            return path.name


@dataclass(frozen=True)
class Option:
    """An option of one format, given as ``--option NAME=VALUE``."""

    name: str
    doc: str
    choices: tuple[str, ...] = ()
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class Format:
    """What is said of a format, of predictions or of ground truth.

    Attributes:
        name: As ``--format`` takes it.
        doc: One line: what it is and who writes it.
        about: Columns, units, how data units and classes are named, and what to look out for;
            plain paragraphs.
        example: A few lines as they stand in a file.
        options: The format's own options.
        many: A source is a directory, or several files, rather than a single one.
        sniff: Whether a file or directory is of this format, from a sample of it.
        fixed: The caller cannot say how boxes are meant: the format names their numbers and units,
            or has none.
    """

    name: str
    doc: str
    about: str
    example: str
    sniff: Callable[[Sample], bool]
    options: tuple[Option, ...] = ()
    many: bool = False
    fixed: bool = False

    def check_reading(self, reading: Reading) -> None:
        """Check what the caller knows: an option that changes nothing would mislead.

        Raises:
            SourceError: An option is unknown, has another value than its choices, or says how boxes
                are meant that the format leaves in no doubt.
        """
        self.check(reading.options)
        said = {
            "--box": reading.box is not None,
            "--relative and --pixels": reading.relative is not None,
            "--one-based": reading.one_based,
        }
        for name, is_given in said.items():
            if is_given and self.fixed:
                message = f"{name} cannot be given for '{self.name}': it leaves no choice of that."
                raise SourceError(message, hint=f"See 'ea-arrow formats {self.name}'.")

    def check(self, options: Mapping[str, str]) -> None:
        """Check options against the declaration.

        Raises:
            SourceError: One is unknown, or has a value that is none of its choices.
        """
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                listed = f"It takes {', '.join(known)}." if known else "It takes none."
                near = did_you_mean(name, known)
                hint = f"{near} {listed}" if near else listed
                raise SourceError(f"Format '{self.name}' has no option '{name}'.", hint=hint)
            choices = known[name].choices
            if choices and value not in choices:
                expected = f"expected one of {', '.join(choices)}"
                raise SourceError(f"Option {name} of '{self.name}' is '{value}'; {expected}.")


@dataclass(frozen=True, kw_only=True)
class PredictionFormat(Format):
    """A format of predictions: how to recognise files of it and how to open them.

    Attributes:
        open: Opens files of it.
        box: The order of a box's numbers, unless the file or the caller says another.
    """

    box: Layout = "xywh"
    open: Callable[[Files, Reading], PredictionSource]


@dataclass(frozen=True, kw_only=True)
class LabelFormat(Format):
    """A format of ground truth: how to recognise files of it and how to read them."""

    read: Callable[[Files, Reading], GroundTruth]
