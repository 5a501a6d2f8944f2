"""Ontologies: Encord's structure in, every class out, made from COCO categories too."""

import json

import pytest

from ea_arrow.errors import SourceError
from ea_arrow.ontology import Ontology, clean_text
from ea_arrow.schema import CLASSES

ENCORD = {
    "objects": [
        {
            "id": "1",
            "name": "Car",
            "color": "#D33115",
            "shape": "bounding_box",
            "featureNodeHash": "a+b/0001",
            "attributes": [
                {
                    "id": "1.1",
                    "name": "Make",
                    "type": "radio",
                    "featureNodeHash": "objattr1",
                    "options": [{"id": "1.1.1", "label": "Fiat", "featureNodeHash": "objopt01"}],
                }
            ],
        },
        {"id": "2", "name": "Car", "shape": "polygon", "featureNodeHash": "car2"},
    ],
    "classifications": [
        {
            "id": "3",
            "featureNodeHash": "clf1",
            "attributes": [
                {
                    "id": "3.1",
                    "name": "Weather",
                    "type": "radio",
                    "featureNodeHash": "att1",
                    "options": [
                        {"id": "3.1.1", "label": "Yes", "value": "yes", "featureNodeHash": "opt1"},
                        {
                            "id": "3.1.2",
                            "label": "Yes",
                            "value": "yes",
                            "featureNodeHash": "opt2",
                            "options": [
                                {
                                    "id": "3.1.2.1",
                                    "name": "Rain",
                                    "type": "radio",
                                    "featureNodeHash": "att2",
                                    "options": [
                                        {"id": "1", "label": "Hard", "featureNodeHash": "opt3"}
                                    ],
                                },
                                {"id": "x", "name": "?", "type": "text", "featureNodeHash": "att3"},
                            ],
                        },
                    ],
                },
            ],
        },
        {
            "id": "4",
            "featureNodeHash": "clf2",
            "attributes": [
                {
                    "id": "4.1",
                    "name": "Seen",
                    "type": "checklist",
                    "featureNodeHash": "att4",
                    "options": [{"id": "4.1.1", "label": "Dog", "featureNodeHash": "opt4"}],
                }
            ],
        },
    ],
}


def test_every_object_and_every_option_is_a_class_also_those_of_equal_names():
    classes = Ontology.from_encord(ENCORD).classes
    assert [(c.kind, c.name, *c.key) for c in classes] == [
        ("object", "Car", "a+b/0001", None, None),
        ("object", "Car", "car2", None, None),
        ("classification", "Yes", "clf1", "att1", "opt1"),
        ("classification", "Yes", "clf1", "att1", "opt2"),
        ("classification", "Hard", "clf1", "att2", "opt3"),
        ("classification", "Dog", "clf2", "att4", "opt4"),
    ]
    assert [c.path for c in classes][4] == "Weather > Yes > Rain > Hard"


def test_attributes_without_options_are_counted_and_object_attributes_are_no_classes():
    ontology = Ontology.from_encord(ENCORD)
    assert ontology.notes == {"text attributes, which hold no classes": 1}
    assert ontology.attribute_types == {
        "att1": "radio",
        "att2": "radio",
        "att3": "text",
        "att4": "checklist",
    }
    assert repr(ontology) == "<Ontology: 2 objects, 4 classification options>"


def test_the_table_conforms_to_the_schema():
    table = Ontology.from_encord(ENCORD).to_table()
    assert table.schema.equals(CLASSES.arrow, check_metadata=True)
    assert table["shape"].to_pylist()[:3] == ["bounding_box", "polygon", None]
    assert table["color"].to_pylist()[:2] == ["#D33115", None]
    assert Ontology.from_encord({"objects": []}).to_table().num_rows == 0


def test_json_brings_back_an_equal_ontology():
    ontology = Ontology.from_encord(ENCORD)
    again = Ontology.from_json(ontology.to_json())
    assert again == ontology
    assert again.classes == ontology.classes


def test_coco_categories_are_sorted_by_id_numbers_by_value_then_strings():
    ontology = Ontology.from_coco(
        [{"id": i, "name": "n"} for i in ("b", 10, 9, "a", 0)] + [{"id": 2.0, "name": 5}]
    )
    assert [c.source_id for c in ontology.classes] == ["0", "2", "9", "10", "a", "b"]
    assert ontology.classes[1].name == "5"
    assert {c.shape for c in ontology.classes} == {"any"}


def test_coco_hashes_are_stable_short_and_differ_for_equal_names():
    first = Ontology.from_coco([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}])
    second = Ontology.from_coco([{"id": 2, "name": "cat"}, {"id": 7, "name": "dog"}])
    one, two = (c.feature_hash for c in first.classes)
    assert one != two
    assert two == second.classes[0].feature_hash == "J8rEScCK"
    assert all(len(c.feature_hash) == 8 and c.feature_hash.isalnum() for c in first.classes)
    assert len({c.feature_hash for c in Ontology.from_coco(_many(20_000)).classes}) == 20_000


def _many(n: int) -> list[dict]:
    return [{"id": i, "name": "thing"} for i in range(n)]


def test_of_coco_categories_with_equal_ids_the_last_counts():
    ontology = Ontology.from_coco([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}])
    assert [c.name for c in ontology.classes] == ["b"]
    assert ontology.notes == {"categories replaced by a later one of the same id": 1}


def test_a_coco_ontology_keeps_its_source_ids_through_json():
    ontology = Ontology.from_coco([{"id": 17, "name": "cat", "supercategory": "animal"}])
    again = Ontology.from_json(ontology.to_json())
    assert again.classes == ontology.classes
    assert again.document["objects"][0]["supercategory"] == "animal"


def test_half_a_surrogate_pair_in_a_name_does_not_break_the_table():
    ontology = Ontology.from_coco([{"id": 1, "name": "half \ud83d"}])
    assert ontology.to_table()["name"].to_pylist() == ["half ?"]
    assert clean_text("whole 😀") == "whole 😀"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "found a list"),
        ({"images": []}, "found an object with the keys images"),
        ({"objects": {}, "classifications": 3}, "classifications is 3; expected a list"),
        ({"objects": ["car"]}, r"objects\[0\] is 'car'; expected an object"),
        ({"objects": [{"name": "car"}]}, r"objects\[0\].featureNodeHash is None"),
        (
            {"classifications": [{"featureNodeHash": "c", "attributes": [{"type": "radio"}]}]},
            r"classifications\[0\].attributes\[0\].featureNodeHash is None",
        ),
        (
            {"objects": [{"name": n, "featureNodeHash": "same"} for n in "ab"]},
            r"2 classes of the ontology share their hashes, the first is 'a' \(same\)",
        ),
    ],
)
def test_what_is_no_ontology_is_refused_with_the_place(document, message):
    with pytest.raises(SourceError, match=message) as caught:
        Ontology.from_encord(document)
    assert caught.value.hint


def test_broken_json_and_categories_without_ids_are_refused():
    with pytest.raises(SourceError, match="not valid JSON"):
        Ontology.from_json("{")
    with pytest.raises(SourceError, match=r"categories\[1\] has no usable id: {'name': 'x'}"):
        Ontology.from_coco([{"id": 1}, {"name": "x"}])
    assert json.loads(Ontology.from_coco([]).to_json()) == {"objects": [], "classifications": []}
