"""The shape of the package: which module may import which, what an import costs, what is public."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import ea_arrow
from ea_arrow.schema_docs import documents

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ea_arrow"

# A module may import those that stand before it, here or inside its functions.
LAYERS = (
    "ea_arrow errors schema conform geometry rle ledger names ontology predictions lookup",
    "row_keys parallel tensors frameworks",
    "sources sources.base sources.boxes sources.formats sources.json_columns sources.json_files",
    "sources.byte_streams sources.json_input sources.json_stream sources.json_values",
    "sources.encord_rows sources.encord_project sources.json_records sources.fiftyone_values",
    "sources.huggingface sources.label_studio_values sources.mask_files sources.mask_layout",
    "sources.mask_runs sources.npz_files sources.pickle_bytes sources.pickle_sniff",
    "sources.pickle_values sources.pickle_operations sources.pickle_machine sources.pickle_rows",
    "sources.pickle_columns sources.pickle_templates sources.pickle_tensors sources.mmdetection",
    "sources.pickles sources.samples sources.coco sources.encord sources.encord_predictions",
    "sources.supervision_json sources.table_base sources.text_files sources.columns",
    "sources.geometry_columns sources.table_plan sources.table_rows sources.text_columns",
    "sources.kitti_lines sources.kitti sources.mot_lines sources.mot sources.text_tables",
    "sources.table_files sources.own_exports sources.own_tables sources.classification_long",
    "sources.classification_tables sources.supervision_csv sources.truth sources.coco_labels",
    "sources.images sources.fiftyone sources.label_studio_tasks sources.label_studio",
    "sources.label_studio_labels sources.mot_sequences sources.mot_labels",
    "sources.open_images_extras sources.table_survey sources.own_labels",
    "sources.classification_labels sources.open_images sources.ultralytics sources.coco_plain",
    "sources.coco_results sources.unit_files sources.labelme sources.mask_png sources.voc_text",
    "sources.xml_files sources.cvat_meta sources.cvat sources.voc_labels sources.yaml_files",
    "sources.size_tables sources.kitti_labels sources.yolo_names sources.yolo_images",
    "sources.yolo_dataset sources.yolo_rows sources.yolo_layout sources.yolo sources.darknet",
    "sources.yolo_labels sources.registry",
    "coco_classes class_maps class_numbers joining checks normalise rejects files tables",
    "arranged pairs match masks rasterise candidates candidate_arrays tide coco_match",
    "encord_match evidence encord_evidence",
    "metrics metrics.classification metrics.confusion metrics.curves metrics.encord",
    "metrics.operating metrics.parameters metrics.coco",
    "store cache slices questions inputs metric_notes recent derived",
    "quality quality.declared quality.acquisition quality.embeddings quality.geometry",
    "quality.density quality.duplicates quality.image_files quality.moments",
    "quality.mutual_information quality.drivers quality.near_duplicates quality.neighbours",
    "quality.objects quality.pixels quality.image_jobs quality.plots quality.sequences",
    "quality.registry quality.engine quality.images quality.own",
    "publication importing label_joining labelling results stored spilled pipeline given_rows",
    "given_classes given_columns intake shards progress live streams writer_options session",
    "writer sql_quality sql answers quality_work quality_answers",
    "doctor.class_numbers doctor.findings doctor.layouts doctor.case doctor.imported",
    "doctor.misread doctor.refused doctor.scoring doctor.coverage doctor.reading doctor.resized",
    "doctor.rows doctor.shifts doctor.one_based doctor.trials doctor.ranking doctor.examination",
    "doctor",
    "exports exports.base exports.fractions exports.pickle_script exports.text exports.shapes",
    "exports.encord exports.pickles exports.tables exports.units exports.coco exports.kitti",
    "exports.yolo exports.registry exporting",
    "transfers project",
    "creation reports schema_docs demo_images demo_data",
    "cli.options cli.output cli.answers cli.doctor cli.evidence cli.export cli.formats",
    "cli.imports cli.quality cli.tour cli.projects",
    "cli cli.__main__",
)
ORDER = [name for layer in LAYERS for name in layer.split()]

# Which modules may load a library that takes long to load or is to stay in one place.
ONLY = {
    "deltalake": {"files", "tables"},
    "duckdb": {"sql", "sql_quality"},
    "polars": {"rejects", "results", "quality_work"},
    "pydantic": {"predictions"},
    "pickle": {"demo_data"},  # which writes one
    "pycocotools": {"masks", "rasterise"},
    "pandas": set(),
    "click": {"cli", "cli.answers", "cli.imports", "cli.options", "cli.output", "cli.projects"}
    | {"cli.tour", "cli.evidence", "cli.formats", "cli.doctor", "cli.export", "cli.quality"},
    "rich": {"cli.imports", "cli.output", "cli.quality", "progress"},
}

LONG = {  # at most this many lines, until they are split
    "schema.py": 700,  # declarations
}

HEAVY = {"pyarrow", "polars", "duckdb", "numpy", "pydantic", "deltalake", "pycocotools", "pandas"}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".") or "ea_arrow"


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path):
    """The modules that a module imports when it runs, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                own = inner.removeprefix("ea_arrow.")
                yield inner if own in MODULES else node.module


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(set(ORDER))
    assert set(MODULES) == set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    own = {i for i in imports_of(MODULES[name]) if i.partition(".")[0] == "ea_arrow"}
    imported = {i.removeprefix("ea_arrow.") for i in own} - {name}
    assert imported <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("library", ONLY)
def test_libraries_stay_in_their_places(library):
    users = {
        name
        for name, path in MODULES.items()
        if any(i.partition(".")[0] == library for i in imports_of(path))
    }
    assert users <= ONLY[library]


def loaded_by(code):
    """The top-level modules that a fresh interpreter has after some code."""
    code += "\nimport sys, json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {module.partition(".")[0] for module in json.loads(done.stderr)}


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import ea_arrow; dir(ea_arrow); ea_arrow.__version__") & (
        HEAVY | {"click"}
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["import", "--help"], ["nothing"]]
)
def test_help_loads_nothing_heavy(arguments):
    code = f"""
from contextlib import redirect_stderr, suppress
from io import StringIO
from ea_arrow.cli import main
with suppress(SystemExit), redirect_stderr(StringIO()):
    main({arguments!r})
"""
    assert not loaded_by(code) & (HEAVY | {"rich"})


def test_errors_load_nothing_heavy():
    assert not loaded_by("from ea_arrow import EaArrowError") & HEAVY


def test_the_prediction_model_loads_no_arrow():
    heavy = HEAVY - {"pydantic"}
    assert not loaded_by("from ea_arrow import Prediction, BoundingBox") & heavy


def test_public_names():
    assert ea_arrow.__all__ == [
        "BoundingBox",
        "EaArrowError",
        "Format",
        "FrameClassification",
        "ObjectDetection",
        "Prediction",
        "PredictionWriter",
        "Project",
        "__version__",
        "init",
        "to_batches",
    ]
    for name in ea_arrow.__all__:
        assert getattr(ea_arrow, name) is not None
    assert dir(ea_arrow) == sorted([*ea_arrow.__all__, "open"])
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = ea_arrow.nothing


def commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def all_commands():
    from ea_arrow.cli import cli

    return dict(commands(cli))


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_has_help_and_an_example(path):
    command = all_commands()[path]
    assert command.help
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    if not isinstance(command, click.Group):
        assert (
            f"ea-arrow {' '.join(path)}" in command.help or f"ea-arrow {path[-1]}" in command.help
        )
        assert "Example" in command.help


def test_examples_in_help_use_options_that_exist():
    for path, command in all_commands().items():
        known = {option for parameter in command.params for option in parameter.opts}
        lines = [line for line in (command.help or "").splitlines() if "ea-arrow " in line]
        for line in lines:
            words = line.partition(" > ")[0].split()
            used = {w for w in words if w.startswith("-") and w.strip("-")}
            assert used <= known, (path, line)


def test_the_schemas_are_up_to_date():
    """Run ``python -m ea_arrow.schema_docs schemas`` if this fails."""
    stored = {p.name: p.read_text(encoding="utf-8") for p in (ROOT / "schemas").iterdir()}
    assert stored == documents()


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda p: p.name)
def test_every_test_file_has_tests(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert any(name.lower().startswith("test") for name in names)


@pytest.mark.parametrize("name", MODULES)
def test_files_stay_short(name):
    path = MODULES[name]
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONG.get(path.relative_to(PACKAGE).as_posix(), 400)


def test_exceptions_to_the_length_are_needed():
    for name in LONG:
        assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) > 400, name
