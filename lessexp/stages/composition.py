"""What Hydra does for ``run.py``, without a command line: for notebooks and benchmarks."""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import HydraException
from hydra.version import VersionBase, setbase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import lessexp.stages.run_folder  # noqa: F401  (registers the resolvers that conf/ uses)
from lessexp.errors import ExperimentError
from lessexp.files import written_whole
from lessexp.settings.validation import is_setting, known_keys, unknown_key, validate
from lessexp.stages.credentials import refuse_credentials, refuse_credentials_in

_PACKAGE = Path(__file__).parents[1]
_SETTINGS = ".hydra"
_ABSENT = re.compile(r"Could not override '([^'@/]+)'\.\s+To append")


def conf_folder() -> Path:
    """The folder ``conf``: a wheel carries it inside the package, a checkout has it beside the package."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def options(group: str) -> list[str]:
    """The options of a group such as ``selector``."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def quoted(text: str) -> str:
    """A value for an override, taken literally whatever signs it holds."""
    return QuotedString(text.replace("${", r"\${"), Quote.single).with_quotes()


def parsed(override: str) -> Override:
    """An override as Hydra reads it.

    Raises:
        ExperimentError: Hydra cannot read it; the sentence says which spelling it reads.
    """
    try:
        current = GlobalHydra.instance()
        loader = (
            current.config_loader() if current.is_initialized() else None
        )  # a glob() asks it for its group's options
        [found] = OverridesParser.create(config_loader=loader).parse_overrides([override])
        return found
    except HydraException as error:
        key, equals, value = override.partition("=")
        if not equals:
            raise ExperimentError(f"{override!r} sets nothing; write KEY=VALUE, as in seed=1") from None
        if spelling := _quoted_spelling(key, value):
            remedy = f"write it in quotes: {shlex.quote(spelling)}"
            raise ExperimentError(f"the value of {key} has signs that mean something to Hydra; {remedy}") from None
        raise ExperimentError(f"{override!r} cannot be read: {str(error).splitlines()[0]}") from None


def _quoted_spelling(key: str, value: str) -> str | None:
    """The override with its value, or each item of its list, in quotes, if Hydra reads that."""
    is_list = value.startswith("[") and value.endswith("]")
    items = [item.strip() for item in value[1:-1].split(",")] if is_list else [value]
    texts = ['"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items]
    spelling = f"{key}=[{','.join(texts)}]" if is_list else f"{key}={texts[0]}"
    try:
        found = OverridesParser.create().parse_override(spelling).value()
    except HydraException:
        return None
    return spelling if found == (items if is_list else value) else None


def _check_group(override: Override) -> None:
    """Check the value of a group, which Hydra takes for a fault of its own if it cannot name a file."""
    group, value = override.key_or_group, override.value()
    if override.is_delete() or override.is_sweep_override() or not (known := options(group)):
        return
    if not isinstance(value, str | list) or "\0" in str(value):
        raise ExperimentError(f"{override.input_line!r} names no option; give {group} one of {', '.join(known)}")


def composed(name: str, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Compose a configuration inside the Hydra that is initialized.

    Args:
        name: of the configuration file.
        overrides: as on a command line, without sweeps.
        with_hydra: keep Hydra's own node.

    Raises:
        ExperimentError: an override names a group, an option or a key that does not exist; the nearest one is named.
    """
    return _composed(name, list(overrides), with_hydra)[0]


def added(name: str, overrides: Sequence[str]) -> list[str]:
    """The overrides, with ``++`` before a setting that an option's file leaves out, since Hydra knows no schema.

    Raises:
        ExperimentError: as `composed`.
    """
    return _composed(name, list(overrides), with_hydra=False)[1]


def _composed(name: str, overrides: list[str], with_hydra: bool) -> tuple[DictConfig, list[str]]:
    """The configuration, and the overrides that Hydra composes it of."""
    for override in overrides:
        _check_group(parsed(override))
    try:
        return compose(name, overrides=overrides, return_hydra_config=with_hydra), overrides
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
    key = found[1] if (found := _ABSENT.search(message)) else None
    if key is None or not is_setting(key):
        raise ExperimentError(_explained(message, name, overrides))
    return _composed(name, [f"++{one}" if one.partition("=")[0] == key else one for one in overrides], with_hydra)


def _explained(message: str, name: str, overrides: Sequence[str]) -> str:
    """Hydra's message as one sentence, with what to write instead."""
    if found := _ABSENT.search(message):
        return _of_absent_key(found[1], name, overrides)
    if found := re.search(r"Could not find '([^']+)/([^'/]*)'\s+Available options in '[^']+':\s+(.*)", message, re.S):
        group, option, known = found[1], found[2], found[3].partition("\nConfig search path")[0].split()
        nearest = get_close_matches(option, known, n=1)
        meant = f"did you mean {nearest[0]}? The options are" if nearest else "give one of"
        return f"{group}={option} is not an option; {meant} {', '.join(known)}"
    if found := re.search(r"Could not append to config\. An item is already at '([^']+)'", message):
        return f"{found[1]} exists; write {found[1]}=... without the plus sign"
    if found := re.search(r"Multiple values for (\S+)\. To override", message):
        return f"{found[1]} is given twice; write {found[1]}=... once, without a plus sign"
    if found := re.search(r"Could not override '(\w+)/(\w+)'|config group '(\w+)/(\w+)'", message):
        above, group = found[1] or found[3], found[2] or found[4]
        if having := [name for name in options(above) if f"  - {group}: " in _option_text(above, name)]:
            return f"{above}/{group} is a part of {above}={'|'.join(having)}; choose that, too"
    return " ".join(message.partition("\nConfig search path")[0].partition(", possible interpolation")[0].split())


def _option_text(group: str, name: str) -> str:
    return (conf_folder() / group / f"{name}.yaml").read_text(encoding="utf-8")


def _of_absent_key(key: str, name: str, overrides: Sequence[str]) -> str:
    """A key that needs a plus sign, as a new entry of a dictionary does, or that nothing reads."""
    [override] = [one for one in overrides if one.partition("=")[0] == key]
    others = [one for one in overrides if one is not override]
    if key.startswith("hydra."):
        known = known_keys(compose(name, overrides=others, return_hydra_config=True))
        return f"{unknown_key(key, known)} '+{override}' adds it"
    try:
        validate(compose(name, overrides=[*others, f"+{override}"]))
    except ExperimentError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException):
        return str(unknown_key(key, known_keys(compose(name, overrides=others))))
    return f"{key} does not exist yet; write '+{override}' to add it"


@contextmanager
def composing(folder: Path | None = None) -> Iterator[None]:
    """Initialize Hydra over ``conf/``, as ``run.py`` does; a notebook's own Hydra stays as it is.

    Args:
        folder: of further options and configuration files, which go before those of ``conf/``.
    """
    version, current = VersionBase.instance(), GlobalHydra.instance()
    version_base, hydra = version.version_base, current.hydra
    current.clear()
    try:
        setbase("1.3")
        search_path = create_config_search_path(str(conf_folder()))
        if folder is not None:
            search_path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        Hydra.create_main_hydra2(JobRuntime.instance().get("name"), search_path)
        yield
    finally:
        current.hydra, version.version_base = hydra, version_base
        GlobalHydra.set_instance(current)


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """What ``run.py`` composes for these overrides.

    Raises:
        ExperimentError: an override names a group, an option or a key that does not exist, or holds a token.
    """
    refuse_credentials(overrides)
    with composing():
        return composed("config", overrides)


def new_run_folder() -> Path:
    """A new folder, where ``run.py`` would put a run of this moment."""
    setup_globals()  # the time of day in the folder's name
    return Path(OmegaConf.load(conf_folder() / "config.yaml").hydra.run.dir).absolute()


@dataclass(frozen=True)
class Command:
    """How a run was started.

    Attributes:
        overrides: of the command line, or of a notebook's call.
        hydra: Hydra's own settings; None without ``run.py``.
    """

    overrides: tuple[str, ...] = ()
    hydra: DictConfig | None = None


def write_settings(cfg: DictConfig, command: Command, folder: Path) -> None:
    """Write the settings of a run into ``.hydra/``, under the names that Hydra gives them.

    Hydra itself would write them before it is known whether the folder may be written to.

    Args:
        cfg: as it was composed; references stay as they are written.
        command: that it was composed for.
        folder: of the run.

    Raises:
        CredentialError: they hold a key or token; nothing is written.
    """
    refuse_credentials_in(OmegaConf.to_container(cfg))
    refuse_credentials(command.overrides)
    texts = {"config": OmegaConf.to_yaml(cfg), "overrides": OmegaConf.to_yaml(OmegaConf.create([*command.overrides]))}
    if command.hydra is not None:
        texts["hydra"] = OmegaConf.to_yaml(command.hydra)
    with written_whole(folder / _SETTINGS) as partial:
        partial.mkdir(parents=True)
        for name, text in texts.items():
            (partial / f"{name}.yaml").write_text(text, encoding="utf-8")


def read_settings(folder: Path) -> tuple[DictConfig, Command]:
    """What `write_settings` wrote."""
    cfg, by_hydra = OmegaConf.load(folder / _SETTINGS / "config.yaml"), folder / _SETTINGS / "hydra.yaml"
    overrides = written_overrides(folder) or []
    return cfg, Command(tuple(overrides), OmegaConf.load(by_hydra) if by_hydra.is_file() else None)


def written_overrides(run_folder: Path) -> list[str] | None:
    """The overrides of the run whose folder this is; None if it is none."""
    file = run_folder / _SETTINGS / "overrides.yaml"
    return OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else None
