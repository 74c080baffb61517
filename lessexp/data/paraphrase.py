"""The problems of reasoning-gym in other words: same skill and answer, another surface.

A selector that compares words finds rows that look like the target; one that compares skills should find
rows that exercise it. Where the pool never uses the target's wording, the two part ways. Every family has
several forms (another wording, a story, another language, another layout), none of them the package's own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lessexp.data.reasoning_gym import FamilyError, generate_problems
from lessexp.data.rows import Row
from lessexp.data.seeds import generator_for

Entry = Mapping[str, Any]
Form = Callable[[Entry], str]


def _terms(entry: Entry) -> list[tuple[str, str]]:
    """Sign and size of each term of ``859 + 467 - 914``."""
    first, *rest = entry["metadata"]["expression"].split()
    return [("+", first), *zip(rest[0::2], rest[1::2], strict=True)]


def _account_story(entry: Entry) -> str:
    (_, opening), *moves = _terms(entry)
    told = " ".join(f"Then {size} is {'paid in' if sign == '+' else 'taken out'}." for sign, size in moves)
    return f"An account stands at {opening}. {told} How much is on it afterwards? Reply with the number alone."


def _sum_in_german(entry: Entry) -> str:
    (_, opening), *moves = _terms(entry)
    spoken = " ".join(f"{'plus' if sign == '+' else 'minus'} {size}" for sign, size in moves)
    return f"Rechne im Kopf und nenne nur das Ergebnis: {opening} {spoken}"


def _sum_in_a_column(entry: Entry) -> str:
    lines = [f"{sign if place else ' '} {size:>6}" for place, (sign, size) in enumerate(_terms(entry))]
    return "\n".join([*lines, "-" * 8, "?"])


def _sum_as_code(entry: Entry) -> str:
    (_, opening), *moves = _terms(entry)
    return "\n".join([f"x = {opening}", *(f"x {sign}= {size}" for sign, size in moves), "print(x)  # prints what?"])


def _words(entry: Entry) -> list[str]:
    return entry["metadata"]["words"]


def _queue_story(entry: Entry) -> str:
    return (
        f"Cards lie on a table from left to right: {' | '.join(_words(entry))}. I walk round to the other side of the "
        "table. Which cards do I see from left to right? Put commas between them."
    )


def _reversal_in_spanish(entry: Entry) -> str:
    return f"Escribe esto empezando por el final, con comas: {' '.join(_words(entry))}"


def _reversal_in_lines(entry: Entry) -> str:
    lines = (f"{place}) {word}" for place, word in enumerate(_words(entry), start=1))
    return "\n".join([*lines, "", "Now from the bottom up, side by side like A, B, C."])


def _reversal_as_code(entry: Entry) -> str:
    return f"print(', '.join({json.dumps(_words(entry), ensure_ascii=False)}[::-1]))\n# output:"


def _filled(template: str) -> Form:
    """A form that names fields of the problem's metadata."""
    return lambda entry: template.format(**entry["metadata"])


def _framed(before: str, after: str) -> Form:
    """A form that keeps the package's question and puts words around it."""
    return lambda entry: f"{before}{entry['question'].strip()}{after}"


def _in_json(entry: Entry) -> str:
    return json.dumps({"ask": entry["question"].strip(), "reply": "value only"}, ensure_ascii=False, indent=1)


FORMS: Mapping[str, Sequence[Form]] = {
    "chain_sum": (_account_story, _sum_in_german, _sum_in_a_column, _sum_as_code),
    "word_sequence_reversal": (_queue_story, _reversal_in_spanish, _reversal_in_lines, _reversal_as_code),
    "letter_counting": (
        lambda e: f"'{' '.join(e['metadata']['span'])}'.lower().count('{e['metadata']['target_letter']}')  # value?",
        lambda e: f"Wie oft steht {e['metadata']['target_letter']} in: {' '.join(e['metadata']['span'])}",
        lambda e: (
            f"A typesetter must print the line “{' '.join(e['metadata']['span'])}”. How many pieces of type for "
            f"{e['metadata']['target_letter']} does she need?"
        ),
    ),
    "spell_backward": (
        _filled("'{word}'[::-1]  # gives"),
        _filled("Hold {word} up to a mirror, letter by letter from the right. What do you read?"),
        _filled("Schreibe {word} von hinten nach vorn."),
    ),
    "simple_equations": (
        _filled("{equation}\n{variable} = ?"),
        _filled("Löse nach {variable} auf: {equation}"),
        _filled("I think of a number {variable} for which {equation} holds. Which one is it?"),
    ),
    "gcd": (
        lambda e: f"math.gcd({', '.join(map(str, e['metadata']['numbers']))})  # returns",
        lambda e: f"Welche größte ganze Zahl teilt {' und '.join(map(str, e['metadata']['numbers']))} ohne Rest?",
        lambda e: (
            f"Ropes of {' and '.join(map(str, e['metadata']['numbers']))} metres are cut into equal pieces with "
            "nothing left. How long can a piece be at most?"
        ),
    ),
    "number_sequence": (
        _framed("What comes next?\n", ""),
        _framed("Ein Muster: ", " Welche Zahl ersetzt das Fragezeichen?"),
        _in_json,
    ),
    "coin_flip": (
        _framed("At the bar someone bets on this. ", " Tell me before I join in."),
        _framed("Stochastik, Aufgabe 3: ", " Nur die Zahl."),
        _in_json,
    ),
    "calendar_arithmetic": (
        _framed("A colleague planning her year wonders: ", ""),
        _framed("Kalenderfrage. ", ""),
        _in_json,
    ),
    "syllogism": (
        lambda e: (
            f"{e['metadata']['premise1']}. {e['metadata']['premise2']}. Therefore: {e['metadata']['conclusion']}. "
            "Sound reasoning? Yes/No"
        ),
        lambda e: (
            f"P1 := {e['metadata']['premise1']}\nP2 := {e['metadata']['premise2']}\n"
            f"C := {e['metadata']['conclusion']}\nP1, P2 ⊢ C ?  (Yes | No)"
        ),
        _in_json,
    ),
}


def paraphrased_rows(
    families: Mapping[str, Mapping[str, Any]], *, rows_per_family: int, seed: int, split: str
) -> list[Row]:
    """The rows of `lessexp.data.reasoning_gym.reasoning_gym_rows`, each in one of its family's other forms.

    Args:
        families: settings of each family's generator by family name.
        rows_per_family: how many of each.
        seed: of the problems and of the forms they get.
        split: first part of the ids.

    Raises:
        FamilyError: a family cannot give that many distinct problems, or has no other form.
    """
    if missing := sorted(families.keys() - FORMS.keys()):
        raise FamilyError(f"there is no other form of family '{missing[0]}'; there are of {', '.join(sorted(FORMS))}")
    rows = []
    for problem in generate_problems(families, rows_per_family=rows_per_family, seed=seed, split=split):
        row = problem.row
        forms = FORMS[row.dataset]
        drawn = torch.randint(len(forms), (), generator=generator_for(seed, "paraphrase", row.example_id))
        _, *answer = row.messages
        rows.append(replace(row, messages=(("user", forms[int(drawn)](problem.entry)), *answer)))
    return rows
