import torch

from lessexp.gradients.random_bits import key_of, random_sign_matrix, random_signs, random_words, signed

N = 1 << 16


def test_numbers_are_pinned_for_ever():
    # A change here changes every stored projection, so it needs a new format version.
    words = random_words(key_of(0, "layer"), torch.tensor([0, 1, 2, (1 << 40) + 3]))
    assert words.tolist() == [3656187589, 3485246666, 2824417649, 1249112564]


def test_numbers_do_not_depend_on_what_else_is_asked_for():
    key = key_of(0, "layer")
    whole = random_words(key, torch.arange(N))
    assert torch.equal(random_words(key, torch.arange(1000, 2000)), whole[1000:2000])
    assert torch.equal(random_words(key, torch.arange(N).view(256, 256)).flatten(), whole)


def test_many_keys_at_once_give_what_each_gives_alone():
    keys = [key_of(seed, "layer") for seed in range(20)]
    assert max(keys) >= 1 << 63 > min(keys)
    together = random_words(torch.tensor([signed(key) for key in keys])[:, None], torch.arange(9))
    assert torch.equal(together, torch.stack([random_words(key, torch.arange(9)) for key in keys]))


def test_words_fill_32_bits_evenly():
    words = random_words(key_of(0, "layer"), torch.arange(N))
    assert words.min() >= 0
    assert words.max() < 1 << 32
    for bit in range(32):
        share = ((words >> bit) & 1).double().mean().item()
        assert abs(share - 0.5) < 0.01  # five standard deviations of 65,536 coin flips


def test_signs_of_neighbours_seeds_and_names_are_unrelated():
    def signs(seed, name, shift=0):
        return random_signs(key_of(seed, name), shift, N + shift)

    first = signs(0, "layer")
    for other in (torch.ones(N), signs(0, "layer", 1), signs(0, "layer", 32), signs(1, "layer"), signs(0, "other")):
        assert abs((first * other).mean().item()) < 0.02  # five standard deviations
    assert set(first.tolist()) == {-1.0, 1.0}


def test_signs_are_the_bits_of_the_words_lowest_first():
    key = key_of(0, "layer")
    words = random_words(key, torch.arange(4)).tolist()
    expected = [1.0 if (word >> bit) & 1 else -1.0 for word in words for bit in range(32)]
    assert random_signs(key, 0, 128).tolist() == expected
    assert random_sign_matrix(key, torch.tensor([0]), 128)[0].tolist() == expected


def test_any_range_of_signs_is_a_part_of_the_whole():
    whole = random_signs(key_of(0, "layer"), 0, 1000)
    for start, stop in ((0, 1), (31, 33), (100, 900), (5, 5), (960, 1000)):
        assert torch.equal(random_signs(key_of(0, "layer"), start, stop), whole[start:stop])


def test_a_sign_matrix_does_not_depend_on_its_size():
    key = key_of(0, "layer")
    whole = random_sign_matrix(key, torch.arange(300), 200)
    assert torch.equal(random_sign_matrix(key, torch.arange(40, 90), 77), whole[40:90, :77])
    for other in (whole[1:, :], whole[:, 1:]):
        overlap = whole[: len(other), : other.shape[1]] * other
        assert abs(overlap.mean().item()) < 0.03  # six standard deviations


def test_streams_are_not_permutations_of_each_other():
    first, second = key_of(0, "a"), key_of(0, "b")
    index = torch.arange(N)
    moved = index ^ ((first ^ second) & 0xFFFFFFFF)
    assert (random_words(first, index) == random_words(second, moved)).sum() < 10


def test_keys_differ_by_seed_and_name():
    assert len({key_of(seed, name) for seed in range(100) for name in ("a", "b", "1:a")}) == 300
