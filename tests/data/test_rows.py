import gzip
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lessexp.data.record_files import records_of
from lessexp.data.rows import Row, RowError, checked_rows, fingerprint, parse_row, read_rows, write_rows
from lessexp.errors import MissingFileError
from tests.hostile import TEXTS, changed, damaged, json_values, texts

# Every one of these ends a line for str.splitlines and text files of some modes, none does in JSON lines.
LINE_BREAKS_THAT_ARE_NONE = "one\u2028two\u2029three\x85four\x0bfive\x0csix\rseven"
ROWS = [
    Row("dolly", "a", (("system", "Be brief."), ("user", "naïve 👍🏽?"), ("assistant", "日本語\nشكرا"))),
    Row("cot", "b", (("user", LINE_BREAKS_THAT_ARE_NONE), ("assistant", ""))),
    Row("dolly", "c", (("user", 'a "quoted" \\ back'), ("assistant", "1"), ("user", "?"), ("assistant", "2"))),
]


def test_the_length_of_an_answer_counts_all_that_the_assistant_says_and_nothing_else():
    assert [row.answer_length for row in ROWS] == [8, 0, 2]


def record(example_id="a", **changes):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    return {"dataset": "dolly", "id": example_id, "messages": messages} | changes


def write_lines(path, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes("".join(text + "\n" for text in texts).encode())
    return path


def without(*fields):
    return {name: value for name, value in record().items() if name not in fields}


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (record(messages=[{"role": "human", "content": "Hi"}]), "unknown role 'human'"),
        (record(messages=[]), "'messages' must be a non-empty list"),
        (record(messages=["Hi"]), "each message must be an object"),
        (record(messages=[{"role": "assistant", "content": None}]), "'content' of a assistant message"),
        (record(messages=[{"role": "user", "content": "Hi"}]), "no assistant message"),
        (record(dataset=""), "'dataset' must be a non-empty string, it is ''"),
        (without("messages"), "there is no column 'messages'; the columns are "),
        (record(example_id=7.5), "'id' must be a non-empty string, it is 7.5"),
        (record(messages=[{"role": "tool", "content": "3"}]), "unknown role 'tool'"),
        (record(messages=[{"role": "user", "content": [{"type": "image"}]}]), "of a user message is not text"),
        (record(messages="[{"), "'messages' must be a non-empty list, it is '[{'"),
        (["a row"], "must be a JSON object, it is list"),
        ('{"dataset": "dolly", ', "not valid JSON"),
        ('{"dataset": "dolly", "id": "x", "messages": [{"role": "assistant", "content": "\\ud83d"}]}', "surrogate"),
    ],
)
def test_a_bad_row_is_refused_naming_its_file_and_line(tmp_path, bad, complaint):
    path = write_lines(tmp_path / "pool.jsonl", record("good"), "", bad)
    with pytest.raises(RowError) as refused:
        read_rows([path])
    assert str(refused.value).startswith(f"{path}, line 3: ")
    assert complaint in str(refused.value)


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "plain.jsonl.gz", "plain.parquet"])
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    content = json.dumps(record()).encode()
    path.write_bytes(gzip.compress(content)[:-6] if name.startswith("cut") else content)
    with pytest.raises(RowError, match=name):
        read_rows([path])


def test_a_bad_parquet_row_is_named_by_its_number(tmp_path):
    path = tmp_path / "pool.parquet"
    bad = record("b", messages=[{"role": "human", "content": "Hi"}])
    pyarrow.parquet.write_table(pa.Table.from_pylist([record("a"), bad]), path)
    with pytest.raises(RowError) as refused:
        read_rows([path])
    assert str(refused.value).startswith(f"{path}, row 2: ")


def test_a_duplicate_id_names_both_lines(tmp_path):
    path = write_lines(tmp_path / "pool.jsonl", record("a"), record("b"), "", record("a"))
    with pytest.raises(RowError) as refused:
        read_rows([path])
    assert "id 'a'" in str(refused.value)
    assert f"{path}, line 4" in str(refused.value)
    assert f"{path}, line 1" in str(refused.value)


def test_a_duplicate_id_across_files_names_both_files(tmp_path):
    first = write_lines(tmp_path / "first.jsonl", record("a"), record("b"))
    second = write_lines(tmp_path / "second.jsonl", record("c"), record("d"), record("b"))
    with pytest.raises(RowError) as refused:
        read_rows([first, second])
    assert f"{first}, line 2" in str(refused.value)
    assert f"{second}, line 3" in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.jsonl"):
        read_rows([write_lines(tmp_path / "pool.jsonl", record()), tmp_path / "nowhere.jsonl"])


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_every_file_format_gives_the_same_rows(tmp_path, name):
    path = tmp_path / name
    records = [row.to_json() for row in ROWS]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(records), path)
    else:
        plain = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        path.write_bytes(gzip.compress(plain) if path.suffix == ".gz" else plain)
    assert read_rows([path]) == ROWS


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_only_a_line_feed_ends_a_line(tmp_path, ensure_ascii):
    unusual = record("b", messages=[{"role": "assistant", "content": LINE_BREAKS_THAT_ARE_NONE}])
    lines = [json.dumps(record("a")), "", " \r", json.dumps(unusual, ensure_ascii=ensure_ascii), "{"]
    path = write_lines(tmp_path / "pool.jsonl", *lines)
    with pytest.raises(RowError, match="line 5: not valid JSON"):
        read_rows([path])
    rows = read_rows([write_lines(path, *lines[:-1])])
    assert [row.example_id for row in rows] == ["a", "b"]
    assert rows[1].messages == (("assistant", LINE_BREAKS_THAT_ARE_NONE),)


@pytest.mark.parametrize("is_target", [False, True])
def test_what_is_written_is_read_back_unchanged(tmp_path, is_target):
    rows = [replace(row, task="toy", subtask=f"part-{row.dataset}") for row in ROWS] if is_target else ROWS
    write_rows(tmp_path / "rows.jsonl", iter(rows))
    assert read_rows([tmp_path / "rows.jsonl"], is_target=is_target) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_write_that_fails_midway_leaves_the_folder_as_it_was(tmp_path):
    def broken():
        yield ROWS[0]
        raise RuntimeError("the source of the rows broke")

    write_rows(tmp_path / "old.jsonl", ROWS)
    for name in ("new.jsonl", "old.jsonl"):
        with pytest.raises(RuntimeError, match="broke"):
            write_rows(tmp_path / name, broken())
    assert [file.name for file in tmp_path.iterdir()] == ["old.jsonl"]
    assert read_rows([tmp_path / "old.jsonl"]) == ROWS


def test_messages_are_enough_in_a_file(tmp_path):
    bare = {"messages": record()["messages"]}
    path = write_lines(tmp_path / "pool.jsonl", bare, "", bare | {"id": 7})
    assert [(row.dataset, row.example_id) for row in read_rows([path])] == [("pool", "pool-1"), ("pool", "7")]
    rows = read_rows([path], is_target=True)
    assert [(row.task, row.subtask) for row in rows] == [("pool", "pool")] * 2
    with pytest.raises(RowError, match=r"line 4: id 'pool-1' was already used at .*line 1"):
        read_rows([write_lines(path, bare, "", "", bare | {"id": "pool-1"})])


def test_what_a_row_was_given_with_is_written_back(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}
    parts = {"role": "user", "content": [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]}
    given = [
        record("a", stars=5, meta={"tags": ["ü", None]}),
        record("b", messages=[parts, call, {"role": "assistant", "content": "4", "weight": 0}]),
        record("c", half="\ud83d", none=None),
        record("d"),
    ]
    rows = read_rows([write_lines(tmp_path / "pool.jsonl", *map(json.dumps, given))])
    write_rows(tmp_path / "written.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "written.jsonl").read_text().splitlines()] == given
    assert read_rows([tmp_path / "written.jsonl"]) == rows
    assert rows[1].messages == (("user", "2+2?"), ("assistant", ""), ("assistant", "4"))
    assert rows[3].extra is None


def test_other_columns_change_no_fingerprint():
    extra = [replace(row, extra='{"stars": 5}') for row in ROWS]
    assert fingerprint(extra) == fingerprint(ROWS)
    assert extra != ROWS


def test_the_fingerprint_of_rows_stays_that_of_earlier_versions():  # it names artifacts that exist
    assert fingerprint(ROWS) == "d64d6d8bc5f31801fd42a72f5fed2e5b51226e542b55c3035164e9a73cdb6938"


def test_bad_rows_are_skipped_with_their_reason_and_the_later_of_two_with_one_id(tmp_path):
    bad = record("b", messages=[{"role": "tool", "content": "3"}])
    path = write_lines(tmp_path / "pool.jsonl", "{", record("a"), bad, ["a row"], record("a"), record("b"), record("c"))
    skipped = []
    rows = list(checked_rows(lambda: records_of([path]), skip=skipped.append))
    assert [row.example_id for row in rows] == ["a", "b", "c"]
    assert [(row.example_id, row.where.line) for row in skipped] == [(None, 1), ("b", 3), (None, 4), ("a", 5)]
    for row, reason in zip(
        skipped, ("not valid JSON", "unknown role 'tool'", "a row must be", "id 'a' was"), strict=True
    ):
        assert row.reason.startswith(reason)


def test_the_remedy_ends_an_error_about_a_row_and_none_about_a_file(tmp_path):
    for content in (["{"], [record("a"), record("a")], [record("a", messages=[])]):
        path = write_lines(tmp_path / "pool.jsonl", *content)
        with pytest.raises(RowError, match=r"; skip it$"):
            list(checked_rows(lambda path=path: records_of([path]), remedy="; skip it"))
    (tmp_path / "pool.parquet").touch()
    with pytest.raises(RowError) as refused:
        list(checked_rows(lambda: records_of([tmp_path / "pool.parquet"]), remedy="; skip it", skip=[].append))
    assert "skip it" not in str(refused.value)


def test_fingerprint_is_equal_exactly_when_content_and_order_are():
    changed = [
        replace(ROWS[0], dataset="cot"),
        replace(ROWS[0], example_id="z"),
        replace(ROWS[0], messages=ROWS[0].messages[1:]),
        replace(ROWS[0], messages=(("user", ROWS[0].messages[0][1]), *ROWS[0].messages[1:])),
        replace(ROWS[0], messages=(*ROWS[0].messages[:-1], ("assistant", "other"))),
        replace(ROWS[0], task="toy", subtask="one"),
        replace(ROWS[0], task="toy", subtask="two"),
    ]
    variants = [ROWS, ROWS[::-1], ROWS[:2], *([row, *ROWS[1:]] for row in changed)]
    assert len({fingerprint(rows) for rows in variants}) == len(variants)
    assert fingerprint(iter([replace(row) for row in ROWS])) == fingerprint(ROWS)


@pytest.mark.parametrize(
    ("fields", "task", "subtask"),
    [
        ({}, "dolly", "dolly"),
        ({"task": "mmlu"}, "mmlu", "mmlu"),
        ({"subtask": "law"}, "dolly", "law"),
        ({"task": "mmlu", "subtask": "law"}, "mmlu", "law"),
        ({"task": None, "subtask": None}, "dolly", "dolly"),
    ],
)
def test_a_missing_subtask_is_the_task_and_a_missing_task_the_dataset(fields, task, subtask):
    row = parse_row(record(**fields), where="here", is_target=True)
    assert (row.task, row.subtask) == (task, subtask)
    pool_row = parse_row(record(**fields), where="here")
    assert (pool_row.task, pool_row.subtask) == (None, None)


GOOD = {
    "dataset": "dolly",
    "id": "a",
    "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "4"}],
    "task": "toy",
    "subtask": "sums",
}
records = st.one_of(
    changed(GOOD),
    st.lists(changed(GOOD["messages"][1]), max_size=3).map(lambda messages: GOOD | {"messages": messages}),
    json_values,
)


@given(records, st.booleans())
@example(GOOD | {"subtask": "\ud83d"}, True)
def test_any_record_is_a_row_that_can_be_written_or_is_refused_in_one_short_line(record, is_target):
    try:
        row = parse_row(record, where="pool.jsonl, line 3", is_target=is_target)
    except RowError as error:
        assert str(error).startswith("pool.jsonl, line 3: ")
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 400
    else:
        written = json.dumps(row.to_json(), ensure_ascii=False).encode()
        assert parse_row(json.loads(written), where="", is_target=is_target) == row


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
@given(data=st.data())
def test_any_bytes_are_rows_or_are_refused_naming_the_file(tmp_path, name, data):
    content = "".join(json.dumps(row.to_json()) + "\n" for row in ROWS).encode()
    path = tmp_path / name
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist([row.to_json() for row in ROWS]), path)
        content = path.read_bytes()
    elif name.endswith(".gz"):
        content = gzip.compress(content)
    path.write_bytes(data.draw(damaged(content)))
    try:
        read_rows([path])
    except RowError as error:
        assert str(error).startswith(str(path))
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"id": ' + "9" * 5000 + "}", "\0", "\ufeff{}"], ids=["deep", "digits", "nul", "bom"]
)
def test_json_that_python_gives_up_on_is_refused_by_line(tmp_path, line):
    path = write_lines(tmp_path / "pool.jsonl", record("good"), line)
    with pytest.raises(RowError, match=r"pool\.jsonl, line 2: "):
        read_rows([path])


def test_text_in_parquet_that_is_no_unicode_is_refused(tmp_path):
    texts_of_bytes = pa.array([b"\xff\xfe", b"a"], type=pa.binary())
    ids = pa.StringArray.from_buffers(2, texts_of_bytes.buffers()[1], texts_of_bytes.buffers()[2])
    table = pa.table({"dataset": ["toy", "toy"], "id": ids, "messages": [GOOD["messages"]] * 2})
    pyarrow.parquet.write_table(table, tmp_path / "pool.parquet")
    with pytest.raises(RowError, match=r"pool\.parquet: not a whole Parquet file"):
        read_rows([tmp_path / "pool.parquet"])


@given(st.lists(st.tuples(texts, texts, texts).filter(lambda row: row[0] and row[1]), unique_by=lambda row: row[1]))
@example([(text, text, text) for text in TEXTS])
def test_texts_of_any_kind_are_written_and_read_back_unaltered(tmp_path, drawn):
    rows = [Row(dataset, name, (("user", text), ("assistant", text))) for dataset, name, text in drawn]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows([tmp_path / "rows.jsonl"]) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_ten_megabytes_in_any_field_are_read_back_and_make_no_long_message(tmp_path):
    long = "../x" * 2_500_000
    rows = [Row("toy", long, (("assistant", "4"),))]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert read_rows([tmp_path / "rows.jsonl"]) == rows
    write_rows(tmp_path / "twice.jsonl", rows * 2)
    bad = [GOOD | {"id": long, "messages": [{"role": "user", "content": "?"}]}, GOOD | {"dataset": [long]}]
    for path in (tmp_path / "twice.jsonl", *(write_lines(tmp_path / f"{i}.jsonl", one) for i, one in enumerate(bad))):
        with pytest.raises(RowError) as refused:
            read_rows([path])
        assert len(str(refused.value)) < 1000


def test_a_text_that_is_too_long_is_refused(monkeypatch):
    monkeypatch.setattr("lessexp.data.messages.LARGEST_TEXT", 5)
    turns = [{"role": "user", "content": "12345"}, {"role": "assistant", "content": "6789a"}]
    record = {"dataset": "d", "id": "a", "messages": turns}
    assert parse_row(record, where="x")
    turns[1]["content"] += "b"
    with pytest.raises(RowError, match=r"^x: the 'content' of a assistant message holds 6 characters, more than the 5"):
        parse_row(record, where="x")
