#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times this engine and transformers on the same weights and tokens, in one run on the same cores.

    taskset -c 0,1 python3 tests/compare_transformers.py --chunkstate build/cpu/chunkstate --minutes 6
        [--models bamba-tiny,bamba-9b] [--dtypes fp32,bf16] [--tokens 256,1024,4096] [--repeats 5]

Needs torch and transformers (5.17 or newer has a correct Bamba), and no network. bamba-9b is 4 layers
(three mamba, one attention) of Bamba-9B's shape with random bf16 weights, written to a temporary folder
of 2.7 GB; its vocabulary is cut to 32,000. Engines take turns row by row; a row's ratio is that of the
two medians, and "runs" counts those of transformers, the first of which is dropped if there is time for
another one. Each model and type has its share of the minutes, which two more can follow; a row that by
the row before does not fit is left out and named, as is one for which transformers gets no memory.

Last, the peak memory of a process that scores a text of the longest length (of those that take it less
than 15 s): beyond the caches it should be at most weights + 20 %.
"""
import argparse
import gc
import json
import math
import os
import pathlib
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PEAK_OF = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunkstate", default=REPOSITORY / "build/cpu/chunkstate")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--minutes", type=float, default=20, help="for all rows together")
    parser.add_argument("--models", default="bamba-tiny,bamba-9b")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--tokens", default="256,1024,4096")
    parser.add_argument("--decode-steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def first_values(name, shape, pool):
    """A tensor's values as bf16 bits: what must be special to stay finite, else a part of `pool`."""
    import torch

    kind = name.split(".")[-1]
    if kind == "A_log":
        values = torch.log(torch.arange(1, shape[0] + 1, dtype=torch.float32))
    elif kind == "dt_bias":
        steps = torch.logspace(-3, -1, shape[0])
        values = steps + torch.log(-torch.expm1(-steps))
    elif kind == "D" or "norm" in name:
        values = torch.ones(shape)
    else:
        count = math.prod(shape)
        values = pool.repeat((count + len(pool) - 1) // len(pool))[:count]
    return values.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()


def write_wide_model(folder):
    """Bamba-9B's layers 6 to 9, one of which is attention."""
    import torch
    from transformers import BambaConfig, BambaForCausalLM

    config = BambaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=4,
        attn_layer_indices=[3], num_attention_heads=32, num_key_value_heads=8, mamba_n_heads=128,
        mamba_d_head=64, mamba_d_state=128, mamba_n_groups=1, mamba_expand=2, mamba_chunk_size=256,
        tie_word_embeddings=False, max_position_embeddings=8192, dtype="bfloat16",
        architectures=["BambaForCausalLM"])
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in BambaForCausalLM(config).named_parameters()}
    config.save_pretrained(folder)
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    pool = 0.02 * torch.randn(2**24 - 3, generator=torch.Generator().manual_seed(1))
    pool = pool.to(torch.bfloat16)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(first_values(name, shape, pool))


class Ours:
    def __init__(self, options, folder, dtype):
        self.options, self.folder, self.dtype = options, str(folder), dtype

    def command(self, *words):
        return [str(self.options.chunkstate), *words, "--model", self.folder, "--backend", "cpu", "--dtype",
                self.dtype, "--threads", str(self.options.threads)]

    def times(self, verb, tokens, repeats):
        """Seconds of each repeat, as `chunkstate bench` measures them."""
        found = subprocess.run(self.command("bench", verb) + ["--tokens", str(tokens), "--repeats",
                                                              str(repeats), "--json"],
                               check=True, capture_output=True, text=True)
        return json.loads(found.stdout)["rows"][0]["timing"]["seconds"]

    def memory(self, tokens, folder):
        """So many tokens, and bytes: the peak of a process that scores them, its weights, its caches."""
        facts = json.loads(subprocess.run(self.command("inspect") + ["--json"], check=True, text=True,
                                          capture_output=True).stdout)
        ids = folder / "ids.json"
        ids.write_text(json.dumps([[i * 7919 % facts["vocab_size"] for i in range(tokens)]]))
        # From a small process: a child's peak begins with that of the one it was forked from.
        score = self.command("score") + ["--tokens", str(ids), "-o", str(folder / "nll.h5")]
        peak = subprocess.run([sys.executable, "-c", PEAK_OF, *score], check=True, text=True,
                              capture_output=True).stdout
        (folder / "nll.h5").unlink()
        caches = facts["state_bytes_per_sequence"] + tokens * facts["kv_bytes_per_token"]
        return tokens, 1024 * int(peak), facts["weight_bytes"], caches


class Theirs:
    def __init__(self, folder, dtype, threads):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.torch = torch
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
        self.vocabulary = self.model.config.vocab_size
        self.cache = None  # of the last prompt

    def ids(self, count):
        generator = self.torch.Generator().manual_seed(2)
        return self.torch.randint(0, self.vocabulary, (1, count), generator=generator)

    def prefill(self, ids):
        with self.torch.inference_mode():
            start = time.monotonic()
            self.cache = None
            self.cache = self.model(ids, use_cache=True, logits_to_keep=1).past_key_values
            return time.monotonic() - start

    def prefill_times(self, tokens, repeats, deadline):
        ids = self.ids(tokens)
        times = [self.prefill(ids)]
        while len(times) <= repeats and time.monotonic() + 1.2 * min(times) < deadline:
            times.append(self.prefill(ids))
        return times[1:] or times

    def decode_times(self, steps, deadline):
        """Steps behind the last prompt."""
        times = []
        step = self.ids(1)
        with self.torch.inference_mode():
            while len(times) < steps and (len(times) < 5 or time.monotonic() < deadline):
                start = time.monotonic()
                self.model(step, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
                times.append(time.monotonic() - start)
        return times[3:]


class Table:
    def __init__(self):
        self.ratios, self.left_out, self.memory = [], [], []
        print(f"{'model':12s} {'dtype':5s} {'':8s} {'tokens':>6s} {'ours, ms':>10s} {'theirs, ms':>10s} "
              f"{'ratio':>7s} {'runs':>4s}")

    def add(self, row, ours, theirs):
        ratio = statistics.median(theirs) / statistics.median(ours)
        self.ratios.append(ratio)
        print(f"{row} {1e3 * statistics.median(ours):10.2f} {1e3 * statistics.median(theirs):10.2f} "
              f"{ratio:7.2f} {len(theirs):4d}", flush=True)

    def leave_out(self, row, why):
        self.left_out.append(row)
        print(f"{row} left out: {why}", flush=True)

    def end(self):
        print(f"smallest ratio: {min(self.ratios, default=math.nan):.2f}, rows left out: {len(self.left_out)}")
        print(f"\npeak memory of ours, scoring a text, MiB\n{'model':12s} {'dtype':5s} {'tokens':>6s} {'peak':>8s} "
              f"{'weights':>8s} {'caches':>8s} {'beyond caches / weights':>24s}")
        for name, dtype, tokens, peak, weights, caches in self.memory:
            print(f"{name:12s} {dtype:5s} {tokens:6d} {peak / 2**20:8.0f} {weights / 2**20:8.0f} "
                  f"{caches / 2**20:8.1f} {(peak - caches) / weights:24.2f}")


def limit_memory():
    """Makes an allocation fail that would end in the kernel killing this process."""
    with open("/proc/meminfo") as file:
        found = dict(line.split(":") for line in file)
    available = 1024 * int(found["MemAvailable"].split()[0])
    with open("/proc/self/statm") as file:
        used = resource.getpagesize() * int(file.read().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (used + int(0.85 * available), hard))


def compare(options, table, name, folder, dtype, deadline, scratch):
    """One model in one type: prompts of growing length, and decode behind the first."""
    ours, theirs = Ours(options, folder, dtype), Theirs(folder, dtype, options.threads)
    lengths = sorted(int(tokens) for tokens in options.tokens.split(","))
    rows = [("prefill", lengths[0]), ("decode", lengths[0])] + [("prefill", tokens) for tokens in lengths[1:]]
    per_token = {}  # seconds, of prompts
    for verb, tokens in rows:
        row = f"{name:12s} {dtype:5s} {verb:8s} {tokens:6d}"
        if verb == "decode" and theirs.cache is None:
            table.leave_out(row, "there is no prompt to follow")
            continue
        left = deadline - time.monotonic()
        # At least one run of theirs, and of ours two.
        expected = 1.2 * tokens * sum(per_token.values()) if verb == "prefill" else 0.0
        if left < expected:
            table.leave_out(row, f"it would take {expected:.0f} s, {max(left, 0.0):.0f} s are left")
            continue
        started = time.monotonic()
        try:
            if verb == "decode":
                found = theirs.decode_times(options.decode_steps, started + left / 4)
            else:
                found = theirs.prefill_times(tokens, options.repeats, started + left / 3)
        except (MemoryError, RuntimeError) as error:
            table.leave_out(row, f"transformers: {str(error).splitlines()[0][:100]}")
            continue
        repeats = options.decode_steps if verb == "decode" else min(options.repeats, 2 * len(found))
        mine = ours.times(verb, tokens, repeats)
        table.add(row, mine, found)
        if verb == "prefill":
            per_token = {"theirs": statistics.median(found) / tokens, "ours": 2 * statistics.median(mine) / tokens}
    del theirs
    gc.collect()
    fits = [tokens for tokens in lengths if tokens * per_token.get("ours", 0.0) < 30.0]
    table.memory.append((name, dtype, *ours.memory(max(fits, default=lengths[0]), scratch)))


def main():
    options = arguments()
    import torch
    import transformers

    start = time.monotonic()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} threads, "
          f"{options.minutes:g} minutes")
    limit_memory()
    table = Table()
    models, dtypes = options.models.split(","), options.dtypes.split(",")
    weight = {"bamba-9b": 2.0}  # of the time
    groups = [(name, dtype) for name in models for dtype in dtypes]
    with tempfile.TemporaryDirectory() as temporary:
        temporary = pathlib.Path(temporary)
        folders = {name: REPOSITORY / "experiments/models" / name for name in models}
        if "bamba-9b" in models:
            folders["bamba-9b"] = temporary / "bamba-9b"
            folders["bamba-9b"].mkdir()
            write_wide_model(folders["bamba-9b"])
        for i, (name, dtype) in enumerate(groups):
            now, end = time.monotonic(), start + 60 * options.minutes
            shares = [weight.get(other, 1.0) for other, _ in groups[i:]]
            deadline = now + (end - now) * shares[0] / sum(shares)
            compare(options, table, name, folders[name], dtype, deadline, temporary)
    table.end()
    print(f"done after {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
