"""One side of the comparison of data preparation: `python one_preparation.py silogen|handwritten JOB`.

JOB is JSON with the model's folder, the data file, and the number of processes and of passes. Each pass
makes tokens and labels of the whole file anew; a line is written and read between passes, as in one_run.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from tempfile import TemporaryDirectory
from typing import Any

channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the libraries print is not for the other end


def main() -> None:
    side, job = sys.argv[1], json.loads(sys.argv[2])
    prepare = {"silogen": silogen, "handwritten": handwritten}[side](job)
    seconds, tokens = [], 0
    print("ready", file=channel, flush=True)
    for _ in range(job["passes"]):
        sys.stdin.readline()
        start = time.perf_counter()
        tokens = prepare()
        seconds.append(time.perf_counter() - start)
        print("pass", file=channel, flush=True)
    sys.stdin.readline()
    print(json.dumps({"seconds": seconds, "tokens": tokens}), file=channel, flush=True)


def silogen(job: dict[str, Any]) -> Any:
    """Return a function that does what `silogen train` does with a data file that is in no cache."""
    from material import Run, resolved_of  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415 - counts for this side only
    from silogen_config import ResolvedConfig  # noqa: PLC0415
    from silogen_runtime import cache  # noqa: PLC0415
    from silogen_runtime.data import load_data  # noqa: PLC0415
    from silogen_runtime.tokenizer import load_tokenizer  # noqa: PLC0415

    run = Run("full", job["model"], job["data"], "out", 1, max_length=8192)
    resolved = resolved_of(run)
    resolved["trainer"]["args"]["dataset_num_proc"] = job["processes"]
    config = ResolvedConfig.model_validate(resolved)
    chat = load_tokenizer(config)

    def prepare() -> int:
        with TemporaryDirectory() as folder:
            cache.datasets.config.HF_DATASETS_CACHE = folder
            return load_data(config, chat, Console(stderr=True)).train.tokens

    return prepare


def handwritten(job: dict[str, Any]) -> Any:
    """Return a function that maps the file example by example, as TRL and most scripts do."""
    from datasets import Dataset, load_dataset  # noqa: PLC0415 - counts for this side only
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(job["model"])

    def tokenize(example: dict[str, Any]) -> dict[str, list[int]]:
        tokens = tokenizer.apply_chat_template(
            example["messages"], return_dict=True, return_assistant_tokens_mask=True
        )
        ids, learned = tokens["input_ids"], tokens["assistant_masks"]
        labels = [token if is_learned else -100 for token, is_learned in zip(ids, learned, strict=True)]
        return {"input_ids": ids, "labels": labels}

    def prepare() -> int:
        with TemporaryDirectory() as folder:
            data: Dataset = load_dataset("json", data_files=job["data"], split="train", cache_dir=folder)
            data = data.map(tokenize, remove_columns=["messages"], num_proc=job["processes"])
            return sum(map(len, data.with_format("arrow")["input_ids"]))

    return prepare


if __name__ == "__main__":
    main()
