"""Ways to damage files: their bytes, what they mean, and the directory they are in."""

from __future__ import annotations

import copy
import gzip
import io
import json
import os
import random
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENS = (
    *(b"nan", b"-1", b"1e400", b"9" * 30, b"0x1F", b"null", b"true", b"\\ud800", b"\x00"),
    *(b"\xff\xfe", b"[" * 3000, b"{" * 50, b'"', b"}", b",", b"\n", b"\r", b"\t", b" " * 100),
    *(b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"&a;", b"<object>", b"18446744073709551616", b"inf"),
    *(b"\xc3\xa9", b"99999999", b"..", b"../../../etc", b"'", b";", b"\x80\x05", b"PAR1"),
    *(b"-0", b"1e-320", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
)
WORDS = (
    *("", "nan", "-inf", "1e999", "-1", "0", "0.5", "1.5", "3", "65536", "9" * 25, "1_000", "0x10"),
    *("person", "car", "zebra", "000001", "000001.png", "../000001.png", "a b", '"', "'", "é", "١"),
    *("\u2028", "\x0b", "\x1f", "true", "null", "-", "x" * 5000, "1,5", "NULL", "label", "score"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 0.5, 1.5, -0.0, 1e308, float("nan"), float("inf"), 10**30, 2**63),
    *(2**31, "", "a", "1", "0.5", "nan", "\ud800", "\x00", "x" * 3000, "../a", [], {}, [[]], [{}]),
    *([None], [1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], [[1, 2]], {"a": 1}, [[[1]]], "person", 1, 2, 99),
)
Chance = random.Random


def damaged(data: bytes, chance: Chance) -> bytes:
    """A copy that is cut, repeated, overwritten, or has something put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        end = min(len(data), at + chance.choice((1, 2, 8, 64, 512)))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = chance.choice(TOKENS)
        elif kind == 3:
            data[at:end] = chance.choice(TOKENS)
        elif kind == 4:
            data[at:at] = data[at:end] * chance.choice((1, 3, 50))
        elif data and kind == 5:
            place = min(at, len(data) - 1)
            data[place] = chance.randrange(256)
        elif data:
            place = min(at, len(data) - 1)
            data[place] ^= 1 << chance.randrange(8)
    return bytes(data)


def meant_otherwise(data: bytes, chance: Chance) -> bytes:
    """A copy that is still a file of its kind, but says something else."""
    head = data[:200].lstrip()
    try:
        if head.startswith((b"{", b"[")):
            return _json(data, chance)
        if head.startswith(b"<"):
            return _xml(data, chance)
        if head.startswith(b"\x89PNG"):
            return _png(data, chance)
        if head.startswith(b"PK"):
            return _npz(data, chance)
        if b"\0" in head or head.startswith((b"\x80", b"PAR1", b"ARROW1", b"\xff\xff")):
            return _numbers(data, chance)
        return _text(data, chance)
    except (ValueError, zipfile.BadZipFile, struct.error):
        return damaged(data, chance)


# -- JSON ------------------------------------------------------------------------------------------


def _json(data: bytes, chance: Chance) -> bytes:
    try:
        documents = [json.loads(data)]
    except ValueError:
        documents = [json.loads(line) for line in data.splitlines() if line.strip()]
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(documents))
        documents[place] = _changed(documents[place], chance)
    ascii_only = chance.random() < 0.5
    texts = [json.dumps(document, ensure_ascii=ascii_only) for document in documents]
    return "\n".join(texts).encode("utf-8", chance.choice(("replace", "surrogatepass")))


def _changed(document: Any, chance: Chance) -> Any:
    places = list(_places(document))
    if not places:
        return copy.deepcopy(chance.choice(VALUES))
    parent, key = chance.choice(places)
    kind = chance.randrange(8)
    if kind <= 2:
        parent[key] = copy.deepcopy(chance.choice(VALUES))
    elif kind == 3:
        del parent[key]
    elif kind == 4:  # another value of the document
        other, where = chance.choice(places)
        parent[key] = copy.deepcopy(other[where])
    elif kind == 5:
        for _ in range(chance.choice((1, 30, 100))):
            parent[key] = [parent[key]]
    elif isinstance(parent, dict):
        other = chance.choice([k for p, k in places if isinstance(p, dict)] + list(WORDS))
        parent[other] = parent.pop(key)
    else:
        parent.extend(copy.deepcopy(parent[key]) for _ in range(chance.choice((1, 40))))
    return document


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)


# -- text ------------------------------------------------------------------------------------------


def _text(data: bytes, chance: Chance) -> bytes:
    lines = data.decode().splitlines() or [""]
    between = max((",", "\t", ";", " "), key=lambda mark: lines[0].count(mark))
    rows = [line.split(between) for line in lines]
    for _ in range(chance.choice((1, 1, 2, 3))):
        rows = _rows(rows, chance) or [[""]]
    if chance.random() < 0.1:
        between = chance.choice((",", "\t", ";", " ", "  ", "|"))
    end = chance.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\n"))
    text = end.join(between.join(row) for row in rows) + chance.choice(("", end))
    return text.encode(chance.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-32")), "replace")


def _rows(rows: list[list[str]], chance: Chance) -> list[list[str]]:
    kind = chance.randrange(10)
    place = chance.randrange(len(rows))
    columns = max(map(len, rows))
    one, two = chance.randrange(columns), chance.randrange(columns)
    if kind <= 2:
        rows[place][one : one + 1] = [chance.choice(WORDS)]
    elif kind == 3:
        for row in rows:
            if max(one, two) < len(row):
                row[one], row[two] = row[two], row[one]
    elif kind == 4:
        rows = [row[:one] + row[one + 1 :] for row in rows]
    elif kind == 5:
        word = chance.choice(WORDS)
        rows = [[*row[:one], word, *row[one:]] for row in rows]
    elif kind == 6:
        rows[place].insert(one, chance.choice(WORDS))
    elif kind == 7:
        rows += [list(rows[place]) for _ in range(chance.choice((1, 100)))]
    elif kind == 8:
        chance.shuffle(rows)
    else:
        del rows[place]
    return rows


def _xml(data: bytes, chance: Chance) -> bytes:
    text = data.decode()
    for _ in range(chance.choice((1, 1, 3))):
        pattern = chance.choice(
            (
                *(r'(?<==")[^"]*(?=")', r"(?<=>)[^<>\n]+(?=<)", r"</?\w+", r' \w+="[^"]*"'),
                r"<(\w+)>.*?</\1>",
            )
        )
        found = list(re.finditer(pattern, text, re.DOTALL))
        if not found:
            continue
        hit = chance.choice(found)
        new = chance.choice((*WORDS[:20], "", hit[0] * 2, chance.choice(found)[0], "&lt;", "&#0;"))
        text = text[: hit.start()] + new + text[hit.end() :]
    return text.encode("utf-8", "replace")


# -- binary ----------------------------------------------------------------------------------------


def _png(data: bytes, chance: Chance) -> bytes:
    """Another header with a right checksum, or other pixels."""
    header = list(struct.unpack(">IIBBBBB", data[16:29]))
    place = chance.randrange(7)
    header[place] = chance.choice((0, 1, 2, 3, 4, 8, 16, 255, *((2**16, 2**31 - 1) * (place < 2))))
    packed = b"IHDR" + struct.pack(">IIBBBBB", *header)
    rest = data[33:]
    if chance.random() < 0.3:
        pixels = zlib.compress(bytes(chance.choice((0, 10, 10**6))))
        rest = struct.pack(">I", len(pixels)) + b"IDAT" + pixels
        rest += struct.pack(">I", zlib.crc32(b"IDAT" + pixels))
    return data[:12] + packed + struct.pack(">I", zlib.crc32(packed)) + rest


def _npz(data: bytes, chance: Chance) -> bytes:
    """Another shape or type in an array's header."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(members))
    header = members[name][:128].decode("latin-1")
    old, new = chance.choice(
        ((r"\(\d+", "(999999999"), (r"\(\d+", "(-1"), (r"'<f\d'", "'<U999'"), (r"'<f\d'", "'|O'"),
         (r"False", "True "), (r"\(\d+, ", "("), (r"'descr'", "'other'"))
    )  # fmt: skip
    changed = re.sub(old, new, header, count=1).encode("latin-1")[:128].ljust(128, b" ")
    members[name] = changed + members[name][128:]
    with zipfile.ZipFile(into := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in members.items():
            archive.writestr(chance.choice((key, key, "../x.npy")), value)
    return into.getvalue()


def _numbers(data: bytes, chance: Chance) -> bytes:
    """Other lengths and counts where formats keep them: near the beginning and the end."""
    into = bytearray(data)
    for _ in range(chance.choice((1, 2, 5))):
        near = chance.randrange(min(300, len(into))) if into else 0
        at = near if chance.random() < 0.4 else max(len(into) - near - 8, 0)
        number = chance.choice(
            (0, 1, 127, 255, 2**31 - 1, 2**32 - 1, 2**16, chance.getrandbits(32))
        )
        size = chance.choice((1, 2, 4))
        into[at : at + size] = struct.pack("<I", number)[:size]
    return bytes(into)


# -- files and directories -------------------------------------------------------------------------


def _loop(victim: Path, folder: Path, chance: Chance) -> None:
    (folder / "up").symlink_to("..", target_is_directory=True)
    (folder / f"self{victim.suffix}").symlink_to(f"self{victim.suffix}")


def _pipe(victim: Path, folder: Path, chance: Chance) -> None:
    os.mkfifo(folder / f"!{victim.suffix}")


def _holes(victim: Path, folder: Path, chance: Chance) -> None:
    os.truncate(victim, chance.choice((1 << 20, 10 << 30)))


def _hole_beside(victim: Path, folder: Path, chance: Chance) -> None:
    path = folder / f"!{victim.suffix}"
    path.touch()
    os.truncate(path, 10 << 30)


def _many_empty(victim: Path, folder: Path, chance: Chance) -> None:
    for number in range(300):
        (folder / f"{number:03}{victim.suffix}").touch()


def _odd_name(victim: Path, folder: Path, chance: Chance) -> None:
    names = (b"a\nb", b"\xff\xfe", "é".encode(), b"x" * 200, b" ", b"a__2", b"7", b"..a", b"-rf")
    name = os.fsdecode(chance.choice((*names, b"\x1b[2J")))
    victim.rename(folder / f"{name}{victim.suffix}")


def _folder_of_that_name(victim: Path, folder: Path, chance: Chance) -> None:
    victim.unlink()
    victim.mkdir()


def _dangling(victim: Path, folder: Path, chance: Chance) -> None:
    victim.unlink()
    victim.symlink_to("nowhere")


def _unreadable(victim: Path, folder: Path, chance: Chance) -> None:
    victim.chmod(0)


def _packed(victim: Path, folder: Path, chance: Chance) -> None:
    data = gzip.compress(victim.read_bytes() + bytes([chance.choice(b" \n0[")]) * (1 << 21), 1)
    victim.write_bytes(data[: chance.choice((len(data), -9))])


def _removed(victim: Path, folder: Path, chance: Chance) -> None:
    victim.unlink()


AROUND: tuple[Callable[[Path, Path, Chance], None], ...] = (
    *(_loop, _pipe, _holes, _hole_beside, _many_empty, _odd_name, _folder_of_that_name),
    *(_dangling, _unreadable, _packed, _removed),
)
"""What befalls a file and the directory it is in."""
