import hashlib

import torch

from lessexp.data.seeds import derived_seed, uniform_of


def test_seeds_purposes_and_places_do_not_collide():
    seeds = [derived_seed(seed, purpose, place) for seed in range(20) for purpose in ("a", "b") for place in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(1, "a") != derived_seed(1, "a", 0)


def test_a_seed_is_the_same_for_ever():
    assert derived_seed(0, "order", 0) == 30116967046983696


IDS = [f"row-{index}" for index in range(20_000)]


def test_numbers_of_ids_are_uniform_between_0_and_1():
    drawn = uniform_of(0, "noise", IDS).sort().values
    assert drawn[0] > 0 and drawn[-1] < 1
    expected = (torch.arange(len(IDS)) + 0.5) / len(IDS)
    # Kolmogorov's distance of a uniform sample exceeds 1.95 / sqrt(n) once in a thousand.
    assert (drawn - expected).abs().max() < 1.95 / len(IDS) ** 0.5


def test_an_id_keeps_its_number_when_others_come_go_or_change_places():
    drawn = uniform_of(3, "noise", IDS[:100])
    assert torch.equal(uniform_of(3, "noise", IDS[49::-1]), drawn[:50].flip(0))
    assert uniform_of(3, "noise", ["世界 🎉"]).shape == (1,)


def test_seeds_and_purposes_give_unrelated_numbers():
    drawn = torch.stack([uniform_of(0, "a", IDS), uniform_of(1, "a", IDS), uniform_of(0, "b", IDS)])
    correlation = drawn.corrcoef() - torch.eye(3)
    assert correlation.abs().max() < 4 / len(IDS) ** 0.5  # four standard deviations of an estimate of 0


def test_the_number_of_an_id_is_the_same_for_ever():
    keyed = hashlib.blake2b(b"row-0", digest_size=8, key=derived_seed(0, "noise").to_bytes(7, "little")).digest()
    by_hand = (int.from_bytes(keyed, "little") // 4096 + 0.5) / 2**52
    assert uniform_of(0, "noise", ["row-0"]).item() == by_hand == 0.6430006462803269
