"""A proxy of fewer layers: the baseline "layer extraction" of IProX (arXiv:2602.17835)."""

from torch import nn
from transformers import PreTrainedModel

from lessexp.proxies.factors import ProxyError


def kept_layers(n_layers: int, *, sparsity: float) -> list[int]:
    """The first layer of each of K buckets of neighbours, K being the share of layers that stays.

    Raises:
        ProxyError: no layer goes, or none stays.
    """
    n_kept = round((1 - sparsity) * n_layers)
    if not 0 < n_kept < n_layers:
        raise ProxyError(
            f"proxy.sparsity={sparsity} keeps {n_kept} of {n_layers} layers; the proxy needs some, not all"
        )
    return [bucket * n_layers // n_kept for bucket in range(n_kept)]


def drop_layers(model: PreTrainedModel, *, sparsity: float) -> PreTrainedModel:
    """Keep some of a model's layers, in place; its cache and its settings count the layers that are left.

    Args:
        model: the target model.
        sparsity: share of the layers to remove.

    Raises:
        ProxyError: see `kept_layers`; or the model holds its layers in no list of its own.
    """
    n_layers = model.config.num_hidden_layers
    kept = kept_layers(n_layers, sparsity=sparsity)
    name, layers = _layer_list(model, n_layers)
    parent, _, last = name.rpartition(".")
    chosen = [layers[number] for number in kept]
    setattr(model.get_submodule(parent), last, nn.ModuleList(chosen))
    for new_number, layer in enumerate(chosen):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = new_number  # the place in the cache
    for key, value in vars(model.config).items():
        if isinstance(value, list) and len(value) == n_layers:  # one entry a layer, e.g. its kind of attention
            setattr(model.config, key, [value[number] for number in kept])
    model.config.num_hidden_layers = len(kept)
    return model


def _layer_list(model: PreTrainedModel, n_layers: int) -> tuple[str, nn.ModuleList]:
    found = [
        (name, module)
        for name, module in model.base_model.named_modules(prefix=model.base_model_prefix)
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and name.count(".") <= 1
    ]
    if len(found) != 1:
        raise ProxyError(f"{type(model).__name__} has {len(found)} lists of {n_layers} layers; one was expected")
    return found[0]
