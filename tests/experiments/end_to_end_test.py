"""The main job: YAML in, ranks, HDF5 out. Digest, interruption, groups, shards."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import h5py
import numpy

import harness


class Runs(harness.Scratch):
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
        self.assertRegex(self.run_ok(["status", self.folder / "out"]), "1 failed: .*tokens")

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
        while len(harness.ranks_in(out)) < 2 and job.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.65))
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
        harness.wait_until_ended(job, out)
        return True

    def test_an_item_that_kills_its_process_is_failed_as_poison_and_one_that_was_killed_is_not(self):
        """Nor is one whose probe meets the signal that stops a job."""
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "The long one. " * 400}]))
        file = harness.experiment(self.folder / "exp.yaml", prompts={"file": str(prompts)},
                                  generation={"max_new_tokens": 20}, ssm={"variant": "sequential"})
        whole = self.folder / "whole"
        self.run_ok(["run", file, "--out", whole])
        # A library that sends a signal to every process started to probe an item.
        source = self.folder / "killer.c"
        source.write_text("""
            #include <signal.h>
            #include <stdio.h>
            #include <string.h>
            __attribute__((constructor)) static void kill_probes(void) {
              char words[4096] = "";
              FILE* file = fopen("/proc/self/cmdline", "r");
              size_t size = file ? fread(words, 1, sizeof(words) - 1, file) : 0;
              for (size_t i = 0; i + 7 < size; ++i)
                if (memcmp(words + i, "--probe", 8) == 0) raise(SIGNAL);
              if (file) fclose(file);
            }""")
        for name in (None, "SIGTERM", "SIGABRT"):
            poison = name == "SIGABRT"
            environment = dict(harness.ENVIRONMENT)
            if name:
                killer = self.folder / f"{name}.so"
                subprocess.run(["cc", "-shared", "-fPIC", f"-DSIGNAL={name}", "-o", killer, source], check=True)
                environment["LD_PRELOAD"] = str(killer)
            out = self.folder / f"out-{name}"
            for _ in range(3):
                self.kill_in_the_first_item(file, out)
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
        file = self.sweep(prompts={"file": str(harness.PROMPTS), "limit": 4})
        out = self.folder / "out"
        job = subprocess.Popen(harness.command(["run", file, "--out", out]), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not any('"result"' in path.read_text() for path in out.glob("journal/*.jsonl")):
            time.sleep(0.01)
            self.assertIsNone(job.poll(), "the run ended before it was asked to stop")
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
        job.send_signal(signal.SIGSTOP)  # it holds its lock however long the others take to find out
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
        self.assertIn("1 request skipped", done.stderr)
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
        self.assertIn("1 request failed, the first (all, prompt 'item-1'): context: ", done.stderr)
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


if __name__ == "__main__":
    harness.main()
