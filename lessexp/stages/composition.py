"""What Hydra does for ``run.py``, without a command line: for notebooks and benchmarks."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf

from lessexp.stages.configuration import ExperimentError
from lessexp.stages.credentials import refuse_credentials
from lessexp.stages.run_folder import register_resolver

_PACKAGE = Path(__file__).parents[1]


def conf_folder() -> Path:
    """The folder ``conf``: a wheel carries it inside the package, a checkout has it beside the package."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def options(group: str) -> list[str]:
    """The options of a group such as ``selector``."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def check_options(overrides: Sequence[str]) -> None:
    """Check the values of groups, which Hydra takes for a fault of its own where they cannot name a file.

    Raises:
        ExperimentError: a group is given a number, null, a dictionary or a NUL; its options are listed.
    """
    for override in overrides:
        group = override.partition("=")[0].lstrip("+")
        if not (known := options(group) if re.fullmatch("[a-z_]+", group) else []):
            continue
        with contextlib.suppress(HydraException):  # Hydra shows where
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, str | list) or "\0" in str(value):
                raise ExperimentError(f"{override!r} names no option; give {group} one of {', '.join(known)}")


def quoted(text: str) -> str:
    """A value for an override, taken literally whatever signs it holds."""
    return QuotedString(text.replace("${", r"\${"), Quote.single).with_quotes()


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """What ``run.py`` composes for these overrides; a notebook's own Hydra stays as it is.

    Raises:
        ExperimentError: an override names a group, an option or a key that does not exist, or holds a token.
    """
    refuse_credentials(overrides)
    check_options(overrides)
    version, current = VersionBase.instance(), GlobalHydra.instance()
    version_base, hydra = version.version_base, current.hydra
    current.clear()
    try:
        with initialize_config_dir(str(conf_folder()), JobRuntime.instance().get("name"), version_base="1.3"):
            return compose("config", overrides=list(overrides))
    except HydraException as error:
        message = str(error).partition("\nConfig search path")[0]
        raise ExperimentError(" ".join(message.split())) from None
    finally:
        current.hydra, version.version_base = hydra, version_base
        GlobalHydra.set_instance(current)


def new_run_folder() -> Path:
    """A new folder, where ``run.py`` would put a run of this moment."""
    setup_globals()  # the time of day in the folder's name
    register_resolver()
    return Path(OmegaConf.load(conf_folder() / "config.yaml").hydra.run.dir).absolute()


def cut_after(cfg: DictConfig, stage: str) -> None:
    """Leave out what a selector's run would do after a stage."""
    stages = list(cfg.selector.stages)
    cfg.selector.stages = stages[: stages.index(stage) + 1]


def write_settings(cfg: DictConfig, overrides: Sequence[str], run_folder: Path) -> None:
    """Write configuration and overrides into ``.hydra/``, as ``run.py`` does."""
    file = settings_file(run_folder)
    file.parent.mkdir(exist_ok=True)
    OmegaConf.save(cfg, file)
    OmegaConf.save(OmegaConf.create(list(overrides)), file.with_name("overrides.yaml"))


def settings_file(run_folder: Path) -> Path:
    """Where Hydra keeps a run's configuration."""
    return run_folder / ".hydra" / "config.yaml"


def written_overrides(run_folder: Path) -> list[str] | None:
    """The overrides of the run whose folder this is; None if it is none."""
    file = run_folder / ".hydra" / "overrides.yaml"
    return list(OmegaConf.load(file)) if file.is_file() else None
