"""Puts one fault after the other into a copy of the code, and says which of them no test notices.

    python -m tests.mutations                      # all: takes a while
    python -m tests.mutations --package gradients
    python -m tests.mutations --only loss-halved

The exit code is 0 if every mutant is killed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.mutants import PACKAGES, mutants_of
from tests.mutations.trial import TESTS_PASSED, copy_of_tree, pytest_in, verdict_on


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants")
    parser.add_argument("--package", nargs="+", choices=PACKAGES, default=PACKAGES, help="mutants of these packages")
    chosen = parser.parse_args(arguments)
    mutants = list(mutants_of(tuple(chosen.package)))
    if chosen.only:
        if unknown := set(chosen.only) - {mutant.name for mutant in mutants}:
            parser.error(f"no mutant is called {', '.join(sorted(unknown))}")
        mutants = [mutant for mutant in mutants if mutant.name in chosen.only]
    os.environ["OMP_NUM_THREADS"] = "1"
    # A run ends without clearing up what multiprocessing would name on the terminal.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_tree(folder)
        tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        code, output = pytest_in(folder, tests)
        if code != TESTS_PASSED:  # a test that fails anyhow tells nothing of a mutant
            print(output)
            print("the tests fail without any mutant")
            return 1
        for mutant in mutants:
            started = time.monotonic()
            verdict = verdict_on(mutant, folder)
            verdicts[verdict] += 1
            print(f"{verdict:18}{mutant.package:12}{mutant.name} ({time.monotonic() - started:.0f} s)", flush=True)
    print(", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common()), f"of {len(mutants)} mutants")
    return 0 if set(verdicts) <= {"killed"} else 1


if __name__ == "__main__":
    sys.exit(main())
