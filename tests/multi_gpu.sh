#!/usr/bin/env bash
# On a machine with several GPUs, without network: builds for CUDA, checks every split against one
# GPU, lets ranks die and freeze, measures how splits scale and what of the exchange is hidden, and prints
# one table. About 6 minutes on 4 GPUs and 64 cores. Logs are in build/gpu/multi.
#
#   bash tests/multi_gpu.sh [number of GPUs; all of them]
set -uo pipefail
cd "$(dirname "$0")/.."
gpus=${1:-$(nvidia-smi -L | wc -l)}
build=build/gpu
logs=$build/multi
mkdir -p "$logs"
# NVLink multicast can take a host's GPUs out of service for others.
export NCCL_NVLS_ENABLE=0 NCCL_DEBUG=${NCCL_DEBUG:-WARN} OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Kept where a caller's machine wants its results.
trap '[[ -z ${OUT:-} ]] || tar czf "$OUT/multi_gpu.tgz" "$logs"' EXIT
ranks() { # SECONDS NUMBER COMMAND...
  local limit=$1 number=$2
  shift 2
  timeout "$limit" mpirun -n "$number" --bind-to none --oversubscribe -x NCCL_NVLS_ENABLE -x NCCL_DEBUG "$@"
}
say() { echo "== $* ($SECONDS s)"; }

architecture=native
[[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1) == 9.0 ]] && architecture=90a-real
generator=()
command -v ninja > /dev/null && generator=(-G Ninja)
# NCCL of a Python wheel serves where CUDA's folder has none.
wheel=$(python3 -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])' 2> /dev/null)
cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DCHUNKSTATE_CUDA=ON \
  -DCHUNKSTATE_NCCL=ON -DCHUNKSTATE_KERNELS_ONLY=OFF -DCMAKE_CUDA_ARCHITECTURES=$architecture \
  -DCMAKE_PREFIX_PATH="$PWD/.deps;$wheel" > "$logs/configure.log" 2>&1 ||
  { tail -20 "$logs/configure.log"; exit 1; }
cmake --build "$build" -j "$(nproc)" --target chunkstate multi_gpu_test > "$logs/build.log" 2>&1 ||
  { grep -E 'error|FAILED' -A 5 "$logs/build.log" | head -40; exit 1; }
chunkstate=$build/chunkstate
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:$PWD/.deps/lib/x86_64-linux-gnu${wheel:+:$wheel/lib}
say "built for $gpus GPUs"
nvidia-smi topo -m 2> /dev/null | head -$((gpus + 1)) | cut -c1-70

status=0
ranks 60 "$gpus" "$chunkstate" doctor --out "$logs" > "$logs/doctor.log" 2>&1 ||
  { status=1; echo "FAILED: doctor: exit code $?"; }
grep -v '^ok ' "$logs/doctor.log"
say "looked at the machine"
ranks 60 "$gpus" "$chunkstate" bench comm --backend cuda 2> "$logs/comm.log" ||
  { status=1; echo "FAILED: exit code $?"; tail -15 "$logs/comm.log"; }
say "communication measured"
for number in $(printf '%s\n' 2 "$gpus" | sort -nu); do
  ranks 120 "$number" "$build/tests/multi_gpu_test" 2> "$logs/check_$number.log"
  code=$?
  [[ $code == 0 ]] || { status=1; echo "FAILED: exit code $code"; tail -15 "$logs/check_$number.log"; }
done
say "checked"

# A rank that dies, and one that freezes, in a prefill or a decode of its group.
cat > "$logs/prompts.json" << 'P'
[{"prompt": "a", "answer": "", "token_len": 32768, "num_chunks": 128}]
P
missing() { # MODE SIGNAL
  local file=$logs/missing_$1_$2
  cat > "$file.yaml" << Y
schema: 1
name: missing
model: {path: "synthetic:bamba-9b", dtype: bf16}
prompts: {file: $PWD/$logs/prompts.json}
generation: {max_new_tokens: 64}
execution: {backend: cuda}
measure: {repeats: 400}
parallel: {mode: $1, ranks_per_group: 2, deadline: 4s}
output: {dir: $PWD/$file}
Y
  rm -rf "$file"
  ranks 40 2 "$chunkstate" run "$file.yaml" > "$file.log" 2>&1 &
  local job=$! pid='' tries=0
  while [[ -z $pid && $tries -lt 40 ]]; do
    sleep 0.5
    tries=$((tries + 1))
    [[ $(grep -sc '"kind":"result"' "$file"/journal/*.jsonl | cut -d: -f2 | sort -n | tail -1) -ge 1 ]] &&
      pid=$(awk '$1 == "0" && $3 ~ /^[0-9]+$/ {print $3; exit}' "$file.log")
  done
  local begin=$EPOCHREALTIME
  kill -s "$2" "$pid" 2> /dev/null
  wait "$job"
  local code=$?
  local line
  line=$(grep -m 1 -E '^chunkstate: rank [0-9]+: .* rank 0 \(pid' "$file.log")
  printf '%-8s %-5s ended after %.1f s with %d: %s\n' "$1" "$2" \
    "$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}')" "$code" "${line:-NO LINE NAMES THE RANK}"
  [[ -n $line ]] || { status=1; tail -5 "$file.log"; }
}
for mode in sequence tensor; do
  for signal in KILL STOP; do missing $mode $signal; done
done
say "ranks went missing"

measure() { # NAME RANKS ARGUMENTS OF BENCH...
  local name=$1 number=$2
  shift 2
  if [[ $number == 1 ]]; then
    timeout 60 "$chunkstate" bench "$@" --json > "$logs/$name.json" 2> "$logs/$name.log"
  else
    ranks 60 "$number" "$chunkstate" bench "$@" --json > "$logs/$name.json" 2> "$logs/$name.log"
  fi || { echo "$name: exit code $?"; tail -3 "$logs/$name.log"; status=1; }
}
model=(--model synthetic:bamba-9b --backend cuda --dtype bf16)
prefill=(prefill "${model[@]}" --tokens 32768,131072 --repeats 2)
# Every card alone, all at once: a split waits for the slowest of them.
for ((card = 1; card < gpus; card++)); do
  CUDA_VISIBLE_DEVICES=$card timeout 60 "$chunkstate" bench "${prefill[@]}" --variant default_optimized --json \
    > "$logs/prefill_card_$card.json" 2> "$logs/prefill_card_$card.log" &
done
for variant in default_optimized independent; do
  for number in 1 $(printf '%s\n' 2 "$gpus" | sort -nu); do
    split=()
    [[ $number == 1 ]] || split=(--split sequence)
    measure "prefill_${variant}_$number" "$number" "${prefill[@]}" --variant $variant "${split[@]}"
    [[ $number != 1 ]] || wait
  done
done
say "prefill measured"
# What of the exchange no kernel ran beside, in one long prompt.
cat > "$logs/exchange.json" << 'P'
[{"prompt": "a", "answer": "", "token_len": 131072, "num_chunks": 512}]
P
cat > "$logs/exchange.yaml" << Y
schema: 1
name: exchange
model: {path: "synthetic:bamba-9b", dtype: bf16}
prompts: {file: $PWD/$logs/exchange.json}
generation: {max_new_tokens: 2}
execution: {backend: cuda}
measure: {warmup: 1, repeats: 1}
parallel: {mode: sequence, ranks_per_group: $gpus}
profile: {trace: true}
output: {dir: $PWD/$logs/exchange}
Y
rm -rf "$logs/exchange"
if ranks 80 "$gpus" "$chunkstate" run "$logs/exchange.yaml" > "$logs/exchange.log" 2>&1; then
  python3 tests/hidden_exchange.py "$logs/exchange/trace.json" || status=1
else
  status=1
  tail -5 "$logs/exchange.log"
fi
say "exchange traced"
decode=(decode "${model[@]}" --state-dtype bf16 --tokens 256 --batch 1,8 --repeats 60)
measure decode_1 1 "${decode[@]}"
for number in $(printf '%s\n' 2 "$gpus" | sort -nu); do
  measure "decode_$number" "$number" "${decode[@]}" --split tensor
done
say "decode measured"

# Whole prompts of unequal length, one rank per GPU.
python3 - > "$logs/data.json" << 'P'
import json, random
random.seed(3)
print(json.dumps([{"prompt": f"prompt {i}", "answer": "", "token_len": random.randint(1, 64) * 256,
                   "num_chunks": 1} for i in range(320)]))
P
for number in 1 "$gpus"; do
  cat > "$logs/data_$number.yaml" << Y
schema: 1
name: data
model: {path: "synthetic:bamba-9b", dtype: bf16}
prompts: {file: $PWD/$logs/data.json}
generation: {max_new_tokens: 8}
execution: {backend: cuda}
measure: {warmup: 0, repeats: 1}
output: {dir: $PWD/$logs/data_$number}
Y
  rm -rf "$logs/data_$number"
  ranks 150 "$number" "$chunkstate" run "$logs/data_$number.yaml" > "$logs/data_$number.log" 2>&1 ||
    { status=1; tail -5 "$logs/data_$number.log"; }
done
"$chunkstate" scale "$logs/data_1/results.h5" "$logs/data_$gpus/results.h5" || status=1
say "data mode measured"

PYTHONPATH=tests python3 - "$logs" "$gpus" << 'P'
import json, sys
from pathlib import Path
import hidden_exchange
logs, gpus = Path(sys.argv[1]), int(sys.argv[2])
def rows(name, key):
    try:
        text = (logs / f"{name}.json").read_text()  # behind NCCL's line with its version
        return {r[key]: r["timing"]["median"]
                for r in json.loads(text[text.index("{"):])["rows"]}
    except (OSError, ValueError):
        return {}
print(f"{'':34}{'1 GPU':>10}" + "".join(f"{n:>7} GPUs{'':>9}" for n in sorted({2, gpus})))
def line(title, name, key, values):
    one = rows(name.format(1), key)
    for value in values:
        if value not in one: continue
        text = f"{title.format(value):34}{1e3 * one[value]:8.2f}ms"
        for n in sorted({2, gpus}):
            many = rows(name.format(n), key).get(value)
            text += f"{'-':>21}" if many is None else f"{1e3 * many:10.2f}ms {one[value] / many:6.2f}x "
        print(text)
for variant in ("default_optimized", "independent"):
    line(f"prefill {{}} {variant[:12]}", f"prefill_{variant}_{{}}", "tokens", (32768, 131072))
cards = [rows(name, "tokens").get(131072) for name in
         ["prefill_default_optimized_1"] + [f"prefill_card_{card}" for card in range(1, gpus)]]
print("131072 tokens on each card alone:", " ".join("-" if t is None else f"{t:.3f}" for t in cards), "s")
line("decode, batch {}, tensor", "decode_{}", "batch", (1, 8))
try:
    with open(logs / "exchange/trace.json") as file:
        found = hidden_exchange.rows(json.load(file))
    rank, row = max(found.items(), key=lambda item: item[1][2])
    print(f"exchange, 131072 default_optim, {gpus} GPUs: rank {rank} {row[1] / 1e3:.1f} ms, of which alone {row[2] / 1e3:.1f} "
          f"of the prefill's {row[0] / 1e3:.0f}")
except (OSError, ValueError) as error:
    print(f"exchange: {error}")
P
say "done, exit code $status"
exit $status
