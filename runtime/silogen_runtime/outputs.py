"""Where a run writes: checked first, since a finished folder takes the place of another."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ResolvedConfig

# Names under output_dir that a run gives itself.
RESERVED = re.compile(
    r"checkpoint-\d+|resolved\.json|resolved\.lock\.json|versions\.json|metrics\.jsonl|loss\.png|report\.html"
)

# A folder with one of these was saved by silogen or transformers.
SAVED = ("config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json")


def output_dir(config: ResolvedConfig) -> Path | None:
    """Return the folder that the trainer writes to; None where the config names none."""
    name = config.trainer.args.get("output_dir")
    return Path(os.path.expanduser(name)) if isinstance(name, str) and name.strip() else None  # noqa: PTH111 - as transformers does


def check_outputs(config: ResolvedConfig) -> Findings:
    folder = output_dir(config)
    if folder is None:
        help_text = "write a folder for checkpoints and results as `output_dir` under training_args"
        yield Diagnostic("SG726", "`output_dir` is empty", help=help_text)
    elif folder.exists() and not folder.is_dir():
        yield Diagnostic("SG726", f"output_dir `{folder}` is a file", help="write another `output_dir`")
    else:
        yield from _named_folders(config, folder)


def _named_folders(config: ResolvedConfig, folder: Path) -> Findings:
    names = {
        "final_checkpoint_name": config.run.final_checkpoint_name,
        "save_name_if_new_basemodel": config.run.save_name_if_new_basemodel,
    }
    written = {key: name for key, name in names.items() if name is not None}
    for key, name in written.items():
        problem = next(_problems(config, folder, name), "")
        if problem:
            yield Diagnostic("SG726", f"{key} `{name}` {problem}", help=f"write another name as `{key}`")
    if len(set(written.values())) < len(written):
        yield Diagnostic(
            "SG726",
            "final_checkpoint_name and save_name_if_new_basemodel are the same",
            help="write two names: one would take the place of the other",
        )


def _problems(config: ResolvedConfig, folder: Path, name: str) -> Iterator[str]:
    """Yield why a model can't be saved as `name` in `folder`."""
    if Path(name).name != name or name in {"", ".."}:
        yield "is not a plain name of a folder inside `output_dir`"
        return
    if RESERVED.fullmatch(name):
        yield "is a name that the run itself gives"
    path = folder / name
    if path.exists():
        yield from _lost_files(config, path)


def _lost_files(config: ResolvedConfig, path: Path) -> Iterator[str]:
    """Yield why what exists at `path` must stay."""
    if not path.is_dir():
        yield "is a file already"
        return
    if any(path.iterdir()) and not any((path / file).exists() for file in SAVED):
        yield f"is a folder of other files: `{path}` does not look like a saved model"
    model = Path(config.model.from_pretrained.get("pretrained_model_name_or_path", ""))
    if model.is_dir() and path.samefile(model):
        yield "is the folder of the model that the run starts from"
