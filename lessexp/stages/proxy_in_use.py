"""The smaller stand-in that a run makes of its selection model: what determines it, and how it comes into a model."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from lessexp.artifacts import Artifact
from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.pool import drawn
from lessexp.data.tokenize import Batch, TokenizedRow, collate, lengths_of, sort_by_length, split_by_tokens
from lessexp.models.shape import empty_model
from lessexp.proxies.alignment import alignment_flops
from lessexp.proxies.compression import (
    LayerReport,
    ranks_of,
    read_compression,
    replace_layers,
    report_of,
    write_compression,
)
from lessexp.stages.aligned_factors import aligned
from lessexp.stages.configuration import instantiate, plain
from lessexp.stages.cost import training_flops
from lessexp.stages.model_in_use import ModelInUse, ModelStep
from lessexp.stages.progress import say
from lessexp.stages.shelf import Builder

KIND, ALIGNED_KIND = "proxy", "aligned_proxy"
NO_PROXY = {"steps": []}  # what determines a model that stands for itself
_ALTERS_NO_NUMBER = (("probes", "tokens_per_batch"), ("factors", "moment_bytes"))

Build = Callable[[str, dict[str, Any], Builder], Artifact]
"""Builds an artifact of a kind from what determines it, or takes the one that is there."""


def content_of(rows: ArrowSequence[TokenizedRow]) -> str:
    """Hash of what a model reads of these rows, in their order."""
    return hashlib.sha256("".join(rows.column("content_hash").to_pylist()).encode()).hexdigest()[:32]


class ProxyInUse:
    """What ``proxy`` in the configuration asks for.

    Args:
        cfg: a run's configuration.
        model: the selection model as it is without.
        rows: gives the usable pool as that model reads it.
        build: makes artifacts of the run.
    """

    def __init__(
        self, cfg: DictConfig, model: ModelInUse, rows: Callable[[], ArrowSequence[TokenizedRow]], build: Build
    ):
        self.cfg = cfg.proxy
        self.alignment = cfg.alignment
        self.log_folder = Path(cfg.paths.run)
        self.model = model
        self._rows = rows
        self._build = build

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

    @cached_property
    def probes(self) -> ArrowSequence[TokenizedRow] | None:
        """Rows that the whole model reads while the factors are made."""
        settings = self.cfg.get("probes")
        if settings is None:
            return None
        return drawn(self._rows(), n_rows=settings.n_rows, seed=settings.seed, purpose="probes")

    @cached_property
    def fields(self) -> dict[str, Any]:
        """All that determines the proxy, the whole model apart."""
        settings = plain(self.cfg)
        for group, key in _ALTERS_NO_NUMBER:
            (settings.get(group) or {}).pop(key, None)
        if self.probes is not None:
            settings["probe_rows"] = content_of(self.probes)
        if self.is_aligned:
            settings |= {"alignment": plain(self.alignment), "alignment_rows": content_of(self.alignment_rows)}
        return settings

    @property
    def is_aligned(self) -> bool:
        """Whether the factors are trained after they were made."""
        return self.has_factors and self.alignment.factor_gradients is not None

    @cached_property
    def alignment_rows(self) -> ArrowSequence[TokenizedRow]:
        """Rows for alignment: those that are held out, then those to train on."""
        n_rows = self.alignment.n_held_out + self.alignment.n_rows
        return drawn(self._rows(), n_rows=n_rows, seed=self.alignment.seed, purpose="alignment")

    @property
    def steps(self) -> Sequence[ModelStep]:
        """What is done to the whole model, loaded, to make the proxy of it."""
        steps = list(instantiate(self.cfg.steps))
        return [*steps, self._with_factors] if self.has_factors else steps

    def _with_factors(self, model: nn.Module) -> nn.Module:
        *_, last = self.artifacts(lambda: model).values()
        return replace_layers(model, read_compression(last.folder).factors)

    @property
    def artifact_fields(self) -> dict[str, dict[str, Any]]:
        """What determines each artifact that is built, by kind: the factors as they are made and, if so, aligned."""
        if not self.has_factors:
            return {}
        made = {name: field for name, field in self.fields.items() if not name.startswith("alignment")}
        kinds = {KIND: made, ALIGNED_KIND: self.fields} if self.is_aligned else {KIND: made}
        return {kind: {"format": 1, "model": self.model.identity, "proxy": fields} for kind, fields in kinds.items()}

    def flops(self, kind: str, n_parameters: int) -> float:
        """Estimated arithmetic of an artifact, from the whole model's parameters and the shapes of its layers."""
        if kind == ALIGNED_KIND:
            return self._alignment_flops(n_parameters)
        n_tokens = 0 if self.probes is None else int(lengths_of(self.probes).sum())
        return training_flops(n_parameters, n_tokens) + sum(report.flops for report in self._shapes)

    @cached_property
    def _shapes(self) -> list[LayerReport]:
        """Of the layers, as they will be."""
        empty = empty_model(self.model.folder, dtype=self.model.cfg.dtype)
        shape = {name: self.cfg[name] for name in ("sparsity", "rank_multiple")}
        layers, ranks = ranks_of(empty, layers=list(self.cfg.layers), **shape)
        n_positions = None if self.probes is None else int(lengths_of(self.probes).sum())
        return [report_of(name, layer, ranks[name], n_positions=n_positions) for name, layer in layers.items()]

    def _alignment_flops(self, n_parameters: int) -> float:
        settings, n_held_out = self.alignment.settings, self.alignment.n_held_out
        n_by_layer = {one: one.out_features * one.in_features for one in self._shapes if one.rank is not None}
        n_aligned, n_gone = sum(n_by_layer.values()), sum(int(n * one.sparsity) for one, n in n_by_layer.items())
        lengths = lengths_of(self.alignment_rows)
        steps = alignment_flops(
            instantiate(self.alignment.factor_gradients),
            n_target=n_parameters,
            n_proxy=n_parameters - n_gone,
            n_aligned=n_aligned,
            n_factors=n_aligned - n_gone,
            n_tokens=settings.epochs * int(lengths[n_held_out:].sum()),
        )
        n_steps = settings.epochs * math.ceil((len(lengths) - n_held_out) / settings.batch_size)
        n_measured = 2 + math.ceil(n_steps / settings.check_every)  # of the target and, before any step, of the proxy
        of_weights = 2 * n_aligned * int(lengths[:n_held_out].sum())
        return steps + n_measured * (training_flops(n_parameters, int(lengths[:n_held_out].sum())) + of_weights)

    def _made(self, load: Callable[[], nn.Module]) -> Artifact:
        """Make the factors, or take those that are there."""

        def build(folder: Path) -> dict[str, Any]:
            model, probes = load(), self.probes
            compression = instantiate(self.cfg.factors)(model, [] if probes is None else self._batches(probes))
            write_compression(folder, compression)
            n_replaced = len(compression.factors)
            say(
                f"{KIND}: {n_replaced} of {len(compression.layers)} layers are low-rank, "
                f"{compression.sparsity:.1%} of their parameters are gone (asked for: {self.cfg.sparsity:.1%})"
            )
            return {
                "n_layers": len(compression.layers),
                "n_replaced": n_replaced,
                "sparsity": compression.sparsity,
                "n_rows": 0 if probes is None else len(probes),
                "flops": self.flops(KIND, model.num_parameters()),
            }

        return self._build(KIND, self.artifact_fields[KIND], build)

    def artifacts(self, load: Callable[[], nn.Module]) -> dict[str, Artifact]:
        """The factors as they were made and, if that is asked for, aligned: the last are those of the proxy.

        Args:
            load: gives the whole model, if it is needed.
        """
        load = cache(load)
        made = self._made(load)
        if not self.is_aligned:
            return {KIND: made}

        def build(folder: Path) -> dict[str, Any]:
            rows = self.alignment_rows
            compression, history = aligned(
                self.alignment,
                read_compression(made.folder),
                load(),
                rows,
                layers=list(self.cfg.layers),
                model=self.model,
                log_folder=self.log_folder,
            )
            write_compression(folder, compression)
            return {
                "n_rows": len(rows),
                "fidelity_by_step": [list(measured) for measured in history],
                "flops": self.flops(ALIGNED_KIND, load().num_parameters()),
            }

        return {KIND: made, ALIGNED_KIND: self._build(ALIGNED_KIND, self.artifact_fields[ALIGNED_KIND], build)}

    def _batches(self, rows: ArrowSequence[TokenizedRow]) -> list[Batch]:
        pad_token_id = self.model.tokenizer.pad_token_id
        groups = split_by_tokens(sort_by_length(rows), self.cfg.probes.tokens_per_batch)
        return [collate(group, pad_token_id=pad_token_id).to(self.model.device) for group in groups]
