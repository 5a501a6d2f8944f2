"""Tables made for people: lists of iterations, metrics side by side."""

from __future__ import annotations

import json
from itertools import pairwise
from math import isclose
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ea_arrow.ledger import NOTES
from ea_arrow.schema import ERRORS, METRICS, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    parameters = {k: v for i in imports for k, v in json.loads(i["parameters"]).items()}
    partial = parameters.pop("partial", None)
    state = "live" if live else "removed"
    return {
        "iteration": name,
        "state": state if partial is None else f"{state}, partial: {partial}",
        "parameters": parameters,
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


def _read_as(source: dict[str, Any]) -> str:
    read = source.get("read")
    return f", {' '.join([read['format'], *read['options']])}" if read else ""


def fact_lines(facts: dict[str, Any]) -> dict[str, list[str]]:
    """The facts of an iteration in words, by heading."""
    lines = {
        "iteration": [f"{facts['iteration']} ({facts['state']})"],
        "predictions": [f"{number:,} {form}" for form, number in facts["formats"].items()],
        "model": facts["models"],
        "parameters": [f"{key}: {json.dumps(v)}" for key, v in facts["parameters"].items()],
        "sources": [
            f"{s['name']}, {s['bytes']:,} bytes, sha256 {s['sha256'][:12]}{_read_as(s)}"
            for s in facts["sources"]
        ],
        "ledger": [_account(ledger) for ledger in facts["ledgers"]],
        "notes": [
            f"{number:,} {NOTES.get(kind, kind)}"
            for ledger in facts["ledgers"]
            for kind, number in ledger["notes"].items()
        ],
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


def long_metrics(tables: Iterable[pa.Table], *, by_class: bool) -> pa.Table:
    """One row per number: of the mean over classes, or of each class."""
    chosen = []
    for table in tables:
        is_class = pc.is_valid(table["class"])
        chosen.append(table.filter(is_class if by_class else pc.invert(is_class)))
    return pa.concat_tables(chosen) if chosen else METRICS.arrow.empty_table()


def metric_lines(name: str, table: pa.Table) -> Shown:
    """The numbers of one iteration over all classes, each with what it was computed at."""
    heading = [name, "value", "IoU", "area", "max detections", "labels"]
    rows = []
    for row in table.filter(pc.is_null(table["class"])).to_pylist():
        value = None if row["value"] is None else f"{row['value']:.6f}"
        rows.append(
            [
                row["metric"],
                value,
                _iou(row),
                row["area_range"],
                row["max_detections"],
                row["n_labels"],
            ]
        )
    used = [i for i in range(len(heading)) if i < 2 or any(row[i] is not None for row in rows)]
    return [heading[i] for i in used], [[row[i] for i in used] for row in rows]


def _iou(row: dict[str, Any]) -> str | None:
    values = row["iou_thresholds"]
    if values is None:
        return None
    steps = {round(b - a, 9) for a, b in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:  # evenly spaced; COCO's step goes without saying
        step = "" if steps == {0.05} else f":{steps.pop():g}"
        return f"{_hundredths(values[0])}:{_hundredths(values[-1])}{step}"
    return ", ".join(map(_hundredths, values))


def _hundredths(value: float) -> str:
    """A threshold with two places, or with all it has."""
    return f"{value:.2f}" if isclose(round(value, 2), value, rel_tol=1e-9) else f"{value:g}"


def metrics_by_iteration(tables: dict[str, pa.Table]) -> Shown:
    """Iterations, or slices, side by side."""
    found = {name: _overall(table) for name, table in tables.items()}
    names = _columns(name for values in found.values() for name in values)
    rows = [[name, *(_rounded(values.get(n)) for n in names)] for name, values in found.items()]
    return ["iteration", *names], rows


def computed_at(tables: dict[str, pa.Table]) -> list[str]:
    """What numbers of objects were computed at, one sentence for each case."""
    found: dict[str, list[str]] = {}
    for name, table in tables.items():
        for row in table.filter(pc.is_null(table["class"])).slice(0, 1).to_pylist():
            iou, most = _iou(row), row["max_detections"]
            cut = f", at most {most} predictions per data unit and class" if most else ""
            if iou is not None:
                what = f"{_COMPARED[row['iou_type']]}, protocol {row['protocol']}, IoU {iou}{cut}."
                found.setdefault(what, []).append(name)
    if len(found) < 2:
        return [what[0].upper() + what[1:] for what in found]
    told = [f"{', '.join(names)}: {what}" for what, names in found.items()]
    return [*told, "These do not compare. Say --type bbox or --type segm for all."]


def metrics_by_question(project: Project, tables: dict[str, pa.Table]) -> Shown:
    """One row per iteration and classification attribute."""
    questions = {
        row["attribute_hash"]: row["path"].rpartition(" > ")[0]
        for row in project.classes
        if row["attribute_hash"]
    }
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for name, table in tables.items():
        of_option, of_question = (pc.is_valid(table[f"{c}_hash"]) for c in ("option", "attribute"))
        for row in table.filter(pc.and_not(of_question, of_option)).to_pylist():
            line = lines.setdefault((name, questions[row["attribute_hash"]]), {})
            line["labels"], line["predictions"] = row["n_labels"], row["n_predictions"]
            line[row["metric"]] = row["value"]
    # Micro means over options equal the accuracy, wherever every label has an answer.
    found = dict.fromkeys(name for line in lines.values() for name in list(line)[2:])
    names = [name for name in found if not name.endswith("_micro")]
    counts = ["labels", "predictions"]
    rows = [
        [*key, *(line[name] for name in counts), *(_rounded(line.get(name)) for name in names)]
        for key, line in lines.items()
    ]
    return ["iteration", "question", *counts, *names], rows


def metrics_by_class(name: str, table: pa.Table) -> Shown:
    """One row per class that has labels or predictions."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    several = _several(table)
    for row in table.filter(pc.is_valid(table["class"])).to_pylist():
        key = row["feature_hash"], row["option_hash"]
        line = lines.setdefault(key, {"class": row["class"], "labels": 0, "predictions": 0})
        line["labels"] = max(line["labels"], row["n_labels"])
        line["predictions"] = max(line["predictions"], row["n_predictions"])
        line[_name(row, several)] = row["value"]
    names = _columns(name for line in lines.values() for name in list(line)[3:])
    rows = [
        [*list(line.values())[:3], *(_rounded(line.get(n)) for n in names)]
        for line in lines.values()
        if line["labels"] or line["predictions"]
    ]
    return [name, "labels", "predictions", *names], rows


def _columns(names: Iterable[str]) -> list[str]:
    """The numbers for which there is room; of COCO's twelve, seven."""
    found = list(dict.fromkeys(names))
    return list(_SHORT) if set(_SHORT) <= set(found) else found


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def error_counts(matches: pa.Table, classes: pa.Table, *, by_class: bool) -> pa.Table:
    """How many errors of each kind there are: a row each, or a row per class."""
    names = {row["feature_hash"]: row["name"] for row in classes.to_pylist()}
    keys = ["feature_hash", "outcome", "error"] if by_class else ["outcome", "error"]
    found = matches.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    if not by_class:
        found.sort(key=lambda row: (OUTCOMES.index(row["outcome"]), -row["count_all"]))
        columns: dict[str, list[Any]] = {
            "outcome": [row["outcome"] for row in found],
            "error": [row["error"] for row in found],
            "count": [row["count_all"] for row in found],
        }
        return pa.table(columns)
    rows: dict[str, dict[str, Any]] = {key: {} for key in names}
    for row in found:
        kind = " ".join(filter(None, (row["outcome"], row["error"])))
        rows[row["feature_hash"]][kind] = row["count_all"]
    kinds = ["TP", *(f"FP {e}" for e in ERRORS[:5]), *(f"FN {ERRORS[i]}" for i in (5, 0, 1))]
    used = {key: row for key, row in rows.items() if row}
    columns = {"class": [names[key] for key in used]}
    # Only where they occur: predictions that are ignored, and what only the id 0 makes wrong.
    kinds += sorted({kind for row in used.values() for kind in row} - set(kinds))
    columns |= {kind: [row.get(kind, 0) for row in used.values()] for kind in kinds}
    return pa.table(columns)


_COMPARED: Final = {"bbox": "boxes compared (bbox)", "segm": "masks compared (segm)"}
MOST_PAIRS: Final = 20
MOST_SQUARE: Final = 16
_BACKGROUND: Final = "(background)"


def footer(table: pa.Table, *, iou_threshold: float, protocol: str = "coco") -> str:
    """What errors, a confusion matrix or operating points were computed at."""
    if not table.num_rows:
        return "Nothing to count: no prediction and no label is there."
    row = table.slice(0, 1).to_pylist()[0]
    compared = _COMPARED.get(row["iou_type"])
    where = "" if row["subset"] == "all" else f" Only data units in ({row['subset']})."
    if compared is None:
        return f"Answers, paired by question.{where}"
    what = f"{compared[0].upper()}{compared[1:]}"
    return f"{what}, protocol {protocol}, IoU from {iou_threshold:g}.{where}"


def confusion_square(table: pa.Table) -> Shown:
    """A row per label's class and a column per prediction's class."""
    cells: dict[str, dict[str, int]] = {}
    for row in table.to_pylist():
        label = row["label_class"] or _BACKGROUND
        cells.setdefault(label, {})[row["predicted_class"] or _BACKGROUND] = row["count"]
    names = dict.fromkeys([*cells, *(name for row in cells.values() for name in row)])
    ordered = [*(name for name in names if name != _BACKGROUND), _BACKGROUND]
    lines = [[name, *(cells.get(name, {}).get(other, 0) for other in ordered)] for name in ordered]
    return ["label", *ordered], lines


def confusion_pairs(table: pa.Table) -> Shown:
    """The most frequent cells off the diagonal and outside of the background."""
    rows = [
        [row["label_class"], row["predicted_class"], row["count"]]
        for row in table.to_pylist()
        if row["label_hash"]
        and row["predicted_hash"]
        and row["label_hash"] != row["predicted_hash"]
    ]
    rows.sort(key=lambda row: -row[2])
    return ["label", "predicted as", "count"], rows[:MOST_PAIRS]


def operating_lines(points: pa.Table, *, by_class: bool) -> Shown:
    """Operating points of all classes together, or of each."""
    columns = ["confidence", "precision", "recall", "f1", "tp", "fp", "fn"]
    is_class = pc.is_valid(points["class"])
    chosen = points.filter(is_class if by_class else pc.invert(is_class))
    rows = [
        [row["class"] or "all classes", *(row[name] for name in columns)]
        for row in chosen.to_pylist()
    ]
    return ["class", *columns], rows


def _overall(table: pa.Table) -> dict[str, float | None]:
    rows = table.filter(pc.is_null(table["class"])).to_pylist()
    several = _several(table)
    return {_name(row, several): row["value"] for row in rows}


def _several(table: pa.Table) -> bool:
    """Whether the metrics are those of ``encord`` at several IoU thresholds."""
    encord = table.filter(pc.equal(table["protocol"], "encord"))
    return len(encord["iou_threshold"].unique()) > 1


def _name(row: dict[str, Any], several: bool) -> str:
    """What a column is called; with the IoU threshold where there are ``several``."""
    return f"{row['metric']} @{_hundredths(row['iou_threshold'])}" if several else row["metric"]


def quality_summary(table: pa.Table, metrics: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Summarise quality metrics, a row each.

    Args:
        table: A column per metric, beside keys.
        metrics: What there is to be known of each metric, by name.

    Returns:
        How many rows have a value, the quantiles, and which values ask for a look.
    """
    rows = []
    for name in table.schema.names:
        if name not in metrics:
            continue
        values = table[name].drop_null()
        points = (0, 0.25, 0.5, 0.75, 1)
        found = pc.quantile(values, list(points)).to_pylist() if len(values) else [None] * 5
        quantiles = dict(zip(("lowest", "25 %", "median", "75 %", "highest"), found, strict=True))
        rows.append(
            {
                "metric": name,
                "rows": len(values),
                "without": len(table) - len(values),
                **quantiles,
                "look at": metrics[name]["direction"],
            }
        )
    numbers = [(n, pa.float64()) for n in ("lowest", "25 %", "median", "75 %", "highest")]
    counts = [("rows", pa.int64()), ("without", pa.int64())]
    schema = pa.schema([("metric", pa.string()), *counts, *numbers, ("look at", pa.string())])
    return pa.Table.from_pylist(rows, schema=schema)
