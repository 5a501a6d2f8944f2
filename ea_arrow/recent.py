"""The last few candidates that a process used, shared by its threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ea_arrow.candidates import Candidates

MOST: Final = 2  # of 500,000 predictions each takes some 60 MB


class Recent:
    """Candidates by name; the one not used for longest goes first."""

    def __init__(self) -> None:
        self._kept: dict[str, Candidates] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> Candidates | None:
        """Candidates of this name if they are still here."""
        with self._lock:
            found = self._kept.pop(name, None)
            if found is not None:
                self._kept[name] = found
            return found

    def keep(self, name: str, candidates: Candidates) -> None:
        """Keep candidates, and let go of those beyond ``MOST``."""
        with self._lock:
            self._kept.pop(name, None)
            self._kept[name] = candidates
            while len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
