import pytest
import torch

from lessexp.data.tokenize import collate
from lessexp.gradients.per_example import per_example_gradients
from lessexp.gradients.spaces import equivalent
from lessexp.models.causal_lm import load_causal_lm
from lessexp.proxies.compression import read_compression
from lessexp.proxies.factors import ProxyError
from lessexp.proxies.low_rank_linear import low_rank_layers
from lessexp.stages import proxy
from lessexp.stages.aligned_factors import fidelity_to, influence_among
from tests.stages.conftest import read_json

LAYERS = ["q_proj", "down_proj"]
TINY = [
    *("selector=iprox", "proxy=svd", "proxy.rank_multiple=4", "model.dtype=float32", "alignment.n_held_out=5"),
    *("alignment.n_rows=8", "alignment.settings.epochs=2", "alignment.settings.check_every=2"),
]


def test_influence_is_the_cosine_of_every_two_rows_gradients(model_folder, tokenized):
    model = load_causal_lm(model_folder, dtype="float32", device="cpu")
    settings = dict(layers=LAYERS, proj_dim=65536, seed=0, device="cpu")
    found = influence_among(model, tokenized[:4], **settings)
    grads = per_example_gradients(
        model, collate(tokenized[:4], pad_token_id=1), layers=equivalent(model, layers=LAYERS)
    )
    flat = torch.cat([grad.flatten(1) for grad in grads.values()], dim=1)
    cosines = torch.corrcoef(flat)  # the mean of some thousand coordinates is next to nothing
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    # A projection of d coordinates errs by about 1/√d = 0.004.
    torch.testing.assert_close(found, torch.stack([cosines[i, j] for i, j in pairs]), rtol=0, atol=0.03)


def test_fidelity_is_the_rank_correlation_with_the_target_and_one_for_the_target_itself():
    target, other = torch.nn.Identity(), torch.nn.Identity()
    values = {target: torch.tensor([1.0, 2, 3, 4]), other: torch.tensor([1.0, 3, 2, 4])}
    fidelity = fidelity_to(target, values.get)
    assert fidelity(target) == pytest.approx(1.0)
    assert fidelity(other) == pytest.approx(0.8)  # 1 - 6 Σd² / (n (n² - 1))
    values[other][1] = torch.nan
    with pytest.raises(ProxyError, match="influence among the rows held out is not finite"):
        fidelity(other)


@pytest.mark.parametrize("order", ["first_order", "second_order"])
def test_the_proxy_is_loaded_with_the_factors_that_alignment_left(make_experiment, order):
    experiment = make_experiment(*TINY, f"alignment={order}", "alignment.settings.learning_rate=1e-3")
    artifacts = proxy.run(experiment)["artifacts"]
    history = artifacts["aligned_proxy"].record["fidelity_by_step"]
    assert [step for step, _ in history] == [0, 2, 4]
    assert all(-1 <= value <= 1 for _, value in history)
    wanted = read_compression(artifacts["aligned_proxy"].folder).factors
    for name, layer in low_rank_layers(experiment.selection_model.load()).items():
        assert torch.equal(layer.up.weight, wanted[name].up)
    assert read_json(experiment.run_folder / "proxy.json")["layers"]
