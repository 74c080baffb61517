"""Measure speed or fidelity of this program and print the figures."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from lessexp.benchmark import dtypes, gradients, pool, projection, proxies, rounding, scaling, scoring
from lessexp.benchmark.tables import figures_table
from lessexp.errors import UserError
from lessexp.files import user_path
from lessexp.stages.progress import console, quieten_libraries

Results = dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One command.

    Attributes:
        help: one line.
        add_options: what the command line takes besides ``--json``.
        measure: the figures, from the options.
        tables: what is printed of them.
        plot: draws them to a file.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], Results]
    tables: Callable[[Mapping[str, Any]], Iterator[Table | str]]
    plot: Callable[[Mapping[str, Any], Path], None] | None = None


def _gradients_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="timed runs")
    parser.add_argument("--rows", type=int, default=64, help="rows drawn; those whose answer does not fit are left out")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--tokens-per-batch", type=int, default=1024, help="padded tokens")
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 128], help="of the adapter")


def _measure_gradients(options: argparse.Namespace) -> Results:
    return gradients.measure(
        n_rows=options.rows,
        max_length=options.max_length,
        tokens_per_batch=options.tokens_per_batch,
        repeats=options.repeats,
        ranks=options.ranks,
    )


def _gradients_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    yield figures_table("Gradient features, seconds as median [fastest–slowest]", results)


def _scoring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="timed runs")
    parser.add_argument("--rows", type=int, default=100_000, help="of the pool")
    parser.add_argument("--proj-dim", type=int, default=8192, help="width of a stored row")
    parser.add_argument("--subtasks", type=int, default=57, help="of the target, one row each")
    parser.add_argument("--dtypes", nargs="+", default=["float16", "int8", "int1"], help="of the pool's store")


def _measure_scoring(options: argparse.Namespace) -> Results:
    return scoring.measure(
        n_rows=options.rows,
        proj_dim=options.proj_dim,
        n_subtasks=options.subtasks,
        repeats=options.repeats,
        dtypes=options.dtypes,
    )


def _scoring_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    yield figures_table("Scoring a store, seconds as median [fastest–slowest]", results)


def _projection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="projection seeds")
    parser.add_argument(
        "--rows", type=int, default=96, help="of the pool; those whose answer does not fit are left out"
    )
    parser.add_argument("--target-rows", type=int, default=16, help="of the target")
    parser.add_argument("--max-length", type=int, default=192, help="tokens of a row")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument(
        "--dims", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384], help="d of the projections"
    )


def _measure_projection(options: argparse.Namespace) -> Results:
    return projection.measure(
        n_pool=options.rows,
        n_target=options.target_rows,
        max_length=options.max_length,
        rank=options.rank,
        dims=options.dims,
        n_seeds=options.repeats,
    )


def _dtypes_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows", type=int, default=2000, help="of the pool; those whose answer does not fit are left out"
    )
    parser.add_argument("--target-rows", type=int, default=16, help="of the target")
    parser.add_argument("--max-length", type=int, default=192, help="tokens of a row")
    parser.add_argument("--tokens-per-batch", type=int, default=768, help="padded tokens")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter")
    parser.add_argument("--proj-dim", type=int, default=8192, help="width of a stored row")


def _measure_dtypes(options: argparse.Namespace) -> Results:
    return dtypes.measure(
        n_rows=options.rows,
        n_target=options.target_rows,
        max_length=options.max_length,
        tokens_per_batch=options.tokens_per_batch,
        rank=options.rank,
        proj_dim=options.proj_dim,
    )


def _pool_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the pool")
    parser.add_argument("--mean-words", type=int, default=110, help="of a row; with its tags about 120 tokens")
    parser.add_argument("--max-length", type=int, default=2048, help="tokens of a row")
    parser.add_argument("--num-proc", type=int, help="processes that tokenise; by default one a core")


def _measure_pool(options: argparse.Namespace) -> Results:
    return pool.measure(
        n_rows=options.rows,
        mean_words=options.mean_words,
        max_length=options.max_length,
        num_proc=options.num_proc,
    )


def _pool_tables(results: Mapping[str, Any]) -> Iterator[Table]:
    yield figures_table("A pool made ready for gradients, in a fresh process", results)


def _proxies_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="of the runs, as run.py takes them, e.g. proj_dim=4096")
    parser.add_argument("--proxies", nargs="+", default=["ipsvd", "activation_svd", "svd", "layer_drop"])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="ρ")
    parser.add_argument("--alignments", nargs="+", default=["off", "second_order"])
    parser.add_argument("--smaller-models", nargs="*", default=[], help="folders of models that select as they are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])


def _measure_proxies(options: argparse.Namespace) -> Results:
    return proxies.measure(
        overrides=options.overrides,
        proxies=options.proxies,
        sparsities=options.sparsities,
        alignments=options.alignments,
        smaller_models=options.smaller_models,
        seeds=options.seeds,
        file=options.json,
    )


def _scaling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="of the runs, as run.py takes them, e.g. proj_dim=4096")
    parser.add_argument("--sizes", type=int, nargs="+", default=[80, 160, 320], help="pool rows")


def _measure_scaling(options: argparse.Namespace) -> Results:
    return scaling.measure(overrides=options.overrides, sizes=options.sizes)


def _rounding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", help="of the runs, as run.py takes them, e.g. pool_sample.n_rows=120")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of the frozen weights")


def _measure_rounding(options: argparse.Namespace) -> Results:
    return rounding.measure(overrides=options.overrides, dtypes=options.dtypes)


BENCHMARKS: Mapping[str, Benchmark] = {
    "gradients": Benchmark(
        "features beside plain and released passes", _gradients_options, _measure_gradients, _gradients_tables
    ),
    "projection": Benchmark(
        "cosines, rankings and cost of projections",
        _projection_options,
        _measure_projection,
        projection.tables,
        projection.plot,
    ),
    "dtypes": Benchmark("rankings from stores of fewer bits", _dtypes_options, _measure_dtypes, dtypes.tables),
    "scoring": Benchmark(
        "scoring beside reading and the bare product", _scoring_options, _measure_scoring, _scoring_tables
    ),
    "proxies": Benchmark(
        "influence and cost of smaller models in the place of the whole one",
        _proxies_options,
        _measure_proxies,
        proxies.tables,
        proxies.plot,
    ),
    "pool": Benchmark("reading, checking and tokenising a large pool", _pool_options, _measure_pool, _pool_tables),
    "scaling": Benchmark(
        "what is forecast before a run beside what it takes", _scaling_options, _measure_scaling, scaling.tables
    ),
    "rounding": Benchmark(
        "what other batches and several processes alter", _rounding_options, _measure_rounding, rounding.tables
    ),
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m lessexp.benchmark", description=__doc__)
    commands = root.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in BENCHMARKS.items():
        command = commands.add_parser(name, help=benchmark.help, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        benchmark.add_options(command)
        command.add_argument("--json", type=user_path, help="write the figures to this file")
        command.set_defaults(plot=None)
        if benchmark.plot:
            command.add_argument("--plot", type=user_path, help="draw the figures to this file")
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark, print its tables, and write the files that are asked for."""
    options = parser().parse_args(arguments)
    for file in filter(None, (options.json, options.plot)):
        file.parent.mkdir(parents=True, exist_ok=True)  # now rather than after an hour
    quieten_libraries()
    benchmark = BENCHMARKS[options.benchmark]
    try:
        results = benchmark.measure(options)
    except UserError as error:
        sys.exit(f"Error: {error}")
    for table in benchmark.tables(results):
        console.print(table, markup=False, highlight=False)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if benchmark.plot and options.plot:
        benchmark.plot(results, options.plot)


if __name__ == "__main__":
    main()
