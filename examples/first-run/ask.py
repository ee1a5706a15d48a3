"""Ask a model one question and print its answer: at each step the most likely token.

Usage: python examples/first-run/ask.py MODEL_DIR [--adapter DIR] QUESTION
"""

import argparse
from logging import ERROR, getLogger

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def answer(model_dir: str, adapter: str | None, question: str) -> str:
    """Generate the model's answer, of at most 64 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    if adapter:
        model.load_adapter(adapter)
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, do_sample=False, max_new_tokens=64, eos_token_id=tokenizer.eos_token_id)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    """Read the command line and print the answer."""
    parser = argparse.ArgumentParser(description="Ask a model one question.")
    parser.add_argument("model_dir", help="folder of the model and its tokenizer")
    parser.add_argument("--adapter", help="folder of an adapter to put on the model")
    parser.add_argument("question")
    args = parser.parse_args()
    logging.disable_progress_bar()
    getLogger("bitsandbytes").setLevel(ERROR)  # it warns while it is imported
    print(answer(args.model_dir, args.adapter, args.question))


if __name__ == "__main__":
    main()
