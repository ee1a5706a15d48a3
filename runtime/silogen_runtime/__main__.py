"""`python -m silogen_runtime` is `silogen train`, in the form that launchers such as torchrun start."""

from silogen_runtime.cli import main

main()
