from dataclasses import replace

import pytest

from lessexp.identity import key_of
from lessexp.stages.tuned_weights import TunedWeights


@pytest.fixture
def weights(make_experiment):
    def make(*overrides):
        experiment = make_experiment("selector=random", "model.dtype=float32", *overrides)
        training = replace(experiment.warmup.training, tuning=experiment.tuning, rows=experiment.tokenized_pool)
        return experiment, TunedWeights(training)

    return make


def test_an_adapter_is_known_by_its_shape_and_a_whole_model_is_not(weights):
    (_, lora), (_, narrow), (_, full), (_, same) = (
        weights(*given) for given in ((), ("lora.rank=2",), ("finetune=full",), ("finetune=full", "lora.rank=2"))
    )
    assert [one.kind for one in (lora, full)] == ["tuned_adapter", "tuned_model"]
    assert key_of(lora) != key_of(narrow) and key_of(full) == key_of(same)


def test_rows_their_order_and_the_seed_determine_it(weights):
    experiment, made = weights()
    rows = made.training.rows
    changes = [{"rows": rows[:-1]}, {"rows": rows[::-1]}, {"seed": 1}]
    others = [TunedWeights(replace(made.training, **change)) for change in changes]
    assert len({key_of(one) for one in (made, *others)}) == 4
    built = experiment.runtime.get(made)
    assert [path.name for path in built.folder.iterdir() if path.is_dir()] == ["adapter"]
