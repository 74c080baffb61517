import torch

from lessexp.gradients.random_bits import key_of, random_signs, random_words

N = 1 << 16


def test_numbers_are_pinned_for_ever():
    # A change here changes every stored projection, so it needs a new format version.
    words = random_words(key_of(0, "layer"), torch.tensor([0, 1, 2, (1 << 40) + 3]))
    assert words.tolist() == [3329685315, 3134381035, 1823921900, 3418484105]


def test_numbers_do_not_depend_on_what_else_is_asked_for():
    key = key_of(0, "layer")
    whole = random_words(key, torch.arange(N))
    assert torch.equal(random_words(key, torch.arange(1000, 2000)), whole[1000:2000])
    assert torch.equal(random_words(key, torch.arange(N).view(256, 256)).flatten(), whole)


def test_words_fill_32_bits_evenly():
    words = random_words(key_of(0, "layer"), torch.arange(N))
    assert words.min() >= 0
    assert words.max() < 1 << 32
    for bit in range(32):
        share = ((words >> bit) & 1).double().mean().item()
        assert abs(share - 0.5) < 0.01  # five standard deviations of 65,536 coin flips


def test_signs_of_neighbours_seeds_and_names_are_unrelated():
    index = torch.arange(N)
    signs = random_signs(key_of(0, "layer"), index)
    others = [
        random_signs(key_of(0, "layer"), index + 1),
        random_signs(key_of(0, "layer"), index + (1 << 32)),
        random_signs(key_of(1, "layer"), index),
        random_signs(key_of(0, "other"), index),
    ]
    for other in [torch.ones(N), *others]:
        assert abs((signs * other).mean().item()) < 0.02  # five standard deviations


def test_keys_differ_by_seed_and_name():
    assert len({key_of(seed, name) for seed in range(100) for name in ("a", "b", "1:a")}) == 300
