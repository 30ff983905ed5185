"""Weights that the ranks of a host share are in memory once."""
import json
import pathlib
import subprocess
import tempfile
import time

import numpy

import harness


class Memory(harness.Scratch):
    def peak_of_job(self, arguments, ranks):
        """Largest sum of the ranks' proportional set sizes, sampled while the job runs."""
        job = subprocess.Popen(harness.command(arguments, ranks), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        peak = 0
        while job.poll() is None:
            total = 0
            for pid in harness.ranks_in(arguments[-1]):
                try:
                    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                except OSError:
                    continue
                total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
            peak = max(peak, total)
            time.sleep(0.05)
        _, error = job.communicate()
        self.assertEqual(job.returncode, 0, error)
        return peak / 1024

    def big_model(self, dtype):
        """A bamba of 230 million weights: 460 MB in BF16."""
        folder = harness.copy_golden_model("bamba-a", self.folder / f"big-{dtype}")
        config = json.loads((folder / "config.json").read_text())
        hidden, inner, state, heads, mlp, vocab, layers = 2048, 4096, 64, 64, 8192, 1024, 3
        config.update(hidden_size=hidden, intermediate_size=mlp, mamba_n_heads=heads, mamba_d_head=64,
                      mamba_d_state=state, vocab_size=vocab, num_hidden_layers=layers,
                      attn_layer_indices=[], num_attention_heads=16, num_key_value_heads=4,
                      tie_word_embeddings=True)
        (folder / "config.json").write_text(json.dumps(config))
        channels = inner + 2 * state
        noise = numpy.random.default_rng(1).standard_normal(1 << 16, dtype=numpy.float32)
        tensors = {}

        def add(name, shape, scale):
            values = numpy.resize(noise, shape) * numpy.float32(scale)
            content = values.tobytes() if dtype == "F32" else (values.view(numpy.uint32) >> 16).astype(
                numpy.uint16).tobytes()
            tensors[name] = (dtype, shape, content)

        add("model.embed_tokens.weight", (vocab, hidden), 1)
        add("model.final_layernorm.weight", (hidden,), 1)
        for i in range(layers):
            at = f"model.layers.{i}."
            add(at + "input_layernorm.weight", (hidden,), 1)
            add(at + "pre_ff_layernorm.weight", (hidden,), 1)
            add(at + "feed_forward.gate_proj.weight", (mlp, hidden), 0.02)
            add(at + "feed_forward.up_proj.weight", (mlp, hidden), 0.02)
            add(at + "feed_forward.down_proj.weight", (hidden, mlp), 0.02)
            add(at + "mamba.in_proj.weight", (inner + channels + heads, hidden), 0.02)
            add(at + "mamba.out_proj.weight", (hidden, inner), 0.02)
            add(at + "mamba.conv1d.weight", (channels, 1, 4), 0.3)
            add(at + "mamba.conv1d.bias", (channels,), 0.1)
            add(at + "mamba.norm.weight", (inner,), 1)
            for name in ("A_log", "dt_bias", "D"):
                add(at + "mamba." + name, (heads,), 0.5)
        (folder / "model.safetensors").write_bytes(harness.safetensors(tensors))
        return folder

    def check_sharing(self, model):
        file = harness.experiment(
            self.folder / "exp.yaml", model=model, prompts={"synthetic": {"tokens": 16, "count": 8}},
            generation={"max_new_tokens": 4})
        out = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        one = self.peak_of_job(["run", file, "--out", out / "one"], 1)
        four = self.peak_of_job(["run", file, "--out", out / "four"], 4)
        print(f"{model}: one rank {one:.0f} MiB, four ranks {four:.0f} MiB, ratio {four / one:.2f}")
        self.assertLess(four, 1.3 * one)

    def test_four_ranks_share_a_mapped_model(self):
        folder = self.big_model("BF16")
        self.check_sharing({"path": str(folder), "dtype": "fp32"})
        self.check_sharing({"path": str(folder), "dtype": "fp32", "weights": "synthetic"})

    def test_four_ranks_share_converted_weights(self):
        folder = self.big_model("F32")
        file = harness.experiment(
            self.folder / "exp.yaml", model={"path": str(folder), "dtype": "bf16"},
            prompts={"synthetic": {"tokens": 16, "count": 4}}, generation={"max_new_tokens": 4})
        digests = set()
        for ranks in (1, 4):
            out = self.folder / f"ranks{ranks}"
            self.run_ok(["run", file, "--out", out], ranks)
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)


if __name__ == "__main__":
    harness.main()
