"""Checks a fine-tuning config and resolves it to the exact arguments of the libraries that train."""
