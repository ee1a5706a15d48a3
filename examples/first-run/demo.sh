#!/usr/bin/env bash
# From nothing to a trained adapter: make a small base model, train it, train an adapter on it, ask both.
# Run it from the root of the repository as `make demo`, or by itself with silogen on the PATH.
set -euo pipefail

here=examples/first-run
out=build/first-run
question="What does LoRA train?"

export OMP_NUM_THREADS=1 # a model this small trains fastest on one core

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

rm -rf "$out"

step "A base model with random weights"
python $here/make_base_model.py $out/random

step "silogen compile $here/lora.yaml: what the LoRA config says, with the origin of each value"
silogen compile $here/lora.yaml

step "silogen train $here/base.yaml: train the base model, all weights"
silogen train $here/base.yaml

step "silogen train $here/lora.yaml: train a LoRA adapter on top of it"
silogen train $here/lora.yaml

step "$question"
ask() { silogen generate "$1" --prompt "$question"; }
printf 'base model:   %s\n' "$(ask $here/base.yaml)"
printf 'with adapter: %s\n' "$(ask $here/lora.yaml)"

printf '\nLoss curves: %s and %s\n' $out/base/loss.png $out/lora/loss.png
