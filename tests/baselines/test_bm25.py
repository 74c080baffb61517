import logging
import math
import tempfile

import bm25s
import pytest
import torch

from baselines.bm25 import METHODS, BM25Error, BM25Selector
from baselines.words import whole_text, words
from lessexp.data.rows import Row
from tests.conftest import make_rows

SETTINGS = dict(k1=1.5, b=0.75, delta=0.5, method="lucene", stemmer=None, split=words, memory_map_from=1_000_000)
POOL = make_rows(20)
TARGET = make_rows(7, prefix="target", target=True)


def row(name, text, subtask=None):
    task = None if subtask is None else "toy"
    return Row("odd", name, (("user", text), ("assistant", "")), task=task, subtask=subtask)


def scored(pool, target, **changed):
    return BM25Selector(**(SETTINGS | changed)).score(pool, target).by_subtask


def lucene_bm25(query, document, corpus, *, k1, b):
    """Kamphuis et al. (2020), the row "Lucene (accurate)", one query word after the other."""
    mean_length = sum(map(len, corpus)) / len(corpus)
    total = 0.0
    for word in query:
        n_with = sum(word in other for other in corpus)
        idf = math.log(1 + (len(corpus) - n_with + 0.5) / (n_with + 0.5))
        frequency = document.count(word)
        total += idf * frequency / (frequency + k1 * (1 - b + b * len(document) / mean_length))
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.0), (3.0, 1.0)])
def test_scores_are_subtask_means_of_bm25_written_by_hand(k1, b):
    corpus = [words(whole_text(row)) for row in POOL]
    expected = torch.zeros(len(POOL), 2, dtype=torch.float64)
    for column, subtask in enumerate(("sums", "words")):
        queries = [words(whole_text(row)) for row in TARGET if row.subtask == subtask]
        for place, document in enumerate(corpus):
            values = [lucene_bm25(query, document, corpus, k1=k1, b=b) for query in queries]
            expected[place, column] = sum(values) / len(values)
    # The package keeps weights in float32: a relative error of 1e-7 each, summed over some ten words.
    torch.testing.assert_close(scored(POOL, TARGET, k1=k1, b=b).double(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_scoring_the_words_of_all_queries_at_once_is_the_mean_over_queries(method):
    index = bm25s.BM25(k1=1.5, b=0.75, delta=0.5, method=method)
    index.index([words(whole_text(row)) for row in POOL], show_progress=False)
    queries = [words(whole_text(row)) for row in TARGET if row.subtask == "words"]
    one_by_one = torch.stack([torch.from_numpy(index.get_scores(query)).double() for query in queries])
    found = scored(POOL, TARGET, method=method)[:, 1].double()
    torch.testing.assert_close(found, one_by_one.mean(dim=0), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("place", range(0, len(POOL), 3))
def test_a_row_equal_to_the_target_row_ranks_first(place):
    target = [Row("t", "t", POOL[place].messages, task="toy", subtask="toy")]
    assert scored(POOL, target)[:, 0].argmax() == place


def test_rows_that_share_no_word_with_the_target_score_zero():
    assert scored([row("a", "one two"), row("b", "three")], [row("t", "three four", subtask="s")])[0, 0] == 0
    assert scored([row("a", "one"), row("b", "")], [row("t", "?!", subtask="s")]).count_nonzero() == 0


def test_bengali_rows_that_share_letters_but_no_word_score_zero():
    scores = scored([row("a", "বাংলা"), row("b", "বাংলাদেশ")], [row("t", "বাংলা", subtask="s")])
    assert scores[0, 0] > 0 and scores[1, 0] == 0


def test_a_pool_without_words_scores_zero():
    assert scored([row("a", ""), row("b", "...")], TARGET).tolist() == [[0.0, 0.0]] * 2


def test_a_memory_mapped_index_gives_the_same_scores_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loads = []
    load = bm25s.BM25.load
    monkeypatch.setattr(bm25s.BM25, "load", lambda *args, **options: loads.append(options) or load(*args, **options))
    for method in ("lucene", "bm25+"):
        in_memory = scored(POOL, TARGET, method=method, memory_map_from=len(POOL) + 1)
        assert torch.equal(scored(POOL, TARGET, method=method, memory_map_from=len(POOL)), in_memory)
    assert [options["mmap"] for options in loads] == [True, True]
    assert not list(tmp_path.iterdir())


def test_a_stemmer_lets_forms_of_a_word_match():
    pytest.importorskip("Stemmer")
    pool, target = [row("a", "running dogs"), row("b", "cats")], [row("t", "A dog runs", subtask="s")]
    assert scored(pool, target)[0, 0] == 0
    assert scored(pool, target, stemmer="english")[0, 0] > 0


def test_an_unknown_stemmer_names_those_there_are():
    pytest.importorskip("Stemmer")
    with pytest.raises(BM25Error, match=r"stemmer=klingon.*english"):
        BM25Selector(**(SETTINGS | {"stemmer": "klingon"}))


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"method": "tfidf"}, "method=tfidf.*lucene"), ({"k1": 0.0}, "k1=0.0"), ({"b": 1.5}, "b=1.5")],
)
def test_settings_that_bm25_does_not_have_are_refused(setting, message):
    with pytest.raises(BM25Error, match=message):
        BM25Selector(**(SETTINGS | setting))


def test_building_the_index_writes_nothing_into_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    scored(POOL, TARGET)
    assert not caplog.records
