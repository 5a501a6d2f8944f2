"""Tables on disk: Delta Lake logs over Parquet files that ea-arrow writes itself.

Files are streamed first and published by one transaction, so a reader sees all of them or none.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

from ea_arrow.errors import ConflictError, ProjectError
from ea_arrow.files import FileWriter, sync, writing
from ea_arrow.schema import SCHEMA_VERSION, VERSION_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ea_arrow.schema import TableSpec

_TRIES = 50
_CONFIGURATION = {
    # History stays until `compact`: nothing is cleaned up behind the user's back.
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    VERSION_KEY: str(SCHEMA_VERSION),
}


@dataclass(frozen=True)
class DataFile:
    """A live Parquet file of a table; ``first`` is its lowest row number."""

    path: str
    size: int
    rows: int
    partition: Mapping[str, str]
    first: int = 0


class Table:
    """One Delta table of a project.

    Args:
        root: Its directory.
        spec: Its schema.

    Raises:
        ProjectError: There is no such table, or its schema version is another one.
    """

    def __init__(self, root: Path, spec: TableSpec, *, version: int | None = None) -> None:
        self.root = root
        self.spec = spec
        try:
            self._delta = DeltaTable(root.as_uri())
            if version is not None:
                if not 0 <= version <= self._delta.version():
                    raise ProjectError(
                        f"There is no version {version}; the newest is {self._delta.version()}."
                    )
                self._delta.load_as_version(version)
        except TableNotFoundError as error:
            raise ProjectError(f"{root}: there is no table '{spec.name}' here.") from error
        except DeltaError as error:
            raise ProjectError(
                f"{root}: the table '{spec.name}' cannot be read: {error}"
            ) from error
        found = self._delta.metadata().configuration.get(VERSION_KEY)
        if found != str(SCHEMA_VERSION):
            raise ProjectError(
                f"{root}: the table '{spec.name}' has schema version {found}; this ea-arrow reads "
                f"version {SCHEMA_VERSION}."
            )

    @classmethod
    def create(cls, root: Path, spec: TableSpec) -> Table:
        """Create an empty table.

        Raises:
            ProjectError: It cannot be made there.
        """
        try:
            with writing(root):
                DeltaTable.create(
                    root.as_uri(),
                    spec.arrow,
                    partition_by=list(spec.partition_by),
                    description=spec.doc,
                    configuration=_CONFIGURATION,
                    raise_if_key_not_exists=False,
                )
        except DeltaError as error:
            raise ProjectError(
                f"{root}: a Delta table cannot be made here: {error}",
                hint="Delta misreads paths with a backslash or an escape like %20.",
            ) from error
        return cls(root, spec)

    @property
    def version(self) -> int:
        """The version of the table that this object sees."""
        return self._delta.version()

    def refresh(self) -> None:
        """See the newest version."""
        self._delta.update_incremental()

    def transaction(self, name: str) -> int:
        """How often the application transaction ``name`` was committed; 0 if never."""
        return self._delta.transaction_version(name) or 0

    def history(self) -> list[dict[str, Any]]:
        """Commits, newest first."""
        return self._delta.history()

    def files(self, partition: Mapping[str, str] | None = None) -> list[DataFile]:
        """Live files, of one partition if given, in the order of their row numbers.

        Several processes may append to a partition: what they wrote is numbered in the order of
        their commits, whatever the files are called.
        """
        actions = pa.table(self._delta.get_add_actions(flatten=True))
        for name, value in (partition or {}).items():
            actions = actions.filter(pc.equal(actions[f"partition.{name}"], value))
        first = f"min.{self.spec.order_by}"
        wanted = ["path", "size_bytes", "num_records"]
        wanted += [f"partition.{name}" for name in self.spec.partition_by]
        wanted += [first] if first in actions.schema.names else []
        found = [
            DataFile(
                path=action["path"],
                size=action["size_bytes"],
                rows=action["num_records"],
                partition={n: action[f"partition.{n}"] for n in self.spec.partition_by},
                first=action.get(first) or 0,
            )
            for action in actions.select(wanted).to_pylist()
        ]
        return sorted(found, key=lambda f: (f.first, f.path))

    def read(
        self,
        columns: Sequence[str] | None = None,
        partition: Mapping[str, str] | None = None,
        *,
        files: Sequence[DataFile] | None = None,
        as_dictionary: Sequence[str] = (),
    ) -> pa.Table:
        """Read live rows into memory, partition columns included.

        Args:
            columns: Which, all by default; ``mask.area`` is a part of a column.
            partition: Only of this partition.
            files: Read these instead: what was live when something else was decided.
            as_dictionary: String columns to return dictionary-encoded.
        """
        wanted = list(columns or self.spec.names)
        stored = [n for n in wanted if n not in self.spec.partition_by]
        names = list(dict.fromkeys(n.partition(".")[0] for n in wanted))
        tables = []
        for file in self.files(partition) if files is None else files:
            table = pq.ParquetFile(
                self.root / file.path, read_dictionary=list(as_dictionary), memory_map=True
            ).read(columns=stored)
            for name in (n for n in names if n in self.spec.partition_by):
                value = pa.repeat(pa.scalar(file.partition[name], pa.string()), table.num_rows)
                table = table.append_column(name, value)
            tables.append(table.select(names))
        if tables:
            return pa.concat_tables(tables).unify_dictionaries()
        schema = self.spec.arrow
        return pa.schema([schema.field(n) for n in names]).empty_table()

    def batches(self, column: str, files: Sequence[DataFile]) -> Iterator[pa.Array]:
        """Read one part of a column, as ``mask.counts``, a row group at a time."""
        for file in files:
            parquet = pq.ParquetFile(self.root / file.path, memory_map=True)
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=[column])
                for batch in table.to_batches():
                    yield batch.column(0).field(0)

    def append(self, rows: pa.Table, metadata: Mapping[str, Any]) -> None:
        """Write rows of an unpartitioned table and publish them."""
        with FileWriter(self.root, self.spec, {}, uuid.uuid4().hex) as writer:
            writer.write_all(rows)
        self.commit([writer.action()], metadata=metadata)

    def commit(
        self,
        add: Iterable[AddAction] = (),
        *,
        remove: Iterable[DataFile] = (),
        transaction: tuple[str, int] | None = None,
        metadata: Mapping[str, Any],
    ) -> None:
        """Publish added files and withdraw removed ones in one transaction.

        Args:
            add: Files that were written.
            remove: Files that were live in the version this object sees.
            transaction: Name and number of an application transaction: of two commits that carry
                the same one only the first succeeds.
            metadata: Kept in the table's history.

        Raises:
            ConflictError: Another commit came first; nothing was published.
        """
        now = int(time.time() * 1000)
        removals = [
            RemoveAction(
                path=f.path,
                data_change=True,
                deletion_timestamp=now,
                size=f.size,
                partition_values=dict(f.partition),
            )
            for f in remove
        ]
        properties = CommitProperties(
            custom_metadata={"ea_arrow": json.dumps(metadata)},
            # A commit that removes files was decided on what it saw: it must not be replayed.
            max_commit_retries=0 if removals else 15,
            app_transactions=[Transaction(*transaction)] if transaction else None,
        )
        try:
            with writing(self.root):
                self._delta.create_write_transaction(
                    [*add, *removals],
                    "append",
                    self.spec.arrow,
                    list(self.spec.partition_by),
                    commit_properties=properties,
                )
        except CommitFailedError as error:
            raise ConflictError(f"Another process changed '{self.spec.name}' first.") from error
        self._sync_log()

    def commit_decided(self, decide: Callable[[], dict[str, Any]], what: str) -> None:
        """Commit what ``decide`` says, and ask it again each time another process came first.

        Args:
            decide: Returns the arguments of :meth:`commit` for the version that is seen now; it may
                raise to give up.
            what: What is being changed, for the message.

        Raises:
            ConflictError: Other processes kept coming first.
        """
        for _ in range(_TRIES):
            try:
                self.commit(**decide())
            except ConflictError:
                self.refresh()
            else:
                return
        raise ConflictError(
            f"Other processes changed {what} {_TRIES} times meanwhile; nothing was published.",
            hint="Run it again when they are done.",
        )

    def _sync_log(self) -> None:
        """Bring the new log entries to the disk. They are published, whatever comes of this."""
        before = self.version
        self.refresh()
        log = self.root / "_delta_log"
        try:
            for version in range(before + 1, self.version + 1):
                sync(log / f"{version:020}.json")
            sync(log)
        except OSError as error:
            raise ProjectError(
                f"{log}: the change is published, but the disk could not confirm it: "
                f"{error.strerror or error}.",
                hint="Check the disk before you rely on it.",
            ) from error

    def vacuum(self, hours: float) -> list[str]:
        """Delete files that no live version needs and that are older than ``hours``."""
        deleted = self._delta.vacuum(
            retention_hours=math.ceil(hours),
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
        )
        self.refresh()
        return deleted


def local(path: str | Path) -> Path:
    """The absolute path of a project or file given by the user."""
    return Path(path).expanduser().absolute()
