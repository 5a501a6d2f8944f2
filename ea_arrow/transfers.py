"""What goes into a project as files, and what comes out as files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from ea_arrow.errors import ProjectError
from ea_arrow.tables import local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ea_arrow.doctor import Examination
    from ea_arrow.exporting import ExportResult
    from ea_arrow.importing import ImportResult, Mode
    from ea_arrow.labelling import LabelResult
    from ea_arrow.project import Project
    from ea_arrow.sources.base import UnitKey
    from ea_arrow.sources.formats import Layout, Reading
    from ea_arrow.store import Store


def label_reading(
    box: Layout | None,
    images: str | Path | None,
    ontology: str | Path | None,
    options: Mapping[str, str] | None,
    *,
    one_based: bool,
) -> Reading:
    """What a caller who gives ground truth knows about it, its paths made absolute."""
    from ea_arrow.sources.formats import Reading

    return Reading(
        box,
        one_based=one_based,
        images=None if images is None else local(images),
        ontology=None if ontology is None else local(ontology),
        options=options or {},
    )


class Transfers:
    """Imports, exports, and a look at what was imported; a part of ``Project``."""

    _store: Store

    def import_predictions(  # noqa: PLR0913 - options, each by keyword and with a default
        self,
        source: str | Path | Iterable[str | Path],
        iteration: str | None = None,
        *,
        mode: Mode = "create",
        strict: bool = False,
        dry_run: bool = False,
        model: str | None = None,
        parameters: dict[str, Any] | None = None,
        format: str | None = None,
        match: UnitKey | None = None,
        classes: str | Path | Mapping[Any, str] | None = None,
        box: Layout | None = None,
        relative: bool | None = None,
        one_based: bool = False,
        dedupe: bool = False,
        options: Mapping[str, str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ImportResult:
        """Import one or more files of predictions as one iteration.

        Args:
            source: The files, or directories of them.
            iteration: The iteration's name; by default the first file's stem.
            mode: ``create`` it, ``append`` to it or ``replace`` it.
            strict: Write nothing if any row is refused.
            dry_run: Read and check everything, write nothing.
            model: The model, for the record.
            parameters: Anything else about the run, for the record; must be JSON.
            format: The files' format (``ea-arrow formats``); found from their content by default.
            match: What names data units: ``source_id``, ``title``, ``stem``, …; by default what
                fits.
            classes: Which class of the project each class of the files is: a mapping to names,
                ids or hashes, a file of one, or one of ``id``, ``name``, ``hash``, ``index``,
                ``shift:N``, ``coco80``, ``coco80-1``, ``coco91``.
            box: The order of a box's four numbers, if it is not the format's own.
            relative: Coordinates are fractions of the data unit, or pixels, if they are not what
                the format has.
            one_based: Pixels count from 1 and corners are inclusive.
            dedupe: Drop rows that repeat an earlier one exactly.
            options: Options of the format.
            progress: Called with the number of rows read so far.

        Returns:
            What was read, kept and refused.

        Raises:
            IterationExistsError: It is there already and the mode is ``create``.
            IterationError: The name is invalid.
            RejectedRowsError: Rows were refused under ``strict``, or none could be kept.
            SourceError: A file cannot be read as predictions.
        """
        from ea_arrow.importing import ImportOptions, import_predictions  # every source's reader
        from ea_arrow.sources.formats import Reading

        given = [source] if isinstance(source, str | os.PathLike) else list(source)
        paths = [local(path) for path in given]
        if not paths:
            raise ProjectError("No file to import was given.")
        reading = Reading(box, relative, one_based, options=options or {})
        how = ImportOptions(
            *(mode, strict, dry_run, model, parameters, format, match, classes, reading, dedupe)
        )
        name = paths[0].with_suffix("").stem if paths[0].suffix == ".gz" else paths[0].stem
        name = name if iteration is None else iteration
        return import_predictions(self._store, paths, name, how, progress)

    def add_labels(
        self,
        source: str | Path,
        *,
        replace: bool = False,
        strict: bool = False,
        format: str | None = None,
        match: UnitKey | None = None,
        images: str | Path | None = None,
        ontology: str | Path | None = None,
        box: Layout | None = None,
        one_based: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> LabelResult:
        """Add ground truth: more labels, or newer ones. Metrics are computed afresh from then on.

        Data units and classes that the project has are found by hash, id or name; others are added.

        Args:
            source: The ground truth, in one of the formats that ``ea-arrow formats`` lists.
            replace: Drop the labels that the project has for the same data units.
            strict: Write nothing if any row is refused.
            format: Its format; found from the content by default.
            match: What names data units; by default what fits.
            images: The directory of the images, for formats that do not say how large they are.
            ontology: The ontology of Encord label rows, where it is a file of its own.
            box: The order of a box's four numbers, if it is not the format's own.
            one_based: Pixels count from 1 and corners are inclusive.
            options: Options of the format.

        Raises:
            SourceError: It cannot be read, or contradicts the project.
            RejectedRowsError: Rows were refused under ``strict``.
            ConflictError: Another process changed the labels meanwhile.
        """
        from ea_arrow.labelling import LabelOptions, add_labels  # every source's reader

        reading = label_reading(box, images, ontology, options, one_based=one_based)
        how = LabelOptions(replace, strict, format, match, reading)
        return add_labels(self._store, local(source), how)

    def export(
        self,
        name: str | None,
        to: str,
        path: str | Path | None = None,
        *,
        overwrite: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> ExportResult:
        """Write an iteration's predictions, or the labels, in another program's format.

        Args:
            name: The iteration; None for the labels.
            to: ``coco``, ``yolo``, ``kitti``, ``parquet``, ``csv``, ``pickle`` or ``encord``.
            path: The file or directory to write; by default one in the current directory, named
                after the iteration.
            overwrite: Replace the file, or the directory that an earlier export made.
            options: The format's own options.

        Raises:
            IterationNotFoundError: There is no such iteration.
            ExportError: The format is unknown or cannot hold this, or something is there already.
        """
        from ea_arrow.exporting import export  # every format's writer

        return export(cast("Project", self), name, to, path, overwrite=overwrite, options=options)

    def doctor(self, name: str) -> Examination:
        """Look for mistakes in how an iteration was written or read, each by a trial.

        Args:
            name: The iteration.

        Raises:
            IterationNotFoundError: There is none of that name.
        """
        from ea_arrow.doctor import examination  # which imports and evaluates

        return examination(cast("Project", self), name)
