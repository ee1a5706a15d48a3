"""Stage 6: canonical values become the keyword arguments of the target."""
