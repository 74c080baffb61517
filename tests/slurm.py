"""SLURM's programs as far as sweeps need them, in one folder: jobs are run at once, here, by shell scripts."""

from pathlib import Path

_PROGRAMS = {
    # Keeps the script and starts its array's tasks, each of which stays alive after this program.
    "sbatch": """
        for file; do :; done
        cp "$file" "$here/script"
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$file")
        for task in $(seq 0 "$last"); do "$here/turn" "$task" & done
        echo "Submitted batch job 7"
    """,
    "turn": """
        echo "$1" >> "$here/turns"
        export SLURM_JOB_ID=$((7 + $1)) SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$1
        export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
        export SLURM_STEP_NUM_TASKS=1 SLURM_STEP_NUM_NODES=1
        exec sh "$here/script" > /dev/null 2>&1
    """,
    "srun": """
        out=/dev/null err=/dev/null
        while :; do
            case $1 in
                --output) out=$2; shift 2;;
                --error) err=$2; shift 2;;
                --*) shift;;
                *) break;;
            esac
        done
        echo $$ > "$here/pid.$SLURM_ARRAY_TASK_ID"
        exec "$@" >> "$here/out.$SLURM_ARRAY_TASK_ID" 2>&1
    """,
    "scontrol": """
        echo "$@" >> "$here/requeued"
        ( sleep 1; exec "$here/turn" "${2#*_}" ) &
    """,
    "sacct": """
        echo 'JobID|State|NodeList'
    """,
}


def fake_slurm(folder: Path) -> Path:
    """Write the programs; ``turns``, ``requeued``, ``script``, ``pid.TASK`` and ``out.TASK`` will lie beside them."""
    folder.mkdir()
    for name, script in _PROGRAMS.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nhere="{folder}"\n{script}')
        program.chmod(0o755)
    return folder
