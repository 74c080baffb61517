"""``~`` in the settings that name files and folders, which no shell expands behind a ``=``."""

import contextlib
import re
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from lessexp.files import user_path
from lessexp.stages.composition import quoted

_NAMES_A_PLACE = re.compile(r"(^|_)(path|paths|dir)$")


def expand_home(node: DictConfig | ListConfig, *, is_place: bool = False) -> None:
    """Write the home folder for ``~`` at the start of every path in a configuration.

    Args:
        node: changed in place, with all groups and lists below it.
        is_place: whether the items of this list are paths.
    """
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        with contextlib.suppress(OmegaConfBaseException):  # a value that is not set or refers to nothing is no path
            below = is_place or bool(_NAMES_A_PLACE.search(str(key)))
            value = node[key]
            if isinstance(value, DictConfig | ListConfig):
                if not OmegaConf.is_interpolation(node, key):
                    expand_home(value, is_place=below and isinstance(value, ListConfig))
            elif below and isinstance(value, str) and value.startswith("~"):
                node[key] = str(user_path(value))


class HomeFolder(Callback):
    """Lets the folder of a run or a sweep begin with ``~``."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Expand ``hydra.run.dir``."""
        with read_write(config.hydra):
            expand_home(config.hydra.run)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Expand ``hydra.sweep.dir``, also for the jobs, which Hydra composes anew."""
        given = OmegaConf.select(config.hydra, "sweep.dir")
        if isinstance(given, str) and given.startswith("~"):
            with read_write(config.hydra):
                config.hydra.sweep.dir = str(user_path(given))
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(config.hydra.sweep.dir)}")
