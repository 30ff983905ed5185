#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times this engine and transformers on the same weights and tokens, in one run on the same cores.

    python3 tests/compare_transformers.py --chunkstate build/cpu/chunkstate [--threads 2]
        [--models bamba-tiny,bamba-9b] [--dtypes fp32,bf16] [--tokens 256,1024,4096] [--repeats 5]

Needs torch and transformers (5.17 or newer has a correct Bamba). bamba-9b is 4 layers (three mamba, one
attention) of Bamba-9B's shape with random weights, written to a temporary folder of 6 GB; its vocabulary
is cut to 32,000. Engines take turns; a row's ratio is that of the two medians.
"""
import argparse
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunkstate", default=REPOSITORY / "build/cpu/chunkstate")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--models", default="bamba-tiny,bamba-9b")
    parser.add_argument("--dtypes", default="fp32,bf16")
    parser.add_argument("--tokens", default="256,1024,4096")
    parser.add_argument("--decode-steps", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="per row and engine at most")
    return parser.parse_args()


def wide_model(folder):
    """Bamba-9B's layers 6 to 9, one of which is attention."""
    import torch
    from transformers import BambaConfig, BambaForCausalLM

    config = BambaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=4,
        attn_layer_indices=[3], num_attention_heads=32, num_key_value_heads=8, mamba_n_heads=128,
        mamba_d_head=64, mamba_d_state=128, mamba_n_groups=1, mamba_expand=2, mamba_chunk_size=256,
        tie_word_embeddings=False, max_position_embeddings=8192)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    model = BambaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.to(torch.bfloat16).save_pretrained(folder)


def engine_times(options, model, dtype, verb, tokens, repeats):
    """Seconds of each repeat, as `chunkstate bench` measures them."""
    command = [str(options.chunkstate), "bench", verb, "--model", str(model), "--backend", "cpu",
               "--dtype", dtype, "--threads", str(options.threads), "--tokens", str(tokens),
               "--repeats", str(repeats), "--json"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)["rows"][0]["timing"]["seconds"]


class Transformers:
    def __init__(self, folder, dtype, threads):
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.torch = torch
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
        self.vocabulary = self.model.config.vocab_size

    def ids(self, count):
        generator = self.torch.Generator().manual_seed(2)
        return self.torch.randint(0, self.vocabulary, (1, count), generator=generator)

    def prefill(self, ids):
        with self.torch.inference_mode():
            start = time.perf_counter()
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            return time.perf_counter() - start, out.past_key_values

    def prefill_times(self, tokens, repeats, budget):
        ids = self.ids(tokens)
        self.prefill(ids)
        times = []
        while len(times) < repeats and sum(times) < budget:
            times.append(self.prefill(ids)[0])
        return times

    def decode_times(self, tokens, steps):
        _, cache = self.prefill(self.ids(tokens))
        times = []
        step = self.ids(1)
        with self.torch.inference_mode():
            for _ in range(steps):
                start = time.perf_counter()
                self.model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
                times.append(time.perf_counter() - start)
        return times[3:]


def milliseconds(times):
    return f"{1e3 * statistics.median(times):10.2f}"


def compare(options, name, folder, dtype):
    other = Transformers(folder, dtype, options.threads)
    worst = float("inf")
    rows = [("prefill", int(tokens)) for tokens in options.tokens.split(",")] + [("decode", 256)]
    for verb, tokens in rows:
        if verb == "prefill":
            theirs = other.prefill_times(tokens, options.repeats, options.seconds)
            repeats = len(theirs)
        else:
            repeats = options.decode_steps
            theirs = other.decode_times(tokens, repeats)
        ours = engine_times(options, folder, dtype, verb, tokens, repeats)
        if verb == "prefill":  # and once more after ours, since machines change their pace
            theirs += other.prefill_times(tokens, 1, 0.0)
        ratio = statistics.median(theirs) / statistics.median(ours)
        worst = min(worst, ratio)
        print(f"{name:12s} {dtype:5s} {verb:8s} {tokens:6d} {milliseconds(ours)} "
              f"{milliseconds(theirs)} {ratio:8.2f}", flush=True)
    del other
    gc.collect()
    return worst


def main():
    options = arguments()
    import torch
    import transformers

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} threads")
    print(f"{'model':12s} {'dtype':5s} {'':8s} {'tokens':>6s} {'ours, ms':>10s} {'theirs, ms':>10s} {'ratio':>8s}")
    worst = float("inf")
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models.split(","):
            folder = REPOSITORY / "experiments/models" / name
            if name == "bamba-9b":
                folder = pathlib.Path(temporary)
                wide_model(folder)
            for dtype in options.dtypes.split(","):
                worst = min(worst, compare(options, name, folder, dtype))
    print(f"smallest ratio: {worst:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
