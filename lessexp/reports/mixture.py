"""Whether runs may stand in one table: the same code, the same data."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lessexp.reports.runs import SweepError, SweepRun

VERSIONS = "versions"
DATA = "data"
MIXABLE = (VERSIONS, DATA)
"""What may differ between runs where a reader says so."""

# Settings that decide about the data; runs that set them differently are meant to differ, and the table shows it.
_DECIDE_DATA = {
    "data",
    "pool_sample",
    "target",
    "benchmark",
    "experiment",
    "model",
    "selection_model",
    "recipe",
    "max_length",
    "target_max_length",
    "evaluation",
    "chat_format",
    "protocol",
}


def refuse_mixed(runs: Sequence[SweepRun], *, allowed: Collection[str] = ()) -> list[str]:
    """Check that the runs are of one code and, unless their settings say otherwise, of the same data.

    Args:
        runs: of one table.
        allowed: those of `MIXABLE` that may differ.

    Returns:
        A sentence for each that differs, for the notes of the table.

    Raises:
        SweepError: runs differ in what is not allowed; two of them are named.
    """
    notes = [*_code_notes(runs, allowed), *_data_notes(runs, allowed)]
    for package in sorted({name for run in runs for name in run.results["versions"]} - {"lessexp"}):
        versions = {str(run.results["versions"].get(package)) for run in runs}
        if len(versions) > 1:
            notes.append(f"The runs used several versions of {package}: {', '.join(sorted(versions))}.")
    if any(str(run.results["git_commit"]).endswith("-dirty") for run in runs):
        notes.append("Some runs are of code with changes that were not committed.")
    return notes


def _code(run: SweepRun) -> str:
    commit, version = run.results["git_commit"], run.results["versions"]["lessexp"]
    return f"lessexp {version}" if commit is None else f"lessexp {version} at {_shortened(commit)}"


def _shortened(commit: str) -> str:
    name, dash, dirty = commit.partition("-")
    return f"{name[:12]}{dash}{dirty}"


def _code_notes(runs: Sequence[SweepRun], allowed: Collection[str]) -> Iterator[str]:
    counts = Counter(map(_code, runs))
    if len(counts) == 1:
        return
    if VERSIONS not in allowed:
        other = next(run for run in runs if _code(run) != _code(runs[0]))
        raise SweepError(
            f"{runs[0].place} and {other.place} are of different code ({_code(runs[0])}, {_code(other)}); run one of "
            f"them again with the code of the other, or show them together on purpose with --allow-mixed {VERSIONS}"
        )
    listed = ", ".join(f"{code} ({n} run{'s' * (n > 1)})" for code, n in counts.items())
    yield f"The runs are of different code: {listed}."


def _data_facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """What results tell of their data; older ones tell less."""
    in_pool = results["selection"]["by_dataset"]
    facts = {
        "task": results["task"],
        "rows in the pool": results["selection"]["n_pool"],
        "data sets in the pool": ", ".join(sorted(in_pool)),
    }
    facts |= {f"share of '{dataset}' in the pool": shares["pool"] for dataset, shares in in_pool.items()}
    for part, digest in results.get("data", {}).items():
        # A seed may draw the test rows.
        drawn = f" with seed {results['seed']}" if part == "test rows" else ""
        facts[f"hash of the {part}{drawn}"] = digest
    return facts


def _data_notes(runs: Sequence[SweepRun], allowed: Collection[str]) -> Iterator[str]:
    seen: dict[tuple, tuple[SweepRun, Any]] = {}
    for run in runs:
        deciding = tuple(sorted((key, value) for key, value in run.overrides.items() if _group(key) in _DECIDE_DATA))
        for name, fact in _data_facts(run.results).items():
            first, first_fact = seen.setdefault((deciding, name), (run, fact))
            if fact == first_fact:
                continue
            found = f"{name}: {first_fact}, {fact}"
            if DATA not in allowed:
                raise SweepError(
                    f"{first.place} and {run.place} are of different data ({found}) though their settings are the "
                    f"same; run one of them again, or show them together on purpose with --allow-mixed {DATA}"
                )
            yield f"Runs of the same settings are of different data ({found})."
            return


def _group(key: str) -> str:
    return key.lstrip("+~").replace("/", ".").partition(".")[0]
