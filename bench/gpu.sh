#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, in under ten minutes: the GPU's tests, a search for tile sizes, the kernels' benchmark,
# whole training steps. Everything is written to one folder (bench/results/gpu, or the first argument), to be committed.
# Needs Python with numpy, cupy, triton, torch and pytest; what fails is said at the end, the rest runs on.
set -uo pipefail
cd "$(dirname "$0")/.."
out="$(mkdir -p "${1:-bench/results/gpu}" && cd "${1:-bench/results/gpu}" && pwd)"
python -c 'import scratchgan.kernels' 2> /dev/null || python -m pip install --quiet --no-deps --no-build-isolation -e .
failed=()

run() {  # NAME SECONDS COMMAND...: what it prints goes to the screen and to NAME.txt
  local name="$1" seconds="$2"
  shift 2
  echo "== $name"
  timeout "$seconds" "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}

python - > "$out/machine.txt" << 'MACHINE'
from scratchgan import inventory
print("\n".join(inventory.machine()))
MACHINE
run tests 170 python -m pytest -m gpu -q --maxfail=20 tests/kernels
SCRATCHGAN_TUNE_SECONDS=100 run tune 130 python -m bench tune
run kernels 150 python -m bench kernels
run steps 110 python -m bench steps --device cuda --quick
cp -r bench/results/kernels_* kernels/gpu/tuned "$out" 2> /dev/null
if ((${#failed[@]})); then
  echo "failed: ${failed[*]}" | tee "$out/failed.txt"
  exit 1
fi
