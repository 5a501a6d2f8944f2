"""What the doctor looks at: the rows of an iteration, kept and refused, and the labels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ea_arrow.doctor.layouts import to_numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from ea_arrow.arranged import Bools, Floats, Ints
    from ea_arrow.class_maps import Targets
    from ea_arrow.doctor.imported import Imported
    from ea_arrow.doctor.refused import Refused
    from ea_arrow.doctor.scoring import Detections, Truth


@dataclass(frozen=True)
class Rows:
    """Rows of the iteration's files (N), in their order.

    Attributes:
        found: As they are now; −1 for an unknown unit or class, NaN for a box that is none.
        kept: Whether the import kept the row.
        four: Whether its box is four numbers of the file, not drawn around a mask or polygon.
        box: Left, top, width, height in the coordinates of the file (N, 4).
        reference: What the file calls its class: a position in ``Case.references``, or −1.
        mask: Box and area of its mask (N, 5); NaN without.
    """

    found: Detections
    kept: Bools
    four: Bools
    box: Floats
    reference: Ints
    mask: Floats

    def take(self, chosen: Ints | Bools) -> Rows:
        """Some of them."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        found = values.pop("found").take(chosen)
        return Rows(found=found, **{name: value[chosen] for name, value in values.items()})


@dataclass(frozen=True)
class Units:
    """The data units (U), all of them, sampled or not.

    Attributes:
        names: Title or source id of each.
        labels: How many labels that count each has.
        predictions: How many predictions each has.
        chosen: Whether it is in the sample.
    """

    names: pa.Array
    labels: Ints
    predictions: Ints
    chosen: Bools

    @property
    def sampled(self) -> bool:
        """Whether any are left out."""
        return not bool(self.chosen.all())


@dataclass(frozen=True)
class Case:
    """An iteration under examination.

    Attributes:
        imported: How it was imported.
        rows: Its rows, of the sampled data units.
        truth: The labels, of the same.
        units: The data units.
        data_units: ``DATA_UNITS`` in evaluation order.
        targets: The project's classes.
        references: The distinct class references of the file.
        reference_class: The class each stands for now, −1 for none.
        refused: The refused rows.
    """

    imported: Imported
    rows: Rows
    truth: Truth
    units: Units
    data_units: pa.Table
    targets: Targets
    references: list[str]
    reference_class: Ints
    refused: Refused

    @cached_property
    def now(self) -> Detections:
        """The predictions as they are."""
        return self.rows.found.take(self.rows.kept)

    @cached_property
    def numbers(self) -> Floats:
        """The four numbers of each row's box, as the file has them (N, 4)."""
        return to_numbers(self.rows.box, self.imported.reading)

    @property
    def has_shapes(self) -> bool:
        """Whether any row is a mask or polygon."""
        rows = self.rows
        return bool((rows.kept & (~rows.four | ~np.isnan(rows.mask[:, 0]))).any())

    @property
    def class_names(self) -> list[str]:
        """Names of the object classes."""
        return [str(row["name"]) for row in self.targets.objects]

    @property
    def refused_numbers(self) -> Floats:
        """The four numbers of each refused row's box, as the file has them (R, 4)."""
        return to_numbers(self.refused.box, self.imported.reading)
