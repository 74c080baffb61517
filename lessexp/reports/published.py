"""Published numbers and the runs they stand beside."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lessexp.reports.measures import Measure
from lessexp.reports.settings import Setting


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number of a paper that runs can be compared with [percent].

    Attributes:
        source: where it stands.
        confirmed: whether an independent source has it.
        sd: standard deviation over seeds.
        sd_confirmed: the same for ``sd``; ``None`` where it is as the value.
        selection_model: ``None``: the model that is trained.
        tasks: one, or those of a mean.
        fraction: of the pool that is selected.
        settings: in place of those of the recipe; a list gives alternatives.
    """

    source: str
    value: float
    confirmed: bool
    model: str
    tasks: list[str]
    selector: str
    fraction: float
    selection_model: str | None = None
    sd: float | None = None
    sd_confirmed: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sd_is_doubtful(self) -> bool:
        """Whether there is a standard deviation that no independent source has."""
        return self.sd is not None and not (self.confirmed if self.sd_confirmed is None else self.sd_confirmed)

    def shown_sd(self, *, unconfirmed: bool) -> float | None:
        """The standard deviation, if there is one to show."""
        return self.sd if unconfirmed or not self.sd_is_doubtful else None


@dataclass(frozen=True, kw_only=True)
class PublishedFact:
    """Another number of a paper, described in words.

    Attributes:
        source: where it stands.
        what: was measured.
        confirmed: whether an independent source has it.
    """

    source: str
    what: str
    unit: str
    value: float
    confirmed: bool


@cache
def _file() -> dict[str, Any]:
    return yaml.safe_load(files("lessexp.reports").joinpath("published.yaml").read_text(encoding="utf-8"))


def published_numbers() -> list[Published]:
    """All that runs can be compared with."""
    return [Published(source=group["source"], **entry) for group in _file()["comparable"] for entry in group["entries"]]


def published_facts() -> list[PublishedFact]:
    """All others."""
    return [PublishedFact(source=group["source"], **entry) for group in _file()["facts"] for entry in group["entries"]]


def published_for(setting: Setting, measure: Measure, *, unconfirmed: bool) -> Published | None:
    """The number that a setting's figure should equal, if there is one.

    Args:
        setting: compared if its model, selector, fraction and every other setting that matters are those published.
        measure: compared if it is the own metric of the benchmark, or the mean of these.
        unconfirmed: take numbers too that no independent source has.
    """
    metrics = {_file()["metrics"].get(task) for task in measure.tasks}
    if not measure.tasks or set(measure.metric.split(", ")) != metrics:
        return None
    results = setting.results
    for number in published_numbers():
        if (
            (number.confirmed or unconfirmed)
            and (number.model, number.selector) == (results["model"], results["selector"])
            and (number.selection_model or number.model) == results["selection_model"]
            and math.isclose(number.fraction, results["fraction"])
            and tuple(sorted(number.tasks)) == measure.tasks
            and _same_recipe(setting.overrides, number)
        ):
            return number
    return None


def published_text(number: Published, *, unconfirmed: bool) -> str:
    """Value and standard deviation as a table shows them; a question mark behind what no independent source has.

    Args:
        number: what to show.
        unconfirmed: show an unconfirmed standard deviation too.
    """
    text = f"{number.value:.1f}{'' if number.confirmed else '?'}"
    sd = number.shown_sd(unconfirmed=unconfirmed)
    return text if sd is None else f"{text} ± {sd:.1f}{'?' if number.sd_is_doubtful else ''}"


def _same_recipe(overrides: Mapping[str, str], number: Published) -> bool:
    """Whether the settings that matter are those published, be they set or left as the recipe has them."""
    recipe: dict[str, Any] = _file()["recipe"]
    as_it_is = {key: _alternatives(value)[0] for key, value in recipe.items()}
    set_by_us = {key: yaml.safe_load(value) for key, value in overrides.items() if key not in _file()["no_matter"]}
    ours, theirs = as_it_is | set_by_us, recipe | dict(number.settings)
    return ours.keys() == theirs.keys() and all(ours[key] in _alternatives(theirs[key]) for key in ours)


def _alternatives(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
