"""How gradients are projected and stored, and in which other ways the same pass may store them."""

from dataclasses import dataclass

from omegaconf import DictConfig, OmegaConf

from lessexp.identity import key_of
from lessexp.stages.configuration import Configured

_CHANGEABLE = {"proj_dim": "proj_dim", "dtype": "datastore.dtype"}


@dataclass(frozen=True)
class StoreSettings:
    """One way of storing gradients.

    Attributes:
        projection: makes the projector.
        dtype: of the stored values.
    """

    projection: Configured
    dtype: str


def store_settings(cfg: DictConfig) -> list[StoreSettings]:
    """The run's own way, then those under ``datastore.also`` that differ from it and from each other."""
    ways = []
    for changes in ({}, *cfg.datastore.also):
        variant = cfg.copy()
        for key, value in changes.items():
            OmegaConf.update(variant, _CHANGEABLE[key], value)
        ways.append(StoreSettings(Configured.of(variant.projection), variant.datastore.dtype))
    return list({key_of(way): way for way in ways}.values())
