"""The cells of the matrix, which of them are refused, and a selection that is quick to run.

What is legal is stated here once more, by what people know of the methods, not by asking the compiler.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Pair = tuple[tuple[int, str], ...]

ADDING = ("chat-ml", "poro", "simplified-llama31")  # templates with tokens of their own
ALONE, PAIRS, SHARDED = ("single",), ("ddp", "zero-1", "zero-2"), ("zero-3", "fsdp")

AXES = {
    "method": ("sft", "dpo"),
    "peft": ("NO_PEFT", "LORA", "DORA", "PROMPT_TUNING", "IA3", "LOHA", "ADALORA"),
    "quantization": ("none", "4-bit", "8-bit"),
    "template": ("keep-original", "mistral-with-system", *ADDING),
    "strategy": (*ALONE, *PAIRS, *SHARDED),
    "vocabulary": ("known", "new"),  # whether the tokenizer has the tokens of the template
}


class Cell(NamedTuple):
    """One value of each axis."""

    method: str
    peft: str
    quantization: str
    template: str
    strategy: str
    vocabulary: str

    def __str__(self) -> str:
        return ":".join(self)


MISFITS = {("LOHA", "4-bit"), ("DORA", "8-bit")}

# The code of each refusal, with the cells that it is for. All are told before anything is loaded.
REFUSALS: tuple[tuple[str, Callable[[Cell], bool]], ...] = (
    # integers have no gradients
    ("SG306", lambda cell: cell.peft == "NO_PEFT" and cell.quantization != "none"),
    # peft takes packed weights for whole ones, and on a CPU loses the scales of weights in 8 bits
    ("SG359", lambda cell: (cell.peft, cell.quantization) in MISFITS),
    # parameters are sharded over GPUs
    ("SG362", lambda cell: cell.strategy in SHARDED),
    ("SG364", lambda cell: cell.strategy == "fsdp" and cell.quantization == "8-bit"),
    # new rows of the embeddings must fit in, and be trained
    ("SG716", lambda cell: adds_tokens(cell, "sft") and cell.quantization != "none"),
    ("SG716", lambda cell: adds_tokens(cell, "sft") and cell.peft == "PROMPT_TUNING"),
    # dpo starts from a model that knows its template
    ("SG735", lambda cell: adds_tokens(cell, "dpo")),
)


def adds_tokens(cell: Cell, method: str) -> bool:
    return cell.method == method and cell.vocabulary == "new"


def refusals(cell: Cell) -> set[str]:
    """Return the codes that the cell is refused with; none where it is legal."""
    return {code for code, refuses in REFUSALS if refuses(cell)}


def every_cell() -> list[Cell]:
    """Return the product of all axes, by strategy. A template without tokens of its own can't lack any."""
    cells = (Cell(*values) for values in product(*AXES.values()))
    real = [cell for cell in cells if cell.vocabulary == "known" or cell.template in ADDING]
    return sorted(real, key=lambda cell: AXES["strategy"].index(cell.strategy))


def covering(cells: Iterable[Cell]) -> list[Cell]:
    """Return a few of the cells, in which any two values of two axes meet that do so in all of them.

    Those that can be trained with are met in training.
    """
    legal, illegal = [], []
    for cell in cells:
        (illegal if refusals(cell) else legal).append(cell)
    chosen = _cover(legal, set())
    return chosen + _cover(illegal, {pair for cell in chosen for pair in _pairs(cell)})


def _cover(cells: list[Cell], covered: set[Pair]) -> list[Cell]:
    chosen = []
    missing = {pair for cell in cells for pair in _pairs(cell)} - covered
    while missing:
        chosen.append(max(cells, key=lambda cell: len(_pairs(cell) & missing)))
        missing -= _pairs(chosen[-1])
    return chosen


def _pairs(cell: Cell) -> set[Pair]:
    return {*combinations(enumerate(cell), 2)}
