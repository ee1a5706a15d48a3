"""Stage 2: files, settings and environment variables become one config."""
