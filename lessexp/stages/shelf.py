"""Where the artifacts of a run lie, and building those that are missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lessexp.artifacts import Artifact, Order, artifact_key, build_once, build_together
from lessexp.processes import Team
from lessexp.stages.progress import say
from lessexp.wholeness import COMPLETE

Builder = Callable[[Path], dict[str, Any]]
"""Fills an artifact's folder and returns what is to be kept of that."""


@dataclass(frozen=True)
class Shelf:
    """The folder of all artifacts.

    Attributes:
        root: holds a folder for each kind.
    """

    root: Path

    def folder(self, kind: str, fields: Mapping[str, Any]) -> Path:
        """Place of an artifact, from all that determines it."""
        return self.root / kind / artifact_key(fields)

    def lacks(self, kind: str, fields: Mapping[str, Any]) -> bool:
        """Whether an artifact is yet to be built."""
        return not (self.folder(kind, fields) / COMPLETE).exists()

    def build(self, kind: str, fields: Mapping[str, Any], builder: Builder) -> Artifact:
        """Build an artifact or take what is there; of several processes the first to come builds it."""
        return build_once(self.folder(kind, fields), fields, builder, announce=lambda text: say(f"{kind}: {text}"))

    def build_by_all(self, kind: str, fields: Mapping[str, Any], builder: Builder, *, team: Team) -> Artifact:
        """As `build`, by all processes of a team together."""
        [artifact] = build_together(
            [Order(self.folder(kind, fields), fields)],
            lambda orders: [builder(orders[0].folder)],
            announce=lambda text: say(f"{kind}: {text}"),
            team=team,
        )
        return artifact
