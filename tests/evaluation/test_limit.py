from lessexp.evaluation.limit import limited

ITEMS = [(subtask, f"{subtask}-{index}") for subtask in ("words", "dates", "sums") for index in range(6)]


def draw(items=ITEMS, limit=3, seed=0):
    return limited(items, limit=limit, seed=seed, subtask_of=lambda item: item[0], name_of=lambda item: item[1])


def test_a_draw_depends_on_seed_and_names_and_not_on_order_or_other_subtasks():
    drawn = draw()
    assert [subtask for subtask, _ in drawn] == ["dates"] * 3 + ["sums"] * 3 + ["words"] * 3
    assert draw(ITEMS[::-1]) == drawn
    assert draw([item for item in ITEMS if item[0] == "sums"]) == drawn[3:6]
    assert draw(seed=1) != drawn


def test_without_limit_all_items_come_in_their_order_and_a_high_limit_takes_each_once():
    assert draw(limit=None) == ITEMS
    assert sorted(draw(limit=100)) == sorted(ITEMS)
