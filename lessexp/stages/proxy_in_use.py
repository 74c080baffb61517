"""The smaller stand-in that a run makes of its selection model, from its settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from omegaconf import DictConfig

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.pool import drawn
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.models.shape import empty_model
from lessexp.proxies.compression import LayerReport, ranks_of, report_of
from lessexp.stages.aligned_factors import AlignmentSetup
from lessexp.stages.configuration import Configured, instantiate
from lessexp.stages.model_in_use import ModelInUse
from lessexp.stages.proxy_factors import AlignedFactors, Factors, ProxyFactors


class ProxyInUse:
    """What ``proxy`` in the configuration asks for.

    Args:
        cfg: a run's configuration.
        whole: the selection model as it is without.
        rows: gives the usable pool as that model reads it.
    """

    def __init__(self, cfg: DictConfig, whole: ModelInUse, rows: Callable[[], ArrowSequence[TokenizedRow]]):
        self.cfg = cfg.proxy
        self.alignment = cfg.alignment
        self.whole = whole
        self._rows = rows

    @property
    def has_factors(self) -> bool:
        """Whether there is something to build before the proxy can be loaded."""
        return self.cfg.get("factors") is not None

    @property
    def is_asked_for(self) -> bool:
        """Whether the selection model is changed at all."""
        return self.has_factors or bool(self.cfg.steps)

    @property
    def takes_targets_adapter(self) -> bool:
        """Whether the warm-up is the whole model's, and the proxy only reads it."""
        return self.is_asked_for and self.cfg.adapter_from == "target"

    @property
    def is_aligned(self) -> bool:
        """Whether the factors are trained after they were made."""
        return self.has_factors and self.alignment.factor_gradients is not None

    @cached_property
    def probes(self) -> ArrowSequence[TokenizedRow] | None:
        """Rows that the whole model reads while the factors are made."""
        settings = self.cfg.get("probes")
        if settings is None:
            return None
        return drawn(self._rows(), n_rows=settings.n_rows, seed=settings.seed, purpose="probes")

    @cached_property
    def alignment_rows(self) -> ArrowSequence[TokenizedRow]:
        """Rows for alignment: those that are held out, then those to train on."""
        n_rows = self.alignment.n_held_out + self.alignment.n_rows
        return drawn(self._rows(), n_rows=n_rows, seed=self.alignment.seed, purpose="alignment")

    @cached_property
    def model(self) -> ModelInUse:
        """The proxy, or the whole model if none is asked for."""
        steps = tuple(map(Configured.of, self.cfg.steps))
        *_, last = [None, *self.artifacts.values()]
        return replace(self.whole, model=replace(self.whole.model, steps=steps, factors=last))

    @cached_property
    def artifacts(self) -> Factors:
        """The factors as they are made and, if that is asked for, aligned: the last are those of the proxy."""
        if not self.has_factors:
            return {}
        pad_token_id = self.whole.tokenizer.pad_token_id
        made = ProxyFactors(
            model=self.whole.model,
            factors=Configured.of(self.cfg.factors, budgets=("moment_bytes",)),
            probes=self.probes,
            pad_token_id=pad_token_id,
            tokens_per_batch=None if self.probes is None else self.cfg.probes.tokens_per_batch,
        )
        if not self.is_aligned:
            return {made.kind: made}
        setup = AlignmentSetup(
            factor_gradients=instantiate(self.alignment.factor_gradients),
            settings=instantiate(self.alignment.settings),
            n_held_out=self.alignment.n_held_out,
            proj_dim=self.alignment.proj_dim,
            seed=self.alignment.seed,
        )
        aligned = AlignedFactors(made, tuple(self.cfg.layers), self.alignment_rows, setup, pad_token_id)
        return {made.kind: made, aligned.kind: aligned}

    @cached_property
    def shapes(self) -> list[LayerReport]:
        """Of the layers, as they will be."""
        empty = empty_model(self.whole.model.weights.folder, dtype=self.whole.model.dtype)
        shape = {name: self.cfg[name] for name in ("sparsity", "rank_multiple")}
        layers, ranks = ranks_of(empty, layers=list(self.cfg.layers), **shape)
        n_positions = None if self.probes is None else int(lengths_of(self.probes).sum())
        return [report_of(name, layer, ranks[name], n_positions=n_positions) for name, layer in layers.items()]
