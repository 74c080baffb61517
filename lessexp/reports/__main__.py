"""``python -m lessexp.reports FOLDER [FOLDER ...]``: the runs of a sweep as table, numbers, figures and page."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from lessexp.errors import UserError
from lessexp.files import user_path
from lessexp.reports.formats import latex, markdown, terminal_table
from lessexp.reports.mixture import MIXABLE, refuse_mixed
from lessexp.reports.runs import damaged_runs, read_sweep, unfinished_runs, write_runs
from lessexp.reports.settings import settings_of
from lessexp.reports.sweep_csv import sweep_csv
from lessexp.reports.sweep_page import sweep_page
from lessexp.reports.sweep_table import SweepTable, sweep_table
from lessexp.terminal import print_any_text

_SCREEN = Path("-")
_WIDEST = 10_000  # characters


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lessexp.reports", description=__doc__)
    parser.add_argument("places", type=user_path, nargs="+", metavar="FOLDER", help="of runs; or what --json wrote")
    for name in ("markdown", "latex", "csv"):
        parser.add_argument(
            f"--{name}",
            type=user_path,
            nargs="?",
            const=_SCREEN,
            metavar="FILE",
            help=f"write {'the numbers' if name == 'csv' else 'the table'} as {name} to this file, or print that only",
        )
    parser.add_argument("--json", type=user_path, metavar="FILE", help="write all runs to this file, to join later")
    parser.add_argument("--figures", type=user_path, metavar="FOLDER", help="write curves as PDF and PNG to it")
    parser.add_argument("--page", type=user_path, metavar="FILE", help="write all that the runs hold to this page")
    parser.add_argument("--intervals", action="store_true", help="give each figure's bootstrap interval a column")
    parser.add_argument("--unconfirmed", action="store_true", help="show published numbers nobody else confirms, too")
    parser.add_argument("--drop-unfinished", action="store_true", help="leave out runs that did not finish")
    parser.add_argument(
        "--allow-mixed",
        action="append",
        default=[],
        choices=MIXABLE,
        help="show runs together that differ in their code (versions) or in their data; the table says so",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Show or write what is asked for; a sentence if it cannot be had."""
    print_any_text()
    options = parser().parse_args(arguments)
    try:
        _report(options)
    except UserError as error:
        return str(error)
    return None


def _report(options: argparse.Namespace) -> None:
    runs = read_sweep(options.places, drop_unfinished=options.drop_unfinished)
    notes = refuse_mixed(runs, allowed=options.allow_mixed)
    if options.drop_unfinished and (left_out := unfinished_runs(options.places)):
        n_runs = "1 run did not finish and is" if len(left_out) == 1 else f"{len(left_out)} runs did not finish and are"
        notes.append(f"{n_runs} left out.")
    notes += [f"A damaged run is left out: {reason}." for reason in damaged_runs(options.places).values()]
    table = sweep_table(runs, intervals=options.intervals, unconfirmed=options.unconfirmed, notes=notes)
    texts: dict[str, Callable[[], str]] = {
        "markdown": lambda: markdown(table),
        "latex": lambda: latex(table),
        "csv": lambda: sweep_csv(runs, unconfirmed=options.unconfirmed),
    }
    asked = {name: place for name in texts if (place := getattr(options, name)) is not None}
    if _SCREEN not in asked.values():
        _show(table)
    for name, place in asked.items():
        if place == _SCREEN:
            print(texts[name](), end="")
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(texts[name](), encoding="utf-8", errors="replace")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_runs(options.json, runs)
    if options.figures:
        from lessexp.reports.figures import save_figures  # matplotlib takes long to import

        for path in save_figures(settings_of(runs), options.figures):
            print(path, file=sys.stderr)
    if options.page:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        page = sweep_page(runs, page_folder=options.page.parent, table=table.texts)
        options.page.write_text(page, encoding="utf-8", errors="replace")


def _show(table: SweepTable) -> None:
    """Print the table as wide as it is: a narrow terminal folds its lines, but nothing is cut off."""
    console = Console()
    shown = terminal_table(table)
    needed = console.measure(shown, options=console.options.update(max_width=_WIDEST)).maximum
    Console(width=max(console.width, needed)).print(shown)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
