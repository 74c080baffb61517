"""What a sweep ends with: its table on the terminal and ``report.html`` in its folder."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lessexp.reports.__main__ import main
from lessexp.reports.run_page import PAGE_FILE
from lessexp.stages.progress import say
from lessexp.stages.run_folder import failed_jobs


class SweepReport(Callback):
    """Tells Hydra to report on a sweep when all of its jobs have ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show the table of the jobs that finished, write the page, and print the sweep's folder last.

        Raises:
            SystemExit: jobs failed; each is named with its reason.
        """
        folder = Path(config.hydra.sweep.dir)
        failed = failed_jobs(folder)
        problem = main([str(folder), "--page", str(folder / PAGE_FILE), *["--drop-unfinished"] * bool(failed)])
        if problem:
            say(f"no report: {problem}")
        print(folder.absolute())
        if failed:
            jobs = "1 job" if len(failed) == 1 else f"{len(failed)} jobs"
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in failed.items())
            sys.exit(f"Error: {jobs} of this sweep failed:{reasons}")
