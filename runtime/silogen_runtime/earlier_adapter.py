"""An adapter of an earlier run: read before anything is loaded, and put on the base model as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import peft
from safetensors import SafetensorError, safe_open
from silogen_compiler.diagnostics import Diagnostic, Refused
from silogen_compiler.trainable import uncontinued, untrainable
from silogen_config import PretrainedAdapter

if TYPE_CHECKING:
    from silogen_compiler.diagnostics import Findings
    from silogen_config import ResolvedConfig
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_adapter(config: ResolvedConfig) -> Findings:
    """Yield what is wrong with the folder of an earlier adapter; one that is not there is named elsewhere."""
    path = config.peft.pretrained if isinstance(config.peft, PretrainedAdapter) else ""
    if not path or not Path(path, CONFIG).is_file():
        return
    try:
        adapter = read_adapter(path)
    except Refused as refused:
        yield from refused.diagnostics
        return
    yield from untrainable("", {"task_type": adapter.task_type})
    yield from _weights(path)
    yield from _other_base(path, adapter, config)


def read_adapter(path: str) -> peft.PeftConfig:
    """Return the config of an adapter in a folder or on the hub. Refused where it can't be trained on."""
    try:
        config: peft.PeftConfig = peft.PeftConfig.from_pretrained(path)
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        message = f"the {CONFIG} of `{path}` is none that peft {peft.__version__} reads: {error}"
        raise Refused(Diagnostic("SG775", message, file=path)) from error
    name = type(config).__name__
    findings = [*untrainable(name), *uncontinued(name)]
    if findings:
        raise Refused(*findings)
    return config


def put_on(model: PreTrainedModel, path: str) -> peft.PeftModel:
    """Return the model with the adapter on it, to be trained. Refused where its weights don't fit."""
    config = read_adapter(path)
    config.inference_mode = False
    adapted: peft.PeftModel = peft.get_peft_model(model, config)
    try:
        report = adapted.load_adapter(path, "default", is_trainable=True)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        problem = " ".join(str(error).splitlines()[1].split())
        raise Refused(_misfit(path, problem)) from error
    left = [] if config.is_prompt_learning else report.unexpected_keys
    if left:
        raise Refused(_misfit(path, f"no module takes {len(left)} of its weights, such as `{left[0]}`"))
    return adapted


def _misfit(path: str, problem: str) -> Diagnostic:
    help_text = "take the base model that it was trained on, or the config that it was saved with"
    return Diagnostic("SG776", f"the adapter `{path}` does not fit: {problem}", help=help_text, file=path)


def _weights(path: str) -> Findings:
    try:
        with safe_open(Path(path, WEIGHTS), "pt"):
            return
    except FileNotFoundError:
        problem = f"holds no {WEIGHTS}, and weights in other files are not loaded"
    except SafetensorError as error:
        problem = f"holds a damaged {WEIGHTS}: {error}"
    help_text = "name the folder of a finished run's adapter, such as checkpoint-final"
    yield Diagnostic("SG775", f"the adapter `{path}` {problem}", help=help_text, file=path)


def _other_base(path: str, adapter: peft.PeftConfig, config: ResolvedConfig) -> Findings:
    """Yield a warning where the adapter names another base model; folders are compared by their last name."""
    trained_on = adapter.base_model_name_or_path
    name = config.model.from_pretrained["pretrained_model_name_or_path"]
    if trained_on and Path(trained_on).name != Path(name).name:
        message = f"the adapter was trained on `{trained_on}`, and goes on `{name}`"
        help_text = "take the model that it was trained on, unless this is the same under another name"
        yield Diagnostic("SG777", message, help=help_text, file=path)
