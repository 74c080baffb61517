"""The commands and files that the documentation shows, and a folder in which its commands can run."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from lessexp.data.rows import Row, write_rows
from tests.conftest import build_model, build_tokenizer, make_rows

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"bash", "python", "yaml", "text", "mermaid"}
_PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:python|pip|pytest|torchrun|srun|wandb|lessexp)"


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block shows, named by its first line."""
        found = re.match(r"# (\S+\.(?:py|yaml))\n", self.text)
        return found and found[1]


def blocks() -> list[Block]:
    """All fenced blocks of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page.name, line, match[1], match[2]))
    return found


def commands() -> dict[str, str]:
    """Every command of every page, and where it stands."""
    found: dict[str, str] = {}
    for block in blocks():
        if block.language == "bash":
            for command in _lines(block.text):
                found.setdefault(command, f"{block.page}, line {block.line}")
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for command in re.findall(rf"`({_PROGRAMS} [^`]+)`", text):
            found.setdefault(" ".join(command.split()), page.name)
    return found


def _lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            command = re.sub(r"\s+#.*", "", line)
            yield from (" ".join(part.split()) for part in command.split(" && "))


def checkout(folder: Path) -> Path:
    """A copy of the code, with the files that the documentation adds to it."""
    for name in ("lessexp", "baselines", "conf", "sweeps", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.png", "*.pdf")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("run.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for block in blocks():
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    return folder


def _model(folder: Path, *, width: int, seed: int) -> None:
    tokenizer = build_tokenizer()
    build_model(len(tokenizer), seed=seed, width=width).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _json_lines(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _multiple_choice(first: int) -> list[dict]:
    return [
        {
            "subject": subject,
            "question": f"Is {i} even?",
            "choices": ["yes", "no", "maybe", "never"],
            "answer": "AB"[i % 2],
        }
        for subject in ("anatomy", "world_religions")
        for i in range(first, first + 3)
    ]


def _bbh(first: int, *, solved: bool) -> list[dict]:
    records = []
    for i in range(first, first + 3):
        record = {"task": "navigate", "id": f"navigate-{i}", "input": f"Go {i} steps?", "target": "Yes"}
        solution = {"shot": i, "task_prompt": "Say where you are.", "cot": f"{i} steps. So the answer is Yes."}
        records.append(record | solution if solved else record)
    return records


def _gsm8k(first: int) -> list[dict]:
    return [
        {"id": f"gsm8k-{i}", "question": f"What is {i} + 1?", "cot": f"{i} + 1 = {i + 1}.", "answer": str(i + 1)}
        for i in range(first, first + 8)
    ]


def _tydiqa(first: int) -> list[dict]:
    return [
        {"lang": lang, "id": f"{lang}-{i}", "context": f"It is {i} o'clock.", "question": "When?", "answers": [str(i)]}
        for lang in ("english", "korean", "swahili")
        for i in range(first, first + 2)
    ]


def _checkpoints(folder: Path, *, rank: int, alpha: int) -> None:
    """Two checkpoints of the Hugging Face Trainer's form, of an adapter on the model in the same folder."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    modules = ["q_proj", "k_proj", "v_proj", "o_proj"]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for step in (1, 2):
        ids = torch.arange(step, step + 12)[None]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        place = folder / f"checkpoint-{step}"
        model.save_pretrained(place)
        torch.save(optimizer.state_dict(), place / "optimizer.pt")
        log = [{"step": one, "learning_rate": 1e-3} for one in range(1, step + 1)]
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))


def furnish(folder: Path) -> None:
    """Put into a folder what the documentation's commands name: files, models, and runs that came before."""
    write_rows(folder / "pool.jsonl", make_rows(24))
    write_rows(folder / "old.jsonl", make_rows(24))
    write_rows(folder / "new.jsonl", make_rows(6, prefix="new"))
    write_rows(folder / "target.jsonl", make_rows(5, prefix="target", target=True))
    write_rows(folder / "questions.jsonl", make_rows(4, prefix="question", target=True))
    _model(folder / "DIR", width=32, seed=0)
    _checkpoints(folder / "DIR", rank=128, alpha=512)
    _model(folder / "TINY", width=32, seed=0)
    _model(folder / "OTHER", width=16, seed=1)
    alpaca = [{"instruction": f"Add {i}.", "input": "", "output": f"It is {i}."} for i in range(24)]
    _json_lines(folder / "tatsu-lab" / "alpaca" / "train.jsonl", alpaca)
    for source in ("flan_v2", "cot", "dolly", "oasst1"):
        rows = [Row(source, f"{source}-{i}", (("user", f"{i}+1"), ("assistant", str(i + 1)))) for i in range(20)]
        for place in (folder / "FOLDER" / "train", folder / "LESS_POOL" / source):
            place.mkdir(parents=True, exist_ok=True)
        write_rows(folder / "FOLDER" / "train" / f"{source}.jsonl", rows)
        write_rows(folder / "LESS_POOL" / source / f"{source}_data.jsonl", rows)
    benchmarks = {
        "mmlu": (_multiple_choice(0), _multiple_choice(10)),
        "bbh": (_bbh(0, solved=True), _bbh(10, solved=False)),
        "gsm8k": (_gsm8k(0), _gsm8k(10)),
        "tydiqa": (_tydiqa(0), _tydiqa(10)),
    }
    for name, (dev, test) in benchmarks.items():
        _json_lines(folder / "FOLDER" / "eval" / name / "dev.jsonl", dev)
        _json_lines(folder / "FOLDER" / "eval" / name / "test.jsonl", test)
    shutil.copy(folder / "FOLDER" / "eval" / "bbh" / "dev.jsonl", folder)
    shutil.copy(folder / "FOLDER" / "eval" / "bbh" / "test.jsonl", folder)
