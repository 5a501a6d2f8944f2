"""``--map``: which class of the project each class of a source is, where the user says it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ea_arrow.coco_classes import COCO_CLASSES
from ea_arrow.errors import SourceError, did_you_mean
from ea_arrow.ontology import cut, id_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pyarrow as pa

    from ea_arrow.sources.base import ClassKey

KEYS: Final[dict[str, ClassKey]] = {
    "id": "source_id",
    "name": "name",
    "hash": "feature_hash",
    "index": "index",
}
"""What ``--map`` may say a source's classes are, and which key that is."""

MOST_BYTES: Final = 1 << 24

Hashes = tuple[str, str | None, str | None]
"""A class: its feature hash and, for an option of a classification, attribute and option."""

_COCO: Final = {
    "coco80": range(80),
    "coco80-1": range(1, 81),
    "coco91": tuple(COCO_CLASSES),
}
"""How COCO's classes are numbered, in their order."""

_SHIFT: Final = re.compile(r"shift:([+-]?\d{1,9})")
_HELP: Final = (
    f"--map takes a file, one of {', '.join(KEYS)}, shift:N, coco80 (indices 0…79 of COCO's "
    "classes), coco80-1 (the same from 1) or coco91 (COCO's category ids)."
)


class Targets:
    """A project's classes, to be found by whatever a mapping calls them.

    Args:
        classes: ``CLASSES``.
    """

    def __init__(self, classes: pa.Table) -> None:
        rows = classes.to_pylist()
        self.objects = [row for row in rows if row["kind"] == "object"]
        self._by: dict[str, dict[str, Hashes]] = {}
        for key in ("feature_hash", "source_id", "name"):
            self._by[key] = _unique(self.objects, key)
        self.option_rows = [row for row in rows if row["kind"] != "object"]
        self._options = {
            "hash": _unique(self.option_rows, "option_hash"),
            "name": _unique(self.option_rows, "name"),
        }

    def find(self, text: str) -> Hashes | None:
        """A class by feature hash, source id or name; then an option by hash or name.

        Raises:
            SourceError: It is the source id of one class and the name of another.
        """
        found = [known[text] for known in self._by.values() if text in known]
        if len(set(found)) > 1:
            raise SourceError(
                f"'{text}' is the source id of one class and the name of another.",
                hint="Name the class by its feature hash: ea-arrow ontology",
            )
        found += [known[text] for known in self._options.values() if text in known]
        return found[0] if found else None

    def by(self, key: str) -> dict[str, Hashes]:
        """The objects by one key: ``feature_hash``, ``source_id``, ``name`` or ``index``."""
        if key == "index":
            return {str(i): _hashes(row) for i, row in enumerate(self.objects)}
        return self._by[key]

    def options(self, key: str = "name") -> dict[str, Hashes]:
        """The options of classifications by name, those of one name left out, or by ``index``."""
        if key == "index":
            return {str(i): _hashes(row) for i, row in enumerate(self.option_rows)}
        return self._options["name"]

    @property
    def names(self) -> list[str]:
        """Every name there is."""
        return [*self._by["name"], *self._options["name"]]


def read_map(
    given: str | Path | Mapping[Any, Any], targets: Targets, references: Collection[str] = ()
) -> dict[str, Hashes]:
    """Return which class each of a source's class references is.

    Args:
        given: A mapping ``{reference: class}``, a file of one (see :func:`_document`), or one of
            the words in ``_HELP``.
        targets: The project's classes.
        references: Class references of the source, as far as they are known: a mapping whose keys
            are feature hashes says what each class is called there, unless they are among these.

    Raises:
        SourceError: The file cannot be read, or names classes the project does not have.
    """
    if not isinstance(given, str | Path):
        return _resolved(given, targets, "The mapping", references)
    word = str(given)
    shift = _SHIFT.fullmatch(word)
    if shift:
        return _shifted(targets, int(shift[1]))
    if word in _COCO:
        by_name = targets.by("name")
        named = zip(_COCO[word], COCO_CLASSES.values(), strict=True)
        found = {str(number): by_name[name] for number, name in named if name in by_name}
        if not found:
            raise SourceError(f"The project has none of COCO's classes, which --map {word} needs.")
        return found
    path = Path(given)
    if not _is_file(path):
        near = did_you_mean(word, [*KEYS, "shift:1", *_COCO])
        hint = f"{near} {_HELP}" if near else _HELP
        raise SourceError(f"--map {word}: there is no such file.", hint=hint)
    return _resolved(_document(path), targets, str(path), references)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _shifted(targets: Targets, by: int) -> dict[str, Hashes]:
    numbered = {int(k): v for k, v in targets.by("source_id").items() if re.fullmatch(r"-?\d+", k)}
    if not numbered:
        raise SourceError(f"--map shift:{by} needs classes with whole numbers as source ids.")
    return {str(number - by): hashes for number, hashes in numbered.items()}


def _document(path: Path) -> Mapping[Any, Any]:
    """Read a mapping: JSON, YAML with ``names``, or one name per line, counted from 0.

    JSON may hold a list of names, ``{reference: class}``, or, as Encord has it,
    ``{feature hash: reference}``.
    """
    if path.stat().st_size > MOST_BYTES:
        raise SourceError(
            f"{path} has more than {MOST_BYTES:,} bytes; expected a mapping of classes."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read as a mapping of classes: {error}.") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        from ea_arrow.sources.yaml_files import names_of

        return names_of(path)
    if text.lstrip().startswith(("{", "[")):
        try:
            document = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, path))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path} is not JSON: {error}.", hint=_HELP) from error
    else:
        document = _lines(text, path)
    if isinstance(document, list):
        document = dict(enumerate(document))
    if not isinstance(document, dict):
        raise SourceError(
            f"{path} holds {cut(document)}; expected a mapping of classes.", hint=_HELP
        )
    return document


def _once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """An object of JSON, of which a key that is there twice would hide the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise SourceError(f"{path}: {cut(twice)} is mapped twice; expected each class once.")
    return found


def _lines(text: str, path: Path) -> list[str]:
    """Names, one per line; what counts them must not be left out."""
    lines = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if "" in lines:
        raise SourceError(
            f"{path}: line {lines.index('') + 1} is blank, and the lines are counted.",
            hint="Take it out if it is no class; else write a name there that no class has.",
        )
    return lines


def _resolved(
    given: Mapping[Any, Any], targets: Targets, where: str, references: Collection[str]
) -> dict[str, Hashes]:
    texts = {_text(key, where): _text(value, where) for key, value in given.items()}
    if len(texts) < len(given):
        raise SourceError(f"{where} maps a class twice: as a number and as a text.")
    hashes = targets.by("feature_hash")
    if texts and texts.keys() <= hashes.keys() and not texts.keys() & set(references):
        repeated = [value for value, n in Counter(texts.values()).items() if n > 1]
        if repeated:
            raise SourceError(f"{where}: several classes are '{repeated[0]}'.")
        return {value: hashes[key] for key, value in texts.items()}
    found = {key: targets.find(value) for key, value in texts.items()}
    unknown = [texts[key] for key, value in found.items() if value is None]
    if not texts:
        raise SourceError(f"{where} maps no class.", hint=_HELP)
    if len(unknown) == len(texts):
        near = did_you_mean(unknown[0], targets.names)
        message = f"{where}: the project has no class '{unknown[0]}', nor any other of the mapping."
        raise SourceError(message, hint=near or "The project's classes: ea-arrow ontology")
    return {key: value for key, value in found.items() if value is not None}


def _text(value: Any, where: str) -> str:
    text = id_text(value)
    if text is None:
        raise SourceError(f"{where}: {cut(value)} names no class; expected a name or a number.")
    return text


def _hashes(row: dict[str, Any]) -> Hashes:
    return row["feature_hash"], row["attribute_hash"], row["option_hash"]


def _unique(rows: list[dict[str, Any]], key: str) -> dict[str, Hashes]:
    """Classes by a column, those that share its value left out."""
    counts = Counter(row[key] for row in rows)
    return {
        row[key]: _hashes(row) for row in rows if row[key] is not None and counts[row[key]] == 1
    }
