import pytest
from omegaconf import OmegaConf

from lessexp.reports.results import read_results
from lessexp.stages.composition import compose_config as compose_like_run_py
from lessexp.stages.credentials import (
    CredentialError,
    refuse_credentials,
    refuse_credentials_in,
    without_environment,
)
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
        "+x='${oc.env:AWS_SECRET_ACCESS_KEY}'",
        "+x=${oc.env:OPENAI_API_KEY,none}",
        "+x=${oc.env: 'SECRET_OF_MINE'}",
        "+x=${oc.env:FOO,sk-" + "a1B2" * 8 + "}",
        "+x=sk-proj-" + "a1B2" * 8 + "_x-9",
        "data.path=/x/ghp_" + "a1B2" * 9,
        "+x=github_pat_" + "a1B2" * 9,
        "+x=[1,glpat-" + "a1B2" * 5 + "]",
        "+x=AKIAABCDEFGHIJKLMNOP",
        "+x=xoxb-123456789012-abcdef",
        "+x=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "artifacts_dir=s3://KEY:SECRET/with+signs@bucket/folder",
        "artifacts_dir=s3://${oc.env:A}:${oc.env:B}@bucket",
        "model.path=https://user:pass@host/model",
        "+x=redis://:pass@host:6379",
        "+api_key=anything",
        "logger.password=hush",
    ],
)
def test_an_override_with_a_token_is_refused_by_key_without_its_value(override):
    with pytest.raises(CredentialError) as refused:
        refuse_credentials(["seed=1", override])
    assert "HF_TOKEN or WANDB_API_KEY" in str(refused.value)
    assert SECRET not in str(refused.value)
    value = override.partition("=")[2]
    assert len(value) < 3 or value not in str(refused.value)
    assert "hf_aB3" not in str(refused.value)
    with pytest.raises(CredentialError):
        compose_like_run_py([override])


def test_ordinary_overrides_pass(monkeypatch):
    ordinary = [
        "seed=1",
        "model.source.revision=" + "0a1b2c3d" * 5,
        "data.path=hf_internal_testing/x",
        "a=${oc.env:HOME}",
        "data.path=${oc.env:DATA_DIR}/pool@v2.jsonl",
        "data.path=https://${oc.env:HOST}/pool@v2.jsonl",
        "artifacts_dir=s3://bucket/x",
        "artifacts_dir=s3://bucket/a:b",
        "data.paths=[http://proxy:8080/pool@v2.jsonl,ssh://me@host/x,pool@2024:1.jsonl]",
        "+author=me@example.org",
        "data.path=task-sk-learn-docs/risk-0123456789abcdefghijkl.jsonl",
        "data.path=sk-learn-docs-questions-and-answers.jsonl",
        "+bos_token=<s>",
        "logger.api_key=null",
        "gradients.tokens_per_batch=512",
        "model.path=${oc.env:TOKENIZER_DIR}",
        "+x=${oc.env:SSH_KEY_PATH}",
        "data.columns={key:id,token:text}",
    ]
    refuse_credentials(ordinary)
    refuse_credentials_in([one.partition("=")[2] for one in ordinary])
    monkeypatch.setenv("DB_PASSWORD", "bucket/x")
    monkeypatch.setenv("HF_TOKEN", "1")  # too short to tell from anything
    monkeypatch.setenv("WANDB_API_KEY", "")
    refuse_credentials(ordinary)


def test_a_secret_of_any_variable_that_is_named_for_one_is_known_by_its_value(monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "MY_TOKEN", "GITHUB_TOKEN_2", "db_password"):
        monkeypatch.setenv(name, f"0123456789 {name} abcdef")
        with pytest.raises(CredentialError, match=r"^a\.b holds a key or token"):
            refuse_credentials_in({"a": {"b": [f"x0123456789 {name} abcdefy"]}})


def test_what_the_environment_gives_leaves_the_process_as_the_reference_that_it_is(monkeypatch):
    monkeypatch.setenv("PLACE", "/hush")
    monkeypatch.setenv("NUMBER", "5")
    settings = {
        "place": "${oc.env:PLACE}",
        "file": "${place}/pool.jsonl",
        "nested": {"files": ["${file}", "plain"], "number": "${oc.decode:${oc.env:NUMBER}}"},
        "whole": "${nested}",
        "made": "${oc.create:${oc.decode:'{a: ${oc.env:PLACE}}'}}",
        "default": "${oc.env:NOWHERE,7}",
        "seed": 3,
        "same": "${seed}",
        "missing": "???",
        "lost": "${nothing}",
    }
    cfg = OmegaConf.create(settings)
    nested = settings["nested"]
    assert without_environment(cfg) == settings | {"nested": nested, "whole": nested, "same": 3}
    assert (cfg.file, cfg.nested.number) == ("/hush/pool.jsonl", 5)
    assert "oc.env" not in str(without_environment(OmegaConf.create({"a": 1, "b": ["${a}"]})))


def test_settings_are_searched_to_their_ends_and_the_key_is_named():
    refuse_credentials_in({"a": {"b": [1, None, "x"]}})
    with pytest.raises(CredentialError, match=r"^logger\.loggers\.project holds a key or token"):
        refuse_credentials_in({"logger": {"loggers": [{"project": f"x{SECRET}"}]}})


@pytest.mark.parametrize("logger", ["csv", "wandb"])
def test_no_file_of_a_run_holds_a_key_of_the_environment(places, tmp_path, logger):  # noqa: F811
    options = [option for option in SHRUNK if not option.startswith("logger")]
    place, reference = tmp_path / "hushed-place", "${oc.env:PLACE}"
    given = [*options, *places, f"logger={logger}", f"cache_dir='{reference}'"]
    done = run_py(tmp_path / "out", *given, WANDB_MODE="offline", PLACE=str(place))
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    found = files_under(tmp_path)
    assert {path.name for path in found} >= {"results.json", "report.html", "config.yaml", "hydra.yaml", "COMPLETE"}
    assert any(path.suffix == ".wandb" for path in found) == (logger == "wandb")
    assert [path for path in found if SECRET.encode() in path.read_bytes()] == []
    assert [path for path in found if place.name.encode() in path.read_bytes()] == []
    assert read_results(tmp_path / "out")["settings"]["cache_dir"] == reference


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
