"""A sweep's table for a terminal, Markdown and LaTeX."""

from rich.table import Table
from rich.text import Text

from lessexp.reports.sweep_table import Cell, SweepTable
from lessexp.reports.tables import new_table

_IN_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def terminal_table(table: SweepTable) -> Table:
    """For a terminal."""
    shown = new_table("Mean ± standard deviation over seeds", *table.header)
    for line in table.lines:
        shown.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in line))
    return shown


def markdown(table: SweepTable) -> str:
    """For a README; the notes stand below."""
    rule = "|".join(["", " --- ", *[" ---: "] * (len(table.header) - 1), ""])
    header = [Cell(text) for text in table.header]
    first, *others = (f"| {' | '.join(map(_markdown_cell, line))} |" for line in (header, *table.lines))
    return "\n".join([first, rule, *others, "", *table.notes]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    escaped = cell.text.replace("\\", r"\\").replace("|", r"\|")
    return f"**{escaped}**" if cell.bold else escaped


def in_latex(text: str) -> str:
    """Text with all that LaTeX would read as a command escaped."""
    return "".join(_IN_LATEX.get(character, character) for character in text)


def latex(table: SweepTable) -> str:
    """A ``tabular`` for a paper that loads booktabs; the notes are comments, to be worked into the caption."""
    lines = [f"% {' '.join(note.split())}" for note in ("Needs \\usepackage{booktabs}.", *table.notes)]
    lines += [f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule"]
    lines += [f"{' & '.join(map(in_latex, table.header))} \\\\", r"\midrule"]
    lines += [f"{' & '.join(map(_latex_cell, line))} \\\\" for line in table.lines]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_cell(cell: Cell) -> str:
    return f"\\textbf{{{in_latex(cell.text)}}}" if cell.bold else in_latex(cell.text)
