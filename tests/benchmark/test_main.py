import inspect
import json

import pytest
from rich.table import Table

from lessexp.benchmark import __main__ as program
from lessexp.benchmark import dtypes, gradients, pool, projection, proxies, rounding, scaling, scoring
from lessexp.errors import UserError

MODULES = {
    "gradients": gradients,
    "projection": projection,
    "dtypes": dtypes,
    "scoring": scoring,
    "proxies": proxies,
    "pool": pool,
    "scaling": scaling,
    "rounding": rounding,
}
SIZES = {"proxies": "--seeds", "scaling": "--sizes", "rounding": "--dtypes"}


@pytest.mark.parametrize("name", program.BENCHMARKS)
def test_the_options_of_every_benchmark_are_what_it_measures_with(monkeypatch, name):
    signature = inspect.signature(MODULES[name].measure)
    received = {}
    monkeypatch.setattr(MODULES[name], "measure", lambda **settings: received.update(settings) or {})
    options = program.parser().parse_args([name, SIZES.get(name, "--rows"), "7"])
    program.BENCHMARKS[name].measure(options)
    signature.bind(**received)
    assert any(given in (7, [7], ["7"]) for given in received.values())


def fake(measure, plot=None):
    def tables(results):
        table = Table("figure", "value")
        table.add_row("speed", f"{results['speed']} [rows/s]", style="bold")
        yield "a [plain] line"

    return program.Benchmark("help", lambda parser: None, measure, tables, plot)


def test_figures_are_printed_written_and_drawn(monkeypatch, tmp_path, capsys):
    def plot(results, path):
        path.write_text(f"drawn {results['speed']}")

    monkeypatch.setattr(program, "BENCHMARKS", {"fake": fake(lambda options: {"speed": 3}, plot)})
    files = [tmp_path / "new" / name for name in ("figures.json", "figures.png")]
    program.main(["fake", "--json", str(files[0]), "--plot", str(files[1])])
    assert json.loads(files[0].read_text()) == {"speed": 3}
    assert files[1].read_text() == "drawn 3"
    printed = capsys.readouterr().out
    assert "a [plain] line" in printed
    assert "{" not in printed


def test_an_error_of_the_user_is_one_sentence(monkeypatch):
    def refuse(options):
        raise UserError("no rows; name some")

    monkeypatch.setattr(program, "BENCHMARKS", {"fake": fake(refuse)})
    with pytest.raises(SystemExit, match=r"^Error: no rows; name some$"):
        program.main(["fake"])


def test_only_a_benchmark_that_draws_takes_a_plot(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        program.parser().parse_args(["dtypes", "--plot", "a.png"])
    assert "--plot" in capsys.readouterr().err
