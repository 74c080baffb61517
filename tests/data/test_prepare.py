import json
from dataclasses import replace

import pytest

from lessexp.artifacts import COMPLETE
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.chat_format import TemplateFormat
from lessexp.data.prepare import Preparation, Reader
from lessexp.data.rows import RowError, fingerprint, read_rows, write_rows
from lessexp.data.source import RowFiles
from lessexp.data.tokenize import tokenize_row, tokenize_rows
from lessexp.identity import identity_of
from lessexp.models.causal_lm import load_tokenizer
from lessexp.stages.progress import progress_bar
from tests.conftest import DATE, build_tokenizer, make_rows


@pytest.fixture
def said():
    return []


@pytest.fixture
def prepare(tmp_path, said):
    def make(in_memory_below=5, num_proc=1):
        return Preparation(tmp_path / "cache", in_memory_below, num_proc, said.append, progress_bar)

    return make


@pytest.fixture
def source(tmp_path):
    write_rows(tmp_path / "a.jsonl", make_rows(9))
    write_rows(tmp_path / "b.jsonl", make_rows(4, prefix="more"))
    return RowFiles([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])


def reader(tokenizer, chat_format, max_length=38):
    return Reader(tokenizer, chat_format, max_length)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_small_pool_leaves_no_file_behind(prepare, source, tmp_path, tokenizer, chat_format):
    rows, _ = prepare(in_memory_below=14).rows(source)
    prepare(in_memory_below=14).tokenized(rows, reader(tokenizer, chat_format))
    assert not (tmp_path / "cache").exists()
    assert list(rows) == read_rows(source.paths)


@pytest.mark.parametrize("in_memory_below", [1, 13])
def test_a_large_pool_is_the_one_that_is_read_into_memory(prepare, source, in_memory_below, tokenizer, chat_format):
    preparation = prepare(in_memory_below)
    rows, expected = preparation.rows(source)[0], read_rows(source.paths)
    assert rows.key
    assert list(rows) == expected
    assert fingerprint(rows) == fingerprint(expected)
    kept, dropped = preparation.tokenized(rows, reader(tokenizer, chat_format))
    settings = dict(tokenizer=tokenizer, chat_format=chat_format, max_length=38)
    assert (list(kept), dropped) == tokenize_rows(expected, **settings)
    assert dropped


def test_files_are_written_once_and_their_reuse_is_said(prepare, source, said, tmp_path, tokenizer, chat_format):
    def all_of_it():
        rows, _ = prepare().rows(source)
        return [list(rows), list(prepare().tokenized(rows, reader(tokenizer, chat_format))[0])]

    first, written = all_of_it(), files(tmp_path / "cache")
    assert said == []
    assert all_of_it() == first
    assert files(tmp_path / "cache") == written
    assert ["reusing" in sentence for sentence in said] == [True, True]
    (tmp_path / "elsewhere").mkdir()
    source.paths[0].rename(tmp_path / "elsewhere" / "a.jsonl")
    source = RowFiles([tmp_path / "elsewhere" / "a.jsonl", source.paths[1]])
    assert all_of_it() == first
    assert len(said) == 4


def test_another_file_length_or_format_is_prepared_anew(prepare, source, said, tmp_path, tokenizer, chat_format):
    rows, _ = prepare().rows(source)
    n_kept = [len(prepare().tokenized(rows, reader(tokenizer, chat_format, length))[0]) for length in (38, 512)]
    assert n_kept[0] < n_kept[1] == 13
    other_format = TemplateFormat(tokenizer, date=DATE)
    [first, *_], _ = prepare().tokenized(rows, reader(tokenizer, other_format, 512))
    assert first == tokenize_row(rows[0], tokenizer=tokenizer, chat_format=other_format, max_length=512)
    write_rows(source.paths[1], make_rows(3, prefix="more"))
    assert len(prepare().rows(source)[0]) == 12
    assert said == []


def test_a_list_and_a_part_of_a_pool_are_tokenised_without_a_file(prepare, source, tmp_path, tokenizer, chat_format):
    expected, _ = tokenize_rows(
        read_rows(source.paths)[2:], tokenizer=tokenizer, chat_format=chat_format, max_length=512
    )
    for rows in (prepare().rows(source)[0][2:], read_rows(source.paths)[2:]):
        found, _ = prepare().tokenized(rows, reader(tokenizer, chat_format, 512))
        assert isinstance(found, ArrowSequence)
        assert list(found) == expected
    assert files(tmp_path / "cache").count(COMPLETE) == 1


def test_a_bad_line_and_a_duplicate_are_named_after_any_number_of_good_rows(prepare, source):
    with source.paths[1].open("a") as file:
        file.write("\n" + json.dumps(make_rows(1)[0].to_json()) + "\n")
    with pytest.raises(RowError, match=r"b\.jsonl, line 6: id 'row-000' was already used at .*a\.jsonl, line 1;"):
        prepare().rows(source)
    with source.paths[1].open("a") as file:
        file.write("{")
    for _ in range(2):  # a failed attempt leaves nothing that a second would take
        with pytest.raises(RowError, match=r"b\.jsonl, line 7: not valid JSON"):
            prepare().rows(source)


@pytest.mark.parametrize("in_memory_below", [0, 5, 100])
def test_bad_rows_are_left_out_and_listed_also_when_files_are_reused(prepare, source, in_memory_below):
    expected = read_rows(source.paths)
    with source.paths[0].open("a") as file:
        file.write("{\n" + json.dumps(make_rows(1)[0].to_json()) + "\n")
    with pytest.raises(
        RowError, match=r"a\.jsonl, line 10: not valid JSON.*; data\.on_bad_row=skip leaves such rows out$"
    ):
        prepare(in_memory_below).rows(source)
    skipping = replace(source, skips_bad_rows=True)
    for _ in range(2):
        rows, bad_rows = prepare(in_memory_below).rows(skipping)
        assert list(rows) == expected
        assert [bad_rows[name].to_pylist() for name in ("example_id", "file", "line")] == [
            [None, "row-000"],
            [str(source.paths[0])] * 2,
            [10, 11],
        ]
    with pytest.raises(RowError, match="line 10"):  # what was left out is not what stopping would have read
        prepare(in_memory_below).rows(source)


@pytest.mark.parametrize("in_memory_below", [0, 5])
def test_a_pool_of_bad_rows_alone_is_refused(prepare, tmp_path, in_memory_below):
    (tmp_path / "bad.jsonl").write_text("{\n" * 7)
    for _ in range(2):
        with pytest.raises(
            RowError, match=r"none of the pool's 7 rows can be read; the first, .*bad\.jsonl, line 1: not"
        ):
            prepare(in_memory_below).rows(RowFiles([tmp_path / "bad.jsonl"], skips_bad_rows=True))


def test_other_columns_are_in_the_files_too(prepare, tmp_path):
    records = [
        row.to_json() | {"stars": n, "messages": [turn | {"name": "ann"} for turn in row.to_json()["messages"]]}
        for n, row in enumerate(make_rows(9))
    ]
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    rows, _ = prepare().rows(RowFiles([tmp_path / "more.jsonl"]))
    assert rows.key and [row.to_json() for row in rows] == records
    assert fingerprint(rows) == fingerprint(make_rows(9))


def test_rows_that_were_made_and_not_read_are_a_pool_too(prepare, tmp_path):
    assert list(prepare().rows(make_rows(9))[0]) == make_rows(9)
    assert not (tmp_path / "cache").exists()


def test_the_identity_of_a_reader_is_what_determines_its_tokens(tokenizer, chat_format):
    found = identity_of(reader(tokenizer, chat_format))
    assert identity_of(reader(build_tokenizer(), chat_format)) == found
    assert identity_of(reader(build_tokenizer(vocab_size=260), chat_format)) != found
    assert identity_of(reader(tokenizer, TemplateFormat(tokenizer, date=DATE))) != found
    assert identity_of(reader(tokenizer, chat_format, 39)) != found


def test_reading_and_moving_a_tokenizer_leave_its_identity_and_so_its_tokens_files(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "here")
    tokenizer.save_pretrained(tmp_path / "there")
    here, there = (load_tokenizer(tmp_path / place) for place in ("here", "there"))
    found = identity_of(here)
    here("some text", truncation=True, padding="max_length", max_length=4)
    assert identity_of(here) == identity_of(there) == found


def edited(folder, **settings):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: edited(folder, bos_token="<|im_start|>"),
        lambda folder: edited(folder, extra_special_tokens=["answer"]),
        lambda folder: edited(folder, split_special_tokens=True),
        lambda folder: edited(folder, clean_up_tokenization_spaces=True),
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}"),
        lambda folder: (
            (folder / "additional_chat_templates").mkdir()
            or (folder / "additional_chat_templates" / "default.jinja").write_text("{{ messages[-1].content }}")
        ),
    ],
)
def test_whatever_changes_the_tokenizer_as_loaded_changes_its_identity(tokenizer, tmp_path, edit):
    tokenizer.save_pretrained(tmp_path)
    before = identity_of(load_tokenizer(tmp_path))
    edit(tmp_path)
    assert identity_of(load_tokenizer(tmp_path)) != before
