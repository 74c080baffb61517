"""Where the artifacts of a run lie, and building those that are missing."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.artifacts import Artifact, Order, artifact_key, build_once, build_together
from lessexp.files import user_path
from lessexp.mirror import Mirror
from lessexp.processes import ALONE, Team
from lessexp.stages.progress import say
from lessexp.wholeness import COMPLETE

Builder = Callable[[Path], dict[str, Any]]
"""Fills an artifact's folder and returns what is to be kept of that."""


@dataclass(frozen=True)
class Shelf:
    """The folder of all artifacts.

    Attributes:
        root: holds a folder for each kind.
        mirror: the object store in which they are kept too.
    """

    root: Path
    mirror: Mirror | None = None

    def folder(self, kind: str, fields: Mapping[str, Any]) -> Path:
        """Place of an artifact, from all that determines it."""
        return self.root / kind / artifact_key(fields)

    def lacks(self, kind: str, fields: Mapping[str, Any]) -> bool:
        """Whether an artifact is yet to be built."""
        folder = self.folder(kind, fields)
        return not (folder / COMPLETE).exists() and not (self.mirror and self.mirror.holds(folder))

    def _kept(self, kind: str, folders: Sequence[Path], team: Team) -> AbstractContextManager[None]:
        if self.mirror is None or not team.is_leader:
            return contextlib.nullcontext()
        return self.mirror.kept(folders, lambda text: say(f"{kind}: {text}"))

    def build(self, kind: str, fields: Mapping[str, Any], builder: Builder) -> Artifact:
        """Build an artifact or take what is there; of several processes the first to come builds it."""
        folder = self.folder(kind, fields)
        with self._kept(kind, [folder], ALONE):
            return build_once(folder, fields, builder, announce=lambda text: say(f"{kind}: {text}"))

    def build_by_all(self, kind: str, fields: Mapping[str, Any], builder: Builder, *, team: Team) -> Artifact:
        """As `build`, by all processes of a team together."""
        [artifact] = self.build_in_one_go(kind, [fields], lambda orders: [builder(orders[0].folder)], team=team)
        return artifact

    def build_in_one_go(
        self,
        kind: str,
        all_fields: Sequence[Mapping[str, Any]],
        build: Callable[[Sequence[Order]], Sequence[dict[str, Any]]],
        *,
        team: Team,
    ) -> list[Artifact]:
        """Build those of several artifacts of a kind that are missing; see `lessexp.artifacts.build_together`."""
        orders = [Order(self.folder(kind, fields), fields) for fields in all_fields]
        with self._kept(kind, [order.folder for order in orders], team):
            return build_together(orders, build, announce=lambda text: say(f"{kind}: {text}"), team=team)


def shelf_of(cfg: DictConfig) -> Shelf:
    """Where ``artifacts_dir`` says, which is a folder or an address in an object store."""
    place = str(cfg.artifacts_dir)
    if "://" not in place:
        return Shelf(user_path(place).absolute())
    local = user_path(cfg.cache_dir).absolute() / "artifacts" / artifact_key({"url": place})
    return Shelf(local, Mirror(place, local))
