import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from lessexp.reports import run_page as module
from lessexp.reports.agreement import spearman
from lessexp.reports.results import read_results, write_results
from lessexp.reports.run_page import facts, metric_lines, run_page
from tests.reports.written_run import HOSTILE, SUBTASKS, TARGET, make_pool, write_run

QUESTIONS = {"q-0": HOSTILE[0], "q-1": "1 + 1?"}


class Page(HTMLParser):
    """What a browser would find: tags with attributes, ids, and the text that is shown."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page_of(folder, n_pool=30):
    lengths = {row.example_id: row.answer_length for row in make_pool(n_pool)}
    return run_page(folder, read_results(folder), lengths=lengths, target=TARGET, questions=QUESTIONS)


@pytest.fixture
def html(tmp_path):
    return page_of(write_run(tmp_path / "run"))


def test_text_of_rows_answers_and_names_stays_text(html):
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "i")]
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    for text in [*HOSTILE, SUBTASKS[1]]:
        assert text in page.text
    assert "hunter2" not in html and "max_new_tokens: 24" in html


def test_the_page_asks_for_no_file_and_its_policy_knows_its_script_alone(html):
    page = Page(html)
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links and all(link.startswith("#") and link[1:] in page.ids for link in links)
    script = re.search(r"<script>(.*?)</script>", html, flags=re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_screen_readers_find_names_for_all_that_has_one(html):
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes in page.tags:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in page.ids, (tag, name)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("svg") == tags.count("title") - 1 == tags.count("desc")  # the document has a title too
    for landmark in ("header", "nav", "main"):
        assert tags.count(landmark) == 1
    assert ("a", {"class": "skip", "href": "#main"}) in page.tags
    assert all(a.get("scope") in ("row", "col") for tag, a in page.tags if tag == "th")


def test_everything_that_was_asked_for_is_there(html):
    text = Page(html).text
    assert "less for toy, tiny, seed 0" in text
    assert "12 rows (40 % of the pool)" in text
    assert "score, mean of subtasks 3.000 [2.500, 3.500] 1.000 [0.500, 1.500] -2.000 [-2.500, -1.500]" in text
    assert "Of 4 questions the tuned model scores higher on 3 and lower on 0." in text
    assert "python run.py selector=less seed=0 'logger.api_key=(hidden)'" in text
    assert "torch 2.13.0" in text and "abc-dirty , with changes that were not committed" in text
    assert "select 5.0 1.0 GB 1.0 MB 1.0 TFLOP" in text
    # Checkpoint 1 holds half of each score, so it ranks as checkpoint 2 does.
    assert "1 1.000 1.000 1.000 2 1.000 1.000 1.000 all 1.000 1.000 1.000" in text
    lengths = torch.tensor([float(row.answer_length) for row in make_pool(30)])
    expected = spearman(lengths.double(), torch.linspace(1, 0, 30))
    assert f"over all scored rows: {expected:.3f}." in text


def test_rows_that_are_left_out_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_N_ROWS", 5)
    monkeypatch.setattr(module, "_N_QUESTIONS", 3)
    monkeypatch.setattr(module, "_N_DATASETS", 1)
    monkeypatch.setattr(module, "_N_DATASETS_DRAWN", 2)
    monkeypatch.setattr(module, "_N_SUBTASKS_WITH_EXAMPLES", 1)
    page = Page(page_of(write_run(tmp_path / "run")))
    assert "7 of 12 rows are left out here" in page.text
    assert "1 questions are left out here" in page.text
    assert "2 more data sets are left out here" in page.text
    assert "the 2 largest of 3 in the selection" in page.text
    assert "1 of 2 subtasks are left out here" in page.text
    assert sum("data-group" in attributes for tag, attributes in page.tags if tag == "tr") == 5 + 3


def test_a_large_pool_makes_no_larger_page(tmp_path):
    small = page_of(write_run(tmp_path / "small", n_pool=1500, n_selected=600), 1500)
    large = page_of(write_run(tmp_path / "large", n_pool=3000, n_selected=1500), 3000)
    assert len(large) < 1.1 * len(small) < 2_000_000


def test_a_selector_without_checkpoints_and_a_benchmark_without_answers_say_so(tmp_path):
    folder = write_run(tmp_path / "run", selector="random")
    (folder / "predictions.jsonl").write_text("")
    text = Page(page_of(folder)).text
    assert "This selector reads no checkpoints." in text
    assert "The benchmark asks for no answers" in text


def test_results_of_older_runs_are_shown_without_intervals_and_leaks(tmp_path):
    folder = write_run(tmp_path / "run")
    results = read_results(folder)
    del results["leaks"], results["metrics"]["score"]["change"]
    for models in results["metrics"]["score"].values():
        for key in ("interval", "mean_of_rows", "interval_by_subtask"):
            del models[key]
    write_results(folder, results)
    assert metric_lines(results["metrics"])[0] == ["score, mean of subtasks", "3.000", "1.000", "-2.000"]
    assert not any("test question" in name for name in facts(results))
    assert "-2.000" in page_of(folder)


def test_scores_that_are_infinite_or_all_alike_still_make_a_page(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    folder = write_run(tmp_path / "run", selector="random")
    file = folder / "scores.parquet"
    table = pyarrow.parquet.read_table(file)
    for values in (np.full(30, 2.0), np.array([-np.inf, *np.arange(29.0)])):
        pyarrow.parquet.write_table(table.set_column(2, "score", pa.array(values.astype(np.float32))), file)
        assert "Scores and lengths" in page_of(folder)


def test_a_seed_and_a_fraction_read_as_numbers():
    selection = {"n_pool": 270679, "n_selected": 13533, "n_excluded": 0, "n_copies": 0, "precision": None}
    results = {"selector": "less", "model": "m", "selection_model": "m", "task": "t", "seed": 0}
    shown = facts(results | {"selection": selection, "metrics": {}, "stages": {}})
    assert (shown["pool"], shown["selected"]) == ("270,679 rows", "13,533 rows (5 % of the pool)")
    assert not any("wanted" in name for name in shown)


@pytest.mark.slow
def test_a_browser_searches_sorts_filters_and_runs_nothing_else(tmp_path, browse):
    script = """
      const table = page.querySelector("#rows-caption").closest("table"), section = table.closest("[data-interactive]");
      const shown = () => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent);
      const tell = (what, kind) => what.dispatchEvent(new view.Event(kind));
      const status = () => section.querySelector("[role=status]").textContent;
      const search = section.querySelector("[type=search]"), [filter, sorter] = section.querySelectorAll("select");
      const found = {pwned: view.pwned ?? null, images: page.images.length, at_first: shown(), status: status()};
      search.value = "QUESTION 5"; tell(search, "input"); found.searched = shown(); found.searched_status = status();
      search.value = "<script>window"; tell(search, "input"); found.hostile = shown();
      search.value = ""; tell(search, "input");
      filter.value = "words"; tell(filter, "change"); found.filtered = shown();
      filter.selectedIndex = 0; tell(filter, "change");
      const [rank, , , score, , second] = table.tHead.rows[0].cells;
      second.querySelector("button").click(); found.by_second = shown(); found.aria = second.ariaSort;
      second.querySelector("button").click(); found.again = shown(); found.aria_again = second.ariaSort;
      score.querySelector("button").click(); found.by_score = shown();
      found.aria_gone = second.getAttribute("aria-sort");
      found.sorted_status = status();
      sorter.value = "5"; tell(sorter, "change"); found.by_choice = shown();
      sorter.value = ""; tell(sorter, "change"); found.as_listed = shown();
      found.buttons = section.querySelectorAll("th button").length;
      found.is_hidden = section.querySelector(".controls").hidden;
      return found;
    """
    found = browse(page_of(write_run(tmp_path / "run")), script, 1200)
    ranks = [str(rank) for rank in range(1, 13)]
    assert (found["pwned"], found["images"], found["is_hidden"]) == (None, 0, False)
    assert (found["at_first"], found["status"]) == (ranks, "12 of 12 rows shown")
    assert (found["searched"], found["searched_status"]) == (["6"], "1 of 12 rows shown")
    assert found["hostile"] == ["1"]
    assert found["filtered"] == ["2", "5", "8", "11"]
    assert (found["by_second"], found["aria"]) == (ranks[::-1], "descending")
    assert (found["again"], found["aria_again"]) == (ranks, "ascending")
    assert (found["by_score"], found["aria_gone"]) == (ranks, None)
    assert found["sorted_status"] == "12 of 12 rows shown, sorted by score, descending"
    assert (found["by_choice"], found["as_listed"]) == (ranks[::-1], ranks)
    assert found["buttons"] == 5


@pytest.mark.slow
def test_a_phone_shows_the_page_without_scrolling_sideways(tmp_path, browse):
    script = """
      const root = page.documentElement;
      const isContained = element => element.closest(".wide, pre, svg, .skip");
      const wide = [...page.body.querySelectorAll("*")].filter(element => !isContained(element)
        && element.getBoundingClientRect().right > root.clientWidth);
      return [view.innerWidth, root.scrollWidth - root.clientWidth, wide.map(element => element.outerHTML)];
    """
    folder = write_run(tmp_path / "run")
    results = read_results(folder)
    results["versions"]["x" * 200] = results["model"] = "long-name-" * 30  # names that have no place to break
    (folder / "results.json").write_text(json.dumps(results))
    assert browse(page_of(folder), script, 390) == [390, 0, []]
