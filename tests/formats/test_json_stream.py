"""JSON read piece by piece: the records are those of json.loads, and so is what is wrong."""

import gzip
import json
import re
import threading

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ea_arrow.errors import SourceError
from ea_arrow.sources import json_input, json_stream
from ea_arrow.sources.json_columns import JsonColumns
from ea_arrow.sources.json_stream import JsonRecords

TRICKY = '}, {"a": [1}, {'


class Stream:
    """Reads text in pieces of a few bytes; ``parsed`` has what was parsed ahead."""

    def __init__(self, path, monkeypatch):
        self.path = path
        for name, size in (("FIRST_BYTES", 1), ("PIECE_BYTES", 60), ("_TAIL", 20)):
            monkeypatch.setattr(json_stream, name, size)
        monkeypatch.setattr(json_input, "_READ_BYTES", 7)

    def __call__(self, text):
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.parsed = []
        self.records = JsonRecords(self.path, "rows", "a list of rows")
        return [row for piece in self.records.pieces(self.parse) for row in piece]

    def parse(self, data):
        try:
            rows = json.loads(b"[" + data + b"]")
        except ValueError:
            return None
        assert threading.current_thread() is not threading.main_thread()
        self.parsed.append(data)
        return rows or None


@pytest.fixture
def stream(tmp_path, monkeypatch):
    return Stream(tmp_path / "x.json", monkeypatch)


@pytest.fixture(scope="module")
def stream_of_module(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield Stream(tmp_path_factory.mktemp("json") / "x.json", patch)


def rows(n, **more):
    return [{"id": i, "name": "a" * (i % 7)} | more for i in range(n)]


# Whole


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 50])
def test_a_list_is_read_in_order(stream, n, indent):
    assert stream(json.dumps(rows(n), indent=indent)) == rows(n)
    assert stream.records.keys is None
    assert bool(stream.parsed) == (n > 1)


@pytest.mark.parametrize("before", [{}, {"images": rows(30), "info": {"rows": [1]}, "n": -12.5e3}])
@pytest.mark.parametrize("after", [{}, {"images": rows(30), "x": None}, {"x": []}])
def test_the_list_of_an_object_is_found_among_other_keys(stream, before, after):
    document = {**before, "rows": rows(20), **{f"{key} 2": v for key, v in after.items()}}
    assert stream(json.dumps(document)) == rows(20)
    assert stream.records.keys == list(document)
    assert stream.records.lists == {k for k, v in document.items() if isinstance(v, list)}
    assert stream.parsed


@pytest.mark.parametrize(
    "text", ["{}", '{"a": 1}', '{"rows": 5}', '{"a": {"rows": [1]}}', " {\n} "]
)
def test_an_object_without_the_list_has_no_records(stream, text):
    assert stream(text) == []
    assert stream.records.keys == list(json.loads(text))
    assert not stream.records.lists


@pytest.mark.parametrize(
    "text",
    ['"text"', "12.5e3", "null", " true\n", '"' + "x" * 500 + '"', '"' + "é" * 500 + '"',
     "-12345678.25e-3", "123456.75e5", "12345678", " " * 50 + "12345678 "],
)  # fmt: skip
def test_another_value_is_handed_over(stream, text):
    assert stream(text) == []
    assert stream.records.other == [json.loads(text)]


def test_what_looks_like_the_end_of_a_record_may_be_none(stream):
    given = rows(9, text=TRICKY * 5, nested=[{"a": 1}, {"a": [{"b": 2}, {"b": 3}]}] * 4)
    assert stream(json.dumps(given)) == given
    assert stream(json.dumps([TRICKY * 20, {"a": TRICKY * 9}, [{}, {}], 5, None, {}, {}])) == [
        TRICKY * 20, {"a": TRICKY * 9}, [{}, {}], 5, None, {}, {}]  # fmt: skip


def test_what_looks_like_the_end_of_the_list_may_be_none(stream):
    given = {"rows": rows(5, name="] }"), "a]": [[{"rows": rows(9)}], "]", {"rows": []}]}
    assert stream(json.dumps(given)) == given["rows"]


def test_lists_without_objects_are_read_too(stream):
    assert stream(json.dumps(list(range(999)))) == list(range(999))
    assert stream("[[1], [2, 3], [[]]]") == [[1], [2, 3], [[]]]


def test_pieces_are_bounded(stream):
    stream(json.dumps(rows(500)))
    assert max(map(len, stream.parsed)) < 150
    assert len(stream.parsed) > 100


SPACE = st.sampled_from(["", " ", "\n", "\t \r\n", " " * 30])
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9),
    st.sampled_from([TRICKY, "]", "}]", '"', "\\", "\ud83d", "é" * 9, "rows"]),
)  # fmt: skip
VALUE = st.recursive(
    SCALAR,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "rows", TRICKY, "é"]), inner, max_size=3)
    ),
    max_leaves=12,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", TRICKY]), VALUE, max_size=3), max_size=9)
DOCUMENT = st.one_of(
    VALUE,
    ROWS,
    st.lists(VALUE, max_size=9),
    st.fixed_dictionaries({"rows": ROWS}),
    st.fixed_dictionaries({"a": VALUE, "b": ROWS, "rows": ROWS, "c": VALUE, "d": ROWS}),
)


@st.composite
def texts(draw):
    comma, colon = "," + draw(SPACE), draw(SPACE) + ":" + draw(SPACE)
    ascii_only, indent = draw(st.booleans()), draw(st.sampled_from([None, 0, 1]))
    document = draw(DOCUMENT)
    text = json.dumps(document, separators=(comma, colon), indent=indent, ensure_ascii=ascii_only)
    return (draw(SPACE) + text + draw(SPACE)).encode("utf-8", "surrogatepass")


def expected_rows(text):
    document = json.loads(text)
    if isinstance(document, dict):
        document = document.get("rows")
    return document if isinstance(document, list) else []


@given(texts())
def test_records_are_those_of_json_loads(stream_of_module, text):
    found = stream_of_module(text)
    assert repr(found) == repr(expected_rows(text))


CHANGES = st.tuples(
    st.floats(0, 1),
    st.sampled_from(["cut", "drop", "put"]),
    st.sampled_from([b",", b"]", b"}", b"[", b"{", b'"', b"\\", b"\0", b"\xff", b"1", b"-", b":"]),
)


@given(texts(), st.lists(CHANGES, min_size=1, max_size=2))
@example(b'{"a":[],"rows":[{}],}', [])
@example(b'[{"a":1},{"a":1},]', [])
@example(b'[{"a":1},{"a":1}]}', [])
@example(b'{"rows":[{"a":1},{"a":1}]', [])
@example(b'[{"a":1},{"a":1} ', [])
@example(b'{"rows":[],"row\xffs":[]}', [])
@example(b'[{"a":1},{"a":1}x', [])
@example(b'{"rows":[{"a":1},{"a":1}]]}', [])
def test_broken_json_is_broken_at_the_place_that_json_loads_says(stream_of_module, text, changes):
    for where, how, what in changes:
        at = int(where * len(text))
        text = text[:at] + {"cut": b"", "drop": text[at + 1 :], "put": what + text[at:]}[how]
    expected = outcome(lambda: expected_rows(text))
    found = outcome(lambda: stream_of_module(text))
    if isinstance(found, SourceError) and "expected UTF-8" in found.message:
        assert b"\0" in text[:4]
    elif isinstance(expected, json.JSONDecodeError):
        place = f"line {expected.lineno}, column {expected.colno} (character {expected.pos:,})"
        assert isinstance(found, SourceError)
        assert any(words in found.message for words in (place, "is empty"))
        assert any(words in found.message for words in (expected.msg, "cut off", "is empty"))
    elif isinstance(expected, UnicodeDecodeError):  # which JSON may be broken before
        assert isinstance(found, SourceError)
        assert (
            f"byte {expected.start:,} is not UTF-8" in found.message or " at line" in found.message
        )
    else:
        twice = isinstance(found, SourceError) and "has two lists under 'rows'" in found.message
        assert twice or repr(found) == repr(expected)


def outcome(run):
    try:
        return run()
    except (ValueError, SourceError) as error:
        return error


# Broken


def test_a_long_record_is_parsed_a_few_times_only(stream, monkeypatch):
    parsed = []
    decode = json_input.JsonInput.decode
    monkeypatch.setattr(
        json_input.JsonInput, "decode", lambda *a, **k: parsed.append(a) or decode(*a, **k)
    )
    given = [{}, {"a": TRICKY * 2000}, {}]
    assert stream(json.dumps(given)) == given
    assert len(parsed) < 20


def test_what_is_broken_early_is_told_before_the_rest_is_read(stream, monkeypatch):
    monkeypatch.setattr(json_input, "MOST_BYTES", 2000)
    with pytest.raises(SourceError, match=r"is not JSON at line 1, column 11 \(character 10\)"):
        stream('[{}, {"a":}, ' + json.dumps(rows(900))[1:])


@pytest.mark.parametrize("end", [1, 2, 100, 110, 500])
def test_a_file_that_is_cut_off_says_so(stream, end):
    text = json.dumps(rows(40))
    with pytest.raises(
        SourceError, match=r"x\.json ends in the middle, at line 1, column \d+ \(ch"
    ):
        stream(text[:end])


def test_an_error_far_into_a_file_is_located(stream):
    text = json.dumps(rows(90, name="é"), indent=0, ensure_ascii=False)
    text = text[:2000] + text[2000:].replace('"id": 80', '"id": 8O')
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(SourceError) as caught:
        stream(text)
    error = expected.value
    assert error.lineno > 300
    assert caught.value.message == (
        f"{stream.path} is not JSON at line {error.lineno}, column {error.colno} (character "
        f"{error.pos:,}): Expecting ',' delimiter. Expected a list of rows."
    )
    assert caught.value.hint == "Give a list of rows, complete and uncompressed or as .gz."


@pytest.mark.parametrize("byte", [b"\xff", b"\xc3", b"\xe2\x82"])
@pytest.mark.parametrize("at", [12, 700, 1400])
def test_what_is_not_utf8_is_located(stream, byte, at):
    text = json.dumps([{"a": "x" * 30}] * 40).encode()
    at = text.index(b"x", at)
    with pytest.raises(SourceError, match=rf"is not JSON: byte {at:,} is not UTF-8"):
        stream(text[:at] + byte + text[at + 1 :])


@pytest.mark.parametrize("text", ["", " \n ", b"\xef\xbb\xbf"])
def test_an_empty_file_says_so(stream, text):
    with pytest.raises(SourceError, match="is empty; expected a list of rows"):
        stream(text)


def test_a_list_that_comes_twice_is_refused(stream):
    with pytest.raises(SourceError, match="has two lists under 'rows'"):
        stream('{"rows": [{}], "rows": []}')


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, '[{"a":' + "[" * 200_000])
def test_deep_nesting_is_refused(stream, monkeypatch, text):
    monkeypatch.setattr(json_stream, "PIECE_BYTES", 1 << 16)
    with pytest.raises(SourceError, match="nested too deeply to be a list of rows"):
        stream(text)


def test_a_number_of_thousands_of_digits_is_refused(stream):
    with pytest.raises(SourceError, match="is not JSON: Exceeds the limit"):
        stream("[" + "1" * 5000 + "]")


def test_a_value_that_is_too_long_is_refused_before_it_is_read(stream, monkeypatch):
    monkeypatch.setattr(json_input, "MOST_BYTES", 2000)
    for text in ('["' + "x" * 9000, '{"a": "' + "x" * 9000, '"' + "x" * 9000, "[" + "1," * 9000):
        with pytest.raises(SourceError, match="has a value of more than 2,000 bytes"):
            stream(text)
    many = '[{"a": "' + TRICKY.replace('"', "") * 900
    with pytest.raises(SourceError, match="has a value of more than 2,000 bytes"):
        stream(many)


# Files


def test_a_byte_order_mark_is_passed_over(stream):
    assert stream(b"\xef\xbb\xbf" + json.dumps(rows(30)).encode()) == rows(30)
    with pytest.raises(SourceError, match=r"line 2, column 1 \(character 4\): Expecting ','"):
        stream(b"\xef\xbb\xbf[{}\n" + b"x" * 99)


def test_gzip_is_unpacked_as_it_is_read(stream):
    text = json.dumps(rows(200)).encode()
    assert stream(gzip.compress(text)) == rows(200)
    with pytest.raises(
        SourceError, match=r"is a damaged gzip file \(Compressed file ended.*expected a list"
    ):
        stream(gzip.compress(text)[:-20])
    with pytest.raises(SourceError, match=r"is a damaged gzip file \(CRC check failed"):
        stream(gzip.compress(text)[:-8] + b"\0" * 8)
    with pytest.raises(SourceError, match=r"column 2002 \(character 2,001\): it is cut off"):
        stream(gzip.compress(text[:2001]))


def test_a_gzip_bomb_is_refused(stream, monkeypatch):
    monkeypatch.setattr(json_input, "MAX_UNPACKED", 10_000)
    with pytest.raises(SourceError, match=r"unpacks from [0-9,]+ to more than"):
        stream(gzip.compress(json.dumps(rows(2)).encode() + b" " * 2_000_000))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_other_encodings_are_named(stream, encoding):
    with pytest.raises(SourceError, match=r"is UTF-(16|32).*expected UTF-8"):
        stream(json.dumps(rows(3)).encode(encoding))


def test_a_file_that_is_not_there_is_an_error(stream, tmp_path):
    stream.path = tmp_path / "none.json"
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        list(JsonRecords(stream.path, "rows", "rows").pieces(stream.parse))


def test_reading_may_stop_early(stream):
    stream(json.dumps(rows(500)))
    before = threading.active_count()
    pieces = JsonRecords(stream.path, "rows", "rows").pieces(stream.parse)
    assert [next(pieces), next(pieces)][0] == rows(1)
    pieces.close()
    assert threading.active_count() == before


# Columns


def columns(record, *whole):
    found = JsonColumns(whole)
    found.learn(record)
    return found


def test_records_like_the_one_seen_become_columns():
    like = columns({"id": 1, "b": [1, 2.5], "c": {"d": "x", "e": True}}, "id")
    parsed = like.parse(b'{"id": -7, "b": [], "c": {"d": "\\u00e9\\\\"}},\n {"b": [-0.0, 1e-5]}')
    assert parsed.to_pylist() == [
        {"id": -7, "b": [], "c": {"d": "é\\", "e": None}},
        {"id": None, "b": [-0.0, 1e-5], "c": None},
    ]
    assert like.type == pa.struct(
        {"id": pa.int64(), "b": pa.list_(pa.float64()),
         "c": pa.struct({"d": pa.string(), "e": pa.bool_()})}
    )  # fmt: skip


@pytest.mark.parametrize("record", [5, None, {}, {"id": 1.5}, {"a": [[[[[1]]]]]}, {"id": [0.5]}])
def test_records_of_unclear_types_are_not_plain(record):
    assert columns(record, "id").type is None
    assert columns(record, "id").parse(b'{"a": 1}') is None


def test_what_is_empty_is_expected_to_be_empty():
    like = columns({"a": None, "b": [], "c": {}})
    given = [{"a": None, "b": [], "c": {}}] * 2
    assert like.parse(json.dumps(given).encode()[1:-1]).to_pylist() == given
    for other in ({"a": 1}, {"b": [1]}, {"b": {}}, {"c": {"d": 1}}, {"c": []}):
        assert like.parse(json.dumps(other).encode()) is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        '{"a": 1',
        '{"a": 1},',
        '{"a": 1} {"a": 2}',
        '{"a": 1}, null',
        '{"a": 1}, 5',
        '{"a": 1}], "x": [{"a": 1}',
        '{"a": 1}], "records": [{"a": 1}',
        '{"a": 1}]} {"records": [{"a": 1}',
        '{"a": 1}]}\0 [{',
        '{"a": 1}]}\n{"x": [{"a": 1}',
        '{"a": 1, "a": 2}',
        '{"a": null, "a": 2}',
        '{"a": 1, "x": 2}',
        '{"a": "1"}',
        '{"a": true}',
        '{"a": [1]}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": Inf}',
        '{"a": 1e400}',
        '{"a": -0}',
        '{"a": 01}',
        '{"a": .5}',
        '{"a": +1}',
        '{"a": 1 /* one */}',
        '{"i": 1.0}',
        '{"i": 1e2}',
        '{"i": 9223372036854775808}',
        '{"s": "\ud83d"}',
        '{"s": "\\ud83d"}',
        '{"s": "\\uD83D"}',
        '{"s": "\\udc00"}',
        '{"s": "\\ude00\\ud83d"}',
        '{"s": "\0"}',
        '{"s": "\n"}',
        '{"s": "\\x"}',
        '{"s": 1}',
        '{"a": ' + "[" * 300_000,
        '{"x": ' + "[" * 300_000 + "]" * 300_000 + "}",
    ],
)
def test_anything_else_is_left_to_python(data):
    like = columns({"a": 0.5, "i": 1, "s": ""}, "i")
    assert like.parse(b'{"a": 1}') is not None
    assert like.parse(data.encode("utf-8", "surrogatepass")) is None


def test_text_that_is_not_utf8_is_left_to_python():
    like = columns({"s": ""})
    assert like.parse('{"s": "é"}'.encode()) is not None
    assert like.parse('{"s": "é"}'.encode("latin-1")) is None


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1))
@example(-0.0, -(2**63))
@example(5e-324, 2**53 + 1)
def test_numbers_are_those_of_python(number, whole):
    text = json.dumps({"a": number, "b": float(whole), "c": whole, "i": whole})
    parsed = columns({"a": 0.5, "b": 1, "c": 1, "i": 1}, "i").parse(text.encode())
    expected = {"a": number, "b": float(whole), "c": float(whole), "i": whole}
    assert repr(parsed.to_pylist()) == repr([expected])


NUMBER = re.compile(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?([eE][+-]?\d{1,4})?", re.ASCII)


@given(st.from_regex(NUMBER, fullmatch=True))
@example("1e400")
@example("1e-400")
@example("-1e-400")
@example("1" + "0" * 400)
@example("0." + "0" * 400 + "1")
@example("2.2250738585072011e-308")
@example("9007199254740993")
def test_literals_are_read_as_python_reads_them_or_not_at_all(text):
    parsed = columns({"a": 0.5}).parse(b'{"a": %s}' % text.encode())
    try:
        expected = float(json.loads(text))
    except OverflowError:
        expected = float("inf")
    if parsed is not None:
        assert repr(parsed.to_pylist()) == repr([{"a": expected}])
