import pytest

from lessexp.stages.composition import compose_config as compose_like_run_py
from lessexp.stages.credentials import CredentialError, refuse_credentials, refuse_credentials_in
from tests.hostile import files_under
from tests.stages.conftest import SHRUNK
from tests.test_run import places, run_py  # noqa: F401  (a fixture)

SECRET = "local-0123456789abcdef-sentinel"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, SECRET)


@pytest.mark.parametrize(
    "override",
    [
        f"logger.loggers.0.project={SECRET}",
        f"model.path=https://user:{SECRET}@host/model",
        "data.path='${oc.env:HF_TOKEN}'",
        "+note=${oc.env:WANDB_API_KEY,none}",
        "+token=hf_" + "aB3" * 12,
        f"+{SECRET}=1",
    ],
)
def test_an_override_with_a_token_is_refused_by_key_without_its_value(override):
    with pytest.raises(CredentialError) as refused:
        refuse_credentials(["seed=1", override])
    assert "HF_TOKEN or WANDB_API_KEY" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "hf_aB3" not in str(refused.value)
    with pytest.raises(CredentialError):
        compose_like_run_py([override])


def test_ordinary_overrides_pass(monkeypatch):
    ordinary = [
        "seed=1",
        "model.source.revision=" + "0a1b2c3d" * 5,
        "data.path=hf_internal_testing/x",
        "a=${oc.env:HOME}",
    ]
    refuse_credentials(ordinary)
    monkeypatch.setenv("HF_TOKEN", "1")  # too short to tell from anything
    monkeypatch.setenv("WANDB_API_KEY", "")
    refuse_credentials(ordinary)


def test_settings_are_searched_to_their_ends_and_the_key_is_named():
    refuse_credentials_in({"a": {"b": [1, None, "x"]}})
    with pytest.raises(CredentialError, match=r"^logger\.loggers\.project holds a key or token"):
        refuse_credentials_in({"logger": {"loggers": [{"project": f"x{SECRET}"}]}})


@pytest.mark.parametrize("logger", ["csv", "wandb"])
def test_no_file_of_a_run_holds_a_key_of_the_environment(places, tmp_path, logger):  # noqa: F811
    options = [option for option in SHRUNK if not option.startswith("logger")]
    done = run_py(tmp_path / "out", *options, *places, f"logger={logger}", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    found = files_under(tmp_path)
    assert {path.name for path in found} >= {"results.json", "report.html", "config.yaml", "hydra.yaml", "COMPLETE"}
    assert any(path.suffix == ".wandb" for path in found) == (logger == "wandb")
    assert [path for path in found if SECRET.encode() in path.read_bytes()] == []


def test_a_token_in_a_users_file_is_written_nowhere_else(places, tmp_path):  # noqa: F811
    mine = tmp_path / "mine" / "note" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(f"about: [{SECRET}]\n")
    done = run_py(tmp_path / "out", "-cd", str(tmp_path / "mine"), "+note=mine", *SHRUNK, *places)
    assert done.returncode == 1
    assert "Error: note.about holds a key or token" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert [path for path in files_under(tmp_path) if SECRET.encode() in path.read_bytes()] == [mine]


def test_a_token_on_the_command_line_is_written_nowhere(places, tmp_path):  # noqa: F811
    done = run_py(tmp_path / "out", *places, f"+note={SECRET}")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: +note holds a key or token")
    assert SECRET not in done.stdout + done.stderr
    assert [path for path in files_under(tmp_path) if SECRET.encode() in path.read_bytes()] == []
    assert not (tmp_path / "out").exists()
