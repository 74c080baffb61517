"""proxy: make the low-rank stand-in of the selection model whose gradients are compared."""

import shutil
from typing import Any

from lessexp.proxies.compression import REPORT_FILE
from lessexp.stages.experiment import Experiment


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the proxy or take the one that is there; ``proxy.json`` says what became of each layer."""
    built = {kind: experiment.runtime.get(artifact) for kind, artifact in experiment.proxy.artifacts.items()}
    if built:
        first, *_ = built.values()
        shutil.copy(first.folder / REPORT_FILE, experiment.run_folder / "proxy.json")
    return {"artifacts": built}
