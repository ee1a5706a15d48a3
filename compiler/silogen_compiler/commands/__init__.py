"""The commands, one module each: the only part that prints or exits."""
