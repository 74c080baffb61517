"""Where the artifacts of a run lie, and building those that are missing."""

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lessexp.artifacts import Artifact, Built, Order, build_together
from lessexp.files import user_path
from lessexp.identity import hash_of, identity_of, key_of
from lessexp.mirror import Mirror, local_place
from lessexp.processes import ALONE, Team
from lessexp.stages.progress import say
from lessexp.wholeness import COMPLETE

BuildAll = Callable[[Sequence[tuple[Artifact, Path]]], Sequence[dict[str, Any]]]
"""Fills the folders of several artifacts in one go; returns a JSON record of each."""


@dataclass(frozen=True)
class Shelf:
    """The folder of all artifacts.

    Attributes:
        root: holds a folder for each kind.
        mirror: the object store in which they are kept too.
    """

    root: Path
    mirror: Mirror | None = None

    def folder(self, artifact: Artifact) -> Path:
        """Place of an artifact."""
        return self.root / artifact.kind / key_of(artifact)

    def lacks(self, artifact: Artifact) -> bool:
        """Whether an artifact is yet to be built."""
        folder = self.folder(artifact)
        return not (folder / COMPLETE).exists() and not (self.mirror and self.mirror.holds(folder))

    def get(self, artifact: Artifact, runtime: Any) -> Built:
        """Build an artifact or take the one that exists.

        Args:
            artifact: unless all processes build it together, the first to come builds it.
            runtime: see `lessexp.stages.runtime.Runtime`.
        """
        team = runtime.engine.team if artifact.by_all else ALONE
        [built] = self.get_all(
            [artifact], lambda missing: [one.build(folder, runtime) for one, folder in missing], team=team
        )
        return built

    def get_all(self, artifacts: Sequence[Artifact], build: BuildAll, *, team: Team) -> list[Built]:
        """Build those of several artifacts of a kind that are missing; see `lessexp.artifacts.build_together`."""
        by_folder = {self.folder(artifact): artifact for artifact in artifacts}
        orders = [Order(folder, identity_of(artifact)) for folder, artifact in by_folder.items()]
        kind = artifacts[0].kind

        def build_ordered(missing: Sequence[Order]) -> Sequence[dict[str, Any]]:
            return build([(by_folder[order.folder], order.folder) for order in missing])

        with self._kept(kind, list(by_folder), team):
            return build_together(orders, build_ordered, announce=lambda text: say(f"{kind}: {text}"), team=team)

    def _kept(self, kind: str, folders: Sequence[Path], team: Team) -> AbstractContextManager[None]:
        if self.mirror is None or not team.is_leader:
            return contextlib.nullcontext()
        return self.mirror.kept(folders, lambda text: say(f"{kind}: {text}"))


def shelf_of(cfg: DictConfig) -> Shelf:
    """Where ``artifacts_dir`` says, which is a folder or an address in an object store."""
    place = str(cfg.artifacts_dir)
    if (folder := local_place(place)) is not None:
        return Shelf(user_path(folder).absolute())
    local = user_path(cfg.cache_dir).absolute() / "artifacts" / hash_of({"url": place})
    return Shelf(local, Mirror(place, local))
