import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lessexp.data.rows import write_rows
from lessexp.identity import identity_of
from lessexp.models.causal_lm import load_causal_lm
from lessexp.stages import evaluate, finetune
from lessexp.stages.configuration import ExperimentError
from lessexp.stages.tuning import FullTuning, LoraTuning
from tests.conftest import make_rows


def tuned(make_experiment, *overrides, run="run"):
    experiment = make_experiment("selector=random", *overrides, run=run)
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(8))
    return experiment, finetune.run(experiment)["artifacts"]


def test_all_weights_are_trained_and_judged(make_experiment, model_folder):
    experiment, artifacts = tuned(make_experiment, "finetune=full", "finetune.training.epochs=4", "model.dtype=float32")
    assert list(artifacts) == ["tuned_model"]
    folder = experiment.run_folder / "model"
    assert not (experiment.run_folder / "adapter").exists()
    assert not {"adam_moments.safetensors", "trainer_state.json"} & {path.name for path in folder.iterdir()}
    trained, before = AutoModelForCausalLM.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(model_folder)
    unchanged = [
        name
        for (name, new), old in zip(trained.named_parameters(), before.parameters(), strict=True)
        if torch.equal(new, old)
    ]
    assert unchanged == []
    assert AutoTokenizer.from_pretrained(folder)("a number") == AutoTokenizer.from_pretrained(model_folder)("a number")
    nll = evaluate.run(experiment)["metrics"]["answer_nll"]
    assert nll["tuned"]["mean"] < nll["base"]["mean"] - 0.05
    adapted, _ = tuned(make_experiment, "model.dtype=float32", run="adapted")
    base = evaluate.run(adapted)["metrics"]["answer_nll"]["base"]["mean"]
    assert base == nll["base"]["mean"]  # the same model, asked once


def test_in_16_bits_all_weights_are_kept_in_32_while_they_are_trained(make_experiment):
    experiment, _ = tuned(make_experiment, "finetune=full", "model.dtype=bfloat16")
    before = load_causal_lm(experiment.model.folder, dtype="float32", device="cpu")
    after = AutoModelForCausalLM.from_pretrained(experiment.run_folder / "model")
    assert after.dtype == torch.float32
    steps = [(new - old).abs().max() for new, old in zip(after.parameters(), before.parameters(), strict=True)]
    rate = experiment.cfg.finetune.training.learning_rate
    assert 0 < max(steps) < 4 * rate  # two steps, each of about the rate
    assert experiment.tuning.precision(experiment.model.model) == "bf16-mixed"


def test_each_way_keeps_its_result_in_a_folder_of_its_own(make_experiment):
    experiments = [make_experiment(f"finetune={name}", "selector=random") for name in ("lora", "full")]
    assert [type(one.tuning) for one in experiments] == [LoraTuning, FullTuning]
    assert [one.tuned_folder.name for one in experiments] == ["adapter", "model"]
    assert ["lora" in str(identity_of(one.tuning)["state"]) for one in experiments] == [True, False]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_adapter_is_trained_in_float32_on_weights_of_the_models_own_type(make_experiment, dtype):
    experiment = make_experiment("selector=random", f"model.dtype={dtype}")
    model = experiment.tuning.fresh(experiment.model.model, experiment.runtime, seed=0)
    trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {getattr(torch, dtype)})
    assert experiment.tuning.precision(experiment.model.model) == "32-true"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.dtype=float16", "finetune=full needs model.dtype=float32 or bfloat16, got float16"),
        ("model.quantization=nf4", "model.quantization=nf4 rounds weights that finetune=full would train"),
    ],
)
def test_a_model_that_cannot_be_trained_whole_is_refused(make_experiment, override, message):
    if "quantization" in override:
        pytest.importorskip("bitsandbytes")
    with pytest.raises(ExperimentError, match=message):
        make_experiment("finetune=full", "selector=random", override)
