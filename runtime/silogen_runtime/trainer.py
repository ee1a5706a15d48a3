"""The trainer of a run: TRL's, with our data, collation and callbacks."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import peft
import torch
import trl
from silogen_compiler.diagnostics import Diagnostic, Refused
from transformers import DataCollatorForSeq2Seq, PrinterCallback, ProgressCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.integration_utils import MLflowCallback
from trl.trainer.dpo_trainer import DataCollatorForPreference

from silogen_runtime.chat import IGNORED
from silogen_runtime.model import new_tokens_finding
from silogen_runtime.saving import WholeCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from datasets import Dataset
    from silogen_config import ResolvedConfig
    from transformers import BatchEncoding, PreTrainedModel, TrainerCallback

    from silogen_runtime.data import TrainingData
    from silogen_runtime.model import LoadedModel
    from silogen_runtime.tokenizer import ChatTokenizer, TokenizerType

    Args: TypeAlias = "trl.SFTConfig | trl.DPOConfig"
    Trainer: TypeAlias = "ConversationTrainer | PreferenceTrainer"
    Batch = BatchEncoding
    Collator = Callable[[list[dict[str, Any]]], Batch]


# Adapters that embed the text with the model's own weights, past trained copies in modules_to_save.
EMBED_THEMSELVES = (peft.PromptTuningConfig, peft.PromptEncoderConfig)


class ConversationTrainer(WholeCheckpoints, trl.SFTTrainer):  # type: ignore[misc]
    """TRL's trainer for conversations."""


class PreferenceTrainer(WholeCheckpoints, trl.DPOTrainer):  # type: ignore[misc]
    """TRL's trainer for preferences that are tokens already."""

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset


TRAINERS: dict[str, type[Trainer]] = {"sft": ConversationTrainer, "dpo": PreferenceTrainer}


class Plan(NamedTuple):
    """The size of a run."""

    steps: int
    first_step: int
    processes: int
    per_device_batch: int
    accumulation: int
    trainable_parameters: int
    total_parameters: int
    output_dir: str


def build_args(config: ResolvedConfig) -> Args:
    """Return the trainer's arguments. Refused where other processes take part than are planned."""
    kwargs = deepcopy(config.trainer.args)  # the libraries complete the mappings among them
    args: Args = getattr(trl, config.trainer.args_class)(**kwargs)
    planned, real = config.launch.world_size, args.world_size
    if real != planned:
        message = f"the config is resolved for {planned} process{'es' * (planned > 1)}, but {real} take part"
        help_text = "start with `silogen train` or torchrun, which connect the processes"
        raise Refused(Diagnostic("SG702", message, help=help_text))
    return args


def build_trainer(  # noqa: PLR0913, PLR0917 - a trainer is made of these
    config: ResolvedConfig,
    args: Args,
    loaded: LoadedModel,
    chat: ChatTokenizer,
    data: TrainingData,
    callbacks: list[TrainerCallback],
) -> Trainer:
    trainer = TRAINERS[config.method](
        model=loaded.model,
        **({"ref_model": loaded.reference} if loaded.reference else {}),
        args=args,
        peft_config=loaded.new_adapter,
        processing_class=chat.tokenizer,
        train_dataset=data.train.examples,
        eval_dataset=data.validation.examples if data.validation else None,
        data_collator=build_collator(config, args, chat.tokenizer),
        callbacks=callbacks,
    )
    for replaced in (PrinterCallback, ProgressCallback, MLflowCallback):
        trainer.remove_callback(replaced)
    # ours first, so that trackers get what they add to the logs
    trainer.callback_handler.callbacks.sort(key=lambda callback: callback not in callbacks)
    if config.quantization:
        cast_trained_weights(trainer.model)
    refuse_half_precision(trainer.model)
    refuse_untrained_tokens(trainer.model, chat)
    return trainer


def build_collator(config: ResolvedConfig, args: Args, tokenizer: TokenizerType) -> Collator | None:
    """Return what pads a batch; None where TRL lays out examples without padding."""
    collator: Collator
    if config.method == "dpo":
        collator = DataCollatorForPreference(
            tokenizer.pad_token_id, args.max_length, args.truncation_mode, args.pad_to_multiple_of
        )
    elif args.packing or args.padding_free:
        return None
    else:
        collator = DataCollatorForSeq2Seq(
            tokenizer, label_pad_token_id=IGNORED, pad_to_multiple_of=args.pad_to_multiple_of
        )
    if config.tokenizer.missing_pad_token_strategy == "unk-convert-to-eos":  # noqa: S105
        return padding_as(collator, tokenizer.eos_token_id)
    return collator


def padding_as(collator: Collator, token_id: int) -> Collator:
    """Return `collator` with another token in the padded places of the inputs."""
    return partial(_collate_as, collator, token_id)  # which processes that load data can be sent


def _collate_as(collator: Collator, token_id: int, examples: list[dict[str, Any]]) -> Batch:
    batch = collator(examples)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, token_id)
    return batch


def cast_trained_weights(model: torch.nn.Module) -> None:
    """Train the adapter of a quantized model in float32.

    TRL makes it bfloat16, which PEFT loads back as float32: a resumed run would end in other weights.
    """
    for parameter in trained(model):
        parameter.data = parameter.data.float()


def refuse_half_precision(model: torch.nn.Module) -> None:
    if any(parameter.dtype == torch.float16 for parameter in trained(model)):
        raise Refused(
            Diagnostic(
                "SG703",
                "weights in float16 can't be trained: their updates are too small for it",
                help="write `dtype: bfloat16` or `dtype: float32` in model_args; `fp16: true` may stay",
            ),
        )


def refuse_untrained_tokens(model: PreTrainedModel, chat: ChatTokenizer) -> None:
    if chat.new_tokens and not trains_new_tokens(model, chat):
        raise Refused(new_tokens_finding(chat, "the adapter does not train their embeddings"))


def trains_new_tokens(model: PreTrainedModel | peft.PeftModel, chat: ChatTokenizer) -> bool:
    """Tell whether the embeddings of new tokens are trained where the model reads them."""
    adapter = getattr(model, "active_peft_config", None)
    if isinstance(adapter, EMBED_THEMSELVES):
        return False
    if isinstance(adapter, peft.TrainableTokensConfig):
        size = len(chat.tokenizer)
        return {*range(size - chat.new_tokens, size)} <= {*adapter.token_indices}
    return bool(trained(model.get_input_embeddings()))


def refuse_lost_weights(model: torch.nn.Module) -> None:
    """Raise Refused where training left weights that are no numbers."""
    if not all(torch.isfinite(parameter).all() for parameter in trained(model)):
        raise Refused(
            Diagnostic(
                "SG721",
                "the trained weights are no longer numbers",
                help="lower learning_rate, or go on from an earlier checkpoint; metrics.jsonl tells which",
            ),
        )


def gathered_weights(trainer: trl.SFTTrainer) -> dict[str, torch.Tensor] | None:
    """Return the weights that are sharded over the processes; None where each has all. All must call it."""
    if trainer.is_fsdp_enabled:
        return dict(trainer.accelerator.get_state_dict(trainer.model))
    if is_deepspeed_zero3_enabled():  # type: ignore[no-untyped-call]
        return dict(trainer.accelerator.get_state_dict(trainer.deepspeed))
    return None


def refuse_other_steps(trainer: Trainer, first_step: int) -> None:
    """Raise Refused where processes found different checkpoints, as on machines that share no disk."""
    own = torch.tensor([first_step], device=trainer.args.device)
    steps = trainer.accelerator.gather(own).tolist()
    if min(steps) != max(steps):
        message = f"the processes would go on from different steps: {min(steps)} to {max(steps)}"
        help_text = "name a checkpoint that all machines have as `resume_from_checkpoint`, or write `false`"
        raise Refused(Diagnostic("SG738", message, help=help_text))


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def make_plan(trainer: Trainer, first_step: int) -> Plan:
    """Work out the size of the run that `trainer` is about to make. All processes must call it.

    Refused where it has no step, or where they would not start at the same one.
    """
    args = trainer.args
    refuse_other_steps(trainer, first_step)
    whole = math.floor if args.dataloader_drop_last else math.ceil
    batches = whole(len(trainer.train_dataset) / (args.per_device_train_batch_size * args.world_size))
    if batches == 0:
        message = f"{len(trainer.train_dataset)} examples do not fill a batch, and the last is dropped"
        raise Refused(Diagnostic("SG727", message, help="write `dataloader_drop_last: false`"))
    steps_per_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
    planned = math.ceil(args.num_train_epochs * steps_per_epoch)
    return Plan(
        steps=args.max_steps if args.max_steps > 0 else planned,
        first_step=first_step,
        processes=args.world_size,
        per_device_batch=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        trainable_parameters=sum(parameter.numel() for parameter in trained(trainer.model)),
        total_parameters=trainer.model.num_parameters(),
        output_dir=args.output_dir,
    )
