"""A first look at a file or directory: enough to tell its format, however large it is."""

from __future__ import annotations

import os
import re
import zlib
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Final

from ea_arrow.sources.json_files import unpacked

HEAD_BYTES: Final = 65_536
"""How much of a file is enough to tell its format."""

MOST_FILES: Final = 2_000
"""How many entries of a directory are looked at."""

MOST_TRIED: Final = 40
"""How many files of one suffix are opened to find some that are not empty."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_SPACE: Final = b"\xef\xbb\xbf \t\r\n"


def read_head(path: Path) -> bytes:
    """Return the first ``HEAD_BYTES`` of a file, unpacked; nothing if it cannot be read.

    Pipes and devices are not opened: a pipe without a writer would be waited for.
    """
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return file.read(HEAD_BYTES)
            with unpacked(file) as stream:
                return stream.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


class Sample:
    """A first look at a path.

    Args:
        path: A file or a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_dir = path.is_dir()

    @property
    def suffix(self) -> str:
        """The suffix in lower case, that before ``.gz`` where there is one."""
        name = self.path.name.lower().removesuffix(".gz")
        return Path(name).suffix

    @cached_property
    def head(self) -> bytes:
        """The beginning of a file without leading space or byte-order mark; empty for a directory.

        It is unpacked, where the file is compressed by gzip.
        """
        return b"" if self.is_dir else read_head(self.path).lstrip(_SPACE)

    @cached_property
    def is_packed(self) -> bool:
        """Whether a file is compressed by gzip."""
        if self.is_dir:
            return False
        try:
            with self.path.open("rb") as file:
                return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        except OSError:
            return False

    @cached_property
    def text(self) -> str:
        """The head as text; empty if it is none."""
        if b"\0" in self.head:
            return ""
        try:
            return self.head.decode()
        except UnicodeDecodeError as error:
            # The head may end within a character.
            return self.head[: error.start].decode() if error.start > len(self.head) - 4 else ""

    @cached_property
    def lines(self) -> list[str]:
        """Whole lines of the head that are not blank."""
        lines = self.text.splitlines()
        if len(lines) > 1 and len(self.head) >= HEAD_BYTES - 8:
            lines.pop()
        return [line for line in lines if line.strip()]

    @cached_property
    def keys(self) -> set[str]:
        """Every key of the JSON objects that the head shows; empty if it is not JSON."""
        if not self.head.startswith((b"{", b"[")):
            return set()
        found = re.findall(r'"((?:[^"\\]|\\.){1,80})"\s*:', self.text)
        return set(found)

    @cached_property
    def files(self) -> list[Path]:
        """The first files below a directory, hidden ones left out; empty for a file."""
        if not self.is_dir:
            return []
        walked = (
            Path(folder) / name
            for folder, folders, names in os.walk(self.path)
            for name in sorted(names)
            if not (folders.sort() or name.startswith("."))
        )
        return list(islice(walked, MOST_FILES))

    def inner(self, *suffixes: str) -> list[Sample]:
        """The first files of these suffixes below a directory that are not empty, up to five."""
        of_suffix = [p for p in self.files if p.suffix.lower() in suffixes][:MOST_TRIED]
        samples = (Sample(path) for path in of_suffix)
        return list(islice((sample for sample in samples if sample.head), 5))

    def has(self, *suffixes: str) -> bool:
        """Whether a directory has files of these suffixes."""
        return any(path.suffix.lower() in suffixes for path in self.files)
