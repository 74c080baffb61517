"""The low-rank factors of a proxy: as they are made of the model's weights and, if so, aligned after that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import Batch, TokenizedRow, collate, lengths_of, sort_by_length, split_by_tokens
from lessexp.proxies.compression import LayerReport, read_compression, write_compression
from lessexp.stages.aligned_factors import AlignmentSetup, aligned
from lessexp.stages.configuration import Configured
from lessexp.stages.cost import training_flops
from lessexp.stages.model_in_use import Model
from lessexp.stages.progress import say
from lessexp.stages.runtime import Runtime


@dataclass(frozen=True)
class ProxyFactors:
    """Factors of some layers' weights.

    Attributes:
        model: that the proxy stands for.
        factors: makes them, of the model and of batches of probes.
        probes: rows that the model reads meanwhile; ``None``: none.
        pad_token_id: fills the ends of short rows.
        tokens_per_batch: padded tokens of a batch of probes; alters no number beyond rounding.
    """

    kind: ClassVar[str] = "proxy"
    version: ClassVar[int] = 1
    by_all: ClassVar[bool] = False

    model: Model
    factors: Configured
    probes: ArrowSequence[TokenizedRow] | None
    pad_token_id: int
    tokens_per_batch: int | None = field(compare=False)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Make them."""
        model = self.model.load(runtime)
        compression = self.factors.make()(model, self._batches(runtime.device))
        write_compression(folder, compression)
        n_replaced = len(compression.factors)
        say(
            f"{self.kind}: {n_replaced} of {len(compression.layers)} layers are low-rank, "
            f"{compression.sparsity:.1%} of their parameters are gone"
        )
        return {
            "n_layers": len(compression.layers),
            "n_replaced": n_replaced,
            "sparsity": compression.sparsity,
            "n_rows": 0 if self.probes is None else len(self.probes),
            "flops": self.flops(model.num_parameters(), compression.layers),
        }

    def flops(self, n_parameters: int, layers: Sequence[LayerReport]) -> float:
        """Estimated arithmetic, from the whole model's parameters and the shapes of its layers."""
        n_tokens = 0 if self.probes is None else int(lengths_of(self.probes).sum())
        return training_flops(n_parameters, n_tokens) + sum(report.flops for report in layers)

    def _batches(self, device: str) -> list[Batch]:
        if self.probes is None:
            return []
        groups = split_by_tokens(sort_by_length(self.probes), self.tokens_per_batch)
        return [collate(group, pad_token_id=self.pad_token_id).to(device) for group in groups]


@dataclass(frozen=True)
class AlignedFactors:
    """The same, trained until the proxy's gradients point where the model's do.

    Attributes:
        made: to start from.
        layers: ends of the names of the layers whose gradients are compared.
        rows: those that are held out, then those to train on.
        setup: how.
        pad_token_id: fills the ends of short rows.
    """

    kind: ClassVar[str] = "aligned_proxy"
    version: ClassVar[int] = 1
    by_all: ClassVar[bool] = False

    made: ProxyFactors
    layers: tuple[str, ...]
    rows: ArrowSequence[TokenizedRow]
    setup: AlignmentSetup
    pad_token_id: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        """Train them, and keep those of the step at which influence is kept best."""
        target = self.made.model.load(runtime)
        compression, history = aligned(
            self.setup,
            read_compression(runtime.get(self.made).folder),
            target,
            self.made.model.weights.folder,
            self.rows,
            layers=self.layers,
            pad_token_id=self.pad_token_id,
            runtime=runtime,
        )
        write_compression(folder, compression)
        return {
            "n_rows": len(self.rows),
            "fidelity_by_step": [list(measured) for measured in history],
            "flops": self.flops(target.num_parameters(), compression.layers),
        }

    def flops(self, n_parameters: int, layers: Sequence[LayerReport]) -> float:
        """Estimated arithmetic, from the whole model's parameters and the shapes of its layers."""
        return self.setup.flops(n_parameters, layers, lengths_of(self.rows))


Factors = Mapping[str, ProxyFactors | AlignedFactors]
"""The artifacts that make a proxy, by kind; the last is the one that is used."""
