from dataclasses import replace

import pytest

from lessexp.identity import key_of
from lessexp.stages.tuned_weights import TunedWeights


@pytest.fixture
def weights(make_experiment):
    def make(*overrides):
        experiment = make_experiment("selector=random", "model.dtype=float32", *overrides)
        model = experiment.model
        training = experiment.warmup.training
        return experiment, TunedWeights(
            model.model, experiment.tuning, experiment.tokenized_pool, training, 0, model.tokenizer.pad_token_id, None
        )

    return make


def test_an_adapter_is_known_by_its_shape_and_a_whole_model_is_not(weights):
    (_, lora), (_, narrow), (_, full), (_, same) = (
        weights(*given) for given in ((), ("lora.rank=2",), ("finetune=full",), ("finetune=full", "lora.rank=2"))
    )
    assert [one.kind for one in (lora, full)] == ["tuned_adapter", "tuned_model"]
    assert key_of(lora) != key_of(narrow) and key_of(full) == key_of(same)


def test_rows_their_order_and_the_seed_determine_it(weights):
    experiment, made = weights()
    others = [replace(made, rows=made.rows[:-1]), replace(made, rows=made.rows[::-1]), replace(made, seed=1)]
    assert len({key_of(one) for one in (made, *others)}) == 4
    built = experiment.runtime.get(made)
    assert [path.name for path in built.folder.iterdir() if path.is_dir()] == ["adapter"]
