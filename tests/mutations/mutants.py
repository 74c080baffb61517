"""The list of mutants: one YAML file a package, one wrong line of code an entry."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


@dataclass(frozen=True)
class Mutant:
    """One fault that some test must notice.

    Attributes:
        name: says what is wrong with the code.
        file: that it is in, from the root of the repository.
        original: code that occurs once in the file.
        mutant: what takes its place.
        tests: arguments of pytest; one of these tests must fail.
        package: whose list names it.
    """

    name: str
    file: str
    original: str
    mutant: str
    tests: tuple[str, ...]
    package: str

    def applied(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: the original does not occur exactly once.
        """
        if (n_found := text.count(self.original)) != 1:
            raise ValueError(f"{self.name}: its original occurs {n_found} times in {self.file}, it must occur once")
        return text.replace(self.original, self.mutant)


def mutants_of(packages: tuple[str, ...] = PACKAGES) -> Iterator[Mutant]:
    """The mutants of the packages, in the order of the lists."""
    for package in packages:
        for entry in yaml.safe_load((Path(__file__).parent / f"{package}.yaml").read_text()):
            yield Mutant(**entry | {"tests": tuple(entry["tests"])}, package=package)
