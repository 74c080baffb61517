"""``python -m lessexp.benchmark gradients|projection|scoring [--json FILE]``."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lessexp.benchmark import gradients, projection, scoring


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(prog="python -m lessexp.benchmark", description=__doc__)
    commands = root.add_subparsers(dest="benchmark", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", type=Path, help="write the figures to this file")
    shared.add_argument("--repeats", type=int, default=5, help="timed runs, or projection seeds")
    one = commands.add_parser("gradients", parents=[shared], help="features beside plain and released passes")
    one.add_argument("--rows", type=int, default=64)
    one.add_argument("--max-length", type=int, default=512)
    one.add_argument("--tokens-per-batch", type=int, default=1024)
    one.add_argument("--ranks", type=int, nargs="+", default=[16, 128])
    faithful = commands.add_parser("projection", parents=[shared], help="cosines and rankings after projection")
    faithful.add_argument("--rows", type=int, default=96)
    faithful.add_argument("--target-rows", type=int, default=16)
    faithful.add_argument("--max-length", type=int, default=192)
    faithful.add_argument("--rank", type=int, default=16)
    faithful.add_argument("--dims", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192, 16384])
    faithful.add_argument("--plot", type=Path, help="draw the figures to this file")
    two = commands.add_parser("scoring", parents=[shared], help="scoring beside reading and the bare product")
    two.add_argument("--rows", type=int, default=100_000)
    two.add_argument("--proj-dim", type=int, default=8192)
    two.add_argument("--subtasks", type=int, default=57)
    two.add_argument("--dtypes", nargs="+", default=["float16", "int8", "int1"])
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one benchmark and show its figures."""
    options = parser().parse_args(arguments)
    if options.benchmark == "gradients":
        results = gradients.measure(
            n_rows=options.rows,
            max_length=options.max_length,
            tokens_per_batch=options.tokens_per_batch,
            repeats=options.repeats,
            ranks=options.ranks,
        )
    elif options.benchmark == "projection":
        results = projection.measure(
            n_pool=options.rows,
            n_target=options.target_rows,
            max_length=options.max_length,
            rank=options.rank,
            dims=options.dims,
            n_seeds=options.repeats,
        )
        if options.plot:
            projection.plot(results, options.plot)
    else:
        results = scoring.measure(
            n_rows=options.rows,
            proj_dim=options.proj_dim,
            n_subtasks=options.subtasks,
            repeats=options.repeats,
            dtypes=options.dtypes,
        )
    Console(soft_wrap=True).print_json(data=results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
