"""A whole run on rows whose ids, data sets, subtasks and texts mean something to everything that they pass through."""

import json
from html.parser import HTMLParser

import pyarrow.parquet
import pytest

from lessexp.data.rows import Row, read_rows, write_rows
from lessexp.pipeline import run
from tests.conftest import make_rows
from tests.hostile import TEXTS, files_under
from tests.stages.conftest import compose_config  # noqa: F401  (a fixture)


def hostile_rows(*, target=False):
    texts = TEXTS[:6] if target else [*TEXTS, "x" * 20_000]
    prefix = "target " if target else ""
    return [
        Row(
            dataset=text,
            example_id=prefix + text,
            messages=(("user", f"{prefix}{text}?"), ("assistant", f"answer {text} number")),
            task="../toy" if target else None,
            subtask=text if target else None,
        )
        for text in texts
    ]


class Tags(HTMLParser):
    """The tags of a page that run something, with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.scripts = 0
        self.handlers = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("logger", ["csv", "wandb"])
def test_hostile_rows_come_through_unaltered_and_write_nothing_elsewhere(compose_config, tmp_path, monkeypatch, logger):  # noqa: F811
    monkeypatch.setenv("WANDB_MODE", "offline")
    places = {name: tmp_path / name for name in ("home", "work", "run", "artifacts", "cache")}
    for name in ("home", "work", "run"):
        places[name].mkdir()
    monkeypatch.setenv("HOME", str(places["home"]))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(places["cache"]))
    monkeypatch.chdir(places["work"])
    pool, target = hostile_rows(), hostile_rows(target=True)
    cfg = compose_config(
        f"logger={logger}",
        "logger.share_rows=true",
        "fraction=1",
        "max_length=700",
        "selector=less",
        f"cache_dir={places['cache']}",
        "preparation.in_memory_below=3",
    )
    write_rows(tmp_path / "pool.jsonl", [*pool, *make_rows(4)])
    write_rows(tmp_path / "target.jsonl", target)
    before = files_under(tmp_path)
    run(cfg, places["run"])
    new = files_under(tmp_path) - before
    allowed = [places[name] for name in ("run", "artifacts", "cache")]
    assert [path for path in new if not any(path.is_relative_to(place) for place in allowed)] == []
    assert [path for path in new if "escaped" in path.name] == []

    written = {row.example_id: row for row in read_rows([places["run"] / "selected.jsonl"])}
    cut = {row.example_id for row in pool if len(row.example_id) > 1000}  # too long for the model; listed, not scored
    assert {name: row for name, row in written.items() if name in {row.example_id for row in pool}} == {
        row.example_id: row for row in pool if row.example_id not in cut
    }
    excluded = pyarrow.parquet.read_table(places["run"] / "excluded.parquet")["example_id"].to_pylist()
    assert set(excluded) == cut
    assert read_rows([places["run"] / "target.jsonl"], is_target=True) == target
    scores = pyarrow.parquet.read_table(places["run"] / "scores.parquet")
    assert scores.column_names[3:] == [row.subtask for row in target]
    results = json.loads((places["run"] / "results.json").read_text())
    assert set(results["selection"]["by_dataset"]) >= {row.dataset for row in pool}
    tags = Tags((places["run"] / "report.html").read_text())
    assert (tags.scripts, tags.handlers) == (1, [])
