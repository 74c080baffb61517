"""Run one experiment: ``python run.py [group=option] [key=value]``; ``python run.py --help`` lists the options."""

import os
import signal
import sys
from pathlib import Path

# Until a run handles signals itself, Ctrl-C ends the program without a traceback of some import.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# Tokenisation happens in this process before anything forks; this silences a warning about it.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import lessexp.worker
from lessexp.errors import UserError
from lessexp.interruption import Stopped, stopping_at_once
from lessexp.preemption import requeue
from lessexp.processes import is_follower
from lessexp.stages.command_line import checked_arguments
from lessexp.stages.composition import Command
from lessexp.stages.run_folder import error_file
from lessexp.terminal import print_any_text


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the experiment; the last line printed is its folder."""
    run_folder = Path(HydraConfig.get().runtime.output_dir)
    is_job = HydraConfig.get().mode == RunMode.MULTIRUN
    if is_job and "TORCHELASTIC_RUN_ID" in os.environ:
        sys.exit("Error: torchrun starts the processes of one run; start a sweep by python, with trainer.processes=...")
    try:
        with stopping_at_once():
            error_file(run_folder).unlink(missing_ok=True)
            overrides = OmegaConf.to_container(HydraConfig.get().overrides.task)  # references as they are written
            command = Command(tuple(overrides), HydraConfig.instance().cfg)
            lessexp.worker.run(cfg, run_folder, command)
    except Stopped as stopped:
        print(f"Stopped by {stopped}", file=sys.stderr)
        if not is_follower():
            requeue(stopped)
        sys.exit(stopped.exit_code)
    except UserError as error:
        if not is_job:
            sys.exit(f"Error: {error}")
        # The other jobs go on, and the sweep's report names this one.
        print(f"Error: {error}", file=sys.stderr)
        error_file(run_folder).write_text(f"{error}\n", encoding="utf-8")
        return
    if not is_follower():
        print(run_folder)


if __name__ == "__main__":
    print_any_text()
    if is_follower():
        sys.argv += lessexp.worker.FOLLOWER_OVERRIDES
    try:
        sys.argv[1:] = checked_arguments(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")
    main()
