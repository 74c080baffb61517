import pytest
import torch

from lessexp.proxies.alignment import factors_of, first_order, second_order
from lessexp.proxies.alignment_module import Alignment, AlignmentSettings, align
from lessexp.proxies.compression import replace_layers
from lessexp.proxies.factors import ProxyError
from lessexp.proxies.svd import svd
from tests.conftest import build_model

SETTINGS = AlignmentSettings(
    epochs=2, batch_size=4, learning_rate=1e-3, weight_decay=0.0, anchor_weight=0.1, temperature=2.0, check_every=2
)


@pytest.fixture
def models(tokenizer):
    target, proxy = (build_model(len(tokenizer)) for _ in range(2))
    made = svd(target, [], sparsity=0.5, rank_multiple=4, layers=("q_proj", "down_proj"))
    return target, replace_layers(proxy, made.factors)


def run(models, tokenized, tmp_path, *, order=second_order, fidelity):
    module = Alignment(*models, SETTINGS, factor_gradients=order, fidelity=fidelity)
    best = align(module, tokenized, pad_token_id=1, seed=0, device="cpu", loggers=[], log_folder=tmp_path)
    return module, best


@pytest.mark.parametrize("order", [first_order, second_order])
def test_only_the_factors_move_and_those_of_the_highest_fidelity_are_kept(models, tokenized, tmp_path, order):
    target, proxy = models
    before = {name: value.clone() for name, value in proxy.state_dict().items()}
    of_target = {name: value.clone() for name, value in target.state_dict().items()}
    seen = []

    def fidelity(model):
        seen.append({name: pair.up.detach().clone() for name, pair in factors_of(model).items()})
        return [0.1, 0.7, 0.4, 0.7][len(seen) - 1]

    module, best = run(models, tokenized, tmp_path, order=order, fidelity=fidelity)
    assert [step for step, _ in module.history] == [0, 2, 4, 6]
    for name, pair in best.items():
        assert torch.equal(pair.up, seen[1][name]) and not torch.equal(pair.up, before[f"{name}.up.weight"])
    moved = {name for name, value in proxy.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"{name}.{part}.weight" for name in best for part in ("up", "down")}
    assert all(torch.equal(value, of_target[name]) for name, value in target.state_dict().items())
    assert all(parameter.grad is None for parameter in target.parameters())


def test_a_proxy_that_only_gets_worse_stays_as_it_was_made(models, tokenized, tmp_path):
    before = {name: pair.up.detach().clone() for name, pair in factors_of(models[1]).items()}
    values = iter([0.9, 0.5, 0.9, 0.1])
    _, best = run(models, tokenized, tmp_path, order=first_order, fidelity=lambda _: next(values))
    assert all(torch.equal(best[name].up, up) for name, up in before.items())


def test_alignment_lowers_its_loss(models, tokenized, tmp_path, monkeypatch):
    losses = []
    step = Alignment.training_step
    monkeypatch.setattr(Alignment, "training_step", lambda *args: losses.append(step(*args)) or losses[-1])
    run(models, tokenized, tmp_path, fidelity=lambda _: 0.0)
    first, last = (sum(loss.item() for loss in part) for part in (losses[:3], losses[3:]))
    assert last < first  # the same twelve rows, an epoch later


def test_factors_of_sixteen_bits_and_a_loss_that_is_not_finite_are_refused(models, tokenized, tmp_path):
    target, proxy = models
    with pytest.raises(ProxyError, match="load the proxy as float32"):
        Alignment(target, proxy.bfloat16(), SETTINGS, factor_gradients=first_order, fidelity=lambda _: 0.0)
    proxy.float()
    with torch.no_grad():
        next(iter(factors_of(proxy).values())).up[0, 0] = torch.nan
    with pytest.raises(ProxyError, match="alignment's loss is nan"):
        run(models, tokenized, tmp_path, order=first_order, fidelity=lambda _: 0.0)
