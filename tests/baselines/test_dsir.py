import json
import math

import pytest
import torch

from baselines import dsir
from baselines.dsir import DSIRSelector, TemperatureError, gumbel_noise, log_ratio, log_weights
from baselines.words import whole_text, words_and_punctuation
from lessexp.data.rows import Row
from tests.conftest import make_rows

SETTINGS = dict(n=2, n_buckets=10_000, smoothing=1e-8, temperature=0.0, split=words_and_punctuation, seed=0)
POOL = make_rows(20)
TARGET = make_rows(7, prefix="target", target=True)


def scored(pool, target, **changed):
    return DSIRSelector(**(SETTINGS | changed)).score(pool, target).by_subtask


@pytest.mark.parametrize("n_buckets", [100, 10_000])
def test_weights_are_those_of_the_released_package(tmp_path, n_buckets):
    package = pytest.importorskip("data_selection")
    for name, rows in (("pool", POOL), ("target", TARGET)):
        lines = [json.dumps({"text": whole_text(row)}) for row in rows]
        (tmp_path / name).write_text("\n".join(lines))
    theirs = package.HashedNgramDSIR(
        [str(tmp_path / "pool")], [str(tmp_path / "target")], str(tmp_path), num_proc=1, num_buckets=n_buckets
    )
    theirs.fit_importance_estimator(num_tokens_to_fit="all")
    expected = [theirs.importance_estimator(theirs.featurizer(whole_text(row))) for row in POOL]
    one_subtask = [Row(r.dataset, r.example_id, r.messages, task="toy", subtask="toy") for r in TARGET]
    found = scored(POOL, one_subtask, n_buckets=n_buckets)[:, 0]
    # Scores are float32.
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-5)


def test_the_log_ratio_of_three_buckets_by_hand():
    ratio = log_ratio(torch.tensor([[1, 0], [3, 0], [0, 0]]), torch.tensor([4, 4, 0]), smoothing=0.1)
    expected = [[0.35 / 0.6, 0.1 / 0.6], [0.85 / 0.6, 0.1 / 0.6], [0.1 / 0.1, 0.1 / 0.1]]
    torch.testing.assert_close(ratio, torch.tensor(expected, dtype=torch.float64).log())


def test_log_weights_are_the_product_of_counts_and_ratio():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(50, (size,), generator=generator) for size in (7, 0, 30, 1, 0)]
    ratio = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    counts = torch.stack([row.bincount(minlength=50) for row in rows]).double()
    starts = torch.tensor([0, 7, 7, 37, 38])
    torch.testing.assert_close(log_weights(torch.cat(rows), starts, ratio), counts @ ratio)


def test_each_subtask_is_weighed_as_if_it_were_alone():
    together = scored(POOL, TARGET)
    for column, subtask in enumerate(("sums", "words")):
        alone = scored(POOL, [row for row in TARGET if row.subtask == subtask])
        assert torch.equal(together[:, [column]], alone)
    assert not torch.equal(together[:, 0], together[:, 1])


def test_rows_weighed_some_at_a_time_get_the_same_weights(monkeypatch):
    at_once = scored(POOL, TARGET)
    monkeypatch.setattr(dsir, "_ROWS_AT_ONCE", 3)
    assert torch.equal(scored(POOL, TARGET), at_once)


def test_a_row_without_words_has_weight_one():
    empty = Row("odd", "empty", (("user", ""), ("assistant", " ")))
    assert scored([*POOL, empty], TARGET)[-1].tolist() == [0.0, 0.0]


def test_a_subtask_without_words_still_gives_finite_scores():
    silent = Row("odd", "silent", (("user", ""), ("assistant", "")), task="toy", subtask="silent")
    assert scored(POOL, [*TARGET, silent]).isfinite().all()


def test_noise_is_the_same_for_all_subtasks_of_a_row_and_grows_with_the_temperature():
    noise = gumbel_noise(5, [row.example_id for row in POOL]).float()
    for temperature in (1.0, 3.0):
        added = scored(POOL, TARGET, temperature=temperature, seed=5) - scored(POOL, TARGET)
        expected = temperature * noise[:, None].expand(-1, 2)
        torch.testing.assert_close(added, expected, rtol=0, atol=1e-4)  # float32 weights of up to 1000
    assert not torch.equal(gumbel_noise(6, ["a", "b"]), gumbel_noise(5, ["a", "b"]))


def test_the_first_of_noisy_weights_is_drawn_in_proportion_to_the_weights():
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    n_draws = 5000
    noise = gumbel_noise(0, [f"row-{index}" for index in range(4 * n_draws)]).view(n_draws, 4)
    drawn = (weights.log() + noise).argmax(dim=1).bincount(minlength=4)
    deviation = (n_draws * weights * (1 - weights)).sqrt()
    assert ((drawn - n_draws * weights).abs() < 4 * deviation).all()  # four standard deviations of a binomial count


def test_gumbel_noise_has_the_mean_and_variance_of_its_distribution():
    noise = gumbel_noise(0, [f"row-{index}" for index in range(20_000)])
    # The standard error of the mean is 0.009, that of the variance 0.024.
    assert abs(noise.mean() - 0.5772) < 0.04 and abs(noise.var() - math.pi**2 / 6) < 0.1


def test_a_negative_temperature_is_refused():
    with pytest.raises(TemperatureError, match="temperature must be at least 0, got -1"):
        DSIRSelector(**(SETTINGS | {"temperature": -1.0}))
