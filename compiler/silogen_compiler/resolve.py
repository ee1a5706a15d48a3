"""Stage 5: every default filled in, every derived number worked out, each value with its origin."""

from __future__ import annotations

from math import isqrt, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from silogen_compiler.load import Layer, Path, find_mark, value_span
from silogen_compiler.schema import Schema, bundle, deref, narrow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from silogen_compiler.diagnostics import Span


class Origin(NamedTuple):
    """Where a resolved value comes from; `text` is what people read.

    It is a place in a file, `default`, an environment variable, or the arithmetic of the `rule`.
    """

    text: str
    rule: str = ""


DEFAULT = Origin("default")

DATA_TYPES = {"sft": "ChatConversation", "dpo": "DirectPreference"}

# Keys whose default an environment variable replaces, as in the original engine.
ENVIRONMENT: dict[Path, str] = {
    ("training_args", "output_dir"): "CHECKPOINTS_PATH",
    ("training_args", "logging_dir"): "LOGS_PATH",
}


class Values:
    """A config with all its defaults, and the origin of every value.

    Plain data inside: `data` as in the config, `origins` by path. A list of scalars has one origin.
    """

    def __init__(
        self,
        layer: Layer,
        world_size: int,
        environment: Mapping[str, str],
        wrong: frozenset[Path] = frozenset(),
        *,
        has_gaps: bool = False,
    ) -> None:
        """Fill in the defaults.

        What stands at the paths `wrong` is left out, and no default takes its place. `has_gaps` tells that
        values are wrong or missing, so that a key may be absent.
        """
        self.layer = layer
        self.wrong = wrong
        self.has_gaps = has_gaps
        self.world_size = world_size
        self.rule = ""
        self.environment = environment
        self.origins: dict[Path, Origin] = {}
        self.data: dict[str, Any] = self._fill(bundle(), layer.data, ())

    def __getitem__(self, key: str) -> Any:
        """Return the value at a dotted key."""
        value: Any = self.data
        for part in key.split("."):
            value = value[part]
        return value

    def set(self, key: str, value: Any, text: str) -> None:
        """Replace the value at a dotted key by what the current rule works out, as `text` shows."""
        *sections, name = key.split(".")
        section = self.data
        for part in sections:
            section = section[part]
        section[name] = value
        self.origins[tuple(key.split("."))] = Origin(text, self.rule)

    def bit_widths(self) -> list[int]:
        """Return the widths that `quant_conf` asks for: [], [4], [8], or both by mistake."""
        quantization = self["quant_conf"]
        return [width for width in (4, 8) if quantization.get(f"load_in_{width}bit")]

    def span(self, key: str) -> Span | None:
        """Return where a value, or else its section, is written."""
        return value_span(self.layer, tuple(key.split(".")))

    def is_written(self, key: str) -> bool:
        """Tell whether a person wrote the key, whatever its value."""
        return tuple(key.split(".")) in self.layer.marks

    def origin(self, key: str) -> Origin:
        """Return the origin of a value, for a mapping that of its first value."""
        path = tuple(key.split("."))
        below = (origin for at, origin in self.origins.items() if at[: len(path)] == path)
        return self.origins.get(path) or next(below, DEFAULT)

    def shown(self, key: str) -> str:
        """Return a value with its place, for the arithmetic behind another value."""
        origin, value = self.origin(key), self[key]
        text = str(value).lower() if isinstance(value, bool) else value
        return f"{text} ({'default' if origin is DEFAULT else origin.text})"

    def _fill(self, node: Schema, value: Any, path: Path) -> Any:
        node = narrow(node, value)
        if isinstance(value, list) and isinstance(deref(node.get("items", {})).get("properties"), dict):
            return [self._fill(node["items"], item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict) or "properties" not in node:
            return self._leaf(node, value, path)
        live = [(key, spec) for key, spec in _live(node, value) if (*path, key) not in self.wrong]
        return {key: self._property(spec, key, value, path) for key, spec in live}

    def _property(self, spec: Schema, key: str, value: dict[str, Any], path: Path) -> Any:
        here = (*path, key)
        if key in value:
            return self._fill(spec, value[key], here)
        variable = ENVIRONMENT.get(here, "")
        if variable in self.environment:
            self.origins[here] = Origin(f"environment {variable}")
            return self.environment[variable]
        return self._default(spec, spec["default"], here)

    def _default(self, spec: Schema, value: Any, path: Path) -> Any:
        """Return a default, itself filled with the defaults of what it leaves out."""
        node = narrow(spec, value)
        if isinstance(value, dict) and "properties" in node:
            return {
                key: self._default(below, value.get(key, below.get("default")), (*path, key))
                for key, below in _live(node, value)
            }
        self.origins[path] = DEFAULT
        return value

    def _leaf(self, node: Schema, value: Any, path: Path) -> Any:
        """Take a value as it is written; of a mapping with free keys, each value has an origin of its own."""
        if isinstance(value, dict) and value:
            return {key: self._leaf({}, item, (*path, key)) for key, item in value.items()}
        self.origins[path] = self._written(path)
        return int(value) if node.get("type") == "integer" and isinstance(value, float) else value

    def _written(self, path: Path) -> Origin:
        mark = find_mark(self.layer.marks, path)
        return Origin(str(mark.value)) if mark else DEFAULT


def _live(node: Schema, value: dict[str, Any]) -> list[tuple[str, Schema]]:
    """Return the properties that have a value: written, or with a default and not of an older version."""
    properties = node["properties"].items()
    return [(key, spec) for key, spec in properties if key in value or _has_default(spec)]


def _has_default(spec: Schema) -> bool:
    return "default" in spec and not spec.get("deprecated")


def resolve(values: Values) -> None:
    """Work out every derived value of a config that has no errors."""
    for derive in DERIVATIONS:
        values.rule = derive.__name__
        derive(values)


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`; both are at least 1."""
    small = [d for d in range(1, isqrt(number) + 1) if number % d == 0]
    return max(d for pair in ((d, number // d) for d in small) for d in pair if d <= limit)


def batch_sizes(values: Values) -> None:
    """Split the total batch: per device the largest size that divides it, accumulation for the rest."""
    total, processes = values["batchsize_conf.total_train_batch_size"], values.world_size
    limit = values["batchsize_conf.max_per_device_train_batch_size"]
    share = total // processes
    size = largest_divisor(share, limit)
    noun = "process" if processes == 1 else "processes"
    whole = f"{values.shown('batchsize_conf.total_train_batch_size')} / {processes} {noun}"
    at_most = f"largest divisor up to {values.shown('batchsize_conf.max_per_device_train_batch_size')}"
    per_device, per_device_eval = "per_device_train_batch_size", "per_device_eval_batch_size"
    values.set(f"training_args.{per_device}", size, f"{whole} = {share}, {at_most}")
    values.set("training_args.gradient_accumulation_steps", share // size, f"{whole} / {size} a device")
    eval_size = values[f"batchsize_conf.{per_device_eval}"]
    text = per_device if eval_size is None else values.origin(f"batchsize_conf.{per_device_eval}").text
    values.set(f"training_args.{per_device_eval}", eval_size or size, text)


def learning_rate(values: Values) -> None:
    """Apply `overrides` to the learning rate: lr_multiplier, then a factor from the total batch size."""
    multiplier = values["overrides.lr_multiplier"]
    scaling = values["overrides.lr_batch_size_scaling"]
    total = values["batchsize_conf.total_train_batch_size"]
    factors = [f"× {values.shown('overrides.lr_multiplier')}"] if multiplier != 1 else []
    if scaling != "none":
        factors.append(
            f"× {f'sqrt({total})' if scaling == 'sqrt' else total} (overrides.lr_batch_size_scaling)"
        )
    if not factors:
        return
    factor = {"none": 1, "sqrt": sqrt(total), "linear": total}[scaling]
    text = " ".join([values.shown("training_args.learning_rate"), *factors])
    rate = values["training_args.learning_rate"] * multiplier * factor
    values.set("training_args.learning_rate", rate, text)


def data_types(values: Values) -> None:
    """Take the data type that belongs to the method."""
    kind = DATA_TYPES[values["method"]]
    for side in ("training_data", "validation_data"):
        if values[f"data_conf.{side}.data_type"] != kind:
            values.set(f"data_conf.{side}.data_type", kind, f"method {values['method']}")


def output_folders(values: Values) -> None:
    """Take a null output_dir as the default one."""
    if values["training_args.output_dir"] is None:
        values.set("training_args.output_dir", "./checkpoints", "null means ./checkpoints")


def dtype(values: Values) -> None:
    """`dtype` follows its older name `torch_dtype` where it is not set itself."""
    if values["run_conf.model_args.dtype"] is None:
        old = "run_conf.model_args.torch_dtype"
        values.set("run_conf.model_args.dtype", values[old], values.origin(old).text)


def device_map(values: Values) -> None:
    """One process spreads the model by "auto"; several load it on each process's own device."""
    if (
        values.is_written("run_conf.model_args.device_map")
        and values["run_conf.model_args.device_map"] is not None
    ):
        return
    if values["training_args.deepspeed"] is not None:
        values.set("run_conf.model_args.device_map", None, "DeepSpeed places the model")
    elif values.world_size > 1:
        values.set("run_conf.model_args.device_map", None, "each process its own device")
    else:
        values.set("run_conf.model_args.device_map", "auto", "one process")


def safetensors(values: Values) -> None:
    """Weights come from safetensors files only, never from pickles."""
    if values["run_conf.model_args.use_safetensors"] is None:
        values.set("run_conf.model_args.use_safetensors", value=True, text="never pickled weights")


def checkpointing(values: Values) -> None:
    """`activation_checkpointing` follows its older name `gradient_checkpointing`, and the two stay equal."""
    for suffix in ("", "_kwargs"):
        new, old = (
            f"training_args.activation_checkpointing{suffix}",
            f"training_args.gradient_checkpointing{suffix}",
        )
        source, target = (old, new) if values[new] is None else (new, old)
        value = values[source] if suffix else bool(values[source])
        values.set(target, value, values.origin(source).text)


def full_determinism(values: Values) -> None:
    if values["run_conf.determinism"] == "full":
        text = f"determinism: {values.shown('run_conf.determinism')}"
        values.set("training_args.full_determinism", value=True, text=text)


def report_to(values: Values) -> None:
    """No tracker is the list's own word "none"; with a tracking section MLflow joins."""
    names = values["training_args.report_to"]
    names = [names] if isinstance(names, str) else names or []
    listed = [name for name in names if name != "none"]
    if values["tracking"] is not None and not {"mlflow", "all"} & set(listed):
        values.set("training_args.report_to", [*listed, "mlflow"], "tracking is set")
    elif not listed and values["training_args.report_to"] != "none":
        values.set("training_args.report_to", "none", "nothing to report to")


def quant_storage(values: Values) -> None:
    """FSDP shards 4-bit weights only when they are stored in the type that is computed in."""
    if values.bit_widths() != [4] or not values["training_args.fsdp"]:
        return
    if values["quant_conf.bnb_4bit_quant_storage"] is None:
        kind = (
            "bfloat16"
            if values["training_args.bf16"]
            else "float16"
            if values["training_args.fp16"]
            else "float32"
        )
        values.set("quant_conf.bnb_4bit_quant_storage", kind, "FSDP with 4-bit weights")


def deepspeed_batches(values: Values) -> None:
    """Write the batch sizes into an inline DeepSpeed config."""
    config = values["training_args.deepspeed"]
    if isinstance(config, dict):
        sizes = {
            "train_micro_batch_size_per_gpu": values["training_args.per_device_train_batch_size"],
            "train_batch_size": values["batchsize_conf.total_train_batch_size"],
        }
        values.set("training_args.deepspeed", {**config, **sizes}, "batch sizes of batchsize_conf")


DERIVATIONS = (
    batch_sizes,
    learning_rate,
    data_types,
    output_folders,
    dtype,
    device_map,
    safetensors,
    checkpointing,
    full_determinism,
    report_to,
    quant_storage,
    deepspeed_batches,
)
