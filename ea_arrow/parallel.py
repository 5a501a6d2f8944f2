"""Work shared by threads: NumPy and C kernels let others run while they compute."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")
_R = TypeVar("_R")

MOST_THREADS = 8


def each(function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
    """Call ``function`` on every item and return the results in order; the first error is raised.

    Args:
        function: Must not depend on another item's call.
        items: One piece of work each.
    """
    threads = min(len(items), os.cpu_count() or 1, MOST_THREADS)
    if threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def together(*functions: Callable[[], Any]) -> list[Any]:
    """Call functions that do not depend on each other and return their results in order."""
    return each(lambda function: function(), functions)
