"""Models of an experiment, checked against its settings and rows by their shapes alone, before a weight is read."""

from omegaconf import OmegaConf

from lessexp.data.arrow_sequence import ArrowSequence
from lessexp.data.tokenize import TokenizedRow, lengths_of
from lessexp.models.linear_layers import refuse_unknown_layers
from lessexp.models.shape import ModelShape, empty_model, shape_of
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.experiment import Experiment
from lessexp.stages.model_in_use import ModelInUse
from lessexp.stages.progress import say


def check_models(experiment: Experiment) -> None:
    """Load both models without their values, which takes milliseconds, and look for the layers that settings name.

    Raises:
        UserError: naming the folder or the key.
    """
    cfg = experiment.cfg
    in_use = {model.folder: model for model in (experiment.whole_selection_model, experiment.model)}
    models = [empty_model(model.folder, dtype=model.model.dtype) for model in in_use.values()]
    refuse_unknown_layers(models, list(cfg.lora.target_modules), key="lora.target_modules")
    if layers := cfg.space.get("layers"):
        refuse_unknown_layers(models[:1], list(layers), key="space.layers")


def check_that_models_can_read(experiment: Experiment) -> None:
    """Compare tokens and lengths of rows with the embeddings and positions of the model that reads them.

    Raises:
        ExperimentError: naming the model's folder, and the row or the key.
    """
    cfg, selecting, trained = experiment.cfg, experiment.whole_selection_model, experiment.model
    read = [
        (selecting, "max_length", experiment.tokenized_pool, 0),
        (selecting, "target_max_length", experiment.tokenized_target[0], 0),
    ]
    if "finetune" in cfg.selector.stages and trained.folder != selecting.folder:
        read.append((trained, "max_length", experiment.tokenize(experiment.pool, trained)[0], 0))
    if "evaluate" in cfg.selector.stages:
        n_new = cfg.benchmark.get("max_new_tokens", 0)  # after the questions of rows, within the same bound
        read.append((trained, "evaluation.max_length", experiment.tokenized_benchmark_rows[0], n_new))
    for model, key, rows, n_new in read:
        shape = shape_of(model.folder, experiment.model.lora, dtype=model.model.dtype)
        _check_tokens(model, rows, n_embeddings=shape.n_embeddings)
        _check_positions(model, key, min(OmegaConf.select(cfg, key), int(lengths_of(rows).max()) + n_new), shape)


def _check_tokens(model: ModelInUse, rows: ArrowSequence[TokenizedRow], *, n_embeddings: int) -> None:
    """Refuse tokens that the model has no embedding of; one that no row has is no fault of its tokenizer."""
    tokenizer, place = model.tokenizer, f"{model.key}.path: {model.folder}"
    if tokenizer.pad_token_id >= n_embeddings:
        raise ExperimentError(
            f"{place}: rows are padded with '{tokenizer.pad_token}', token {tokenizer.pad_token_id}, and the model has "
            f"embeddings of tokens below {n_embeddings}; set another pad_token in tokenizer_config.json"
        )
    if max(tokenizer.get_vocab().values()) < n_embeddings:
        return
    for row in rows:
        if (largest := max(row.input_ids)) >= n_embeddings:
            raise ExperimentError(
                f"{place}: row '{row.example_id}' holds '{tokenizer.convert_ids_to_tokens(largest)}', token {largest}, "
                f"and the model has embeddings of tokens below {n_embeddings}; take the tokenizer that is the model's"
            )


def _check_positions(model: ModelInUse, key: str, longest: int, shape: ModelShape) -> None:
    """Refuse rows that are longer than a table of positions; computed ones go on, so that is announced."""
    if shape.trained_positions is None or longest <= shape.trained_positions:
        return
    place, limit = f"{model.key}.path: {model.folder}", shape.trained_positions
    if shape.has_position_table:
        raise ExperimentError(f"{place}: the model has {limit} positions, rows have up to {longest}; set {key}={limit}")
    say(f"warning: {key} admits rows of {longest} tokens, and {place} was made for {limit} (max_position_embeddings)")
