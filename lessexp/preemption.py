"""Jobs that a scheduler takes its machine away from: they stop between two shards and wait for another turn."""

import os
import signal
import subprocess
import sys

from lessexp.interruption import Stopped

_JOB = "SLURM_JOB_ID"


def requeue(stopped: Stopped) -> None:
    """Have SLURM put the job into its queue again, if SIGUSR1 stopped it, and say whether that was done.

    A batch script asks for the signal by ``#SBATCH --requeue --signal=USR1@120``. Jobs of ``submitit`` need no
    such line: it puts them back itself.
    """
    job = os.environ.get(_JOB)
    if stopped.number != signal.SIGUSR1 or job is None:
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        print(f"job {job} could not be put back into the queue: {reason.strip()}; submit it again", file=sys.stderr)
    else:
        print(f"job {job} is put back into the queue", file=sys.stderr)
