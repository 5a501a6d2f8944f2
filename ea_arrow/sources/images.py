"""A directory of images: their names, and their sizes from file headers; no pixel is decoded."""

from __future__ import annotations

import os
import posixpath
import struct
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from ea_arrow.errors import SourceError
from ea_arrow.ontology import clean_text
from ea_arrow.parallel import each
from ea_arrow.sources.truth import unit_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of image files, in lower case."""

_FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF", "GIF")
_ORIENTATION: Final = 0x0112
_ON_THEIR_SIDE: Final = (5, 6, 7, 8)
_BLOCK: Final = 128
_MOST: Final = 2**31
_HEAD: Final = 30
_DO_NOT_WAIT: Final = getattr(os, "O_NONBLOCK", 0)

Size = tuple[int, int]


def opened(images: Path | Images) -> Images:
    """The images of a directory, or those that are known already."""
    return images if isinstance(images, Images) else Images(images)


class Images:
    """The image files below a directory.

    Names that begin with a dot are passed over, and linked directories are not entered, so that
    links in a circle do no harm; links to files are followed.

    Args:
        root: The directory.

    Attributes:
        root: As given.
        paths: The files' paths below it with forward slashes, sorted.
        unreadable: The files that have no size, after :meth:`data_units`.

    Raises:
        SourceError: It is no directory, cannot be read, or has no image.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unreadable: list[str] = []
        self._rotated: set[str] = set()
        self._odd: dict[str, str] = {}
        """Paths on disk of names that UTF-8 cannot hold, by the name that is shown."""
        self._index(self._listed())

    def _index(self, paths: list[str]) -> None:
        self.paths = paths
        self._known = frozenset(self.paths)
        self._names: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        for path in self.paths:
            name = posixpath.basename(path)
            self._names.setdefault(name, []).append(path)
            self._stems.setdefault(_stem(name), []).append(path)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def rotated(self) -> int:
        """How many images asked for lie on their side (JPEG with EXIF orientation 5 to 8).

        Their width and height are those of the picture as viewers, OpenCV and Ultralytics show it,
        not those of the stored pixels.
        """
        return len(self._rotated)

    def find(self, name: str) -> str | None:
        """Find an image by its path, its file name or its stem.

        Args:
            name: As labels give it; directories before the file name need not be those on disk.

        Returns:
            Its path in ``paths``; None if there is none, or several that fit equally well.
        """
        found = self._fitting(name)
        return found[0] if len(found) == 1 else None

    def ambiguous(self, name: str) -> bool:
        """Whether several images fit a name."""
        return len(self._fitting(name)) > 1

    def sizes(self, paths: Sequence[str]) -> list[Size | None]:
        """Read sizes from file headers.

        Args:
            paths: Paths of ``paths``.

        Returns:
            Width and height in pixels as the picture is shown (see :attr:`rotated`), one for each
            path; None where a file cannot be read or is no image.
        """
        from PIL import Image, TiffImagePlugin  # noqa: F401 - registers itself

        Image.preinit()
        blocks = [paths[i : i + _BLOCK] for i in range(0, len(paths), _BLOCK)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which is of no interest here
            found = each(lambda block: [self._size(path) for path in block], blocks)
        return [size for block in found for size in block]

    def uri(self, path: str) -> str:
        """The URI of a file in ``paths``."""
        return (self.root.absolute() / self._odd.get(path, path)).as_uri()

    def data_units(self) -> pa.Table:
        """The images as data units, those left out that have no size (see ``unreadable``).

        Returns:
            A ``DATA_UNITS`` table in order of path: the title is the path below the directory, the
            source id the file name without suffix where that is unique, else the path.
        """
        sizes = dict(zip(self.paths, self.sizes(self.paths), strict=True))
        self.unreadable = [path for path, size in sizes.items() if size is None]
        rows = [
            {
                "width": size[0],
                "height": size[1],
                "title": path,
                "uri": self.uri(path),
                "source_id": self._source_id(path),
            }
            for path, size in sizes.items()
            if size is not None
        ]
        return unit_table(rows)

    def _listed(self) -> list[str]:
        if not self.root.is_dir():
            what = "is not a directory" if self.root.exists() else "does not exist"
            message = f"{self.root} {what}; expected a directory of images."
            raise SourceError(message, hint="Give the directory of the images: --images DIR.")
        found: list[str] = []
        for folder, folders, names in os.walk(self.root, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = os.path.relpath(folder, self.root)
            prefix = "" if below == "." else f"{Path(below).as_posix()}/"
            found += [
                self._shown(f"{prefix}{name}")
                for name in names
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            ]
        if not found:
            message = f"{self.root} has no images ({', '.join(SUFFIXES)})."
            raise SourceError(message, hint="Give the directory of the images: --images DIR.")
        return sorted(set(found))

    def _shown(self, path: str) -> str:
        shown = clean_text(path)
        if shown != path:
            self._odd[shown] = path
        return shown

    def _fitting(self, name: str) -> list[str]:
        name = posixpath.normpath(name.replace("\\", "/")) if name else ""
        if name in self._known:
            return [name]
        base = posixpath.basename(name)
        fitting = self._names.get(base) or self._stems.get(base) or self._stems.get(_stem(base), [])
        if len(fitting) > 1 and base != name:
            # Directories tell files of one name apart, where one path is the end of the other.
            closer = [path for path in fitting if _ends(path, name) or _ends(name, path)]
            fitting = closer or fitting
        return fitting

    def _source_id(self, path: str) -> str:
        stem = _stem(posixpath.basename(path))
        return path if len(self._stems[stem]) > 1 or stem in self._known else stem

    def _size(self, path: str) -> Size | None:
        try:
            # A pipe that has the name of an image must not be waited for.
            handle = os.open(self.root / self._odd.get(path, path), os.O_RDONLY | _DO_NOT_WAIT)
            with os.fdopen(handle, "rb") as file:
                size, rotated = _header(file, path)
        except Exception:  # noqa: BLE001 - Pillow raises anything of damaged files
            return None
        if size is None or not all(0 < side < _MOST for side in size):
            return None
        if rotated:
            self._rotated.add(path)
            return size[1], size[0]
        return size


class KnownImages(Images):
    """The data units of a project in the place of image files: their sizes are known.

    Args:
        data_units: ``DATA_UNITS``.
    """

    def __init__(self, data_units: pa.Table) -> None:
        self.root = Path("the project")
        self.unreadable: list[str] = []
        self._rotated, self._odd = set(), {}
        named = zip(
            *(data_units[n].to_pylist() for n in ("title", "source_id", "width", "height", "uri")),
            strict=True,
        )
        rows = {clean_text(title or source or ""): row for title, source, *row in named}
        self._sizes = {name: (row[0], row[1]) for name, row in rows.items()}
        self._uris = {name: row[2] for name, row in rows.items()}
        self._index(sorted(rows))

    def sizes(self, paths: Sequence[str]) -> list[Size | None]:
        """Sizes of data units by title."""
        return [self._sizes.get(path) for path in paths]

    def uri(self, path: str) -> str:
        """The URI of a data unit, empty if it has none."""
        return self._uris.get(path) or ""


def _header(file: IO[bytes], name: str) -> tuple[Size | None, bool]:
    """The size of the stored pixels, and whether they lie on their side.

    Pillow's readers are called directly: ``Image.open`` refuses large images, whose pixels are not
    wanted here.
    """
    from PIL import Image

    head = file.read(_HEAD)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp_size(head), False
    for known in _FORMATS:
        reader, accepts = Image.OPEN[known]
        if accepts is not None and accepts(head[:16]) is True:
            file.seek(0)
            image = reader(file, name)
            exif = known == "JPEG" and "exif" in image.info
            rotated = exif and image.getexif().get(_ORIENTATION) in _ON_THEIR_SIDE
            return image.size, rotated
    return None, False


def _webp_size(head: bytes) -> Size | None:
    """The size in the first 30 bytes of a WebP file; Pillow would read it whole."""
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L" and head[20:21] == b"\x2f":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _stem(name: str) -> str:
    """A file name without the suffix of an image."""
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix.lower()}" in SUFFIXES else name


def _ends(path: str, end: str) -> bool:
    return path.endswith(f"/{end}")


def _refuse(error: OSError) -> None:
    message = f"{error.filename} cannot be read: {error.strerror or error}."
    raise SourceError(message) from error
