"""The targets of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ea_arrow.exports import coco, encord, kitti, pickles, tables, yolo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ea_arrow.exports.base import Target

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        *(coco.TARGET, yolo.TARGET, kitti.TARGET, tables.PARQUET, tables.CSV, pickles.TARGET),
        encord.TARGET,
    )
}
