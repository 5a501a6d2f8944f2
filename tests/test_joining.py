"""How rows find their data units and classes: what fits, what is asked, what is refused."""

import json

import numpy as np
import pyarrow as pa
import pytest

from ea_arrow.class_maps import Targets, read_map
from ea_arrow.class_numbers import numbering
from ea_arrow.coco_classes import COCO_CLASSES
from ea_arrow.errors import SourceError
from ea_arrow.joining import choose
from ea_arrow.lookup import UnitIndex
from ea_arrow.ontology import Ontology
from ea_arrow.sources.base import Coordinates
from ea_arrow.sources.truth import unit_table
from tests.builders import ONTOLOGY, raw_batch

UNITS = unit_table(
    [
        {"source_id": "10", "title": "train/000007.jpg", "width": 8, "height": 8},
        {"source_id": "11", "title": "train/000008.jpg", "width": 8, "height": 8},
        {"source_id": "12", "title": "a/same.png", "width": 8, "height": 8},
        {"source_id": "13", "title": "b/same.png", "width": 8, "height": 8},
    ]
)
COCO = Ontology.from_coco([{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]).to_table()
HASH = dict(zip(COCO["name"].to_pylist(), COCO["feature_hash"].to_pylist(), strict=True))
BY_ID = Coordinates(relative=False, unit_key="source_id", class_key="source_id")
BY_STEM = Coordinates(relative=False, unit_key="stem", class_key="name")
BY_INDEX = Coordinates(relative=False, unit_key="source_id", class_key="index")


def rows(*pairs):
    return [
        raw_batch(
            [{"unit": unit, "class_ref": ref, "format": "bounding_box"} for unit, ref in pairs]
        )
    ]


@pytest.mark.parametrize(
    ("units", "natural", "expected"),
    [
        (["10", "11"], "source_id", "source_id"),
        (["train/000007.jpg"], "source_id", "title"),
        (["000007.jpg", "000008.jpg"], "source_id", "name"),
        (["val/000007.jpg"], "source_id", "name"),
        (["000007", "000008"], "source_id", "stem"),
        (["7", "8"], "source_id", "number"),
        (["10", "11"], "stem", "source_id"),
        (["nobody", "knows"], "stem", "stem"),
        (["10", "9999"], "source_id", "source_id"),
    ],
)
def test_data_units_are_matched_by_what_fits(units, natural, expected):
    given = Coordinates(relative=False, unit_key=natural, class_key="source_id")
    joining = choose(rows(*((unit, "1") for unit in units)), given, UNITS, COCO)
    assert joining.coordinates.unit_key == expected
    assert len(joining.notes) == (natural != expected)


def test_what_is_asked_for_is_taken_even_if_it_fits_less():
    joining = choose(rows(("10", "1")), BY_ID, UNITS, COCO, match="stem")
    assert joining.coordinates.unit_key == "stem"


def test_readings_that_fit_alike_but_mean_others_are_refused():
    units = unit_table(
        [
            {"source_id": "a", "title": "1.png", "width": 8, "height": 8},
            {"source_id": "1.png", "title": "b.png", "width": 8, "height": 8},
        ]
    )
    given = Coordinates(relative=False, unit_key="data_hash", class_key="source_id")
    with pytest.raises(SourceError, match="source id and title, but they are different") as caught:
        choose(rows(("1.png", "1")), given, units, COCO)
    assert "--match source_id or --match title" in caught.value.hint


def test_positions_must_be_confirmed():
    given = Coordinates(relative=False, unit_key="position", class_key="source_id")
    with pytest.raises(SourceError, match="names no data units"):
        choose(rows(("0", "1")), given, UNITS, COCO)
    assert choose(rows(("0", "1")), given, UNITS, COCO, match="position")
    assert UnitIndex(UNITS, "position").find(pa.array(["3", "4"]), np.array([0, 0])).tolist() == [
        3,
        -1,
    ]


def test_of_two_files_of_one_name_neither_is_found_by_it():
    index = UnitIndex(UNITS, "name")
    assert index.find(pa.array(["same.png", "000007.jpg"]), np.array([0, 0])).tolist() == [-1, 0]
    assert index.shared == 2
    assert UnitIndex(UNITS, "title").find(pa.array(["b/same.png"]), np.array([0])).tolist() == [3]


def test_frames_of_one_video_share_its_name():
    units = unit_table(
        [
            {"title": "film.mp4", "source_id": "f", "frame": i, "width": 8, "height": 8}
            for i in (0, 1)
        ]
    )
    assert UnitIndex(units, "stem").find(pa.array(["film", "film"]), np.array([1, 2])).tolist() == [
        1,
        -1,
    ]


@pytest.mark.parametrize(
    ("refs", "natural", "expected"),
    [
        (["1", "2"], "source_id", "source_id"),
        (["cat", "dog"], "source_id", "name"),
        (["1"], "name", "source_id"),
        ([HASH["cat"]], "source_id", "feature_hash"),
        (["owl"], "name", "name"),
    ],
)
def test_classes_are_matched_by_what_fits(refs, natural, expected):
    given = Coordinates(relative=False, unit_key="source_id", class_key=natural)
    joining = choose(rows(*(("10", ref) for ref in refs)), given, UNITS, COCO)
    assert joining.coordinates.class_key == expected


def test_an_index_of_unknown_classes_is_not_guessed():
    with pytest.raises(SourceError, match=r"counts its classes by index \(0 … 1\)") as caught:
        choose(rows(("10", "0"), ("10", "1")), BY_INDEX, UNITS, COCO)
    assert "--map index" in caught.value.hint


def test_an_index_is_the_id_where_ids_count_from_zero():
    classes = Ontology.from_coco([{"id": i, "name": n} for i, n in enumerate("abc")]).to_table()
    joining = choose(rows(("10", "2")), BY_INDEX, UNITS, classes)
    assert joining.coordinates.class_key == "source_id"


def test_names_that_the_source_has_tell_what_an_index_is():
    given = Coordinates(False, "source_id", "index", (("0", "dog"), ("1", "cat"), ("2", "owl")))
    joining = choose(rows(("10", "0")), given, UNITS, COCO)
    [batch] = [joining.apply(b) for b in rows(("10", "0"), ("10", "1"), ("10", "2"))]
    assert batch["class_ref"].to_pylist() == [HASH["dog"], HASH["cat"], "2"]


def applied(mapping, *refs, coordinates=BY_ID, classes=COCO):
    joining = choose(rows(*(("10", r) for r in refs)), coordinates, UNITS, classes, None, mapping)
    [batch] = [joining.apply(b) for b in rows(*(("10", ref) for ref in refs))]
    return batch["class_ref"].to_pylist()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('["dog", "cat"]', "names.json"),
        ('{"0": "dog", "1": "cat"}', "map.json"),
        ('{"0": 2, "1": 1}', "ids.json"),
        (json.dumps({HASH["dog"]: 0, HASH["cat"]: 1}), "ontology_mapping.json"),
        ("dog\ncat\n", "obj.names"),
        ("names:\n  0: dog\n  1: cat\n", "data.yaml"),
        ("names: [dog, cat]\n", "data.yml"),
    ],
)
def test_a_file_says_which_class_is_which(tmp_path, content, name):
    path = tmp_path / name
    path.write_text(content)
    assert applied(path, "0", "1", "7") == [HASH["dog"], HASH["cat"], "7"]


def test_words_say_which_class_is_which():
    assert applied("shift:1", "0", "1") == [HASH["cat"], HASH["dog"]]
    assert applied("shift:-1", "3") == [HASH["dog"]]
    assert applied({0: "dog", "1": "1"}, "0", "1") == [HASH["dog"], HASH["cat"]]
    for word, key in (("id", "source_id"), ("name", "name"), ("index", "index")):
        joining = choose(rows(("10", "1")), BY_ID, UNITS, COCO, None, word)
        assert joining.coordinates.class_key == key


def test_coco_is_renumbered_by_the_names():
    classes = Ontology.from_coco([{"id": i, "name": n} for i, n in COCO_CLASSES.items()]).to_table()
    hashes = dict(
        zip(classes["name"].to_pylist(), classes["feature_hash"].to_pylist(), strict=True)
    )
    # Index 11 is the twelfth class, the stop sign, whose category id is 13.
    found = applied("coco80", "0", "11", "79", classes=classes)
    assert found == [hashes["person"], hashes["stop sign"], hashes["toothbrush"]]
    assert applied("coco80-1", "1", "12", "80", classes=classes) == found
    dense = Ontology.from_coco(
        [{"id": i, "name": n} for i, n in enumerate(COCO_CLASSES.values())]
    ).to_table()
    hashes = dict(zip(dense["name"].to_pylist(), dense["feature_hash"].to_pylist(), strict=True))
    assert applied("coco91", "13", "90", classes=dense) == [
        hashes["stop sign"],
        hashes["toothbrush"],
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such-file.json", "there is no such file"),
        ({"0": "owl"}, "no class 'owl', nor any other"),
        ({"0": ["x"]}, "names no class"),
        ("coco80", "none of COCO's classes"),
    ],
)
def test_a_mapping_that_maps_nothing_is_refused(given, message):
    classes = Ontology.from_coco([{"id": 1, "name": "car part"}]).to_table()
    with pytest.raises(SourceError, match=message):
        read_map(given, Targets(classes))


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "5", '"a"', '{"a": null}', ""])
def test_a_mapping_file_that_is_none_is_refused(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(SourceError):
        read_map(path, Targets(COCO))


def test_options_of_classifications_go_by_name():
    classes = Ontology(ONTOLOGY).to_table()
    batch = raw_batch([{"unit": "10", "class_ref": "Rain", "format": "classification"}])
    given = Coordinates(relative=False, unit_key="source_id", class_key="name")
    joined = choose([batch], given, UNITS, classes).apply(batch)
    hashes = [joined[n][0].as_py() for n in ("class_ref", "attribute_hash", "option_hash")]
    assert hashes == ["scene", "weather", "rain"]


IDS = {"1": "cat", "2": "dog"}


def test_another_numbering_is_proposed():
    assert numbering(["0", "1"], IDS) == [
        "all 2 class ids (0 … 1) are classes of the project one higher: --map shift:1"
    ]
    assert numbering(["2", "3"], IDS)[0].endswith("one lower: --map shift:-1")
    assert numbering(["1", "2"], IDS) == []
    assert numbering(["5", "9"], IDS) == []
    assert numbering(["cat"], IDS) == []
    coco = {str(i): n for i, n in COCO_CLASSES.items()}
    assert "--map coco80" in numbering([str(i) for i in range(80)], coco)[0]
    dense = {str(i): n for i, n in enumerate(COCO_CLASSES.values())}
    assert "--map coco91" in numbering(coco, dense)[0]


def test_the_hashes_of_a_mapping_are_its_keys_or_its_values():
    by_name = {HASH["cat"]: "cat", HASH["dog"]: "dog"}
    assert applied(by_name, "cat", "dog") == [HASH["cat"], HASH["dog"]]
    by_id = {HASH["cat"]: 2, HASH["dog"]: 1}
    assert applied(by_id, "1", "2") == [HASH["dog"], HASH["cat"]]
    renamed = {HASH["cat"]: HASH["dog"], HASH["dog"]: HASH["cat"]}
    assert applied(renamed, HASH["cat"]) == [HASH["dog"]]


MIXED = Ontology(ONTOLOGY).to_table()


@pytest.mark.parametrize("first", [0, 1])
def test_objects_and_answers_of_one_source_each_find_their_own(first):
    rows = [
        {"unit": "10", "class_ref": "Car", "format": "bounding_box"},
        {"unit": "10", "class_ref": "Rain", "format": "classification"},
    ]
    rows = rows[first:] + rows[:first]
    given = Coordinates(relative=False, unit_key="source_id", class_key="name")
    joining = choose([raw_batch(rows[:1])], given, UNITS, MIXED)
    assert joining.coordinates.class_key == "name"
    found = joining.apply(raw_batch(rows)).to_pylist()
    refs = {row["format"]: (row["class_ref"], row["option_hash"]) for row in found}
    assert refs == {"bounding_box": ("Car", None), "classification": ("scene", "rain")}


def test_an_option_does_not_take_the_name_of_an_object():
    node = {"id": "9", "name": "Sun", "shape": "any", "featureNodeHash": "star"}
    classes = Ontology(ONTOLOGY | {"objects": [*ONTOLOGY["objects"], node]}).to_table()
    given = Coordinates(False, "source_id", "index", (("0", "Sun"), ("1", "Road")))
    joining = choose(rows(("10", "0"), ("10", "1")), given, UNITS, classes)
    [batch] = [joining.apply(b) for b in rows(("10", "0"), ("10", "1"))]
    assert batch["class_ref"].to_pylist() == ["star", "road"]


def test_names_in_the_file_tell_what_its_ids_mean():
    # By id 10 and 11 both fit; the file says that they are the other way round.
    names = (("10", "val/000008.jpg"), ("11", "000007.jpg"))
    given = Coordinates(False, "source_id", "source_id", unit_names=names)
    joining = choose(rows(("10", "1"), ("11", "1")), given, UNITS, COCO)
    assert joining.coordinates.unit_key == "name"
    [batch] = [joining.apply(b) for b in rows(("10", "1"), ("11", "1"), ("12", "1"))]
    assert batch["unit"].to_pylist() == ["val/000008.jpg", "000007.jpg", "12"]
    found = UnitIndex(UNITS, "name").find(batch["unit"], np.zeros(3, np.int64))
    assert found.tolist() == [1, 0, -1]
    assert "own names of its images" in joining.notes[0]


def test_names_in_the_file_that_fit_nothing_change_nothing():
    given = Coordinates(False, "source_id", "source_id", unit_names=(("10", "nobody.jpg"),))
    joining = choose(rows(("10", "1")), given, UNITS, COCO)
    assert (joining.coordinates.unit_key, joining.units, joining.notes) == ("source_id", None, ())
