"""Self-contained HTML pages: one style, one small script, and text that stays text."""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lessexp.reports.charts import WIDTH, number

_LONGEST_TEXT = 1500  # characters of a message or an answer; its middle gives way


def shortened(text: str, n: int = _LONGEST_TEXT) -> str:
    """The beginning and the end of a long text, with the number of characters between them."""
    if len(text) <= n:
        return text
    head, tail = text[: n * 2 // 3], text[len(text) - n // 3 :]
    return f"{head} […{len(text) - len(head) - len(tail):,} characters…] {tail}"


def in_one_line(text: str, n: int) -> str:
    """The first characters of a text, white space made single spaces."""
    line = " ".join(text[: 4 * n].split())
    return line if len(line) <= n and len(text) <= 4 * n else f"{line[:n]}…"


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template of this package; every value is escaped.

    The pages forbid themselves to load anything, and to run any script but their own, which they know by its hash.
    """
    environment = Environment(
        loader=PackageLoader("lessexp.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (environment.loader.get_source(environment, name)[0] for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "style": Markup(style),
        "chart_width": WIDTH,
    }
    environment.filters |= {"shortened": shortened, "in_one_line": in_one_line, "number": number}
    return environment.get_template(template).render(values)
