"""Every diagnostic code: its severity, a title, and what it means. `silogen explain CODE` prints this."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    severity: str
    title: str
    meaning: str


def _error(title: str, meaning: str) -> Code:
    return Code("error", title, meaning)


def _warning(title: str, meaning: str) -> Code:
    return Code("warning", title, meaning)


CODES: dict[str, Code] = {
    # SG1xx: reading
    "SG101": _error(
        "unreadable file",
        "The file is not there, is a folder, or may not be read.",
    ),
    "SG102": _error(
        "not UTF-8",
        "The file holds bytes that are not UTF-8 text. Save it in that encoding.",
    ),
    "SG103": _error(
        "syntax error",
        "The text is not valid YAML, JSON or TOML. Reading stops there, so there may be more mistakes behind it.",
    ),
    "SG104": _error(
        "duplicate key",
        "A key stands twice in one mapping. Most readers keep the last one in silence; here one of them has to go.",
    ),
    "SG105": _error(
        "aliases expand too far",
        "YAML aliases repeat so much that the config would grow beyond any real one.",
    ),
    "SG106": _error(
        "not a config",
        "The file is empty, or its top level is not a mapping of sections.",
    ),
    "SG107": _error(
        "more than one document",
        "The file goes on after the end of the config. Keep one config a file.",
    ),
    "SG108": _error(
        "too large",
        "The file is larger, or nested deeper, than any config needs to be.",
    ),
    "SG109": _error(
        "key is not text",
        "A key is a list or a mapping, or a merge (`<<`) takes something that is no mapping.",
    ),
    "SG110": _error(
        "unknown tag",
        "A YAML tag such as `!!python/name` asks for something to be built or run. Nothing in a config is executed.",
    ),
    "SG111": _error(
        "not a finite number",
        "A number is infinite, undefined (`.nan`), or larger than 64 bits hold.",
    ),
    "SG112": _error(
        "resolved already",
        "The file is a resolved config: the output of `silogen compile`, not its input. `silogen train` runs it as it is; to change something, change the config that it came from.",
    ),
    "SG113": _error(
        "files extend each other",
        "Following `extends` leads back to a file that was read already. Take one of the files out of the circle.",
    ),
    "SG114": _error(
        "environment variable not set",
        "A value refers to an environment variable that is not there, and gives no default. Set it, or write `${env:NAME:-default}`.",
    ),
    "SG115": _error(
        "secret in a value that is shown",
        "The variable's name says that it holds a secret, but the value would stand in the resolved config. Only keys for secrets, such as `run_conf.model_args.token`, may refer to one: those stay references.",
    ),
    "SG116": _error(
        "setting cannot be applied",
        "`--set` takes KEY=VALUE, with dots between keys and [0] for the first item of a list. The key must lead through mappings and lists that are there or can be made.",
    ),
    "SG120": _error(
        "drift from the lock",
        "A value, a version or a file is not what it was when `silogen compile --lock` wrote the lock. Undo the change, or write the lock anew.",
    ),
    "SG121": _error(
        "no lock",
        "There is no lock beside the config, or the file is not one that `silogen compile --lock` wrote.",
    ),
    "SG201": _error(
        "unknown key",
        "The section has no such key. It is misspelled, belongs to another section, or has another name here; ignored, its value would never reach the training.",
    ),
    "SG202": _error(
        "missing key",
        "The section lacks a key that has no default. `silogen explain` with the key says what to write.",
    ),
    "SG203": _error(
        "wrong type",
        "The value is of another type than the key takes, such as text for a number.",
    ),
    "SG204": _error(
        "unknown value",
        "The key takes one of a fixed set of values, and this is none of them.",
    ),
    "SG205": _error(
        "out of range",
        "The number lies outside the range in which it has a meaning.",
    ),
    "SG206": _error(
        "empty value",
        "The text or the list is empty, and the key needs something in it.",
    ),
    "SG207": _error(
        "wrong form",
        "The value is of the right type, but not in a form that the key takes. The help says which ones those are.",
    ),
    "SG301": _error(
        "total batch does not divide",
        "The total batch size must be a multiple of the number of processes, so that each takes an equal share.",
    ),
    "SG302": _warning(
        "small device batch",
        "The total batch size has no divisor near the largest batch that fits a device, so each step accumulates many small batches.",
    ),
    "SG303": _error(
        "bf16 and fp16",
        "Training is either in bfloat16 or in float16, not in both.",
    ),
    "SG304": _error(
        "4 and 8 bits",
        "Weights are loaded in 4 or in 8 bits, not in both.",
    ),
    "SG305": _warning(
        "nothing to quantize",
        "`quant_conf` is there but names no bit width, so the weights stay as they are.",
    ),
    "SG306": _error(
        "quantized weights without adapter",
        "Weights in 4 or 8 bits cannot be trained themselves. An adapter on top of them can.",
    ),
    "SG307": _error(
        "evaluation without data",
        "Evaluation is asked for, but there are no validation data.",
    ),
    "SG308": _warning(
        "validation data unused",
        "Validation data are put aside, but evaluation is never asked for.",
    ),
    "SG309": _error(
        "best checkpoint cannot be told",
        "To go back to the best checkpoint, every saved step must have been evaluated.",
    ),
    "SG310": _error(
        "all trackers without MLflow",
        "`report_to: all` includes MLflow, and without a `tracking` section that has no server to report to.",
    ),
    "SG311": _error(
        "device map with several processes",
        "A device map spreads one model over devices. Of several processes each has a whole model, on a device of its own.",
    ),
    "SG312": _error(
        "two number types",
        "`dtype` and its older name `torch_dtype` are both set, to different number types.",
    ),
    "SG313": _warning(
        "secret in a config",
        "A token or password stands in the config. Outputs hold a reference to an environment variable in its place.",
    ),
    "SG314": _warning(
        "data type of another method",
        "Each method reads data of one type, and the written one belongs to another method. It is replaced by the right one.",
    ),
    "SG315": _warning(
        "remote code",
        "With `trust_remote_code`, Python code from the model's repository runs on this machine. Where the model needs it, read that code first.",
    ),
    "SG316": _error(
        "all weights are 0",
        "Every data set has a sampling weight of 0, so none is used.",
    ),
    "SG317": _warning(
        "epochs beside steps",
        "`max_steps` decides how long the training lasts, so `num_train_epochs` has no effect.",
    ),
    "SG318": _error(
        "one name for two folders",
        "The trained model and a base model whose embeddings grew are saved side by side, and would replace each other.",
    ),
    "SG319": _error(
        "infinite learning rate",
        "Multiplied by the factors of `overrides`, the learning rate is larger than any number.",
    ),
    "SG320": _error(
        "no such module",
        "The model has no module, or no layer, that the adapter's argument asks for. A name in a list stands for all modules whose names end in it; text is a regular expression for whole names.",
    ),
    "SG321": _warning(
        "module probably not there",
        "A name in a list fits no module of the model, and peft passes over it; or the model is not on disk, and its family has no module of this name.",
    ),
    "SG322": _error(
        "quantized already",
        "The checkpoint is quantized already, and `quant_conf` asks for something else. Weights can be quantized only once.",
    ),
    "SG323": _error(
        "block size does not divide",
        "The adapter cuts the inputs or outputs of a layer into equal blocks, and this size does not divide their number.",
    ),
    "SG324": _warning(
        "block size is changed",
        "The adapter's block size does not divide the number of inputs of a layer. peft takes the nearest size that does.",
    ),
    "SG325": _warning(
        "flash attention in float32",
        "Flash attention computes in bfloat16 or float16 only. Load the model in one of them, or train in mixed precision.",
    ),
    "SG326": _error(
        "heads too large for flash attention",
        "Flash attention takes attention heads of at most 256 numbers.",
    ),
    "SG327": _warning(
        "tokens beyond the embeddings",
        "The tokenizer, or the eos or bos token in the model's config.json, has ids for which the model has no embeddings. The embeddings grow to the size of the tokenizer, with new rows that begin at random.",
    ),
    "SG328": _error(
        "quantized embeddings cannot grow",
        "The tokenizer has ids for which the model has no embeddings, and a quantized model can't get more of them.",
    ),
    "SG329": _warning(
        "sequences longer than the model's",
        "`max_seq_length` lets sequences have more tokens than the model has positions for.",
    ),
    "SG330": _warning(
        "cache beside checkpointing",
        "Gradient checkpointing computes parts of the model again, so no cache of keys and values is kept while training. transformers turns `use_cache` off.",
    ),
    "SG331": _error(
        "unknown attention",
        "transformers has no attention implementation of this name. A repository of kernels is written `owner/name`.",
    ),
    "SG332": _warning(
        "DeepSpeed's batch sizes replaced",
        "The batch sizes in an inline DeepSpeed config follow from `batchsize_conf`. Others written there are replaced.",
    ),
    "SG333": _warning(
        "paged optimizer on a CPU",
        "A paged optimizer moves its state between the GPU and main memory. On a CPU bitsandbytes takes the same optimizer without pages.",
    ),
    "SG334": _error(
        "optimizer without targets",
        "GaLore and APOLLO train the modules that `optim_target_modules` names in a smaller space, and need at least one.",
    ),
    "SG335": _error(
        "adapter arguments do not fit together",
        "peft refuses this combination of the adapter's arguments, or drops one of them.",
    ),
    "SG336": _warning(
        "resume without optimizer",
        "With `save_only_model` a checkpoint holds no state of the optimizer and the scheduler. A run that goes on from it starts both anew.",
    ),
    "SG337": _warning(
        "unusual learning rate",
        "The learning rate, with `overrides` applied, lies far outside what such training takes. Most often a factor or an exponent is wrong.",
    ),
    "SG338": _error(
        "scheduler lacks a setting",
        "The learning rate scheduler needs settings in `lr_scheduler_kwargs`, or an evaluation to follow, and has none.",
    ),
    "SG339": _error(
        "no worker processes",
        "The setting is about the processes that load the data, and with `dataloader_num_workers: 0` there are none.",
    ),
    "SG346": _error(
        "backend with one process",
        "`ddp_backend` says how processes talk to each other. With a single one the trainer fails before its first step.",
    ),
    "SG347": _warning(
        "best checkpoint unused",
        "The key says which checkpoint is best, and nothing asks for that one.",
    ),
    "SG348": _warning(
        "batch size may change",
        "When memory runs out, `auto_find_batch_size` takes a smaller batch a device and the same number of accumulation steps. The total batch size shrinks with it, and the results change.",
    ),
    "SG349": _warning(
        "warmup without end",
        "The learning rate rises through the whole training and never comes down again.",
    ),
    "SG350": _error(
        "prefix beside checkpointing",
        "The adapter puts its prefix where a cache would be, and gradient checkpointing throws that away. The first training step fails.",
    ),
    "SG351": _error(
        "torch.compile off and on",
        "`torch_compile` is false, but a backend or a mode is set for it. transformers compiles the model as soon as one is.",
    ),
    "SG352": _error(
        "part of a step",
        "Steps are counted in whole numbers. Only a number below 1 may have decimals: it is a share of all steps.",
    ),
    "SG353": _error(
        "losses and weights do not match",
        "`loss_weights` holds one weight for each loss in `loss_type`, in the same order.",
    ),
    "SG354": _warning(
        "adapter setting unused",
        "peft takes the setting, and nothing in the training reads it: TRL computes the loss itself, and no trainer makes the calls in each step that some adapters need.",
    ),
    "SG355": _error(
        "deterministic or not",
        "`full_determinism` is false, but `determinism: full` asks for it. The run would be deterministic.",
    ),
    "SG356": _warning(
        "two names for a run",
        "A run has one name. That in `tracking` decides.",
    ),
    "SG357": _error(
        "pairs sorted by length",
        "An example of method dpo is a pair of answers, with no length of its own to sort by. The trainer fails before its first step.",
    ),
    "SG358": _error(
        "reference model cannot move",
        "`sync_ref_model` moves the reference model towards the trained one. With an adapter there is no second model, and results computed in advance do not follow it.",
    ),
    "SG359": _error(
        "adapter can't read quantized weights",
        "Some adapters compute with the weights of the model themselves. Of weights in 4 or 8 bits peft gives them the bits, with which they fail in the first steps, or train towards nothing.",
    ),
    "SG360": _error(
        "setting of another strategy",
        "The key is about one way of sharing the model among processes, and `launch.strategy` chooses another or none. It would have no effect.",
    ),
    "SG361": _error(
        "strategy described twice",
        "`launch.strategy` writes the arguments `deepspeed`, `fsdp` and `fsdp_config` of transformers. A config that also holds one of them says two things. Leave `strategy` out to keep a DeepSpeed or FSDP config of your own.",
    ),
    "SG362": _error(
        "sharding on the CPU",
        "FSDP and ZeRO 3 shard the parameters over GPUs. On the CPU FSDP would silently train as `ddp` does, or fail, and ZeRO 3 fails. `ddp` and ZeRO 1 and 2 work there.",
    ),
    "SG363": _error(
        "offload out of reach",
        "What main memory can hold in place of the GPU depends on what is sharded: DeepSpeed offloads the optimizer's state, at stage 3 also the parameters, and FSDP both together.",
    ),
    "SG364": _error(
        "quantized weights can't be sharded",
        "FSDP and ZeRO 3 cut 4-bit weights apart only where they are stored in the number type that training computes in, which is what leaving `bnb_4bit_quant_storage` out gives. FSDP can't cut weights in 8 bits.",
    ),
    "SG365": _warning(
        "number of processes left open",
        "With `processes_per_node: auto` a machine trains with as many processes as it has GPUs. Compiling looks at no machine and counts one, so the batch sizes in this resolved config are for that.",
    ),
    "SG366": _error(
        "processes do not divide among machines",
        "Each machine trains with the same number of processes, so the number of all is a multiple of `launch.nodes`.",
    ),
    "SG367": _warning(
        "other number of processes than written",
        "A launcher started other processes than `launch` asks for, or `--world-size` says another number. The config is compiled for the real one: batch sizes a device and accumulation follow from it, and the total batch size stays.",
    ),
    "SG368": _error(
        "half precision for evaluation alone",
        "With `bf16_full_eval` or `fp16_full_eval` the evaluation is to compute in half precision. DeepSpeed has one "
        "number type for a run, so training has to compute in it too.",
    ),
    "SG401": _warning(
        "older name of a key",
        "The key has another name in today's libraries. Its value is taken over.",
    ),
    "SG402": _warning(
        "no effect any more",
        "The key belongs to an older library version and changes nothing today.",
    ),
    "SG403": _error(
        "key is gone",
        "The key belongs to an older library version. What it asks for is written otherwise today, or cannot be had any more.",
    ),
    "SG404": _warning(
        "older and newer name",
        "A key and its older name are both set; the newer one decides.",
    ),
    "SG501": _error(
        "not taken by the target",
        "The library versions of the target have no such argument.",
    ),
    "SG502": _warning(
        "no effect in the target",
        "The library versions of the target take the argument and do nothing with it.",
    ),
    "SG503": _error(
        "adapter on the output layer",
        "TRL computes the loss from lm_head's own weight, so an adapter on lm_head would never be trained.",
    ),
    "SG504": _error(
        "setting refused by the loss",
        "Some losses of method dpo do not work with every setting. The trainer refuses them, or fails in its first step.",
    ),
    "SG505": _error(
        "no such output for this config",
        "`--format` asks for something that this config has not got, such as a DeepSpeed config for a run without "
        "DeepSpeed.",
    ),
    "SG601": _error(
        "empty data file",
        "A data file holds no example. Every line of it is blank, or was left out.",
    ),
    "SG602": _error(
        "not JSON",
        "A line of a data file is not one complete JSON object. Each line holds one example; a `.json` file may hold one "
        "list of them.",
    ),
    "SG603": _error(
        "not of the data type",
        'A line of a data file is JSON, but not in the shape that the method takes: `{"messages": '
        '[{"role": …, "content": …}]}` for sft, with `prompt_messages`, `chosen_messages` and '
        "`rejected_messages` in place of `messages` for dpo.",
    ),
    "SG604": _error(
        "not UTF-8",
        "A line of a data file holds bytes that are not UTF-8. Save the file in that encoding.",
    ),
    "SG605": _warning(
        "no assistant turn",
        "A conversation has no message of the assistant. Where the loss counts assistant turns only, it "
        "teaches nothing and is left out.",
    ),
    "SG606": _error(
        "unstable chat template",
        "The chat template renders the beginning of a conversation differently when more messages "
        "follow. The text of a turn then depends on what comes after it, which the model can't see when "
        "it writes that turn.",
    ),
    "SG607": _error(
        "conversation refused by the template",
        "The chat template raised an error for a conversation, such as roles that do not alternate.",
    ),
    "SG608": _error(
        "not exactly one BOS token",
        "The text of a conversation must begin with exactly one BOS token where the model uses one. The "
        "chat template writes it twice, or drops it.",
    ),
    "SG609": _warning(
        "assistant turn without exactly one end token",
        "An assistant turn ends with one end token, from which the model learns to stop. This one has "
        "none, or its text holds the token too.",
    ),
    "SG610": _error(
        "no examples left",
        "Nothing is left to train or validate on after examples were left out: those that are too long, "
        "and those in which no token is learned.",
    ),
    "SG611": _error(
        "data too small to split",
        "AUTO_SPLIT takes a share of the training examples for validation. There are too few of them "
        "for that share.",
    ),
    "SG612": _error(
        "damaged compression",
        "A data file begins as a compressed file does, or has the suffix of one, and it can't be decompressed: it is "
        "cut off, damaged, or no such file.",
    ),
    "SG613": _error(
        "not an answer",
        "The chosen and the rejected answer go on where the prompt ends, so each begins and ends with a message of the "
        "assistant.",
    ),
    "SG614": _warning(
        "answers are the same",
        "The chosen and the rejected answer of a preference are the same, so it teaches nothing.",
    ),
    "SG615": _warning(
        "bad line left out",
        "A line can't be trained on. It is left out, since there are no more such lines than `--max-bad-lines` allows.",
    ),
    "SG616": _error(
        "not lines of text",
        "A data file is of another format, such as Parquet, or in another encoding than UTF-8. Data files hold one JSON "
        "object a line, and may be compressed with gzip or zstd.",
    ),
    "SG617": _error(
        "prepared data can't be kept",
        "Tokenized data are written to a folder before they are trained on, and that could not be written: there is no "
        "space left, or a permission is missing.",
    ),
    "SG618": _warning(
        "validated on what is trained on",
        "Lines of the data files are both trained and validated on: the same file is listed on both sides, or AUTO_SPLIT "
        "divides a mix in which examples stand several times.",
    ),
    "SG619": _warning(
        "mix repeats its examples often",
        "A mix goes on until each of its files has been used up once. A file with a small weight is drawn from rarely, so "
        "the others come again and again until then, ten times and more on average.",
    ),
    "SG620": _error(
        "mix without end",
        "A file of a mix has so small a weight that the others would come a thousand times and more until it is used up.",
    ),
    "SG621": _warning(
        "special token in a message",
        "A message holds the text of a special token, such as `</s>`, which also is HTML. The tokenizer reads it as that "
        "token, so a message can end, or another one begin, where nobody meant it to.",
    ),
    "SG699": _warning(
        "more findings in the data",
        "Only the first 20 findings in the data are shown. Mend them and run again to see the others.",
    ),
    "SG701": _error(
        "not a resolved config",
        "Training takes the output of `silogen compile`. A key is missing there, or has a value of the "
        "wrong type, as when another version of silogen wrote it.",
    ),
    "SG702": _error(
        "other number of processes",
        "A config is resolved for a number of processes, from which its batch sizes follow. The "
        "launcher started another number.",
    ),
    "SG703": _error(
        "precision out of reach",
        "The config asks for a number format that this machine can't compute in, or that weights can't "
        "be trained in.",
    ),
    "SG704": _error(
        "missing package",
        "The config, or training as such, needs a Python package that is not installed.",
    ),
    "SG705": _error(
        "attention out of reach",
        "The attention implementation is unknown, or trains on GPUs only and the run is on a CPU.",
    ),
    "SG706": _error(
        "missing file or folder",
        "A path in the config leads nowhere, or to a folder without the files that are loaded from it. Paths are "
        "relative to the folder that the command runs in.",
    ),
    "SG708": _error(
        "no checkpoint to resume",
        "The checkpoint that the run is to go on from is not there, or was not written to the end.",
    ),
    "SG709": _warning(
        "incomplete checkpoint skipped",
        "A checkpoint was not written to the end, as when a run is killed while it saves. The newest "
        "complete one is used.",
    ),
    "SG710": _warning(
        "checkpoints of an earlier run",
        "The output folder holds checkpoints of an earlier run, and this run starts anew. It writes over those of the "
        "same steps. Those of later steps stay, but are set aside when it saves its first: a later resume skips them.",
    ),
    "SG711": _error(
        "environment variable not set",
        "The config takes a secret from an environment variable, and that is not set.",
    ),
    "SG712": _error(
        "no chat template",
        "`keep-original` uses the chat template of the tokenizer, and this one has none.",
    ),
    "SG713": _error(
        "no end token",
        "The chat template ends assistant turns with the end token of the tokenizer, and it has none.",
    ),
    "SG714": _error(
        "pad token strategy does not fit",
        "The strategy for a missing pad token names a token that the tokenizer lacks, or the tokenizer "
        "has a pad token already and the strategy can't be used with one.",
    ),
    "SG715": _error(
        "tokenizer without offsets",
        "To learn from assistant turns only, the tokenizer must tell which characters each token stands "
        "for. Only the fast kind does.",
    ),
    "SG716": _error(
        "new tokens can't be learned",
        "The chat template adds tokens to the vocabulary, for which the model's embeddings must grow "
        "and be trained. That is not possible for this model and adapter.",
    ),
    "SG717": _error(
        "adapter on the output layer",
        "TRL computes the loss from the weights of the output layer directly, so an adapter on it would "
        "never be trained.",
    ),
    "SG718": _error(
        "out of memory",
        "The run needs more memory than there is. Most of it goes to the weights, to the optimizer, and "
        "to batch size times sequence length.",
    ),
    "SG719": _error(
        "adapter does not fit the model",
        "No layer of the model has a name that the adapter's target_modules ask for.",
    ),
    "SG720": _error(
        "can't load",
        "A model, tokenizer or adapter could not be loaded: it is neither a folder here nor in the "
        "cache nor on the hub, or a file of it is missing. Weights are loaded from safetensors files "
        "only.",
    ),
    "SG721": _error(
        "training diverged",
        "Trained weights became infinite or undefined, most often because the learning rate is too high. The final checkpoint was "
        "not written.",
    ),
    "SG722": _error(
        "resolved config was changed",
        "A resolved config carries a digest of all that it holds, and this one holds something else.",
    ),
    "SG723": _error(
        "file cannot be read or written",
        "The system refused to read or write a file, most often since a permission is missing.",
    ),
    "SG725": _error(
        "adapter not trained",
        "peft has this type of adapter, and silogen compiles its arguments. It does not work with TRL's trainer, so no run can use it.",
    ),
    "SG726": _error(
        "output out of place",
        "Checkpoints and the trained model go to `output_dir`. A saved model takes the place of the folder of its "
        "name, so that must be a folder of its own inside `output_dir`: new, or saved by an earlier run.",
    ),
    "SG727": _error(
        "no step to train",
        "The number of steps, of epochs or of examples leaves not a single step.",
    ),
    "SG728": _error(
        "other library versions",
        "A config is compiled for versions of transformers, trl and peft, whose arguments and defaults it holds. "
        "Those that are installed are of another major or minor version.",
    ),
    "SG729": _warning(
        "slightly other library versions",
        "The installed transformers, trl or peft differs in its last number from the version that the config is "
        "compiled for. Results may differ.",
    ),
    "SG730": _error(
        "no such device",
        "`device_map` or `max_memory` names a device that this machine does not have.",
    ),
    "SG731": _error(
        "tracking refused",
        "MLflow can't be reached, or does not take the server, the experiment or the run that the config names.",
    ),
    "SG732": _warning(
        "resumed without optimizer",
        "The checkpoint was saved with `save_only_model`. The run goes on from its weights and its step, with an "
        "optimizer and a learning rate schedule that start anew.",
    ),
    "SG733": _error(
        "launcher variables do not fit",
        "A launcher such as torchrun tells each process its number, and how many there are, in environment "
        "variables. One of them holds something else.",
    ),
    "SG734": _error(
        "failure without an explanation",
        "A library raised an error that silogen has no explanation for. Its own text is in the message. With the "
        "environment variable SILOGEN_TRACEBACK=1 the run shows where the error came from.",
    ),
    "SG735": _error(
        "dpo adds no tokens",
        "The chat template needs special tokens that the tokenizer lacks. Method dpo starts from a model that knows its "
        "template, and adds nothing to the vocabulary.",
    ),
    "SG737": _warning(
        "reference model starts anew",
        "With `sync_ref_model` the reference model moves during the run, and checkpoints don't hold it. A resumed run "
        "begins with the base model as its reference, so it ends in other weights than a run that was not stopped.",
    ),
    "SG738": _error(
        "processes at different steps",
        "Each process looks for the checkpoint to go on from, and they found different ones. With `save_on_each_node` each machine "
        "has its own, and one of them lacks what another saved, or holds it incomplete.",
    ),
    "SG741": _error(
        "sharding without GPU",
        "FSDP and ZeRO 3 shard the parameters over GPUs, and there are none here, or `use_cpu` is on. On the CPU FSDP would silently train as `ddp` does, or fail, and ZeRO 3 fails.",
    ),
    "SG742": _error(
        "more processes than GPUs",
        "Each process trains on a GPU of its own, and this machine has fewer of them than processes are to be started.",
    ),
    "SG743": _error(
        "machines can't meet",
        "Several machines train together, and no launcher such as SLURM or Kubernetes says where the first one is. `launch.rdzv_endpoint` does.",
    ),
    "SG744": _error(
        "process died",
        "A process of the run ended without telling why, and the others were stopped. The end of what it printed is shown, where there is any.",
    ),
    "SG745": _error(
        "launcher shards otherwise",
        "accelerate was told to share the model in one way, and the config says another. What it was told would win, unseen.",
    ),
    "SG750": _error(
        "no trained model",
        "The commands for trained models take the output folder of a run, a checkpoint in it, or any folder with a model or an adapter "
        "as transformers and peft save them. This one holds neither, or the run of the config has not ended.",
    ),
    "SG751": _error(
        "base model not found",
        "An adapter is loaded onto the base model that it was trained on. Its name is saved with the adapter, as the config wrote it, "
        "so a path starts from the folder that the training ran in.",
    ),
    "SG752": _error(
        "adapter does not fit its base",
        "The weights of the adapter have no place in the base model, or other shapes than it, or the adapter loads as another one each time.",
    ),
    "SG753": _error(
        "adapter can't be merged",
        "Not every adapter is a change of the base model's weights: some put vectors before the text, or depend on it. And weights "
        "that were quantized by some methods can't be turned back.",
    ),
    "SG754": _error(
        "output folder in use",
        "A saved model gets a folder of its own, so that it is there whole or not at all. The one that was named holds something else.",
    ),
    "SG755": _error(
        "merged weights out of range",
        "With the adapter in them, weights became infinite or undefined, as happens where float16 is too small for the sum. Nothing was saved.",
    ),
    "SG756": _error(
        "adapter that vLLM can't serve",
        "vLLM serves adapters of type LORA made of its two matrices alone. It refuses the others, or would serve another model than the one "
        "that was trained.",
    ),
    "SG757": _error(
        "generation parameters do not fit",
        "A parameter of generation has no effect together with the others, such as `--temperature` without `--do-sample`, or a value out of "
        "its range.",
    ),
    "SG758": _error(
        "nothing to answer",
        "There is no prompt to generate an answer to, or one that the model can't read.",
    ),
    "SG760": _error(
        "other config than the checkpoint's",
        "A run goes on from a checkpoint only with the config and the data that the checkpoint was trained with; the weights would "
        "be of neither otherwise. What does not change them, such as logging and saving, may differ.",
    ),
    "SG761": _warning(
        "resumed with changes",
        "The config or the library versions differ from the checkpoint's in something that a run can go on with, but not to "
        "the same weights as without the change. The help says what it does.",
    ),
    "SG762": _error(
        "disk full",
        "A file could not be written, since no space is left. What was written of a checkpoint is removed again, and the "
        "checkpoints before it stay.",
    ),
    "SG767": _warning(
        "MLflow is gone",
        "MLflow stopped taking what the run logs. The run goes on and ends as it would without MLflow. What MLflow lacks is in metrics.jsonl, and is sent again as soon as MLflow answers.",
    ),
    "SG768": _warning(
        "MLflow run of another config",
        "`tracking.run_id` goes on with an MLflow run that began with other values. MLflow can't change parameters, so it shows the first ones; its tags and resolved.json are of the latest start.",
    ),
    "SG769": _warning(
        "MLflow is off",
        "`report_to` names MLflow, and nothing names a server: there is no section `tracking`, and MLFLOW_TRACKING_URI was not set. The run is not tracked.",
    ),
    "SG774": _error(
        "start of an adapter out of reach",
        "`init_lora_weights` names first weights that take more than the model and a config: LoRA would start without "
        "them in silence, or the saved adapter could not be loaded again.",
    ),
    "SG775": _error(
        "not an adapter to go on from",
        "The folder of an earlier adapter holds no config or no weights that peft can read. Weights are read from "
        "safetensors files only.",
    ),
    "SG776": _error(
        "earlier adapter does not fit",
        "Weights of an earlier adapter have no place on the base model, or another size there. The base model is another "
        "one, or the config of the adapter was changed.",
    ),
    "SG777": _warning(
        "earlier adapter of another base model",
        "An adapter names the base model that it was trained on, and the config names another one. Where they are not "
        "the same model, the adapter is worth nothing.",
    ),
    "SG778": _error(
        "adapter that can't be trained on",
        "peft saves the tokens that P_TUNING has learned, without the encoder that they come from. They can be used, but "
        "neither a later run nor one that resumes can train them further.",
    ),
    "SG779": _warning(
        "adapter for another task",
        "`task_type` says what libraries load a saved adapter for. Both methods train models that write text, for which "
        "it is CAUSAL_LM.",
    ),
}
