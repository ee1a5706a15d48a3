"""Rules for general.py: combinations of an adapter's arguments that peft 0.21 refuses or drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silogen_compiler.diagnostics import Diagnostic, Findings
from silogen_compiler.rules.peft_refusals import REFUSALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from silogen_compiler.rules.peft_refusals import Kwargs
    from silogen_compiler.values import Values

KWARGS = "peft_conf.peft_kwargs"

# Adapters that keep a prefix as keys and values, where a cache would be.
KEEPS_PREFIX = {"PREFIX_TUNING", "CARTRIDGE"}
# Adapters that compute with the weights themselves, and the widths in which peft 0.21 has only their bits: it
# fails, or trains on those bits as if they were the weights.
READS_WEIGHTS = {
    **dict.fromkeys(("ADAMSS", "DEFT", "DELORA", "FROD", "GLORA", "HRA"), (4, 8)),
    **dict.fromkeys(("OSF", "PEANUT", "PSOFT", "SUPERTUNING", "TINYLORA", "UNILORA"), (4, 8)),
    **dict.fromkeys(("LOHA", "LOKR"), (4,)),
}
LORA_VARIANTS = (
    *("use_dora", "velora_config", "alora_invocation_tokens", "monteclora_config"),
    *("use_bdlora", "arrow_config", "kasa_config"),
)
CPT_SIZES = (
    *("num_virtual_tokens", "num_transformer_submodules"),
    *("num_layers", "token_dim", "num_attention_heads"),
)


def _variants(kwargs: Kwargs) -> list[str]:
    """Return the arguments that ask for a kind of LoRA; plain LoRA is none. An empty config asks for one."""
    mica = ["init_lora_weights"] if kwargs["init_lora_weights"] == "mica" else []
    return [*mica, *(key for key in LORA_VARIANTS if kwargs.get(key) not in (None, False, []))]


def no_refused_arguments(values: Values) -> Findings:
    kind, kwargs = values["peft_conf.peft_type"], values["peft_conf"].get("peft_kwargs", {})
    for refusal in REFUSALS:
        if kind in refusal.peft_types and refusal.refused(kwargs):
            message, label = refusal.message.format(**kwargs), refusal.label.format(**kwargs)
            yield Diagnostic("SG335", message, values.span(f"{KWARGS}.{refusal.key}"), label)


def one_lora_variant(values: Values) -> Findings:
    if values["peft_conf.peft_type"] != "LORA":
        return
    variants = _variants(values["peft_conf.peft_kwargs"])
    for key in variants[1:]:
        message = f"`{key}` does not work with `{variants[0]}`: each is a kind of LoRA of its own"
        yield Diagnostic("SG335", message, values.span(f"{KWARGS}.{key}"), "remove one of them")


def no_dropped_loftq(values: Values) -> Findings:
    """Refuse a config of LoftQ that peft empties, with no more than a warning."""
    kwargs = values["peft_conf"].get("peft_kwargs", {})
    if kwargs.get("loftq_config") and kwargs["init_lora_weights"] != "loftq":
        message = "`loftq_config` is dropped without `init_lora_weights: loftq`"
        yield Diagnostic("SG335", message, values.span(f"{KWARGS}.loftq_config"), "add that, or remove this")


def what_cpt_works_out(values: Values) -> Findings:
    """Refuse what CPTConfig forgets: it takes the sizes from its tokens and from the model."""
    if values["peft_conf.peft_type"] != "CPT":
        return
    if values["peft_conf.task_type"] != "CAUSAL_LM":
        message = f"CPT does not work for `task_type: {values['peft_conf.task_type']}`"
        yield Diagnostic("SG335", message, values.span("peft_conf.task_type"), "write CAUSAL_LM")
    kwargs = values[KWARGS]
    taken = {"num_virtual_tokens": len(kwargs["cpt_token_ids"]), "num_transformer_submodules": 1}
    for key in CPT_SIZES:
        if kwargs[key] not in (None, taken.get(key)):
            message = f"CPT works out `{key}` itself and forgets the {kwargs[key]}"
            yield Diagnostic("SG335", message, values.span(f"{KWARGS}.{key}"), "remove it")


def prefix_without_checkpointing(values: Values) -> Findings:
    """Refuse what fails in the first step: checkpointing throws away the keys and values of the prefix."""
    checkpointing, kind = checkpointing_key(values), values["peft_conf.peft_type"]
    if checkpointing and kind in KEEPS_PREFIX:
        name = checkpointing.rpartition(".")[2]
        note = values.also("peft_conf.peft_type")
        yield Diagnostic(
            "SG350",
            f"{kind} does not work with `{name}`",
            values.span(checkpointing),
            "write false",
            notes=note,
        )


def readable_weights(values: Values) -> Findings:
    """Refuse an adapter that can't read the weights as they are quantized."""
    kind = values["peft_conf.peft_type"]
    unread = READS_WEIGHTS.get(kind, ())
    for width in {*values.bit_widths()} & {*unread}:
        message = f"{kind} can't compute with weights in {width} bits"
        instead = "write `load_in_8bit: true`, or " if unread == (4,) else ""
        note = values.also(f"quant_conf.load_in_{width}bit")
        span = values.span("peft_conf.peft_type")
        yield Diagnostic("SG359", message, span, f"{instead}choose another, such as LORA", notes=note)


def dora_keeps_scales(values: Values) -> Findings:
    """Refuse DoRA where peft 0.21 loses the scales of the weights, in the second step."""
    dora = "peft_conf.peft_kwargs.use_dora"
    on_cpu = values["training_args.use_cpu"] and values.bit_widths() == [8]
    if on_cpu and values["peft_conf.peft_type"] == "LORA" and values[dora]:
        message = "on the CPU `use_dora` does not work with weights in 8 bits"
        note = values.also("quant_conf.load_in_8bit")
        label = "remove it, or write `load_in_4bit: true`"
        yield Diagnostic("SG359", message, values.span(dora), label, notes=note)


def checkpointing_key(values: Values) -> str:
    """Return the key that turns gradient checkpointing on, empty where it is off."""
    new, old = "training_args.activation_checkpointing", "training_args.gradient_checkpointing"
    key = old if values[new] is None else new
    return key if values[key] else ""


PEFT_RULES: tuple[Callable[[Values], Findings], ...] = (
    no_refused_arguments,
    one_lora_variant,
    no_dropped_loftq,
    what_cpt_works_out,
    prefix_without_checkpointing,
    readable_weights,
    dora_keeps_scales,
)
