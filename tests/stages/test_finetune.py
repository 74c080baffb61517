from peft import PeftModel

from lessexp.data.rows import write_rows
from lessexp.models.causal_lm import load_causal_lm
from lessexp.models.lora import lora_parameters
from lessexp.stages import finetune
from tests.conftest import make_rows


def test_it_trains_a_fresh_copy_on_the_selected_rows(make_experiment, model_folder):
    experiment = make_experiment("selector=random")
    write_rows(experiment.run_folder / "selected.jsonl", make_rows(24)[:6])
    record = finetune.run(experiment)
    assert record["n_rows"] == 6
    base = load_causal_lm(model_folder, dtype="float32", device="cpu")
    tuned = PeftModel.from_pretrained(base, experiment.run_folder / "adapter")
    assert all(parameter.abs().max() > 0 for parameter in lora_parameters(tuned).values())
