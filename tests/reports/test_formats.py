import io

from rich.console import Console

from lessexp.reports.formats import in_latex, latex, markdown, terminal_table
from lessexp.reports.sweep_table import Cell, SweepTable

TABLE = SweepTable(
    ["", "answer_nll", "accuracy [%]"],
    [[Cell("less data=a|b"), Cell("0.500 ± 0.100", bold=True), Cell("50.0")], [Cell("x=[bold]"), Cell(), Cell("−1")]],
    ["One note."],
)


def test_markdown_escapes_pipes_and_marks_the_best():
    assert markdown(TABLE).splitlines() == [
        "|  | answer_nll | accuracy [%] |",
        "| --- | ---: | ---: |",
        r"| less data=a\|b | **0.500 ± 0.100** | 50.0 |",
        "| x=[bold] |  | −1 |",
        "",
        "One note.",
    ]


def test_latex_is_a_tabular_with_everything_escaped():
    assert latex(TABLE).splitlines() == [
        r"% Needs \usepackage{booktabs}.",
        "% One note.",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & answer\_nll & accuracy [\%] \\",
        r"\midrule",
        r"less data=a\textbar{}b & \textbf{0.500 $\pm$ 0.100} & 50.0 \\",
        r"x=[bold] &  & $-$1 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_every_special_character_of_latex_is_escaped():
    assert in_latex(r"a\b{c}_&%$#~^") == r"a\textbackslash{}b\{c\}\_\&\%\$\#\textasciitilde{}\textasciicircum{}"


def test_a_terminal_shows_text_in_brackets_as_it_is():
    screen = io.StringIO()
    Console(file=screen, width=200).print(terminal_table(TABLE))
    assert "x=[bold]" in screen.getvalue() and "0.500 ± 0.100" in screen.getvalue()
