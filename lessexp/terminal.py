"""Output on terminals, pipes and files that cannot show every character."""

import codecs
import io
import sys

_LOOKS_LIKE = str.maketrans("─━–−×…±·“”", '----x.~.""')
_HANDLER = "lessexp.look_alike"


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LOOKS_LIKE)
    return "".join(sign if sign.isascii() else "?" for sign in text), error.end


def print_any_text() -> None:
    """Let standard output show a look-alike, or a question mark, for what its encoding lacks, instead of an error.

    An error handler that the user has chosen (``PYTHONIOENCODING=ascii:backslashreplace``) stays in place.
    """
    codecs.register_error(_HANDLER, _look_alike)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors=_HANDLER)
