from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lessexp.data.reasoning_gym import FamilyError, family_dataset, generate_problems, reasoning_gym_rows

CONF = Path(__file__).parents[2] / "conf"
FAMILIES = {"gcd": {}, "chain_sum": {"min_terms": 2, "max_terms": 3, "min_digits": 2, "max_digits": 3}}
# So many problems that two draws share none by chance.
WIDE = {"chain_sum": {"min_terms": 4, "max_terms": 6, "min_digits": 4, "max_digits": 6}}
POOL_FAMILIES = sorted(OmegaConf.load(CONF / "data" / "reasoning_gym.yaml").families)


def rows_of(families=FAMILIES, *, n=6, seed=1, split="pool"):
    return reasoning_gym_rows(families, rows_per_family=n, seed=seed, split=split)


def questions(rows):
    return [row.messages[0][1] for row in rows]


def shipped(group, families=None):
    """Rows that a shipped config of ``group`` stands for."""
    conf = OmegaConf.load(CONF / group / "reasoning_gym.yaml")
    return rows_of(families or conf.families, n=conf.rows_per_family, seed=conf.seed, split=group)


def test_rows_are_fixed_by_the_seed():
    assert rows_of() == rows_of()


@pytest.mark.parametrize("other_seed", [2, 1001])
def test_another_seed_gives_other_problems(other_seed):
    assert not set(questions(rows_of(WIDE, n=20))) & set(questions(rows_of(WIDE, n=20, seed=other_seed)))


def test_a_pool_longer_than_the_gap_between_two_seeds_still_holds_other_problems():
    pool, target = rows_of(WIDE, n=120, seed=1000), rows_of(WIDE, n=20, seed=1100)
    assert not set(questions(pool)) & set(questions(target))


def test_questions_of_a_family_and_ids_are_unique():
    small = {"coin_flip": {"min_trials": 3, "max_trials": 4}, "gcd": {}}  # coin_flip repeats itself
    rows = rows_of(small, n=10)
    assert [row.dataset for row in rows] == ["coin_flip"] * 10 + ["gcd"] * 10
    assert len(set(questions(rows))) == len({row.example_id for row in rows}) == 20
    assert {row.example_id.split("-")[0] for row in rows} == {"pool"}
    assert all((row.task, row.subtask) == ("reasoning_gym", row.dataset) for row in rows)


def test_an_unknown_family_lists_the_names_there_are():
    with pytest.raises(FamilyError, match=r"'chain_sums'.* chain_sum, .*gcd"):
        rows_of({"chain_sums": {}})


def test_a_family_too_small_for_what_is_asked_says_how_many_it_gave():
    only = {"min_trials": 3, "max_trials": 3}
    with pytest.raises(FamilyError, match=r"'coin_flip'.*gave only \d+ distinct problems, 200 were wanted"):
        rows_of({"coin_flip": only}, n=200)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("chain_sum", {"no_such_setting": 1}),
        ("chain_sum", {"min_terms": 0}),
        ("chain_sum", {"min_terms": "two"}),
        ("calendar_arithmetic", {"year": -1}),
    ],
)
def test_a_wrong_setting_names_family_and_setting(family, settings):
    with pytest.raises(FamilyError) as refused:
        rows_of({family: settings})
    assert family in str(refused.value)
    assert next(iter(settings)) in str(refused.value)


@pytest.mark.parametrize("family", POOL_FAMILIES)
def test_the_scorer_of_a_family_accepts_the_answer_of_its_rows_and_refuses_another(family):
    settings = OmegaConf.load(CONF / "data" / "reasoning_gym.yaml").families[family]
    scorer = family_dataset(family, settings, size=1, seed=0)
    for problem in generate_problems({family: settings}, rows_per_family=8, seed=5, split="pool"):
        assert scorer.score_answer(problem.row.messages[-1][1], problem.entry) == 1.0
        assert scorer.score_answer("something else", problem.entry) < 1.0


def test_shipped_test_questions_occur_in_neither_pool_nor_target():
    target = OmegaConf.load(CONF / "target" / "reasoning_gym.yaml")
    drawn = {"pool": shipped("data"), "target": shipped("target"), "test": shipped("benchmark", target.families)}
    assert {split: len(rows) for split, rows in drawn.items()} == {"pool": 320, "target": 16, "test": 48}
    asked = {split: set(questions(rows)) for split, rows in drawn.items()}
    assert not asked["test"] & (asked["pool"] | asked["target"])
    assert not asked["target"] & asked["pool"]
