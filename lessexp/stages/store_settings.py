"""How gradients are projected and stored, and in which other ways the same pass may store them."""

from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lessexp.stages.configuration import plain

_CHANGEABLE = {"proj_dim": "proj_dim", "dtype": "datastore.dtype"}


class StoreSettings:
    """One way of storing gradients.

    Args:
        cfg: a run's configuration.
    """

    def __init__(self, cfg: DictConfig):
        self.projection: DictConfig = cfg.projection
        self.dtype: str = cfg.datastore.dtype

    @cached_property
    def projection_fields(self) -> dict[str, Any]:
        """What determines the projection."""
        return plain(self.projection)


def store_settings(cfg: DictConfig) -> list[StoreSettings]:
    """The run's own way, then those under ``datastore.also`` that differ from it and from each other."""
    found = {_identity(own): own for own in [StoreSettings(cfg)]}
    for changes in cfg.datastore.also:
        variant = cfg.copy()
        for key, value in changes.items():
            OmegaConf.update(variant, _CHANGEABLE[key], value)
        other = StoreSettings(variant)
        found.setdefault(_identity(other), other)
    return list(found.values())


def _identity(store: StoreSettings) -> str:
    return f"{store.projection_fields} {store.dtype}"
