"""Bytes that lead into new branches of what reads files: ``python -m tests.fuzz.coverage_guided -max_total_time=600``.

Needs ``pip install -e '.[fuzz]'``. It ends at the first input that leads to anything but a row, tensors, a record or a
named error, and leaves that input as ``crash-…``. Options are libFuzzer's.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lessexp"]):
    from lessexp.data.rows import read_rows
    from lessexp.errors import UserError
    from lessexp.gradients.codecs import CODECS
    from lessexp.gradients.manifest import read_manifest
    from lessexp.models.tensor_files import read_tensors
    from lessexp.training.checkpoint import read_trainer_state

READERS = {
    "rows.jsonl": lambda path: read_rows([path]),
    "target.jsonl": lambda path: read_rows([path], is_target=True),
    "manifest.json": lambda path: read_manifest(path, dtypes=list(CODECS)),
    "trainer_state.json": lambda path: read_trainer_state(path.parent),
    "adapter_model.safetensors": read_tensors,
}


def main() -> None:
    """Fuzz until told to stop."""
    with tempfile.TemporaryDirectory() as folder:

        def one_input(data: bytes) -> None:
            for name, read in READERS.items():
                path = Path(folder, name)
                path.write_bytes(data)
                try:
                    read(path)
                except UserError as error:
                    if name not in str(error):
                        raise AssertionError(f"the message does not name {name}: {error}") from error

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
