"""Tables made for people: lists of iterations, metrics side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.schema import METRICS

if TYPE_CHECKING:
    from ea_arrow.project import Project

Shown = tuple[list[str], list[list[Any]]]

_SHORT: Final = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def iteration_list(project: Project) -> pa.Table:
    """One row per live iteration; AP where it has been computed."""
    known = project.known_metrics()
    rows = [
        {
            "iteration": name,
            "predictions": iteration.rows,
            "AP": _overall(known[name]).get("AP") if name in known else None,
            "created_at": iteration.imports[0]["created_at"] if iteration.imports else None,
            "rows_read": sum(i["rows_read"] for i in iteration.imports),
            "imports": len(iteration.imports),
            "model": next((i["model"] for i in reversed(iteration.imports) if i["model"]), None),
        }
        for name, iteration in project.iterations.items()
    ]
    schema = pa.schema(
        [
            pa.field("iteration", pa.string()),
            pa.field("predictions", pa.int64()),
            pa.field("AP", pa.float64()),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
            pa.field("rows_read", pa.int64()),
            pa.field("imports", pa.int64()),
            pa.field("model", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def iteration_facts(project: Project, name: str) -> dict[str, Any]:
    """What is known of an iteration, live or removed, as plain values for JSON.

    Raises:
        IterationNotFoundError: There is and was none of that name.
    """
    history = project.history(name)
    live = project.iterations.get(name)
    imports = live.imports if live else ()
    return {
        "iteration": name,
        "state": "live" if live else "removed",
        "predictions": live.rows if live else 0,
        "formats": project.formats(name) if live else {},
        "models": [i["model"] for i in imports if i["model"]],
        "sources": [source for i in imports for source in json.loads(i["sources"])],
        "ledgers": [json.loads(i["ledger"]) for i in imports],
        "history": [
            {"version": e["version"], "at": e["at"].isoformat(), "action": e["action"]}
            for e in history
        ],
    }


def fact_lines(facts: dict[str, Any]) -> dict[str, list[str]]:
    """The facts of an iteration in words, by heading."""
    lines = {
        "iteration": [f"{facts['iteration']} ({facts['state']})"],
        "predictions": [f"{number:,} {form}" for form, number in facts["formats"].items()],
        "model": facts["models"],
        "sources": [
            f"{s['name']}, {s['bytes']:,} bytes, sha256 {s['sha256'][:12]}"
            for s in facts["sources"]
        ],
        "ledger": [_account(ledger) for ledger in facts["ledgers"]],
        "history": [
            f"version {e['version']}, {e['at'][:19].replace('T', ' ')} UTC: {e['action']}"
            for e in facts["history"]
        ],
    }
    return {heading: found for heading, found in lines.items() if found}


def _account(ledger: dict[str, Any]) -> str:
    parts = [f"{number:,} {rule}" for rule, number in ledger["rejects"].items()]
    refused = f", refused: {', '.join(parts)}" if parts else ", none refused"
    return f"read {ledger['read']:,}, kept {ledger['kept']:,}{refused}"


def long_metrics(project: Project, names: list[str], *, by_class: bool) -> pa.Table:
    """One row per number: of the mean over classes, or of each class."""
    tables = []
    for name in names:
        table = project.metrics(name).to_arrow()
        of_class = pc.is_valid(table["feature_hash"])
        tables.append(table.filter(of_class if by_class else pc.invert(of_class)))
    return pa.concat_tables(tables) if tables else METRICS.arrow.empty_table()


def metric_lines(project: Project, name: str) -> Shown:
    """The 12 numbers of one iteration, each with what it was computed at."""
    rows = []
    for row in long_metrics(project, [name], by_class=False).to_pylist():
        iou = "0.50:0.95" if row["iou_threshold"] is None else f"{row['iou_threshold']:.2f}"
        value = None if row["value"] is None else f"{row['value']:.6f}"
        rows.append(
            [row["metric"], value, iou, row["area_range"], row["max_detections"], row["n_labels"]]
        )
    return [name, "value", "IoU", "area", "max detections", "labels"], rows


def metrics_by_iteration(project: Project, names: list[str]) -> Shown:
    """Iterations side by side."""
    rows = []
    for name in names:
        values = _overall(project.metrics(name).to_arrow())
        rows.append([name, *(_rounded(values.get(metric)) for metric in _SHORT)])
    return ["iteration", *_SHORT], rows


def metrics_by_class(project: Project, name: str) -> Shown:
    """One row per class that has labels or predictions."""
    table = project.metrics(name).to_arrow()
    rows: dict[str, list[Any]] = {}
    for row in table.filter(pc.is_valid(table["feature_hash"])).to_pylist():
        line = rows.setdefault(row["feature_hash"], [row["class"], None, None])
        if row["metric"] == "AP":
            line[1:3] = [row["n_labels"], row["n_predictions"]]
        if row["metric"] in _SHORT:
            line.append(_rounded(row["value"]))
    used = [line for line in rows.values() if line[1] or line[2]]
    return [name, "labels", "predictions", *_SHORT], used


def id_zero_note(project: Project, name: str) -> str | None:
    """What pycocotools' handling of a label with the id 0 does to the numbers, if there is one."""
    values = _overall(project.metrics(name, protocol="coco_id_zero_counts").to_arrow())
    if not values:
        return None
    return (
        f"{name}: a label has the id 0, which pycocotools never counts as found, and so neither do "
        f"these numbers. If it counted, AP would be {values['AP']:.6f}."
    )


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def box_note(project: Project, name: str) -> str | None:
    """What to know about box metrics of an iteration that holds other things than boxes."""
    counts = project.formats(name)
    shaped = counts.get("mask", 0) + counts.get("polygon", 0)
    if shaped:
        return (
            f"{name}: {shaped:,} masks or polygons take part with their enclosing boxes; these are "
            "box metrics, not those of segmentation."
        )
    if counts and not counts.keys() - {"classification"}:
        return f"{name}: holds classifications only; they are stored, and not scored yet."
    return None if counts else f"{name}: holds no predictions."


def _overall(table: pa.Table) -> dict[str, float | None]:
    rows = table.filter(pc.is_null(table["feature_hash"])).to_pylist()
    return {row["metric"]: row["value"] for row in rows}
