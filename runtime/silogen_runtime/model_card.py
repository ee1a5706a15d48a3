"""The README.md of a saved model: what it was made of and how to load it, the same for the same run."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from jinja2 import Environment, FileSystemLoader
from silogen_compiler.emit.python_source import literal
from silogen_config import CallSpec, PretrainedAdapter

from silogen_runtime.summary import describe_parameters, describe_split, describe_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from silogen_config import ResolvedConfig

    from silogen_runtime.data import TrainingData
    from silogen_runtime.progress import Metrics
    from silogen_runtime.trainer import Plan

TEMPLATES = Environment(  # noqa: S701 - Markdown
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

METHODS = {"sft": "supervised fine-tuning", "dpo": "direct preference optimization"}
PACKAGES = ("silogen", "torch", "transformers", "trl", "peft")

# Arguments of the trainer that say most of a run, in the order of the card.
ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "optim",
    "weight_decay",
    "max_grad_norm",
    "beta",
    "loss_type",
    "seed",
)


class FinishedRun(NamedTuple):
    """What the card of a trained model tells of its run."""

    config: ResolvedConfig
    plan: Plan
    data: TrainingData
    metrics: list[Metrics]


def write_card(finished: FinishedRun, folder: Path) -> None:
    """Write the card of what a run saved in `folder`, in place of any that the libraries wrote.

    It holds no times and no speeds, so that the same run writes the same card.
    """
    config = finished.config
    adapter = saved_adapter(folder)
    kind = adapter.get("peft_type", "")
    place = adapter.get("base_model_name_or_path") or base_of(config)  # which may have grown
    card = TEMPLATES.get_template("model_card.md.jinja").render(
        front_matter=front_matter(place, config.method, adapter=kind),
        kind=kind,
        base=base_of(config),
        method=METHODS[config.method],
        facts=dict(facts(*finished)),
        quantization=config.quantization and call(config.quantization.class_, config.quantization.kwargs),
        quantization_class=config.quantization and config.quantization.class_,
        load_base=call("AutoModelForCausalLM.from_pretrained", loading(config, place), first=place),
        digest=config.digest,
    )
    (folder / "README.md").write_text(card, "utf-8")


def saved_adapter(folder: Path) -> dict[str, Any]:
    """Return the config of the adapter that is saved in a folder, empty where none is."""
    file = folder / "adapter_config.json"
    return dict(json.loads(file.read_bytes())) if file.is_file() else {}


def loading(config: ResolvedConfig, place: str) -> dict[str, Any]:
    """Return what must be said to load the base model as the run did, beside its name and quantization."""
    kwargs = config.model.from_pretrained
    usual = {
        "revision": "main",
        "subfolder": "",
        "variant": None,
        "dtype": "auto",
        "trust_remote_code": False,
    }
    names = [*usual] if place == base_of(config) else ["dtype", "trust_remote_code"]
    return {name: kwargs[name] for name in names if kwargs.get(name, usual[name]) not in {usual[name], None}}


def call(function: str, kwargs: dict[str, Any], first: str | None = None) -> str:
    """Return a call in Python with the arguments that are not None."""
    given = [f"{name}={literal(value)}" for name, value in kwargs.items() if value is not None]
    return f"{function}({', '.join([literal(first)] * (first is not None) + given)})"


def merged_card(made: dict[str, str], config: ResolvedConfig | None) -> str:
    """Return the card of a model that an adapter was merged into; `made` says of what."""
    method = config.method if config else None
    return TEMPLATES.get_template("merged_card.md.jinja").render(
        front_matter=front_matter(made["base"], method, adapter=""),
        digest=config and config.digest,
        versions=versions(),
        **made,
    )


def front_matter(base: str, method: str | None, *, adapter: str) -> str:
    """Return the metadata that the Hugging Face hub reads; a base that is no model of the hub is left out."""
    tags = ["silogen", *([method, "trl"] if method else []), *([adapter.lower()] if adapter else [])]
    return ModelCardData(
        base_model=base if is_on_hub(base) else None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        tags=tags,
    ).to_yaml()


def is_on_hub(name: str) -> bool:
    """Tell whether a model's name is an id of the hub, as far as that can be told without asking it."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def base_of(config: ResolvedConfig) -> str:
    return str(config.model.from_pretrained["pretrained_model_name_or_path"])


def facts(
    config: ResolvedConfig, plan: Plan, data: TrainingData, metrics: list[Metrics]
) -> Iterator[tuple[str, str]]:
    """Yield what a reader of the card wants to know of the run, each with its name."""
    args = config.trainer.args
    revision = config.model.from_pretrained.get("revision")
    is_pinned = revision not in {None, "main"}
    yield "base model", code(base_of(config)) + (f" at {code(revision)}" if is_pinned else "")
    yield "method", f"{METHODS[config.method]} ({config.trainer.class_})"
    if isinstance(config.peft, CallSpec):
        yield "adapter", f"{config.peft.class_}: {listed(config.peft.kwargs)}"
    elif isinstance(config.peft, PretrainedAdapter):
        yield "adapter", f"goes on from {code(config.peft.pretrained)}"
    if config.quantization:
        yield "base weights", f"quantized, {config.quantization.class_}: {listed(config.quantization.kwargs)}"
    yield "parameters", describe_parameters(plan)
    yield "training data", f"{describe_split(data.train)}; from {sources(config.data.train)}"
    if data.validation:
        origin = getattr(config.data.validation, "datasets", None)
        split = f"from {sources(config.data.validation)}" if origin else "split off the training data"
        yield "validation data", f"{describe_split(data.validation)}; {split}"
    for key, name in (("loss", "loss"), ("eval_loss", "validation loss")):
        values = [line[key] for line in metrics if key in line]
        if values:
            yield name, f"{values[0]:.4f} → {values[-1]:.4f}"
    yield "steps", describe_steps(plan)
    for key in ARGUMENTS:
        if key in args:
            yield key, code(args[key])
    yield "precision", precision(args)
    yield "longest example", f"{config.data.max_length:,} tokens" if config.data.max_length else "no limit"
    yield "chat template", config.tokenizer.chat_template.name
    yield "versions", versions()


def sources(data: Any) -> str:
    """Return the data files, as the config names them, with their weights; without those of weight 0."""
    weights = [getattr(file, "sampling_weight", None) for file in data.datasets]
    used = [(file, weight) for file, weight in zip(data.datasets, weights, strict=True) if weight != 0]
    return ", ".join(code(file.path) + (f" (weight {weight:g})" if weight else "") for file, weight in used)


def precision(args: dict[str, Any]) -> str:
    mixed = next((name for name in ("bf16", "fp16") if args.get(name)), None)
    return f"mixed, computed in {mixed}" if mixed else "as the weights are"


def versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def listed(kwargs: dict[str, Any]) -> str:
    """Return the arguments that are set to anything."""
    return ", ".join(f"{key} {code(value)}" for key, value in kwargs.items() if value not in (None, [], {}))


def code(value: Any) -> str:
    """Return a value as Markdown shows it, whatever is in it."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"
