"""Where images are: local files, and object stores through fsspec where that is installed."""

from __future__ import annotations

import errno
import stat
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ea_arrow.errors import EaArrowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_BYTES: Final = 2**30
"""A larger object is not fetched from an object store."""

VIDEO: Final = "is a video"
NOWHERE: Final = "has no uri"

_VIDEOS: Final = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv")
)
_STATES: Final = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "created")


class Located(NamedTuple):
    """A file.

    Attributes:
        stamp: Which state it is in: size and time of change, or the object store's ETag. None if
            that is not known. Why there is nothing to open, if there is nothing.
        open: Opens it, seekable; None if there is nothing to open.
    """

    stamp: str | None
    open: Callable[[], IO[bytes]] | None


def locate(uri: str | None) -> Located:
    """Find an image without reading it.

    Args:
        uri: A path, which may be relative to the working directory, ``file://``, or what fsspec
            opens.

    Raises:
        OSError: It is not there, or no file; an object store raises others.
        ValueError: This can be no uri.
    """
    if uri is None:
        return Located(NOWHERE, None)
    scheme = _scheme(uri)
    if _is_video(uri):
        return Located(VIDEO, None)
    if scheme not in ("", "file"):
        return _stored(uri)
    file = Path(url2pathname(urlsplit(uri).path) if scheme else uri)
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not a file")  # nor a pipe, which would be waited for
    return Located(f"{found.st_size} {found.st_mtime_ns}", lambda: file.open("rb"))


def _stored(uri: str) -> Located:
    import fsspec

    store, path = fsspec.core.url_to_fs(uri)
    about = store.info(path)
    size = about.get("size")
    if size is not None and size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"{size:,} bytes are more than {MOST_BYTES:,}")
    state = [about[name] for name in _STATES if about.get(name)]
    return Located(f"{size} {state[0]}" if state else None, lambda: BytesIO(store.cat_file(path)))


def load_stores(uris: Sequence[str | None]) -> bool:
    """Load the packages that read the object stores of images.

    Returns:
        Whether any image is in one.

    Raises:
        EaArrowError: A package is missing.
    """
    remote = (uri for uri in uris if uri is not None and _scheme(uri) not in ("", "file"))
    schemes = {_scheme(uri) for uri in remote if not _is_video(uri)}
    for scheme in sorted(schemes):
        try:
            import fsspec

            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise EaArrowError(
                f"Images at {scheme}:// cannot be read: {error}.",
                hint="Install what reads object stores: pip install 'ea-arrow[object-store]'",
            ) from error
        except ValueError:
            continue  # there is no such store: each of its images is a row with an error
    return bool(schemes)


def _is_video(uri: str) -> bool:
    path = uri.partition("?")[0] if _scheme(uri) else uri
    return path[path.rfind(".") :].lower() in _VIDEOS


def _scheme(uri: str) -> str:
    """``s3`` of ``s3://…``; nothing of a path."""
    scheme, colon, _ = uri.partition("://")
    return scheme.lower() if colon else ""
