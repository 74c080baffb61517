"""What a sweep ends with: its table on the terminal and ``report.html`` in its folder."""

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from lessexp.reports.__main__ import main
from lessexp.reports.run_page import PAGE_FILE
from lessexp.stages.progress import say


class SweepReport(Callback):
    """Tells Hydra to report on a sweep when all of its jobs have ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show the table, write the page, and print the sweep's folder last."""
        folder = Path(config.hydra.sweep.dir)
        problem = main([str(folder), "--page", str(folder / PAGE_FILE)])
        if problem:
            say(f"no report: {problem}")
        print(folder.absolute())
