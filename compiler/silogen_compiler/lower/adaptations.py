"""Steps of lowering.py for any target: what the landings alone do not make right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic
from silogen_compiler.lower.landings import (
    ARGS,
    MODEL,
    NO_EFFECT,
    QUANTIZATION,
    REPOSITORY,
    SHARED,
    TOKENIZER,
    landing,
)
from silogen_compiler.rules.secrets import (
    PROXIES,
    SECRETS,
    is_secret,
    proxies_without_credentials,
    server_without_credentials,
)
from silogen_compiler.schema import find, title
from silogen_compiler.values import Origin

if TYPE_CHECKING:
    from silogen_compiler.lower.lowering import Lowered


def no_effect(lowered: Lowered) -> None:
    """Name what a person wrote and the target has no use for."""
    values, target = lowered.values, lowered.target.name
    for key, (right, why) in NO_EFFECT.items():
        if values[key] != right:
            message = f"`{key}` has no effect in {target}"
            lowered.diagnostics.append(Diagnostic("SG502", message, values.span(key), why))


def tokenizer(lowered: Lowered) -> None:
    """Load the tokenizer from the model's place, unless it has its own, with the model's access arguments."""
    own = lowered.values["run_conf.tokenizer"]
    from_model, kwargs = lowered.kwargs(MODEL), lowered.kwargs(TOKENIZER)
    for key in SHARED if own else (*SHARED, *REPOSITORY, "pretrained_model_name_or_path"):
        kwargs[key] = from_model[key]
        lowered.origins[*TOKENIZER, key] = lowered.origin((*MODEL, key))


def texts(lowered: Lowered) -> None:
    """Write what the libraries want as text or number where the config may hold another type."""
    for path in (MODEL, TOKENIZER):
        kwargs = lowered.kwargs(path)
        kwargs.update({key: "" for key in kwargs if key == "subfolder" and kwargs[key] is None})
    lowered.kwargs(MODEL)["offload_buffers"] = bool(lowered.kwargs(MODEL)["offload_buffers"])
    if quantization := lowered.kwargs(QUANTIZATION):
        quantization["llm_int8_threshold"] = float(quantization["llm_int8_threshold"])


def classes(lowered: Lowered) -> None:
    """Name the classes that the arguments of adapter and quantization belong to."""
    values, resolved = lowered.values, lowered.resolved
    if "peft_kwargs" in values["peft_conf"]:
        definition = title(find(("peft_conf",), values.data))
        resolved["peft"] = {"class": definition.replace("PeftConfig", "Config"), **resolved["peft"]}
    if values.bit_widths():
        resolved["quantization"] = {"class": "BitsAndBytesConfig", **resolved["quantization"]}


def sft(lowered: Lowered) -> None:
    """Lower what method sft alone has: silogen prepares the data, so the trainer need not."""
    values = lowered.values
    if values["method"] != "sft":
        return
    data = lowered.resolved["data"]
    data["loss_on"] = "assistant" if values["sft_args.train_on_completions_only"] else "all"
    lowered.put((*ARGS, "max_length"), data["max_length"], values.origin("sft_args.max_seq_length"))
    prepared = Origin("silogen prepares the data")
    lowered.put((*ARGS, "dataset_kwargs"), {"skip_prepare_dataset": True}, prepared)


def run_name(lowered: Lowered) -> None:
    """Take the run's name from the tracking section where that has one."""
    tracking = lowered.values["tracking"]
    if tracking and tracking["run_name"]:
        origin = lowered.values.origin("tracking.run_name")
        lowered.put((*ARGS, "run_name"), tracking["run_name"], origin)


def hide_secrets(lowered: Lowered) -> None:
    """Leave a reference to an environment variable where a secret stood."""
    for key, variable in SECRETS.items():
        place = landing(tuple(key.split(".")))
        assert place is not None
        if is_secret(lowered.values[key]):
            lowered.kwargs(place[:-1])[str(place[-1])] = f"${{env:{variable}}}"
    lowered.kwargs(TOKENIZER)["token"] = lowered.kwargs(MODEL)["token"]
    if lowered.values[PROXIES]:
        for kwargs in (lowered.kwargs(MODEL), lowered.kwargs(TOKENIZER)):
            kwargs["proxies"] = proxies_without_credentials(lowered.values)
    if tracking := lowered.resolved["tracking"]:
        tracking["mlflow_server_uri"] = server_without_credentials(lowered.values)


ADAPTATIONS = (no_effect, tokenizer, texts, classes, sft, run_name)
