"""proxy: make the low-rank stand-in of the selection model whose gradients are compared."""

import shutil
from typing import Any

from lessexp.proxies.compression import REPORT_FILE
from lessexp.stages.experiment import Experiment
from lessexp.stages.proxy_in_use import KIND


def run(experiment: Experiment) -> dict[str, Any]:
    """Build the proxy or take the one that is there; ``proxy.json`` says what became of each layer."""
    proxy = experiment.proxy
    if not proxy.has_factors:
        return {}
    built = proxy.artifacts(proxy.model.load)
    shutil.copy(built[KIND].folder / REPORT_FILE, experiment.run_folder / "proxy.json")
    return {"artifacts": built}
