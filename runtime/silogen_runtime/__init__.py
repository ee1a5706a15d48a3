"""Trains a resolved config: data, model and trainer, thin over transformers, trl, peft and datasets."""
