"""The root of all errors that a user's input or surroundings cause; ``run.py`` shows them as one sentence."""


class UserError(Exception):
    """The message names the file, line, id or key, and says what to do."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that was named but is not there."""


class DamagedFileError(UserError, ValueError):
    """A file that does not hold what a file of its name must hold; the message says what was found."""


class ExperimentError(UserError, ValueError):
    """Settings that cannot work together, found before anything is computed."""
