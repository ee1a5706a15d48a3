"""`silogen generate`: what a trained model answers."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from silogen_compiler.commands.options import report_options
from silogen_compiler.commands.report import EXIT_ERRORS
from silogen_compiler.diagnostics import Refused
from silogen_compiler.files import sync
from silogen_compiler.layers.extends import load_files
from silogen_compiler.lower.lowering import API_VERSION
from silogen_compiler.pipeline import Compiled, compile_layers

from silogen_runtime.cli import as_it_is
from silogen_runtime.commands.ending import refusals
from silogen_runtime.commands.merge import base_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from silogen_compiler.commands.report import Report

    from silogen_runtime.generate import Answer
    from silogen_runtime.prompts import Prompt
    from silogen_runtime.saved import Saved

NEW_TOKENS = 256

# Parameters of generation that have a flag, under the names of transformers' GenerationConfig.
PARAMETERS: dict[str, tuple[Any, str]] = {
    "max_new_tokens": (click.IntRange(min=1), f"Most tokens of an answer.  [default: {NEW_TOKENS}]"),
    "min_new_tokens": (click.IntRange(min=0), "Least tokens of an answer."),
    "temperature": (float, "Above 1 answers vary more, below 1 less; with --do-sample."),
    "top_p": (float, "Draw from the likeliest tokens that make up this share; with --do-sample."),
    "top_k": (int, "Draw from this many of the likeliest tokens; with --do-sample."),
    "min_p": (float, "Draw from tokens at least this share as likely as the likeliest; with --do-sample."),
    "repetition_penalty": (float, "Above 1, tokens that are there already become less likely."),
    "no_repeat_ngram_size": (click.IntRange(min=0), "No row of this many tokens comes twice."),
    "num_beams": (click.IntRange(min=1), "Beams that are searched; 1 searches none."),
}


def parameter_options(command: Any) -> Any:
    """Add a flag for each parameter of generation."""
    for name, (kind, text) in reversed(PARAMETERS.items()):
        command = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=text)(command)
    return command


@click.command("generate")
@click.argument("source", metavar="CONFIG|CHECKPOINT", type=click.Path(path_type=Path))
@click.option(
    "--prompt", "texts", multiple=True, metavar="TEXT", help="A message to answer; may be repeated."
)
@click.option(
    "--prompts",
    "file",
    metavar="FILE",
    help="A message in each line of FILE, or conversations where it ends in .jsonl; - is standard input.",
)
@click.option(
    "--data", is_flag=True, help="Answer the validation data of the run, each up to its last answer."
)
@click.option(
    "--system", metavar="TEXT", help="System message above each --prompt, or each line of --prompts."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Answer the first N prompts only.")
@click.option(
    "--output", metavar="FILE", help="Write prompts and answers as JSON lines; - is standard output."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what --do-sample draws.")
@click.option("--do-sample/--no-do-sample", default=None, help="Draw tokens, or take the likeliest.")
@parameter_options
@base_option
@report_options
def generate_command(  # noqa: PLR0913, PLR0917 - options of a command
    source: Path,
    texts: tuple[str, ...],
    file: str | None,
    system: str | None,
    limit: int | None,
    output: str | None,
    batch_size: int,
    seed: int,
    base: str | None,
    *,
    data: bool,
    report: Report,
    **parameters: Any,
) -> None:
    """Have a trained model answer prompts.

    CONFIG stands for the model that its training ended with; CHECKPOINT is the folder of a model or an
    adapter, or the output folder of a run. The model is loaded as the run loaded it, quantized too, and
    prompts are written with the chat template that it was trained with. Parameters that are not given are
    those saved with the model.
    """
    if (bool(texts), file is not None, data).count(True) != 1:
        raise click.UsageError("give one of --prompt, --prompts and --data")
    if data and system is not None:
        raise click.UsageError("--system goes with --prompt or --prompts; data has its own system messages")
    given = {name: value for name, value in parameters.items() if value is not None}
    with refusals(report, "generating"):
        from rich.console import Console  # noqa: PLC0415 - start-up time

        console = Console(stderr=True)
        with console.status("Loading PyTorch and transformers"):
            from silogen_runtime import generate, prompts  # noqa: PLC0415 - start-up time
            from silogen_runtime.failures import explain_failures  # noqa: PLC0415
            from silogen_runtime.quiet import quiet_libraries  # noqa: PLC0415
        with quiet_libraries():
            with explain_failures("reading the model"):
                saved = find_source(source, report)
            asked = prompts.read_prompts(saved, console, texts=texts, file=file, system=system)[:limit]
            with lines_file(output) as lines:
                with console.status("Loading the model"):
                    speaker = generate.load_speaker(saved, {"max_new_tokens": NEW_TOKENS, **given}, base=base)
                is_streamed = len(asked) == 1 and output is None and is_streamable(given)
                answers = generate.answers(
                    speaker, asked, batch_size=batch_size, seed=seed, is_streamed=is_streamed
                )
                if lines is None:
                    show(asked, answers, is_streamed=is_streamed)
                    return
                if output != "-":
                    answers = counted(answers, len(asked), console)
                for prompt, answer in zip(asked, answers, strict=True):
                    lines.write(as_line(prompt, answer))
                    lines.flush()


def find_source(source: Path, report: Report) -> Saved:
    """Return the model in a folder, or the one that a config, compiled or to compile, was trained to."""
    from silogen_runtime.resolved import parse  # noqa: PLC0415 - start-up time
    from silogen_runtime.saved import final_of, find_saved  # noqa: PLC0415

    if source.is_dir():
        return find_saved(source)
    sources: dict[str, str] = {}
    try:
        layers = load_files([str(source)], sources)
        is_resolved = layers[0].data.get("apiVersion") == API_VERSION
        compiled = Compiled(as_it_is(layers[0]), {}, [], sources) if is_resolved else compile_layers(layers)
    except Refused as refused:
        compiled = Compiled(None, {}, list(refused.diagnostics), sources)
    report.show(compiled.diagnostics, {**sources, **compiled.sources})
    if compiled.resolved is None:
        raise SystemExit(EXIT_ERRORS)
    return final_of(parse(compiled.resolved))


def is_streamable(given: dict[str, Any]) -> bool:
    """Tell whether an answer can be shown while it is made: on a terminal, and not of several beams."""
    return sys.stdout.isatty() and given.get("num_beams", 1) == 1


@contextmanager
def lines_file(output: str | None) -> Iterator[IO[str] | None]:
    """Yield a file for the answers, which takes the place of `output` when the block ends.

    Where the block ends early, the answers up to there stay beside it. Refused where no file can be made.
    """
    from silogen_runtime.failures import explain_failures  # noqa: PLC0415 - start-up time

    if output is None or output == "-":
        yield sys.stdout if output else None
        return
    given, path = Path(output), Path(output).resolve()
    partial = path.with_name(f"{path.name}.partial")
    with explain_failures("writing the answers"):
        if given.exists() and not given.is_file():  # a pipe; a folder is an error
            with given.open("w", encoding="utf-8") as pipe:
                yield pipe
            return
        with partial.open("w", encoding="utf-8", newline="") as file:
            try:
                yield file
            except BaseException:
                if file.tell():
                    click.echo(f"the answers so far are in {partial}", err=True)
                else:
                    partial.unlink()
                raise
        sync(partial)
        with suppress(FileNotFoundError):
            partial.chmod(path.stat().st_mode)
        partial.replace(path)


def show(prompts: list[Prompt], answers: Iterator[Answer], *, is_streamed: bool) -> None:
    """Print each answer that is not printed while it is made, below its prompt where there are several."""
    for prompt, answer in zip(prompts, answers, strict=True):
        if len(prompts) > 1:
            click.secho(f"> {prompt.messages[-1]['content']}", bold=True)
        if not is_streamed:
            click.echo(answer.text + "\n" * (len(prompts) > 1))


def counted(answers: Iterator[Answer], total: int, console: Console) -> Iterator[Answer]:
    """Pass answers on; a bar on a terminal counts them."""
    from rich.progress import track  # noqa: PLC0415 - start-up time

    return iter(
        track(answers, "Generating", total, console=console, transient=True, disable=not console.is_terminal)
    )


def as_line(prompt: Prompt, answer: Answer) -> str:
    """Return a prompt with its answer as a line of JSON, which is an example of data too."""
    messages = [*prompt.messages, {"role": "assistant", "content": answer.text}]
    line: dict[str, Any] = {"messages": messages, "finish_reason": answer.finish_reason}
    if prompt.reference is not None:
        line["reference"] = prompt.reference
    if prompt.span:
        line |= {"file": prompt.span.file, "line": prompt.span.line}
    return json.dumps(line, ensure_ascii=False) + "\n"
