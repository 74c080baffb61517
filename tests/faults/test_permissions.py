"""Folders that must not be written to: one sentence that names folder and key; what is finished there is still used."""

import os
import shutil

from tests.faults.program import SELECTION, give_up_roots_rights, selection, sentence_of


def test_an_artifact_folder_without_permission_is_named_with_its_key(place):
    place.artifacts.mkdir(mode=0o555)
    stopped = place.run(SELECTION, before=give_up_roots_rights)
    assert stopped.exit_code == 1, stopped.printed
    sentence = sentence_of(stopped)
    assert sentence.startswith(f"Error: {place.artifacts}/warmup") and "Permission denied" in sentence
    assert f"get permission to write to {place.artifacts}, or set artifacts_dir" in sentence


def test_what_is_finished_in_a_read_only_folder_is_reused(place, undisturbed):
    shutil.copytree(undisturbed.artifacts, place.artifacts)
    for folder, _, names in os.walk(place.artifacts):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chmod(path, os.stat(path).st_mode & ~0o222)
    done = place.run(SELECTION, before=give_up_roots_rights)
    assert done.exit_code == 0, done.printed
    assert selection(place.run_folder) == selection(undisturbed.run_folder)


def test_a_run_folder_without_permission_is_named_with_its_key(place):
    (place.folder / "closed").mkdir(mode=0o555)
    stopped = place.run(SELECTION, run_folder=place.folder / "closed" / "run", before=give_up_roots_rights)
    assert stopped.exit_code == 1, stopped.printed
    wanted = f"Error: {place.folder / 'closed' / 'run'}: Permission denied; set hydra.run.dir"
    assert sentence_of(stopped).startswith(wanted)


def test_files_of_rows_without_permission_are_named(place):
    for name, key in (("pool", ""), ("target", "target: ")):
        (place.folder / f"{name}.jsonl").chmod(0o000)
        stopped = place.run(SELECTION, before=give_up_roots_rights)
        (place.folder / f"{name}.jsonl").chmod(0o644)
        assert stopped.exit_code == 1, stopped.printed
        wanted = f"Error: {key}{place.folder / name}.jsonl: Permission denied; get permission for it"
        assert sentence_of(stopped).startswith(wanted)
