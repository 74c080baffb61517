import logging
import warnings

import pytest
import transformers

from lessexp.stages.progress import progress_bar, quieten_libraries, say


def test_say_prints_one_line_as_it_is_whatever_brackets_and_length_it_has(capsys):
    message = "12 of [bold]many[/b] rows: artifacts/[red]/3f2a :smile: " + "long " * 60 + "end"
    say(message)
    assert capsys.readouterr().out == message + "\n"


def test_progress_adds_up_what_it_is_told(capsys):
    with progress_bar("gradients", total=12) as advance:
        advance(5)
        advance(0)
        advance(4)
    shown = capsys.readouterr().out
    assert "gradients" in shown and "9/12" in shown


def test_progress_passes_on_what_fails_inside():
    with pytest.raises(RuntimeError, match="stopped"), progress_bar("gradients", total=1):
        raise RuntimeError("stopped")


@pytest.fixture
def global_settings():
    """Put back what `quieten_libraries` changes for the whole process."""
    lightning, verbosity = logging.getLogger("pytorch_lightning"), transformers.utils.logging.get_verbosity()
    level, bars = lightning.level, transformers.utils.logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        yield
    lightning.setLevel(level)
    transformers.utils.logging.set_verbosity(verbosity)
    if bars:
        transformers.utils.logging.enable_progress_bar()


@pytest.mark.usefixtures("global_settings")
def test_quieting_hides_deprecations_between_libraries_but_no_other_warning():
    quieten_libraries()

    def warn(category, module):
        warnings.warn_explicit("this is new", category, filename="file.py", lineno=1, module=module)

    for library in ("transformers.models", "peft.tuners", "pytorch_lightning.trainer", "torch.nn"):
        warn(FutureWarning, library)
        warn(DeprecationWarning, library)
    for category, module in [(UserWarning, "torch.nn"), (FutureWarning, "lessexp.models.lora")]:
        with pytest.raises(category, match="this is new"):
            warn(category, module)
    assert transformers.utils.logging.get_verbosity() == logging.ERROR
    assert not transformers.utils.logging.is_progress_bar_enabled()
