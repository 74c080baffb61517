"""``python -m lessexp.reports FOLDER [FOLDER ...]``: the runs of a sweep in one table."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lessexp.errors import UserError
from lessexp.reports.sweep import read_sweep, sweep_markdown, sweep_table, write_runs


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.reports", description=__doc__)
    parser.add_argument("places", type=Path, nargs="+", metavar="FOLDER", help="of runs; or a file that --json wrote")
    parser.add_argument("--markdown", type=Path, help="write the table to this file as well")
    parser.add_argument("--json", type=Path, help="write all runs to this file, to be joined with others later")
    return parser


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Show the table; a sentence if there can be none."""
    options = parser().parse_args(arguments)
    try:
        runs = read_sweep(options.places)
        Console().print(sweep_table(runs))
    except UserError as error:
        return str(error)
    for file in filter(None, (options.markdown, options.json)):
        file.parent.mkdir(parents=True, exist_ok=True)
    if options.markdown:
        options.markdown.write_text(sweep_markdown(runs), encoding="utf-8")
    if options.json:
        write_runs(options.json, runs)
    return None


if __name__ == "__main__":
    sys.exit(main())
