"""Short ways to write a table and read it, for the tests of tables."""

from ea_arrow.sources.formats import Files, Reading


def source(known, path, **reading):
    """A file of predictions, opened."""
    return known.open(Files(path, (path,)), Reading(**reading))


def rows_of(batches):
    found = []
    for batch in batches:
        batch.validate(full=True)
        found += batch.to_pylist()
    return found


def read(known, path, **reading):
    """The rows of a file of predictions."""
    return rows_of(source(known, path, **reading).batches())


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def box(row):
    return row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]
