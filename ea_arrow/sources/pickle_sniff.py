"""Telling pickles of different content apart by their first bytes; nothing is unpickled."""

from __future__ import annotations

import re
from typing import Final

_FIRST: Final = (b"(l", b"]q", b"](", b"].", b"(c", b"(t", b").")
_OWN: Final = (b".db.predictions", b"ea_arrow")
_NESTED: Final = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?\](?:q.|\x94)\(?[\](]", re.DOTALL)
_NEAR: Final = 400


def is_pickle(head: bytes) -> bool:
    """Whether bytes begin a pickle.

    Protocols 2 to 5 announce themselves; 0 and 1 begin with the list or tuple.
    """
    return head[:1] == b"\x80" or head[:2] in _FIRST


def is_mmdetection(head: bytes) -> bool:
    """Whether bytes begin a pickle of MMDetection's results.

    Version 3 has dictionaries with ``pred_instances``; version 2 lists of lists (or of tuples) of
    NumPy arrays, and no object of ours or Encord Active's.
    """
    if not is_pickle(head) or any(mark in head for mark in _OWN):
        return False
    if b"pred_instances" in head:
        return True
    return _NESTED.match(head) is not None and b"numpy" in head[:_NEAR]
