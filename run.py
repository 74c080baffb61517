"""Run one experiment: ``python run.py [group=option] [key=value]``; ``python run.py --help`` lists the options."""

import os
import sys
from pathlib import Path

# Tokenisation happens in this process before anything forks; this silences a warning about it.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import lessexp.worker
from lessexp.errors import UserError
from lessexp.interruption import Stopped, stopping_at_once
from lessexp.preemption import requeue
from lessexp.processes import is_follower
from lessexp.stages.composition import check_options
from lessexp.stages.credentials import refuse_credentials
from lessexp.stages.run_folder import register_resolver

register_resolver()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    """Run the experiment; the last line printed is its folder."""
    run_folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN and "TORCHELASTIC_RUN_ID" in os.environ:
        sys.exit("Error: torchrun starts the processes of one run; start a sweep by python, with trainer.processes=...")
    try:
        with stopping_at_once():
            lessexp.worker.run(cfg, run_folder)
    except Stopped as stopped:
        print(f"Stopped by {stopped}", file=sys.stderr)
        if not is_follower():
            requeue(stopped)
        sys.exit(stopped.exit_code)
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # Hydra goes on with the other jobs and reports the failure at the end
        sys.exit(f"Error: {error}")
    if not is_follower():
        print(run_folder)


if __name__ == "__main__":
    if is_follower():
        sys.argv += lessexp.worker.FOLLOWER_OVERRIDES
    try:
        refuse_credentials(sys.argv[1:])  # Hydra writes the command line down before it calls main
        check_options(sys.argv[1:])
    except UserError as error:
        sys.exit(f"Error: {error}")
    main()
