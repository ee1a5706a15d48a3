"""The run as a Python script with transformers, trl, peft and datasets alone: script/train.py.j2, filled in.

Every keyword argument is spelled out in the script, and what is no argument stands as JSON in a comment at
its end: load/python_text.py reads both back.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from silogen_compiler.diagnostics import Diagnostic, Findings, Refused
from silogen_compiler.emit.python_source import (
    WIDTH,
    block,
    fill,
    imports_of,
    is_same,
    literal,
    printable,
)
from silogen_compiler.emit.yaml_text import comment
from silogen_compiler.load.python_text import MARK, REFERENCE, calls_of, place
from silogen_compiler.targets import load_target
from silogen_compiler.trainable import untrainable
from silogen_compiler.values import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from silogen_compiler.load import Path
    from silogen_compiler.values import Origin

NAME = "pretrained_model_name_or_path"

PAD_SOURCES = {
    "eos-repurpose": "eos_token",
    "bos-repurpose": "bos_token",
    "unk-repurpose": "unk_token",
    "unk-convert-to-eos": "unk_token",
}

MLFLOW = {
    "MLFLOW_TRACKING_URI": "mlflow_server_uri",
    "MLFLOW_EXPERIMENT_NAME": "experiment_name",
    "MLFLOW_RUN_ID": "run_id",
    "HF_MLFLOW_LOG_ARTIFACTS": "hf_mlflow_log_artifacts",
}


COLLATORS = {
    "sft": "DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=args.pad_to_multiple_of)",
    "dpo": "DataCollatorForPreference(\n"
    "        tokenizer.pad_token_id, args.max_length, args.truncation_mode, args.pad_to_multiple_of\n"
    "    )",
}

# Data files that are compressed, and those that may hold one list in place of lines.
COMPRESSED = (".bz2", ".gz", ".lz4", ".zst")
LIST_NAME = re.compile(r".*\.json(\.\w+)?", re.DOTALL)


def emit(resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str]) -> str:
    """Return the script. Refused where TRL can't train what the config says."""
    if findings := [finding for finding in _refusals(resolved) if finding.severity == "error"]:
        raise Refused(*findings)
    script = _Script(resolved, origins, inputs)
    return script.text(imports_of(script.text(()), resolved))


def _refusals(resolved: dict[str, Any]) -> Findings:
    adapter = resolved["peft"] or {}
    yield from untrainable(adapter.get("class", ""), adapter.get("kwargs"))
    if resolved["method"] == "dpo" and _major(resolved, "trl") < 1:
        yield Diagnostic(
            "SG505",
            f"the script for method dpo needs trl 1 or newer, and {resolved['target']['name']} has"
            f" {resolved['target']['trl']}",
            help="compile for a newer target with `--target`",
        )


class _Script:
    """What the templates are filled in with."""

    def __init__(self, resolved: dict[str, Any], origins: dict[Path, Origin], inputs: Sequence[str]) -> None:
        self.resolved = resolved
        self.origins = origins
        self.inputs = inputs
        self.defaults = load_target(resolved["target"]["name"]).classes

    def text(self, imports: Sequence[str]) -> str:
        """Return the script with these lines of imports."""
        template = _environment().get_template("train.py.j2")
        return template.render(self.resolved | self.facts() | self.words() | {"imports": imports})

    def facts(self) -> dict[str, Any]:
        """Return what decides which lines the script has."""
        resolved = self.resolved
        is_sft = resolved["method"] == "sft"
        args, peft = resolved["trainer"]["args"], resolved["peft"] or {}
        strategy = resolved["tokenizer"]["missing_pad_token_strategy"]
        adapter = peft if "class" in peft else None
        surface = self.defaults.get(peft.get("class", ""), {})
        return {
            "is_sft": is_sft,
            "adapter": adapter,
            "pretrained": peft.get("pretrained"),
            "adds_tokens": is_sft and bool(resolved["tokenizer"]["chat_template"]["added_tokens"]),
            "saves_modules": "modules_to_save" in surface,
            "ties": "ensure_weight_tying" in surface,
            "collates": not is_sft or not (args.get("packing") or args.get("padding_free")),
            "compares": not is_sft and not peft and not args["precompute_ref_log_probs"],
            "pads_as_eos": strategy == "unk-convert-to-eos",
            "pad_source": PAD_SOURCES[strategy],
            "aligns": _major(resolved, "transformers") > 4,  # noqa: PLR2004 - before, the trainer alone did
        }

    def words(self) -> dict[str, Any]:
        """Return what stands in the script's lines."""
        resolved, processes = self.resolved, self.resolved["launch"]["world_size"]
        data, template = resolved["data"], resolved["tokenizer"]["chat_template"]
        tracking = resolved["tracking"] or {}
        named = {name: tracking[key] for name, key in MLFLOW.items() if tracking.get(key) is not None}
        mlflow = {name: text for name, text in named.items() if not REFERENCE.fullmatch(text)}
        files = data["train"]["datasets"]
        mixed = [file for file in files if file.get("sampling_weight", 1) > 0]
        paths = [file["path"] for file in (*mixed, *data["validation"].get("datasets", []))]
        return {
            "model": resolved["model"]["from_pretrained"][NAME],
            "inputs": shlex.join(self.inputs),
            "packages": _packages(resolved),
            "start": _start(processes),
            "world_size": processes,
            "trainer_class": resolved["trainer"]["class"],
            "args_class": resolved["trainer"]["args_class"],
            "environment": resolved["trainer"]["environment"] | mlflow,
            "template": template,
            "assistant_end": "ASSISTANT_END" if template["assistant_end"] else "tokenizer.eos_token",
            "train_files": paths[: len(mixed)],
            "validation_files": paths[len(mixed) :],
            "decompresses": any(path.endswith(COMPRESSED) for path in paths),
            "reads_lists": any(LIST_NAME.fullmatch(path) for path in paths),
            "probabilities": _probabilities([file.get("sampling_weight", 1) for file in mixed]),
            "cut": "[:MAX_LENGTH]" if data.get("length_handling") == "truncate" else "",
            "collator": COLLATORS[resolved["method"]],
            "origin": self.origin,
            "keywords": self.keywords,
            "mark": MARK,
            "rest": _rest(resolved),
        }

    def keywords(self, *path: str, indent: int) -> str:
        """Return keyword arguments: those unlike the library's defaults, a line each, then the others."""
        node: Any = self.resolved
        for key in path:
            node = node[key]
        call = next(call for call, at in calls_of(self.resolved).items() if at == path)
        defaults = self.defaults.get(call.partition(".")[0], {})
        own = [
            key
            for key, value in node.items()
            if not is_same(value, defaults.get(key, ...)) or not self.is_default((*path, key))
        ]
        own.sort(key=lambda key: (key != NAME, self.is_default((*path, key))))
        lines = [f"{key}={self.literal((*path, key))},{self.origin(*path, key)}" for key in own]
        others = [f"{key}={literal(value)}," for key, value in node.items() if key not in own]
        if others:
            lines += ["# As the library has it anyway:", *fill(others, WIDTH - indent)]
        return "\n".join(" " * indent + line for line in lines)

    def origin(self, *path: str) -> str:
        """Return the origin of a value as the comment behind it."""
        text = comment(self.origins, path)
        return "  # silogen's default" if text == f"  # {DEFAULT.text}" else text

    def is_default(self, path: Path) -> bool:
        return path not in self.origins or self.origins[path].text.endswith(DEFAULT.text)

    def literal(self, path: Path) -> str:
        """Return the value of a keyword argument as Python."""
        node: Any = self.resolved
        for key in path:
            node = node[key]
        match = REFERENCE.fullmatch(node) if isinstance(node, str) else None
        if match:
            return f"os.environ[{literal(match[1])}]"
        return literal(node, numbers=path[-1] in ("device_map", "max_memory"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("silogen_compiler.emit", "script"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - it writes Python
    )
    environment.filters |= {"literal": literal, "block": block, "printable": printable}
    return environment


def _start(processes: int) -> str:
    return f"torchrun --nproc-per-node {processes} train.py" if processes > 1 else "python train.py"


def _major(resolved: dict[str, Any], package: str) -> int:
    return int(resolved["target"][package].partition(".")[0])


def _packages(resolved: dict[str, Any]) -> str:
    names = ("transformers", "trl", "peft", *(["bitsandbytes"] if resolved["quantization"] else []))
    return ", ".join(f"{name} {resolved['target'][name]}" for name in names) + " and datasets"


def _probabilities(weights: Sequence[float]) -> str:
    """Return how often each file is drawn from; files of weight 1 take turns."""
    if set(weights) == {1.0}:
        return "None"
    return f"[{', '.join(f'{weight!r} / {sum(weights)!r}' for weight in weights)}]"


def _rest(resolved: dict[str, Any]) -> list[str]:
    """Return what is no keyword argument in a call, as lines of JSON."""
    rest = json.loads(json.dumps(resolved))
    for path in calls_of(resolved).values():
        del place(rest, path[:-1])[path[-1]]
    if rest["tokenizer"]["chat_template"]["template"] is not None:
        del rest["tokenizer"]["chat_template"]["template"]
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rest.items()]
    return [*(f"{line}," for line in lines[:-1]), lines[-1]]
