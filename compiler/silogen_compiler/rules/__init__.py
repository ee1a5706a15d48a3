"""Stage 4, second half: what JSON Schema cannot say."""
