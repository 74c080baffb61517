import itertools
import re
from pathlib import Path

import pytest

from lessexp.reports import page
from lessexp.reports.page import in_one_line, shortened

TEMPLATES = Path(page.__file__).parent / "templates"
STYLE = (TEMPLATES / "page.css").read_text(encoding="utf-8")


def schemes():
    """The colours of the light and of the dark scheme by name."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks)
    return {"light": light, "dark": dark}


def luminance(colour):
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_known_colours():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # a published example that just fails AA


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_charts_stand_out_as_wcag_aa_wants(scheme):
    colours = schemes()[scheme]
    for text, ground in itertools.product(("text", "muted", "link"), ("page", "panel", "mark")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for shape, ground in (("pool", "page"), ("selected", "page"), ("selected", "pool-fill"), ("link", "page")):
        assert contrast(colours[shape], colours[ground]) >= 3, (shape, ground)


def test_both_schemes_name_every_colour_and_no_other_colour_is_used():
    light, dark = schemes().values()
    assert light.keys() == dark.keys() == set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    rest = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{3}|rgb|hsl", rest)


def test_a_page_without_the_script_may_load_and_run_nothing():
    html = page.render("comparison.html", {"compared": EMPTY})
    assert "default-src 'none'" in html and "script-src 'none'" in html and "<script" not in html


EMPTY = {
    "names": ["a"],
    "agreement": [["runs"]],
    "composition": [["data set", "a"]],
    "lengths": [["run"]],
    "examples": [],
}


def test_long_texts_keep_their_ends_and_say_what_is_missing():
    text = "a" * 1000 + "b" * 1000
    short = shortened(text, 300)
    assert short.startswith("a" * 200 + " […1,700 characters…] ") and short.endswith(" " + "b" * 100)
    assert shortened("short", 300) == "short"


def test_a_summary_is_one_line():
    assert in_one_line("a\n\n  b\tc", 20) == "a b c"
    assert in_one_line("word " * 10, 10) == "word word …"
    assert in_one_line(" " * 1000 + "x", 10) == "…"
