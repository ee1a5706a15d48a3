"""`python -m silogen_runtime` is `silogen train`: what torchrun starts for each process."""

from silogen_runtime.cli import main

main()
