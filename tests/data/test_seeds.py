from lessexp.data.seeds import derived_seed


def test_seeds_purposes_and_places_do_not_collide():
    seeds = [derived_seed(seed, purpose, place) for seed in range(20) for purpose in ("a", "b") for place in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert derived_seed(1, "a") != derived_seed(1, "a", 0)


def test_a_seed_is_the_same_for_ever():
    assert derived_seed(0, "order", 0) == 30116967046983696
