"""One process of a run: alone, one of several that a launcher started, or the one that starts the others.

``python -m lessexp.worker RUN_FOLDER SETTINGS`` runs what the settings in the second folder say, so that the run folder
stays as it is until the leader has checked it; ``trainer.processes`` starts it.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

import lessexp.pipeline
from lessexp.errors import UserError
from lessexp.interruption import Stopped, stopping_at_once
from lessexp.processes import is_started_with_others, joined, n_to_start, start_workers
from lessexp.stages.composition import Command, read_settings, write_settings
from lessexp.stages.progress import console
from lessexp.terminal import print_any_text

# Of Hydra, for a process that works in the leader's folder.
FOLLOWER_OVERRIDES = [
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
]


def run(cfg: DictConfig, run_folder: Path, command: Command) -> None:
    """Run an experiment with as many processes as it asks for, or as this one was started with.

    Args:
        cfg: the composed configuration.
        run_folder: gets this run's files.
        command: that the configuration was composed for.

    Raises:
        UserError: of the run.
    """
    print_any_text()
    if not is_started_with_others() and (n := n_to_start(cfg.trainer.processes, device=cfg.device)) > 1:
        with tempfile.TemporaryDirectory() as folder:
            write_settings(cfg, command, Path(folder))
            start_workers(run_folder, Path(folder), n)
        return
    with joined() as team:
        console.quiet = not team.is_leader
        lessexp.pipeline.run(cfg, team.from_leader(run_folder), team, command=command)


def main(arguments: Sequence[str] | None = None) -> str | None:
    """Work on the run of the first folder by the settings in the second; a sentence if it cannot be done."""
    run_folder, settings = map(Path, sys.argv[1:] if arguments is None else arguments)
    try:
        with stopping_at_once():
            cfg, command = read_settings(settings)
            run(cfg, run_folder, command)
    except Stopped as stopped:
        sys.exit(stopped.exit_code)
    except UserError as error:
        return f"Error: {error}"
    return None


if __name__ == "__main__":
    sys.exit(main())
