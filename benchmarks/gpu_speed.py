"""Training on a GPU beside the same run written by hand with TRL: tokens a second, use of the GPU, memory.

A Llama with random weights in the shape of Llama 3.2 1B trains in bf16 with all weights, with LoRA and with
QLoRA, with padded and with packed batches, in sdpa attention. Prints a table and saves it, with all figures
as JSON. `--device cpu --shape tiny` tries the script out where there is no GPU.

Use is model FLOP/s utilisation: the arithmetic that the model needs by its formula, a second, as a share of
what the GPU can do. By Kaplan et al. 2020 (arXiv:2001.08361, section 2.1) and Chowdhery et al. 2022 (PaLM,
arXiv:2204.02311, appendix B) a token needs 6 N + 12 L H Q T operations, with N parameters that multiply
(all but the embedding of the input), L layers, H heads of size Q, and T tokens of context. Of frozen
weights no gradients are computed, which leaves 4 N. What is computed twice, as with checkpointing, and the
few parameters of the adapters are not counted.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from material import SHAPES, Run, make_model, write_conversations
from sides import SIDES, Result, run_sides

HERE = Path(__file__).parent
WARM_UP = 10  # steps that do not count; tokens are logged every 10
KINDS = ("full", "lora", "qlora")

# Dense bf16 with sums in float32, in TFLOP/s, as NVIDIA's data sheets tell; the first in a name counts.
PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A800": 312,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "A40": 150,
    "A30": 165,
    "A10G": 70,
    "A10": 125,
    "RTX 6000 Ada": 364,
    "RTX 5090": 209,
    "RTX 4090": 165,
    "RTX 3090": 71,
}

COLUMNS = ("run", "batches", "by", "tokens/s", "use", "memory, GB", "step, s", "last loss")


@click.command()
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--shape", type=click.Choice(list(SHAPES)), default="1b", show_default=True)
@click.option("--kinds", default=",".join(KINDS), show_default=True)
@click.option("--steps", type=click.IntRange(min=20), default=40, show_default=True)
@click.option("--batch", default=4, show_default=True, help="Examples of a batch.")
@click.option(
    "--max-length", default=2048, show_default=True, help="Tokens of an example, or of a packed row."
)
@click.option("--output", type=Path, default=HERE / "results", show_default="benchmarks/results")
def main(device: str, output: Path, **options: Any) -> None:
    """Measure, print and save. Without a GPU, say so and end with 0."""
    if device == "cuda" and not torch.cuda.is_available():
        click.echo("no GPU here, so nothing is measured; `--device cpu --shape tiny` tries the script out")
        return
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    rows = measure(device, name, **options)
    table = as_markdown([COLUMNS, *(as_row(row) for row in rows)])
    click.echo(table)
    save(output, name, rows, table, options)


def measure(  # noqa: PLR0913 - the command's options
    device: str, name: str, *, shape: str, kinds: str, steps: int, batch: int, max_length: int
) -> list[dict[str, Any]]:
    """Return one row of figures for each kind, layout of batches, and side."""
    rows = []
    dtype = "bfloat16" if device == "cuda" else "float32"
    words = (max_length // 60, max_length // 20)  # with which conversations stay below the limit
    with TemporaryDirectory(prefix="silogen-bench-") as temporary:
        folder = Path(temporary)
        model = make_model(folder / "model", shape, dtype)
        data = write_conversations(folder / "chat.jsonl", 1000, words)
        common = {"model": model, "data": data, "output": str(folder / "out"), "steps": steps, "batch": batch}
        common |= {"max_length": max_length, "cpu": device == "cpu", "dtype": dtype}
        for kind, packing, side in product(kinds.split(","), (False, True), SIDES):
            run = Run(kind=kind, packing=packing, **common)
            result = run_sides("one_run.py", {side: run.to_json()}, log=folder / "log")[side]
            rows.append(figures(result, run, side, shape, name))
            click.echo("  ".join(as_row(rows[-1])), err=True)
    return rows


def figures(result: Result, run: Run, side: str, shape: str, name: str) -> dict[str, Any]:
    """Return what a run took after the steps that do not count, up to the last whose tokens were logged."""
    tokens = {int(step): count for step, count in result["tokens"].items()}
    last = max(tokens)
    trained = tokens[last] - tokens[WARM_UP]
    rate = trained / sum(result["seconds"][WARM_UP:last])
    context = trained / (last - WARM_UP) / run.batch  # tokens of an example, or of a packed row
    peak = next((value for part, value in PEAKS.items() if part in name), None)
    return {
        "kind": run.kind,
        "packing": run.packing,
        "side": side,
        "tokens_per_second": rate,
        "utilisation": peak and rate * flops(shape, run.kind, context) / (peak * 1e12),
        "memory_gb": result["memory"] / 1e9,
        "step_seconds": statistics.median(result["seconds"][WARM_UP:]),
        "loss": result["losses"][-1],
    }


def flops(shape: str, kind: str, context: float) -> float:
    """Return the operations that one token needs, as the module's text says."""
    size = SHAPES[shape]
    layers, heads, width = (size[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    head = size.get("head_dim", width // heads)
    attention = 2 * width * head * (heads + size["num_key_value_heads"])
    parameters = layers * (attention + 3 * width * size["intermediate_size"]) + width * size["vocab_size"]
    return (6 if kind == "full" else 4) * parameters + 12 * layers * heads * head * context


def as_row(row: dict[str, Any]) -> list[str]:
    return [
        row["kind"],
        "packed" if row["packing"] else "padded",
        "silogen" if row["side"] == "silogen" else "by hand",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['utilisation']:.1%}" if row["utilisation"] else "-",
        f"{row['memory_gb']:.2f}",
        f"{row['step_seconds']:.3f}",
        f"{row['loss']:.4f}",
    ]


def as_markdown(rows: list[Any]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(COLUMNS), *body])


def save(folder: Path, name: str, rows: list[dict[str, Any]], table: str, options: dict[str, Any]) -> None:
    """Write the table and all figures, under the GPU's name."""
    from importlib.metadata import version  # noqa: PLC0415 - here alone

    versions = {
        package: version(package) for package in ("torch", "transformers", "trl", "peft", "bitsandbytes")
    }
    facts = {"device": name, "python": platform.python_version(), **versions, **options}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / re.sub(r"\W+", "-", name.lower()).strip("-")
    told = ", ".join(f"{key} {value}" for key, value in facts.items())
    path.with_suffix(".md").write_text(f"# Training speed\n\n{told}\n\n{table}\n", "utf-8")
    path.with_suffix(".json").write_text(json.dumps({**facts, "runs": rows}, indent=2) + "\n", "utf-8")
    click.echo(f"saved {path}.md and .json", err=True)


if __name__ == "__main__":
    main()
