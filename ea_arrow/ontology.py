"""The classes of a project, in the structure of an Encord ontology.

A class is known by its hashes, never by its name: an object by its ``featureNodeHash``; an option
of a classification by three hashes (classification, attribute, option). Names may repeat.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
import string
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ea_arrow.errors import SourceError
from ea_arrow.schema import CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE_ID = "sourceId"
"""Our addition to Encord's structure: the id an object had in its source (COCO category id)."""

_DIGITS = string.digits + string.ascii_letters
_HASH_LENGTH = 8
_OPTION_TYPES = ("radio", "checklist")
_HINT = "Give the ontology as Encord exports it: {'objects': [...], 'classifications': [...]}."


def id_text(value: object) -> str | None:
    """Return the text under which a source's id is stored and matched; None if it is no id.

    Sources write one id now as 7, now as 7.0, now as "7"; all of them are the text ``7``.

    >>> id_text(7), id_text(7.0), id_text("7"), id_text(None), id_text(float("nan"))
    ('7', '7', '7', None, None)
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def id_order(value: Any) -> tuple[bool, Any]:
    """Sort key for ids: numbers by value, as pycocotools sorts them, then strings.

    >>> sorted(["b", 10, 9, "a"], key=id_order)
    [9, 10, 'a', 'b']
    """
    return isinstance(value, str), value


def clean_text(text: str) -> str:
    r"""Replace what UTF-8 cannot hold: JSON may carry half a surrogate pair, Arrow may not.

    >>> clean_text("caf\u00e9"), clean_text("half \ud83d")
    ('café', 'half ?')
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def cut(value: object) -> str:
    """Return the ``repr`` of what was found, short enough for a message.

    >>> cut(list(range(1000)))
    '[0, 1, 2, 3, 4, 5, ...]'
    """
    text = reprlib.repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


@dataclass(frozen=True)
class OntologyClass:
    """One row of the ``classes`` table: the fields are its columns."""

    kind: str
    name: str
    shape: str | None
    feature_hash: str
    attribute_hash: str | None
    option_hash: str | None
    path: str
    color: str | None
    source_id: str | None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """The hashes by which labels and predictions name the class."""
        return self.feature_hash, self.attribute_hash, self.option_hash


class Ontology:
    """The objects and classifications that labels and predictions may name.

    Args:
        document: Encord's JSON structure, ``{"objects": [...], "classifications": [...]}``.

    Attributes:
        document: The structure as given.
        classes: Every object, then every option of every radio or checklist attribute of every
            classification, nested ones after the option they hang from.
        attribute_types: ``radio``, ``checklist``, ``text``, … by attribute hash.
        notes: Counted peculiarities: attributes that hold no classes (text, numeric), and
            categories that a later one of the same id replaced.

    Raises:
        SourceError: The document is not an ontology, or two of its classes share their hashes.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.attribute_types: dict[str, str] = {}
        self.notes: Counter[str] = Counter()
        self.classes = (*self._objects(), *self._classifications())
        keys = Counter(c.key for c in self.classes)
        repeated = [c for c in self.classes if keys[c.key] > 1]
        if repeated:
            first = repeated[0]
            message = (
                f"{len(repeated)} classes of the ontology share their hashes, the first is "
                f"'{first.path}' ({first.feature_hash}); each class needs hashes of its own."
            )
            raise SourceError(message, hint="Export the ontology again, or drop the copies.")

    @classmethod
    def from_encord(cls, document: object) -> Ontology:
        """Wrap the structure that Encord exports as ``ontology.json``.

        Raises:
            SourceError: The document is not an ontology.
        """
        if not isinstance(document, dict) or not {"objects", "classifications"} & set(document):
            found = (
                f"an object with the keys {', '.join(map(str, list(document)[:5]))}"
                if isinstance(document, dict)
                else f"a {type(document).__name__}"
            )
            message = f"This is not an Encord ontology: found {found}."
            raise SourceError(message, hint=_HINT)
        return cls(document)

    @classmethod
    def from_coco(cls, categories: Sequence[Any]) -> Ontology:
        """Make an ontology of COCO categories, in the order of pycocotools (by id).

        The hashes derive from a category's id and name, so that the same categories get the same
        hashes in every project. Of categories with equal ids the last one counts.

        Args:
            categories: COCO's ``categories``.

        Raises:
            SourceError: A category is not an object with an id.
        """
        last: dict[str, dict[str, Any]] = {}
        for index, category in enumerate(categories):
            key = id_text(category.get("id")) if isinstance(category, dict) else None
            if key is None:
                message = f"categories[{index}] has no usable id: {cut(category)}."
                raise SourceError(
                    message, hint="Give every category an 'id', a number or a string, and a 'name'."
                )
            last[key] = category
        taken: set[str] = set()
        objects = []
        for number, category in enumerate(
            sorted(last.values(), key=lambda c: id_order(c["id"])), start=1
        ):
            objects.append(_object_of(category, number, taken))
        ontology = cls({"objects": objects, "classifications": []})
        if len(last) < len(categories):
            replaced = len(categories) - len(last)
            ontology.notes["categories replaced by a later one of the same id"] = replaced
        return ontology

    @classmethod
    def from_json(cls, text: str) -> Ontology:
        """Read what :meth:`to_json` wrote.

        Raises:
            SourceError: The text is not the JSON of an ontology.
        """
        try:
            document = json.loads(text)
        except ValueError as error:
            message = f"The ontology is not valid JSON: {error}."
            raise SourceError(message, hint=_HINT) from error
        return cls.from_encord(document)

    def to_json(self) -> str:
        """Return the structure as JSON text."""
        return json.dumps(self.document)

    def to_table(self) -> pa.Table:
        """Return the classes as a table of the ``CLASSES`` schema."""
        return pa.Table.from_pylist([asdict(c) for c in self.classes], schema=CLASSES.arrow)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ontology) and self.document == other.document

    __hash__ = None  # type: ignore[assignment]  # the document is mutable

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        objects = sum(c.kind == "object" for c in self.classes)
        return f"<Ontology: {objects} objects, {len(self) - objects} classification options>"

    def _objects(self) -> Iterator[OntologyClass]:
        for where, node in _nodes(self.document, "objects", ""):
            name = _text(node.get("name"))
            yield OntologyClass(
                kind="object",
                name=name,
                shape=_text(node.get("shape") or "any"),
                feature_hash=_hash(node, where),
                attribute_hash=None,
                option_hash=None,
                path=name,
                color=_color(node),
                source_id=id_text(node.get(SOURCE_ID)),
            )

    def _classifications(self) -> Iterator[OntologyClass]:
        for where, node in _nodes(self.document, "classifications", ""):
            yield from self._options(node, where, _hash(node, where), ())

    def _options(
        self, parent: dict[str, Any], at: str, feature_hash: str, names: tuple[str, ...]
    ) -> Iterator[OntologyClass]:
        for where, attribute in _nodes(parent, "attributes", at, nested="options"):
            attribute_hash = _hash(attribute, where)
            kind = _text(attribute.get("type"))
            self.attribute_types[attribute_hash] = kind
            if kind not in _OPTION_TYPES:
                self.notes[f"{kind} attributes, which hold no classes"] += 1
                continue
            question = (*names, _text(attribute.get("name")))
            for here, option in _nodes(attribute, "options", where):
                label = _text(option.get("label", option.get("value")))
                yield OntologyClass(
                    kind="classification",
                    name=label,
                    shape=None,
                    feature_hash=feature_hash,
                    attribute_hash=attribute_hash,
                    option_hash=_hash(option, here),
                    path=" > ".join((*question, label)),
                    color=None,
                    source_id=None,
                )
                yield from self._options(option, here, feature_hash, (*question, label))


def _nodes(
    parent: dict[str, Any], key: str, at: str, *, nested: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a list in the structure, each with the place where it stands.

    An option's nested attributes stand under ``options`` (there only ``nested`` applies, and only
    where the parent has no ``attributes``).
    """
    if nested and key not in parent:
        key = nested
    entries = parent.get(key) or []
    if not isinstance(entries, list):
        message = f"The ontology's {at}{key} is {cut(entries)}; expected a list."
        raise SourceError(message, hint=_HINT)
    for index, entry in enumerate(entries):
        where = f"{at}{key}[{index}]"
        if not isinstance(entry, dict):
            message = f"The ontology's {where} is {cut(entry)}; expected an object."
            raise SourceError(message, hint=_HINT)
        yield f"{where}.", entry


def _hash(node: dict[str, Any], where: str) -> str:
    value = node.get("featureNodeHash")
    if not isinstance(value, str) or not value:
        message = f"The ontology's {where}featureNodeHash is {cut(value)}; expected a string."
        raise SourceError(message, hint=_HINT)
    return clean_text(value)


def _object_of(category: dict[str, Any], number: int, taken: set[str]) -> dict[str, Any]:
    key = id_text(category["id"]) or ""
    name = _text(category.get("name", key))
    salt = 0
    while True:
        digest = hashlib.sha256(json.dumps([key, name, salt]).encode()).digest()
        feature_hash = _base62(int.from_bytes(digest[:8]))
        if feature_hash not in taken:
            break
        salt += 1
    taken.add(feature_hash)
    node = {
        "id": str(number),
        "name": name,
        "color": f"#{digest[8:11].hex().upper()}",
        "shape": "any",
        "featureNodeHash": feature_hash,
        SOURCE_ID: key,
    }
    if isinstance(category.get("supercategory"), str):
        node["supercategory"] = category["supercategory"]
    return node


def _base62(number: int) -> str:
    """Eight of Encord's hash characters, without ``+`` and ``/``, which paths and shells mind."""
    digits = []
    for _ in range(_HASH_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def _text(value: object) -> str:
    return clean_text(value if isinstance(value, str) else str(value))


def _color(node: dict[str, Any]) -> str | None:
    color = node.get("color")
    return clean_text(color) if isinstance(color, str) else None
