"""The commands for trained models, one module each; they print and end, and nothing else does."""
