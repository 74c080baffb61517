"""BIG-Bench Hard (Suzgun et al., arXiv:2210.09261): questions of 27 tasks, and three solved examples of each.

The solved examples are not part of the hub's data set. They come as JSON lines, or as the folder ``cot-prompts`` of the
authors' repository: a file a task, with lines of licence down to ``-----``, an instruction, and ``Q: ... A: ...``
blocks whose last sentence is ``So the answer is ...``.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lessexp.data.few_shot import Exercise
from lessexp.data.pool import DataUnavailableError
from lessexp.data.records import Located, hub_records, local_records, text_field
from lessexp.data.rows import RowError
from lessexp.errors import MissingFileError

_VERDICT = re.compile(r"So the answer is (.*?)\.?\s*\Z", re.DOTALL)


def read_bbh(path: str | None, *, repo_id: str, split: str) -> list[Exercise]:
    """Questions in the order of the source; their fields are ``instruction question cot answer``.

    Of the chain of thought, test questions have only the last sentence; the instruction of a task comes with its
    solved examples and is empty in the others.

    Args:
        path: JSON lines of ``{"task", "input", "target"}``, solved examples with ``shot``, ``task_prompt`` and
            ``cot`` too; or a folder ``cot-prompts``; ``None`` loads ``repo_id`` from the Hugging Face hub.
        repo_id: the hub's name of the data set.
        split: ``dev`` or ``test``; the hub has no ``dev``.

    Raises:
        MissingFileError: no such file, or solved examples were asked of the hub.
        RowError: a line or block breaks the format.
        DataUnavailableError: the hub cannot be reached.
    """
    if path and Path(path).expanduser().is_dir():
        return _cot_prompts(Path(path).expanduser(), split)
    if path:
        return _from_records(local_records(path), split)
    if split == "dev":
        raise MissingFileError(
            "BBH's solved examples are not on the hub: set target.path to a JSON-lines file of them or to the folder "
            "cot-prompts of github.com/suzgunmirac/BIG-Bench-Hard"
        )
    return _from_records(_hub_tasks(repo_id, split), split)


def _hub_tasks(repo_id: str, split: str) -> Iterator[Located]:
    import datasets  # takes seconds to import, and local files do not need it

    try:
        names = datasets.get_dataset_config_names(repo_id)
    except Exception as error:  # as in hub_records
        raise DataUnavailableError(
            f"could not fetch '{repo_id}' from the Hugging Face hub ({type(error).__name__}); "
            "set benchmark.path to a local file of its test questions"
        ) from error
    for name in names:
        for where, record in hub_records(repo_id, name, split):
            yield f"{where} of {name}", record | {"task": name}


def _from_records(records: Iterable[Located], split: str) -> list[Exercise]:
    exercises = []
    for where, record in records:
        target = text_field(record, "target", where).strip()
        if split == "test" and "\n" in target:
            raise RowError(f"{where}: 'target' has several lines, and an answer is compared by its line alone")
        exercises.append(
            _exercise(
                f"{split}-{len(exercises):05d}",
                task=text_field(record, "task", where),
                instruction=text_field(record, "task_prompt", where) if "task_prompt" in record else "",
                question=text_field(record, "input", where),
                cot=text_field(record, "cot", where) if "cot" in record else f"So the answer is {target}.",
                target=target,
                where=where,
            )
        )
    return exercises


def _exercise(
    exercise_id: str, *, task: str, instruction: str, question: str, cot: str, target: str, where: str
) -> Exercise:
    fields = {"instruction": instruction, "question": question, "cot": cot, "answer": target}
    return Exercise(
        exercise_id=exercise_id,
        subtask=task,
        fields={name: text.strip() for name, text in fields.items()},
        answers=(target,),
        content=question.strip(),
        where=where,
    )


def _cot_prompts(folder: Path, split: str) -> list[Exercise]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise MissingFileError(f"{folder} holds no .txt file; give the folder cot-prompts of BIG-Bench-Hard")
    exercises = []
    for file in files:
        try:
            whole = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RowError(f"{file}: its text is not UTF-8 ({error}); save it as UTF-8") from error
        licence, mark, text = whole.partition("-----\n")
        instruction, *blocks = re.split(r"^Q: ", text if mark else licence, flags=re.MULTILINE)
        for number, block in enumerate(blocks, start=1):
            where = f"{file}, question {number}"
            question, found, cot = block.partition("\nA: ")
            verdict = _VERDICT.search(cot)
            if not found or not verdict or not verdict[1].strip():
                raise RowError(f"{where}: needs an answer that begins with 'A: ' and ends with 'So the answer is ...'")
            exercise_id = f"{split}-{len(exercises):05d}"
            exercises.append(
                _exercise(
                    exercise_id,
                    task=file.stem,
                    instruction=instruction,
                    question=question,
                    cot=cot,
                    target=verdict[1].strip(),
                    where=where,
                )
            )
    return exercises
