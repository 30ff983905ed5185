"""The main job: YAML in, ranks, HDF5 out. Digest, interruption, memory, verbs."""
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import h5py
import numpy

import harness


class Scratch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_ok(self, arguments, ranks=0, timeout=300):
        done = harness.run(arguments, ranks, timeout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


class Runs(Scratch):
    def sweep(self, **sections):
        return harness.experiment(
            self.folder / "exp.yaml",
            sweep={"matrix": {"ssm.variant": ["default", "default_optimized", "independent"],
                              "ssm.chunk_size": [64, 128]}},
            measure={"warmup": 0, "repeats": 2}, **sections)

    def test_any_number_of_ranks_gives_one_digest(self):
        file = self.sweep()
        digests = set()
        for ranks in (0, 1, 2, 3, 4):
            out = self.folder / f"ranks{ranks}"
            self.run_ok(["run", file, "--out", out], ranks)
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)

    def test_groups_that_share_prompts_give_the_results_of_one_rank(self):
        sections = dict(prompts={"file": str(harness.PROMPTS), "limit": 3}, sweep={"matrix": {
            "ssm.variant": ["default", "default_optimized", "independent", "lookback"], "ssm.chunk_size": [64, 100]}})
        shared = harness.experiment(self.folder / "shared.yaml", parallel={"mode": "sequence", "threads": 1}, **sections)
        digests = set()
        for ranks, group in ((0, 1), (2, 2), (3, 3), (4, 2), (4, 4)):
            out = self.folder / f"ranks{ranks}x{group}"
            self.run_ok(["run", shared, "-s", f"parallel.ranks_per_group={group}", "--out", out], ranks)
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)
        data = self.folder / "data"
        self.run_ok(["run", harness.experiment(self.folder / "data.yaml", **sections), "--out", data])
        with h5py.File(data / "results.h5") as alone, h5py.File(self.folder / "ranks4x4/results.h5") as together:
            for name in ("tokens/token_id", "tokens/logprob", "tokens/offsets", "outputs/text", "requests/tokens_in"):
                self.assertTrue(numpy.array_equal(alone[name][:], together[name][:]), name)

    def test_a_group_shares_prefills_without_a_cache_and_of_a_variant_that_is_not_causal(self):
        sections = dict(generation={"max_new_tokens": 3, "use_cache": False},
                        ssm={"variant": "own_end_state", "chunk_size": 64}, parallel={"mode": "sequence"})
        digests = set()
        for ranks in (1, 3):
            out = self.folder / f"ranks{ranks}"
            file = harness.experiment(self.folder / "exp.yaml", **sections)
            self.run_ok(["run", file, "-s", f"parallel.ranks_per_group={ranks}", "--out", out], ranks)
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)

    def test_a_prompt_that_fails_on_all_ranks_of_a_group_is_a_failed_item(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "word " * 9000}, {"prompt": "A short one."}]))
        file = harness.experiment(self.folder / "exp.yaml", prompts={"file": str(prompts)},
                                  parallel={"mode": "sequence", "ranks_per_group": 2})
        done = harness.run(["run", file, "--out", self.folder / "out"], 2)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(json.loads(self.run_ok(["status", self.folder / "out", "--json"]))["failed"], 1)

    def test_groups_that_do_not_come_out_even_are_refused(self):
        file = harness.experiment(self.folder / "exp.yaml", parallel={"mode": "sequence", "ranks_per_group": 2})
        for ranks in (0, 3):
            done = harness.run(["run", file, "--out", self.folder / "out"], ranks)
            self.assertEqual(done.returncode, 64, done.stderr)
            self.assertIn("parallel.ranks_per_group: found 2", done.stderr)

    def test_threads_and_order_do_not_change_the_digest(self):
        digests = set()
        for threads in (1, 2):
            out = self.folder / f"threads{threads}"
            self.run_ok(["run", self.sweep(), "-s", f"parallel.threads={threads}", "--out", out])
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)

    def test_synthetic_weights_are_the_same_alone_and_shared(self):
        file = harness.experiment(self.folder / "exp.yaml",
                                  model={"path": "synthetic:bamba-tiny", "dtype": "bf16"})
        digests = set()
        for ranks in (0, 3):
            out = self.folder / f"ranks{ranks}"
            self.run_ok(["run", file, "--out", out], ranks)
            digests.add(harness.digest_of(out / "results.h5"))
        self.assertEqual(len(digests), 1)

    def test_killed_and_run_again_gives_the_same_digest(self):
        file = self.sweep()
        whole = self.folder / "whole"
        self.run_ok(["run", file, "--out", whole], 2)
        expected = harness.digest_of(whole / "results.h5")
        rng = random.Random(1)
        for case in range(8):
            out = self.folder / f"killed{case}"
            kills = 0
            for _ in range(5):
                if self.run_and_kill(file, out, rng, whole_job=case % 2 == 1):
                    kills += 1
                else:
                    break
            self.run_ok(["run", file, "--out", out], 1 + case % 3)
            self.assertGreater(kills, 0, "no run was interrupted")
            self.assertEqual(harness.digest_of(out / "results.h5"), expected)

    def run_and_kill(self, file, out, rng, whole_job):
        """Kills one rank, or all of the job, at a random moment; False if the run ended first."""
        job = subprocess.Popen(harness.command(["run", file, "--out", out], 2),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=harness.ENVIRONMENT, cwd=harness.ROOT, start_new_session=True)
        time.sleep(rng.uniform(0.15, 0.8))
        if job.poll() is not None:
            return False
        if whole_job:
            os.killpg(job.pid, signal.SIGKILL)
            ranks = harness.ranks_in(out)
        else:
            ranks = harness.ranks_in(out)[:1]
        for pid in ranks:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        job.wait(timeout=60)
        deadline = time.time() + 30
        while any(harness.alive(pid) for pid in harness.ranks_in(out)) and time.time() < deadline:
            time.sleep(0.02)
        return True

    def test_an_item_that_kills_its_process_is_failed_as_poison_and_one_that_was_killed_is_not(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "The long one. " * 400}]))
        file = harness.experiment(self.folder / "exp.yaml", prompts={"file": str(prompts)},
                                  generation={"max_new_tokens": 20}, ssm={"variant": "sequential"})
        whole = self.folder / "whole"
        self.run_ok(["run", file, "--out", whole])
        # A library that kills every process started to probe an item.
        source = self.folder / "killer.c"
        source.write_text("""
            #include <stdio.h>
            #include <string.h>
            #include <stdlib.h>
            __attribute__((constructor)) static void kill_probes(void) {
              char words[4096] = "";
              FILE* file = fopen("/proc/self/cmdline", "r");
              size_t size = file ? fread(words, 1, sizeof(words) - 1, file) : 0;
              for (size_t i = 0; i + 7 < size; ++i)
                if (memcmp(words + i, "--probe", 8) == 0) abort();
              if (file) fclose(file);
            }""")
        killer = self.folder / "killer.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", killer, source], check=True)
        for poison in (False, True):
            out = self.folder / f"poison{poison}"
            for _ in range(3):
                self.kill_in_the_first_item(file, out)
            environment = dict(harness.ENVIRONMENT, **({"LD_PRELOAD": str(killer)} if poison else {}))
            done = subprocess.run(harness.command(["run", file, "--out", out]), env=environment,
                                  cwd=harness.ROOT, capture_output=True, text=True)
            self.assertEqual(done.returncode, 2 if poison else 0, done.stderr)
            with h5py.File(out / "results.h5") as results:
                self.assertEqual("poison" in results["requests/error"].asstr()[0], poison)
            if not poison:
                self.assertEqual(harness.digest_of(out / "results.h5"),
                                 harness.digest_of(whole / "results.h5"))

    def kill_in_the_first_item(self, file, out):
        before = set(out.glob("journal/*.jsonl"))
        job = subprocess.Popen(harness.command(["run", file, "--out", out]), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not any('"claim"' in new.read_text() for new in set(out.glob("journal/*.jsonl")) - before):
            time.sleep(0.005)
            self.assertIsNone(job.poll(), "the run ended before it could be killed")
        job.kill()
        job.wait()

    def test_a_stop_signal_ends_with_75_and_the_next_run_finishes(self):
        file = self.sweep(prompts={"file": str(harness.PROMPTS), "limit": 20})
        out = self.folder / "out"
        job = subprocess.Popen(harness.command(["run", file, "--out", out]), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not list(out.glob("journal/*.jsonl")):
            time.sleep(0.01)
        time.sleep(0.5)
        job.send_signal(signal.SIGTERM)
        _, error = job.communicate(timeout=60)
        self.assertEqual(job.returncode, 75, error)
        self.assertIn(b"run again to resume", error)
        status = json.loads(self.run_ok(["status", out, "--json"]))
        self.assertGreater(status["done"], 0)
        self.assertGreater(status["remaining"], 0)
        self.run_ok(["run", file, "--out", out])
        harness.digest_of(out / "results.h5")

    def test_merge_of_a_directory_gives_the_digest_of_its_run_or_says_what_is_missing(self):
        file = self.sweep()
        whole = self.folder / "whole"
        self.run_ok(["run", file, "--out", whole], 2)
        expected = harness.digest_of(whole / "results.h5")
        self.run_ok(["merge", whole, "-o", self.folder / "all.h5"])
        self.assertEqual(harness.digest_of(self.folder / "all.h5"), expected)

        cut = self.folder / "cut"  # as a killed run leaves it
        shutil.copytree(whole, cut)
        (cut / "results.h5").unlink()
        journal = max(cut.glob("journal/*.jsonl"), key=lambda path: path.stat().st_size)
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join(lines[:len(lines) // 2]) + lines[len(lines) // 2][:100])
        done = harness.run(["merge", cut, "-o", self.folder / "cut.h5"])
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertRegex(done.stderr, r"\d+ of 36 items have no outcome: point \d+, prompt 'item-\d', repeat \d")
        self.assertFalse((self.folder / "cut.h5").exists())
        self.run_ok(["merge", cut, "-o", self.folder / "cut.h5", "--partial"])
        with h5py.File(self.folder / "cut.h5") as results:
            self.assertEqual(results.attrs["complete"], 0)
        self.run_ok(["run", file, "--out", cut])
        self.assertEqual(harness.digest_of(cut / "results.h5"), expected)

    def test_shards_of_any_width_share_the_work_and_the_last_run_writes_the_file(self):
        file, whole, out = harness.experiment(
            self.folder / "exp.yaml", prompts={"file": str(harness.PROMPTS), "limit": 12},
            parallel={"threads": 1}), self.folder / "whole", self.folder / "out"
        self.run_ok(["run", file, "--out", whole])
        for shard, ranks in (("0/3", 0), ("2/3", 2), ("1/2", 2), ("1/2", 0), ("0/50", 0)):
            text = self.run_ok(["run", file, "--out", out, "--shard", shard], ranks)
            self.assertRegex(text, rf"shard {shard}: (\d+) of \1 items done, 0 failed")
            self.assertFalse((out / "results.h5").exists())
        at_once = [subprocess.Popen(harness.command(["run", file, "--out", out, "--shard", f"{i}/4"], 2),
                                    env=harness.ENVIRONMENT, cwd=harness.ROOT, stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE) for i in range(4)]
        for job in at_once:
            _, error = job.communicate(timeout=120)
            self.assertEqual(job.returncode, 0, error)
        claims = sum(path.read_text().count('"kind":"claim"') for path in out.glob("journal/*.jsonl"))
        self.assertEqual(claims, 12)  # nothing twice
        self.run_ok(["run", file, "--out", out])
        self.assertEqual(harness.digest_of(out / "results.h5"), harness.digest_of(whole / "results.h5"))

    def test_a_shard_and_a_whole_run_keep_each_other_out(self):
        file = harness.experiment(self.folder / "exp.yaml", generation={"max_new_tokens": 300},
                                  prompts={"file": str(harness.PROMPTS), "limit": 6}, parallel={"threads": 1})
        out = self.folder / "out"
        job = subprocess.Popen(harness.command(["run", file, "--out", out, "--shard", "0/2"]),
                               env=harness.ENVIRONMENT, cwd=harness.ROOT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        while not list(out.glob("journal/*.jsonl")):
            time.sleep(0.01)
        for arguments in (["--shard", "0/2"], []):
            done = harness.run(["run", file, "--out", out] + arguments)
            self.assertEqual(done.returncode, 75, done.stderr)
            self.assertIn(f"in use by pid {job.pid} on ", done.stderr)
        job.kill()
        self.assertEqual(job.wait(), -signal.SIGKILL, "the shard ended before anybody met it")
        self.run_ok(["run", file, "--out", out, "--shard", "0/2"])

    def test_ranks_that_do_not_find_each_other_are_refused(self):
        environment = dict(harness.ENVIRONMENT, PMI_RANK="0", PMI_SIZE="2")
        ending = self.folder / "ending"
        done = subprocess.run(harness.command(["run", self.sweep(), "--out", self.folder / "out", "--ending", ending]),
                              env=environment, cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 64, done.stderr)
        self.assertIn("the launcher started 2 processes", done.stderr)
        self.assertEqual(ending.read_text(), "64\n")
        self.assertFalse((self.folder / "out").exists())

    def test_a_directory_of_another_experiment_is_refused_with_its_differences(self):
        out = self.folder / "out"
        self.run_ok(["run", self.sweep(), "--out", out])
        done = harness.run(["run", self.sweep(), "-s", "generation.max_new_tokens=5", "--out", out])
        self.assertEqual(done.returncode, 3)
        self.assertIn("max_new_tokens", done.stderr)
        planned = harness.run(["plan", self.sweep(), "-s", "generation.max_new_tokens=5", "--out", out])
        self.assertEqual(planned.returncode, 3)

    def test_a_request_that_needs_more_memory_than_there_is_is_skipped_with_its_bytes(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "short", "token_len": 16},
                                       {"prompt": "long", "token_len": 2000000}]))
        file = harness.experiment(self.folder / "exp.yaml",
                                  model={"path": "synthetic:llama-tiny", "dtype": "fp32", "context": 1 << 24},
                                  prompts={"file": str(prompts)}, generation={"max_new_tokens": 2},
                                  sweep={"matrix": {"execution.attention": ["naive"]}})
        out = self.folder / "out"
        done = harness.run(["run", file, "--out", out])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 requests skipped", done.stderr)
        results = out / "results.h5"
        with h5py.File(results) as stored:
            self.assertEqual(stored["requests/status"][:].tolist(), [0, 2])
            error = stored["requests/error"].asstr()[1]
        found = re.fullmatch("memory: needs ([0-9]+) bytes beside the weights", error)
        self.assertGreater(int(found[1]), 4 * 5 * 2000000**2)  # 5 heads' score of every pair of tokens
        digest = harness.digest_of(results)
        self.run_ok(["run", file, "--out", out])
        self.assertEqual(harness.digest_of(results), digest)
        self.run_ok(["report", results])
        self.assertIn(error, (out / "results.html").read_text())
        self.run_ok(["merge", results, "-o", self.folder / "all.h5"])
        self.assertEqual(harness.digest_of(self.folder / "all.h5"), digest)

    def test_a_prompt_longer_than_the_context_is_a_failed_item_and_the_rest_goes_on(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "word " * 9000}, {"prompt": "A short one."}]))
        file = harness.experiment(self.folder / "exp.yaml", prompts={"file": str(prompts)})
        out = self.folder / "out"
        done = harness.run(["run", file, "--out", out], 2)
        self.assertEqual(done.returncode, 2, done.stderr)
        with h5py.File(out / "results.h5") as results:
            errors = results["requests/error"].asstr()[:]
            self.assertEqual(sorted(bool(e) for e in errors), [False, True])
            self.assertTrue(any("context" in e for e in errors))

    def test_recorded_values_are_what_the_definitions_say(self):
        out = self.folder / "out"
        self.run_ok(["run", self.sweep(), "--out", out], 2)
        with h5py.File(out / "results.h5") as results:
            requests = results["requests"]
            offsets = results["tokens/offsets"][:]
            t_emit = results["tokens/t_emit"][:]
            n = len(requests["ttft"])
            self.assertEqual(n, 6 * 3 * 2)
            for i in range(n):
                times = t_emit[offsets[i]:offsets[i + 1]]
                self.assertEqual(len(times), requests["tokens_out"][i])
                self.assertAlmostEqual(times[0], requests["ttft"][i], places=9)
                self.assertAlmostEqual(times[-1], requests["e2e"][i], places=9)
                tpot = (times[-1] - times[0]) / (len(times) - 1)
                self.assertAlmostEqual(tpot, requests["tpot"][i], places=9)
                self.assertTrue(numpy.all(numpy.diff(times) >= 0))
                self.assertGreater(requests["flops"][i], 0)
                self.assertGreater(requests["bytes_moved"][i], 0)
                self.assertGreater(requests["peak_memory_bytes"][i], 1e6)
                self.assertGreater(requests["cpu_percent"][i], 0)
            stated = results["prompts/token_len"][:]
            self.assertTrue(numpy.all(requests["tokens_in"][:] ==
                                      stated[requests["prompt"][:]] + 1))  # begin_of_text

    def test_exact_variants_write_the_same_texts(self):
        out = self.folder / "out"
        self.run_ok(["run", self.sweep(), "--out", out])
        with h5py.File(out / "results.h5") as results:
            variant = results["sweep/ssm.variant"].asstr()[:]
            texts = {}
            for point, prompt, text in zip(results["requests/point"][:], results["requests/prompt"][:],
                                           results["outputs/text"].asstr()[:]):
                if variant[point] != "independent":
                    texts.setdefault(prompt, set()).add(text)
            self.assertTrue(all(len(t) == 1 for t in texts.values()))


class Memory(Scratch):
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


class Verbs(Scratch):
    def test_logits_in_one_piece_and_token_by_token_agree_with_the_golden_values(self):
        tokens = [[5, 7, 11, 2, 3, 90, 41, 6, 6, 1, 17, 33]]
        (self.folder / "ids.json").write_text(json.dumps(tokens))
        model = harness.ROOT / "tests/golden/bamba-a"
        found = []
        for extra in ([], ["--decode"], ["--variant", "sequential"], ["--prefill-tokens", "5"]):
            out = self.folder / f"logits{len(found)}.h5"
            self.run_ok(["logits", "--model", model, "--tokens", self.folder / "ids.json", "-o", out] + extra)
            with h5py.File(out) as file:
                found.append(file["sequences/0/logits"][:])
                self.assertEqual(found[-1].dtype, numpy.float32)
                self.assertEqual(found[-1].shape, (12, 97))
                self.assertEqual(file["sequences/0/tokens"][:].tolist(), tokens[0])
        for other in found[1:]:
            self.assertLess(numpy.abs(other - found[0]).max(), 1e-4 * numpy.abs(found[0]).max())

    def test_score_is_the_log_softmax_of_logits(self):
        ids = [[5, 7, 11, 2, 3, 90, 41, 6], [1, 2]]
        (self.folder / "ids.json").write_text(json.dumps(ids))
        model = harness.ROOT / "tests/golden/bamba-b"
        ids = [[i % 80 for i in s] for s in ids]
        (self.folder / "ids.json").write_text(json.dumps(ids))
        for verb in ("logits", "score"):
            self.run_ok([verb, "--model", model, "--tokens", self.folder / "ids.json", "-o",
                         self.folder / f"{verb}.h5"])
        with h5py.File(self.folder / "logits.h5") as logits, h5py.File(self.folder / "score.h5") as score:
            for i, sequence in enumerate(ids):
                rows = logits[f"sequences/{i}/logits"][:-1].astype(numpy.float64)
                expected = [numpy.log(numpy.exp(r - r.max()).sum()) + r.max() - r[t]
                            for r, t in zip(rows, sequence[1:])]
                numpy.testing.assert_allclose(score[f"sequences/{i}/nll"][:], expected, atol=1e-5)

    def test_tokenize_and_detokenize_are_inverse(self):
        texts = ["Hello, world", "naïve Ünïcode 漢字 🙂\n\n  tabs\t", "<|end_of_text|> inside"]
        (self.folder / "texts.json").write_text(json.dumps(texts))
        ids = self.run_ok(["tokenize", "--model", harness.MODEL, "--input", self.folder / "texts.json"])
        (self.folder / "ids.json").write_text(ids)
        back = self.run_ok(["detokenize", "--model", harness.MODEL, "--input", self.folder / "ids.json"])
        self.assertEqual(json.loads(back), texts)

    def test_generate_repeats_with_a_seed_and_batches_like_single_prompts(self):
        base = ["generate", "--model", harness.MODEL, "-n", "8", "--json", "--temperature", "0.8",
                "--top-k", "50", "--top-p", "0.9", "--seed", "3"]
        first = json.loads(self.run_ok(base + ["--prompt", "The database"]))
        again = json.loads(self.run_ok(base + ["--prompt", "The database"]))
        batch = json.loads(self.run_ok(base + ["--prompt", "The database", "--prompt", "In the beginning God"]))
        self.assertEqual(first, again)
        self.assertEqual(batch[0]["tokens"], first[0]["tokens"])
        other = json.loads(self.run_ok(base[:-1] + ["4", "--prompt", "The database"]))
        self.assertNotEqual(other[0]["tokens"], first[0]["tokens"])

    def test_help_of_every_verb_works(self):
        verbs = [line.split()[0] for line in self.run_ok(["--help"]).split("Subcommands:")[1].splitlines()
                 if line.startswith("  ") and line.split()]
        self.assertIn("run", verbs)
        for verb in verbs:
            self.assertIn(verb, self.run_ok([verb, "--help"]))

    def test_inspect_knows_bamba_9b(self):
        facts = json.loads(self.run_ok(["inspect", "--model", "synthetic:bamba-9b", "--dtype", "bf16", "--json"]))
        self.assertEqual(facts["parameters"], 9780235392)
        self.assertEqual(facts["kv_bytes_per_token"], 12288)

    def test_bench_tables_and_json(self):
        rows = json.loads(self.run_ok(["bench", "ssd", "--tokens", "300", "--heads", "4", "--repeats", "2",
                                       "--json"]))["variants"]
        self.assertEqual({r["variant"] for r in rows},
                         {"sequential", "default", "default_optimized", "independent", "lookback",
                          "own_end_state"})
        self.assertTrue(all(r["relative_error"] < 1e-4 for r in rows), rows)
        rows = json.loads(self.run_ok(["bench", "selective_scan", "--tokens", "40,70", "--batch", "1,2",
                                       "--channels", "70", "--repeats", "2", "--backend", "cpu",
                                       "--json"]))["variants"]
        self.assertEqual([r["variant"] for r in rows], ["eager", "fused", "fused_block", "chunked"] * 4)
        self.assertTrue(all(r["relative_error"] < 1e-5 and r["bytes_per_second"] > 0 for r in rows), rows)
        self.assertEqual([r["launches"] for r in rows if r["tokens"] == 70][:4], [152, 3, 1, 1])
        for arguments in (["linear", "--tokens", "1,9", "--out", "96", "--in", "64"],
                          ["attention", "--tokens", "5,40", "--heads", "4", "--kv-heads", "2",
                           "--head-dim", "16"]):
            rows = json.loads(self.run_ok(["bench", *arguments, "--backend", "cpu", "--repeats", "2",
                                           "--json"]))["rows"]
            self.assertEqual(len(rows), 2)
            self.assertTrue(all(r["relative_error"] < 1e-4 and r["flops_per_second"] > 0 for r in rows), rows)
        levels = json.loads(self.run_ok(["bench", "memory", "--backend", "cpu", "--json"]))["levels"]
        self.assertTrue(len(levels) > 3 and all(r["bytes_per_second"] > 0 for r in levels), levels)
        for verb in ("prefill", "decode"):
            text = self.run_ok(["bench", verb, "--model", harness.MODEL, "--tokens", "64,100", "--repeats", "2"])
            self.assertIn("GB/s", text)
        texts = self.folder / "texts.json"
        texts.write_text(json.dumps(["Chunked states. ", "a\n"]))
        found = json.loads(self.run_ok(["bench", "tokenizer", "--model", harness.MODEL, "--input", texts,
                                        "--repeats", "2", "--json"]))
        self.assertEqual(found["bytes"], 18)
        ids = json.loads(self.run_ok(["tokenize", "--model", harness.MODEL, "--input", texts]))
        self.assertEqual(found["tokens"], sum(len(text) for text in ids))
        self.assertTrue(all(row["bytes_per_second"] > 0 for row in found["rows"]), found)

    def test_plan_counts_what_is_done(self):
        file = harness.experiment(self.folder / "exp.yaml")
        out = self.folder / "out"
        self.assertIn("0 done already", self.run_ok(["plan", file, "--out", out]))
        self.run_ok(["run", file, "--out", out])
        self.assertIn("3 done already", self.run_ok(["plan", file, "--out", out]))

    def test_check_prints_an_experiment_that_means_the_same(self):
        file = harness.experiment(self.folder / "exp.yaml")
        resolved = self.run_ok(["check", file])
        (self.folder / "resolved.yaml").write_text(resolved)
        self.assertEqual(self.run_ok(["check", self.folder / "resolved.yaml"]), resolved)
        json.loads(self.run_ok(["schema"]))


if __name__ == "__main__":
    harness.main()
