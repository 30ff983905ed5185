# SPDX-License-Identifier: Apache-2.0
"""Scenario offline: prompts that decode together have the results that they have alone, in any company, through
kills and on any number of ranks; their times are those of requests that overlap."""
import collections
import csv
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
import unittest

import h5py
import numpy

import harness

RESULTS = ("tokens/offsets", "tokens/token_id", "tokens/logprob", "outputs/text", "requests/tokens_in",
           "requests/stop_reason", "requests/flops", "requests/bytes_moved", "requests/prompt", "requests/repeat")


class Batches(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-batching-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        prompts = self.folder / "prompts.json"
        words = "When a sequence is cut into chunks the state that one leaves behind is all the next one knows ".split()
        rng = random.Random(2)
        prompts.write_text(json.dumps([{"prompt": " ".join(rng.choices(words, k=rng.choice((1, 5, 30, 90))))}
                                       for _ in range(10)]))
        self.prompts = {"file": str(prompts)}
        # More than a product takes at once without other sums, all of them short but one.
        many = self.folder / "many.json"
        many.write_text(json.dumps([{"prompt": " ".join(rng.choices(words, k=60 if i == 3 else 1 + i % 7))}
                                    for i in range(23)]))
        self.many_prompts = {"file": str(many)}

    def experiment(self, name="exp", **sections):
        sections = {"prompts": self.prompts, "generation": {"max_new_tokens": 24}, "parallel": {"threads": 1},
                    **sections}
        return harness.experiment(self.folder / f"{name}.yaml", **sections)

    def run_ok(self, arguments, ranks=0):
        done = harness.run(arguments, ranks)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def results(self, file, ranks=0, *arguments):
        out = self.folder / f"out{len(list(self.folder.iterdir()))}"
        self.run_ok(["run", file, "--out", out, *arguments], ranks)
        return out / "results.h5"

    def values(self, path):
        with h5py.File(path) as file:
            return {name: file[name][:] for name in RESULTS}

    def test_items_have_the_results_that_they_have_alone_on_any_number_of_ranks(self):
        greedy = {"max_new_tokens": 16}
        sampled = {"max_new_tokens": 16, "sampling": {"temperature": 2.0}, "stop_at_eos": True}
        for generation, variant in ((greedy, "default_optimized"), (sampled, "lookback")):
            sections = dict(generation=generation, ssm={"variant": variant, "chunk_size": 64},
                            prompts=self.many_prompts)
            alone = self.values(self.results(self.experiment(**sections)))
            for batch in (1, 3, 20):
                file = self.experiment(scenario={"type": "offline", "batch": batch}, **sections)
                digests = set()
                for ranks in (0, 2):
                    path = self.results(file, ranks)
                    digests.add(harness.digest_of(path))
                    for name, values in self.values(path).items():
                        self.assertTrue(numpy.array_equal(values, alone[name]), (batch, ranks, name))
                self.assertEqual(len(digests), 1)

    def test_streams_and_batches_are_points_of_one_sweep(self):
        zipped = {"scenario.type": ["single_stream", "offline", "offline"], "scenario.batch": [1, 2, 5]}
        for order in ("interleaved", "blocked"):
            file = self.experiment(sweep={"zip": zipped}, measure={"warmup": 1, "repeats": 2, "order": order})
            with h5py.File(self.results(file, 2)) as results:
                point = results["requests/point"][:]
                self.assertEqual(collections.Counter(point), {0: 20, 1: 20, 2: 20})
                texts = results["outputs/text"].asstr()[:]
                for other in (1, 2):
                    self.assertEqual(list(texts[point == other]), list(texts[point == 0]))
                mean = results["requests/batch_mean"][:]
                self.assertTrue((mean[point == 0] == 1).all())
                self.assertTrue((mean[point == 1] <= 2).all())
                self.assertGreater(mean[point == 2].max(), 2)
                self.assertLessEqual(mean[point == 2].max(), 5)
                self.assertEqual(len(set(results["requests/item_id"].asstr()[:])), 60)

    def test_times_are_of_requests_that_overlap(self):
        path = self.results(self.experiment(scenario={"type": "offline", "batch": 4},
                                            measure={"warmup": 1, "repeats": 2, "order": "blocked"}))
        with h5py.File(path) as results:
            start, e2e, ttft = (results[f"requests/{name}"][:] for name in ("t_start", "e2e", "ttft"))
            tokens, t_emit, offsets = (results[name][:] for name in ("requests/tokens_out", "tokens/t_emit",
                                                                     "tokens/offsets"))
            rate = results["sweep/tokens_per_rank_second"][0]
            for i in range(len(start)):
                times = t_emit[offsets[i]:offsets[i + 1]]
                self.assertTrue((numpy.diff(times) > 0).all())
                self.assertEqual((times[0], times[-1], len(times)), (ttft[i], e2e[i], tokens[i]))
            for name in ("cpu_percent", "peak_memory_bytes", "launches"):
                self.assertTrue((results[f"requests/{name}"][:] > 0).all(), name)
            warm = results["requests/warmup_seconds"][:]
            self.assertEqual(numpy.isfinite(warm).sum(), 1)
        together = [((start <= t) & (t < start + e2e)).sum() for t in start]
        self.assertEqual(max(together), 4)
        covered, end = 0.0, -numpy.inf
        for begin, seconds in sorted(zip(start, e2e)):
            covered += max(0.0, begin + seconds - max(begin, end))
            end = max(end, begin + seconds)
        self.assertAlmostEqual(rate, tokens.sum() / covered, delta=1e-6 * rate)
        self.run_ok(["report", path, "-o", self.folder / "page.html", "--csv", self.folder / "csv"])
        row, = csv.DictReader((self.folder / "csv/summary.csv").read_text().splitlines())
        self.assertEqual(float(row["tokens_per_rank_second"]), rate)
        events = json.loads(self.run_ok(["export", path, "--trace"]))["traceEvents"]
        requests = [event for event in events if event["name"] == "request"]
        self.assertEqual(len(requests), 20)
        self.assertEqual({event["tid"] for event in requests}, {0, 1, 2, 3})
        tracks = collections.defaultdict(list)
        for event in requests:
            tracks[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        for spans in tracks.values():
            spans.sort()
            self.assertTrue(all(a[1] <= b[0] + 1e-3 for a, b in zip(spans, spans[1:])))

    def killed_claims(self, file, out, ranks, wait, together=1):
        """Kills the ranks `wait` seconds after their first claims, of which one rank has `together`; what each journal
        had open then."""
        before = set(out.glob("journal/*.jsonl"))
        job = subprocess.Popen(harness.command(["run", file, "--out", out], ranks), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        new, claims = set(), [0]
        while sum(count > 0 for count in claims) < max(ranks, 1) or max(claims) < together:
            time.sleep(0.005)
            self.assertIsNone(job.poll(), "the run ended before it could be killed")
            new = set(out.glob("journal/*.jsonl")) - before
            claims = [0] + [path.read_text().count('"claim"') for path in new]
        time.sleep(wait)
        for pid in harness.ranks_in(out):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # the launcher was quicker: it ends all when one has ended
                pass
        job.wait(timeout=60)
        opened = []
        for path in new:
            claims = set()
            for line in path.read_text().splitlines():
                try:
                    event = json.loads(line[9:])
                except ValueError:
                    continue  # torn
                if event["kind"] == "claim":
                    claims.add(event["item"])
                elif event["kind"] == "result":
                    claims.discard(event["item"])
            opened.append(len(claims))
        return opened

    def test_killed_and_run_again_gives_the_same_digest(self):
        file = self.experiment(scenario={"type": "offline", "batch": 4}, generation={"max_new_tokens": 150},
                               measure={"warmup": 0, "repeats": 2})
        expected = harness.digest_of(self.results(file, 2))
        for ranks, waits in ((2, (0.0, 0.1, 0.3)), (0, (0.05, 0.2))):
            out = self.folder / f"killed{ranks}"
            most = 0
            for wait in waits:
                most = max([most, *self.killed_claims(file, out, ranks, wait, together=2)])
            self.assertGreater(most, 1)  # several items were under way in one process
            self.run_ok(["run", file, "--out", out], ranks)
            self.assertEqual(harness.digest_of(out / "results.h5"), expected)

    def test_items_that_were_under_way_in_three_deaths_are_probed_and_run(self):
        file = self.experiment(scenario={"type": "offline", "batch": 3}, generation={"max_new_tokens": 400},
                               prompts=dict(self.prompts, limit=3))
        expected = harness.digest_of(self.results(file))
        out = self.folder / "killed"
        for _ in range(3):
            self.killed_claims(file, out, 0, 0.15)
        self.run_ok(["run", file, "--out", out])
        self.assertEqual(harness.digest_of(out / "results.h5"), expected)

    def test_a_stop_signal_lets_the_batch_end_and_the_next_run_finishes(self):
        file = self.experiment(scenario={"type": "offline", "batch": 4}, generation={"max_new_tokens": 200})
        out = self.folder / "out"
        job = subprocess.Popen(harness.command(["run", file, "--out", out]), env=harness.ENVIRONMENT,
                               cwd=harness.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not any('"claim"' in path.read_text() for path in out.glob("journal/*.jsonl")):
            time.sleep(0.005)
        time.sleep(0.1)
        running = json.loads(self.run_ok(["status", out, "--json"]))["running"]
        job.send_signal(signal.SIGTERM)
        _, error = job.communicate(timeout=60)
        self.assertEqual(job.returncode, 75, error)
        self.assertIn(running, (1, 2, 3, 4))
        lines = [json.loads(line[9:]) for path in out.glob("journal/*.jsonl") for line in path.read_text().splitlines()]
        kinds = collections.Counter(line["kind"] for line in lines)
        self.assertEqual(kinds["claim"], kinds["result"])
        self.assertGreaterEqual(kinds["result"], running)
        self.assertEqual(kinds["run_end"], 1)
        self.run_ok(["run", file, "--out", out])
        self.assertEqual(harness.digest_of(out / "results.h5"), harness.digest_of(self.results(file)))

    def test_an_item_that_fails_leaves_the_others_as_they_are(self):
        prompts = self.folder / "long.json"
        texts = json.loads(pathlib.Path(self.prompts["file"]).read_text())[:5]
        prompts.write_text(json.dumps(texts[:2] + [{"prompt": "word " * 9000}] + texts[2:]))
        found = []
        for scenario in (None, {"type": "offline", "batch": 3}):
            out = self.folder / f"out{len(found)}"
            file = self.experiment(prompts={"file": str(prompts)}, scenario=scenario)
            done = harness.run(["run", file, "--out", out])
            self.assertEqual(done.returncode, 2, done.stderr)
            with h5py.File(out / "results.h5") as results:
                found.append((list(results["outputs/text"].asstr()[:]), list(results["requests/status"][:]),
                              [error.split(":")[0] for error in results["requests/error"].asstr()[:]]))
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0][2].count("context"), 1)

    def test_a_run_ends_after_so_many_failures_with_what_had_begun(self):
        prompts = self.folder / "long.json"
        texts = json.loads(pathlib.Path(self.prompts["file"]).read_text())
        prompts.write_text(json.dumps([{"prompt": "word " * 9000}] + texts))
        file = self.experiment(prompts={"file": str(prompts)}, max_failures=1, scenario={"type": "offline", "batch": 3})
        done = harness.run(["run", file, "--out", self.folder / "out"])
        self.assertEqual(done.returncode, 2, done.stderr)
        status = json.loads(self.run_ok(["status", self.folder / "out", "--json"]))
        self.assertEqual(status["failed"], 1)
        self.assertGreater(status["remaining"], 0)

    def test_what_a_batch_cannot_be_is_one_clear_error(self):
        offline = {"type": "offline", "batch": 4}
        for sections, message in (
                (dict(scenario=offline, parallel={"mode": "sequence", "ranks_per_group": 2}),
                 "parallel.mode: found sequence, expected data with scenario.type offline"),
                (dict(scenario=offline, parallel={"mode": "tensor", "ranks_per_group": 2}),
                 "parallel.mode: found tensor, expected data with scenario.type offline"),
                (dict(scenario=offline, generation={"batch": 2}),
                 "generation.batch: found 2, expected 1 with scenario.type offline"),
                (dict(scenario=offline, generation={"use_cache": False}),
                 "generation.use_cache: found false, expected true with scenario.type offline"),
                (dict(scenario={"batch": 4}), "scenario.batch: found 4, expected 1 with scenario.type single_stream"),
                (dict(scenario={"type": "server"}), "scenario.type: 'server' is not in this version")):
            done = harness.run(["check", self.experiment(**sections)])
            self.assertEqual(done.returncode, 64, done.stderr)
            self.assertIn(message, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_batch_that_the_memory_does_not_hold_has_fewer_slots(self):
        sections = dict(prompts=dict(self.prompts, limit=6))
        alone = self.values(self.results(self.experiment(**sections)))
        file = self.experiment(scenario={"type": "offline", "batch": 1024}, **sections)  # 1.6 GB of states
        out = self.folder / "out"
        limit = 800 << 20
        done = harness.run(["run", file, "--out", out],
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        self.assertEqual(done.returncode, 0, done.stderr)
        told = re.findall(r"point 0: memory for (\d+) of 1024 sequences of \d+ tokens at a time", done.stderr)
        self.assertGreater(len(told), 0, done.stderr)
        self.assertTrue(all(1 <= int(slots) < 1024 for slots in told))
        for name, values in self.values(out / "results.h5").items():
            self.assertTrue(numpy.array_equal(values, alone[name]), name)

    def test_a_plan_counts_the_memory_of_all_slots(self):
        def bytes_of(batch):
            file = self.experiment(scenario={"type": "offline", "batch": batch}, prompts={"synthetic": {
                "tokens": 512, "count": 20}})
            line = next(line for line in self.run_ok(["plan", file]).splitlines() if line.startswith("memory:"))
            number, unit = line.split(" once per host, ")[1].split()[:2]
            return float(number) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
        self.assertGreater(bytes_of(1024), 10 * bytes_of(16))


if __name__ == "__main__":
    harness.main()
