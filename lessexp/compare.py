"""``python -m lessexp.compare RUN RUN ...``: what runs selected, side by side."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from lessexp.errors import UserError
from lessexp.files import user_path
from lessexp.reports.comparison import compare, comparison_page, comparison_tables, read_selections
from lessexp.terminal import print_any_text


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.compare", description=__doc__)
    parser.add_argument("runs", type=user_path, nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument("--examples", type=int, default=5, help="how many of each run's first rows to show")
    parser.add_argument("--html", type=user_path, help="write the comparison to this page as well")
    return parser


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Show the comparison; a sentence if it cannot be made."""
    print_any_text()
    options = parser().parse_args(arguments)
    try:
        comparison = compare(read_selections(options.runs), n_examples=options.examples)
    except UserError as error:
        return str(error)
    console = Console()
    for table in comparison_tables(comparison):
        console.print(table)
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(comparison_page(comparison), encoding="utf-8", errors="replace")
        console.print(str(options.html), markup=False)
    return None


if __name__ == "__main__":
    sys.exit(main())
