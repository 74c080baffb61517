import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lessexp.gradients import projection
from lessexp.gradients.hadamard import walsh_hadamard
from lessexp.gradients.projection import (
    IdentityProjector,
    ProjectorStack,
    RademacherProjector,
    SparseSignProjector,
    SRHTProjector,
)
from lessexp.gradients.random_bits import key_of, random_signs, random_words

PROJECTORS = {
    "rademacher": RademacherProjector,
    "sparse_sign, 1 non-zero": partial(SparseSignProjector, nonzeros=1),
    "sparse_sign, 4 non-zeros": partial(SparseSignProjector, nonzeros=4),
    "srht": SRHTProjector,
}
every_projector = pytest.mark.parametrize("make", PROJECTORS.values(), ids=PROJECTORS.keys())


def named_grads(batch=3, seed=0, rank=4):
    generator = torch.Generator().manual_seed(seed)
    return {
        "first.lora_A.weight": torch.randn(batch, rank, 30, generator=generator),
        "first.lora_B.weight": torch.randn(batch, 50, rank, generator=generator),
    }


def flat(grads):
    return torch.cat([grad.flatten(1) for grad in grads.values()], dim=1)


@every_projector
def test_inner_products_are_unbiased(make):
    x, y = named_grads(seed=1), named_grads(seed=2)
    y = {name: grad + 0.5 * x[name] for name, grad in y.items()}
    exact = (flat(x) * flat(y)).sum(1)
    n_seeds, proj_dim = 400, 40  # no power of two, at which the transform alone would be right
    both = {name: torch.cat([x[name], y[name]]) for name in x}
    found = torch.stack([torch.mul(*make(proj_dim, seed).project(both).chunk(2)).sum(1) for seed in range(n_seeds)])
    # One product has a standard deviation of at most sqrt(2/d)|x||y|; four of the mean's.
    bound = 4 * (2 / proj_dim) ** 0.5 * flat(x).norm(dim=1) * flat(y).norm(dim=1) / n_seeds**0.5
    assert ((found.mean(0) - exact).abs() < bound).all()


@every_projector
def test_the_error_shrinks_with_the_root_of_the_dimension(make):
    x, y = named_grads(batch=20, seed=1, rank=24), named_grads(batch=20, seed=2, rank=24)
    exact = torch.nn.functional.cosine_similarity(flat(x), flat(y))

    def error(proj_dim):
        errors = []
        for seed in range(8):
            projector = make(proj_dim, seed)
            cosine = torch.nn.functional.cosine_similarity(projector.project(x), projector.project(y))
            errors.append((cosine - exact).square().mean())
        return torch.stack(errors).mean().sqrt()

    assert error(64) == pytest.approx(64**-0.5, rel=0.25)
    assert error(16) / error(256) == pytest.approx(4, rel=0.3)


@every_projector
def test_a_row_projects_the_same_in_any_batch_and_any_order_of_parameters(make):
    grads = named_grads(batch=6)
    projector = make(48, 5)
    whole = projector.project(grads)
    split = [projector.project({name: grad[i : i + 2] for name, grad in grads.items()}) for i in (0, 2, 4)]
    # Dense projection is a matrix product, whose blocking depends on the batch.
    torch.testing.assert_close(torch.cat(split), whole, rtol=1e-5, atol=1e-5)
    backwards = projector.project(dict(reversed(grads.items())))
    torch.testing.assert_close(backwards, whole, rtol=1e-5, atol=1e-5)
    one_by_one = sum(projector.project({name: grad}) for name, grad in grads.items())
    torch.testing.assert_close(one_by_one, whole, rtol=1e-5, atol=1e-5)


@every_projector
def test_seed_and_name_change_the_projection(make):
    grad = named_grads()["first.lora_A.weight"]
    base = make(48, 5).project({"a": grad})
    assert not torch.allclose(make(48, 6).project({"a": grad}), base)
    assert not torch.allclose(make(48, 5).project({"b": grad}), base)
    torch.testing.assert_close(make(48, 5).project({"a": grad}), base, rtol=0, atol=0)


def test_dense_entries_do_not_depend_on_the_tiles():
    small, large = RademacherProjector(32, 1), RademacherProjector(32, 1)
    small._entries_per_tile = 64
    grads = named_grads()
    torch.testing.assert_close(small.project(grads), large.project(grads), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nonzeros", [0, -1])
def test_a_coordinate_reaches_one_output_at_least(nonzeros):
    with pytest.raises(ValueError, match="nonzeros should be a whole number of 1 or more"):
        SparseSignProjector(8, 0, nonzeros=nonzeros)


@every_projector
@pytest.mark.parametrize("proj_dim", [1, 31, 48, 100, 500])
def test_any_dimension_and_any_tiles_will_do(make, proj_dim):
    grad = named_grads()["first.lora_A.weight"].flatten(1)
    projector = make(proj_dim, 5)
    whole = projector.project({"a": grad})
    assert whole.shape == (3, proj_dim)
    tiled = torch.zeros_like(whole)
    for start in (0, 17, 18, 90):
        stop = {0: 17, 17: 18, 18: 90, 90: 120}[start]
        projector.add(tiled, "a", start, grad[:, start:stop])
    torch.testing.assert_close(tiled, whole, rtol=1e-5, atol=1e-5)  # summed in another order


def srht_run_by_run(grad, name, *, proj_dim, seed):
    """The transform as it is defined, one run of coordinates after the other."""
    total = torch.zeros(len(grad), proj_dim)
    length = 1 << max(proj_dim - 1, 0).bit_length()
    for run in range(-(-grad.shape[1] // length)):
        part = grad[:, run * length : (run + 1) * length]
        padded = torch.nn.functional.pad(part, (0, length - part.shape[1]))
        before = random_signs(key_of(seed, f"{name}#before"), run * length, (run + 1) * length)
        words = random_words(key_of(seed, f"{name}#places{run}"), torch.arange(length))
        places = words.argsort(stable=True)[:proj_dim]
        kept = walsh_hadamard(padded * before)[:, places] * (length / proj_dim) ** 0.5
        total += kept * random_signs(key_of(seed, f"{name}#after"), run * proj_dim, (run + 1) * proj_dim)
    return total


@pytest.mark.parametrize("proj_dim", [1, 2, 31, 48, 100, 500])
def test_the_hadamard_projection_of_many_runs_at_once_equals_that_of_one_after_the_other(proj_dim, monkeypatch):
    grad = named_grads(rank=20)["first.lora_A.weight"].flatten(1)
    expected = srht_run_by_run(grad, "a", proj_dim=proj_dim, seed=5)
    for at_once in (1, 100, 1 << 16):
        monkeypatch.setattr(SRHTProjector, "_coordinates_at_once", at_once)
        assert torch.equal(SRHTProjector(proj_dim, 5).project({"a": grad}), expected)


def test_few_dimensions_take_no_draw_for_each_run(monkeypatch):
    draws = []
    for name in ("random_signs", "random_words"):
        drawn = getattr(projection, name)
        monkeypatch.setattr(projection, name, lambda *a, _drawn=drawn, **k: draws.append(a) or _drawn(*a, **k))
    SRHTProjector(1, 5).project({"a": torch.ones(1, 1000)})
    assert len(draws) == 3  # signs before, places and signs after


def test_a_smaller_dense_projection_is_the_start_of_a_larger_one():
    grads = named_grads()
    small, large = RademacherProjector(32, 1).project(grads), RademacherProjector(128, 1).project(grads)
    torch.testing.assert_close(small * 32**0.5, large[:, :32] * 128**0.5, rtol=1e-5, atol=1e-4)


def test_a_stack_gives_what_each_projector_gives_alone():
    grads = named_grads()
    projectors = [SparseSignProjector(48, 0, nonzeros=1), RademacherProjector(20, 1), SRHTProjector(30, 2)]
    stack = ProjectorStack(projectors)
    for projector, part in zip(projectors, stack.split(stack.project(grads)), strict=True):
        # A matrix product may add in another order when it writes into part of a row.
        torch.testing.assert_close(part, projector.project(grads), rtol=1e-5, atol=1e-5)


@every_projector
def test_vectors_of_few_large_coordinates_keep_their_cosine(make):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, 4096, generator=generator) * 1e-3 for _ in range(2))
    places = torch.randperm(4096, generator=generator)[:4]
    x[:, places], y[:, places] = torch.randn(50, 4, generator=generator), torch.randn(50, 4, generator=generator)
    exact = torch.nn.functional.cosine_similarity(x, y)
    errors = []
    for seed in range(10):
        projector = make(512, seed)
        found = torch.nn.functional.cosine_similarity(projector.project({"a": x}), projector.project({"a": y}))
        errors.append((found - exact).square().mean().item())
    assert (sum(errors) / len(errors)) ** 0.5 < 2 * 512**-0.5


def test_each_coordinate_reaches_the_stated_number_of_outputs():
    coordinates = {"a": torch.eye(100)}
    columns = SparseSignProjector(16, seed=0, nonzeros=1).project(coordinates)
    assert ((columns != 0).sum(1) == 1).all()
    assert torch.equal(columns.abs().sum(1), torch.ones(100))
    four = SparseSignProjector(1024, seed=0, nonzeros=4).project(coordinates)
    assert four.square().sum(1).mean() == pytest.approx(1, abs=0.02)  # rarely two copies meet


def test_two_large_coordinates_collide_as_rarely_as_chance():
    pair = torch.zeros(1, 256)
    pair[0, 17] = pair[0, 17 + 3 * 64] = 1.0  # same place in different runs
    collisions = sum(
        (SparseSignProjector(64, seed, nonzeros=1).project({"a": pair}) != 0).sum().item() < 2 for seed in range(640)
    )
    assert 1 <= collisions <= 26  # 10 expected; five standard deviations above, and not never


def test_identity_puts_every_parameter_in_its_place():
    grads = named_grads()
    projector = IdentityProjector(320, 0, {"first.lora_A.weight": 0, "first.lora_B.weight": 120})
    assert torch.equal(projector.project(grads), flat(grads))


@pytest.mark.gpu
@every_projector
def test_cuda_gives_the_numbers_of_the_cpu(make):
    grads = named_grads()
    on_cpu = make(48, 5).project(grads)
    on_cuda = make(48, 5).project({name: grad.cuda() for name, grad in grads.items()})
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=1e-5, atol=1e-5)


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Let CPU tensors take the road of tensors on a GPU with the given compute capability."""
    decide = projection._fused_kernel

    def pretend(capability):
        decide.cache_clear()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(projection, "_fused_kernel", lambda device: decide(torch.device("cuda")))

    yield pretend
    decide.cache_clear()


def without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)  # makes importing it fail
    monkeypatch.delitem(sys.modules, "lessexp.gradients.rademacher_triton", raising=False)


def test_a_gpu_with_triton_hands_every_tile_to_the_kernel(monkeypatch, as_on_cuda):
    calls = []

    def add_projection(total, tile, *, key, start):
        calls.append((total, tile, key, start))

    module = SimpleNamespace(add_projection=add_projection)
    monkeypatch.setitem(sys.modules, "lessexp.gradients.rademacher_triton", module)
    as_on_cuda((9, 0))
    total, tile = torch.zeros(3, 48), torch.ones(3, 20)
    RademacherProjector(48, 5).add(total, "a", 17, tile)
    assert not total.any()
    assert calls == [(total, tile, key_of(5, "a"), 17)]


@pytest.mark.parametrize(("capability", "reason"), [((9, 0), "pip install triton"), ((7, 5), "bfloat16")])
def test_a_gpu_without_the_kernel_gives_the_same_numbers_and_one_warning(capability, reason, monkeypatch, as_on_cuda):
    expected = RademacherProjector(48, 5).project(named_grads())
    without_triton(monkeypatch)
    as_on_cuda(capability)
    with pytest.warns(UserWarning, match=reason) as warned:
        found = [RademacherProjector(48, 5).project(named_grads()) for _ in range(2)]
    assert len(warned) == 1
    assert all(torch.equal(total, expected) for total in found)


def test_a_cpu_needs_no_triton(monkeypatch):
    without_triton(monkeypatch)
    projection._fused_kernel.cache_clear()
    assert projection._fused_kernel(torch.device("cpu")) is None  # any warning would fail the test
