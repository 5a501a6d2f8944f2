"""Refused rows as data: every rule they broke, what was found, and the row as it was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from ea_arrow.conform import conform
from ea_arrow.ledger import REJECTS as RULES
from ea_arrow.schema import BOX, REJECTS

if TYPE_CHECKING:
    import polars as pl

    from ea_arrow.normalise import Normalised

MAX_PAYLOAD: Final = 1000
_NO_PAYLOAD: Final = ("rule", "message", "source_file")


def reject_rows(
    normalised: Normalised, *, import_id: str, iteration: str | None, source: str
) -> pa.Table:
    """Return the refused rows of a batch as ``REJECTS``.

    Args:
        normalised: The batch after normalisation.
        import_id: The import that refused them.
        iteration: Its iteration; None for labels.
        source: The file they come from.
    """
    if normalised.rejected.num_rows == 0:
        return REJECTS.arrow.empty_table()
    import polars as pl  # a clean import never needs it

    flags = {f"!{rule}": pa.array(mask) for rule, mask in normalised.broken.items()}
    raw = normalised.rejected
    table = pa.table({**{n: raw.column(n) for n in raw.schema.names if n != "mask"}, **flags})
    frame = pl.DataFrame(table)
    masks = raw.column("mask")
    if masks.null_count < len(masks):
        sizes = [pl.Series(n, pl.from_arrow(masks.field(n))) for n in ("height", "width", "area")]
        has_mask = pl.Series(masks.is_valid().to_numpy(zero_copy_only=False))
        frame = frame.with_columns(pl.when(has_mask).then(pl.struct(*sizes)).alias("mask"))
    unit_sizes = dict(zip(("!width", "!height"), normalised.unit_sizes, strict=True))
    frame = frame.with_columns(**{n: pl.Series(v).cast(pl.Int64) for n, v in unit_sizes.items()})
    payload = [c for c in frame.columns if not c.startswith("!") and c not in _NO_PAYLOAD]
    given = [c for c in payload if frame[c].null_count() < frame.height]
    broken = [
        pl.when(pl.col(f"!{rule}")).then(pl.lit(rule)).otherwise(None) for rule in normalised.broken
    ]
    messages = [
        pl.when(pl.col(f"!{rule}")).then(_message(rule, frame)).otherwise(None)
        for rule in normalised.broken
    ]
    rows = frame.select(
        import_id=pl.lit(import_id),
        iteration=pl.lit(iteration, dtype=pl.String),
        source=pl.coalesce(pl.col("source_file"), pl.lit(source)),
        source_row=pl.col("source_row"),
        rules=pl.concat_list(broken).list.drop_nulls(),
        message=pl.concat_str(messages, separator=" ", ignore_nulls=True),
        payload=pl.struct(given).struct.json_encode().str.slice(0, MAX_PAYLOAD),
    )
    return conform(rows.to_arrow(), REJECTS)


def _message(rule: str, frame: pl.DataFrame) -> pl.Expr:
    """What was found, in a sentence."""
    import polars as pl

    box = [pl.col(c).cast(pl.String).fill_null("null") for c in BOX]
    found: dict[str, Any] = {
        "unknown_data_unit": pl.format(
            "No data unit '{}' with frame {} in the project.",
            pl.col("unit"),
            pl.col("frame").fill_null(0),
        ),
        "unknown_class": pl.format("No class '{}' in the ontology.", pl.col("class_ref")),
        "box_out_of_range": pl.format("Box x={}, y={}, w={}, h={} leaves [0, 1].", *box),
        "invalid_box": pl.format("Box x={}, y={}, w={}, h={} is not a box.", *box),
        "mask_size": pl.format(
            "Mask is {} × {} pixels (height × width); the data unit is {} × {}.",
            pl.col("mask").struct.field("height"),
            pl.col("mask").struct.field("width"),
            pl.col("!height"),
            pl.col("!width"),
        )
        if "mask" in frame.columns
        else None,
        "not_finite": pl.format(
            "A number is NaN or infinite: confidence={}, box x={}, y={}, w={}, h={}.",
            pl.col("confidence").cast(pl.String).fill_null("null"),
            *box,
        ),
    }
    default = pl.lit(f"{RULES[rule][0].upper()}{RULES[rule][1:]}.")
    from_reader = pl.col("message")
    found_here = found.get(rule)
    found_here = default if found_here is None else found_here
    return pl.coalesce(pl.when(pl.col("rule") == rule).then(from_reader), found_here)
