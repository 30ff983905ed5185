# SPDX-License-Identifier: Apache-2.0
"""`compare` on the binary: what is the same, what a planted change is called, and what CI sees of it.

Times are no part of a file's digest, so the tests plant them: a real run's file with lognormal times
of 1 % noise around each prompt's own, of another seed in every file.
"""
import json
import pathlib
import shutil
import tempfile
import unittest

import h5py
import numpy as np

import harness

PROMPTS, REPEATS, TOKENS = 12, 5, 2
SLOWER_POINT = 1  # of two: the other one keeps its times


def planted(source, target, seed, slower=1.0):
    shutil.copy(source, target)
    random = np.random.default_rng(seed)
    with h5py.File(target, "r+") as file:
        requests = file["requests"]
        typical = 0.01 * (1 + requests["prompt"][:])
        factor = np.where(requests["point"][:] == SLOWER_POINT, slower, 1.0)
        for name, scale in (("ttft", 1.0), ("e2e", 3.0)):
            noise = np.exp(random.normal(0, 0.01, len(typical)))
            requests[name][:] = scale * typical * factor * noise
    return target


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        exp = harness.experiment(
            cls.folder / "exp.yaml",
            model={"path": str(harness.MODEL), "dtype": "fp32", "layers": 1},
            prompts={"synthetic": {"tokens": 4, "count": PROMPTS}},
            generation={"max_new_tokens": TOKENS},
            measure={"warmup": 0, "repeats": REPEATS},
            sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}},
            parallel={"threads": 1})
        done = harness.run(["run", exp, "--out", cls.folder])
        assert done.returncode == 0, done.stderr
        cls.real = cls.folder / "results.h5"
        cls.base = planted(cls.real, cls.folder / "base.h5", 1)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def verdicts(self, *files, flags=()):
        done = harness.run(["compare", *files, "--json", *flags])
        self.assertIn(done.returncode, (0, 4), done.stderr)
        (comparison,) = json.loads(done.stdout)
        return done.returncode, comparison, {
            (c["point"].split("=")[1], c["metric"]): c["verdict"] for c in comparison["changes"]}

    def test_a_run_is_the_same_as_itself_everywhere(self):
        code, comparison, verdicts = self.verdicts(self.real, self.real,
                                                   flags=["--fail-if", "e2e_p50 > 0%"])
        self.assertEqual(code, 0)
        self.assertEqual(set(verdicts.values()), {"SAME"})
        self.assertEqual(len(verdicts), 8)
        self.assertEqual(comparison["differences"], [])
        self.assertEqual(comparison["same_outputs"], 2 * PROMPTS * REPEATS)
        self.assertEqual(comparison["other_outputs"], 0)

    def test_a_slowdown_of_5_percent_is_found_and_only_where_it_is(self):
        for seed in range(2, 7):
            slow = planted(self.real, self.folder / "slow.h5", seed, slower=1.05)
            code, _, verdicts = self.verdicts(self.base, slow, flags=["--fail-if", "e2e_p50 > +3%"])
            self.assertEqual(code, 4)
            for metric in ("ttft", "e2e"):
                self.assertEqual(verdicts["independent", metric], "SLOWER")
                self.assertNotEqual(verdicts["default_optimized", metric], "SLOWER")
            _, _, verdicts = self.verdicts(slow, self.base)
            self.assertEqual(verdicts["independent", "e2e"], "FASTER")

    def test_a_slowdown_of_a_fifth_of_a_percent_is_not_called_slower(self):
        for seed in range(2, 7):
            other = planted(self.real, self.folder / "other.h5", seed, slower=1.002)
            code, _, verdicts = self.verdicts(self.base, other, flags=["--fail-if", "e2e_p50 > +3%"])
            self.assertEqual(code, 0)
            self.assertNotIn("SLOWER", verdicts.values())

    def test_what_cannot_be_judged_does_not_pass(self):
        done = harness.run(["compare", self.base, self.base, "--fail-if", "e2e_p99 > +3%"])
        self.assertEqual(done.returncode, 4, done.stderr)  # 60 values per point, 300 are needed
        self.assertEqual(done.stderr.count("cannot be judged from 60 values in A and 60 in B"), 2)
        missing = self.folder / "missing.h5"
        shutil.copy(self.base, missing)
        with h5py.File(missing, "r+") as file:
            requests = file["requests"]
            requests["e2e"][:] = np.where(requests["point"][:] == SLOWER_POINT, np.nan, requests["e2e"][:])
        done = harness.run(["compare", self.base, missing, "--fail-if", "e2e_p50 > +3%"])
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("independent: cannot be judged from 60 values in A and 0 in B", done.stderr)
        done = harness.run(["compare", self.base, self.base, "--fail-if", "gpu_percent_p50 > +3%"])
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn("A has no value of it", done.stderr)

    def test_runs_without_a_common_point_are_an_error(self):
        other = self.folder / "other_point.h5"
        shutil.copy(self.base, other)
        with h5py.File(other, "r+") as file:
            file["sweep/ssm.variant"][:] = ["lookback", "default"]
        done = harness.run(["compare", self.base, other, "--fail-if", "e2e_p50 > +3%"])
        self.assertIn(done.returncode, (3, 4), done.stdout)
        self.assertIn("no sweep point in common", done.stderr)
        self.assertEqual(harness.run(["compare", self.base, other]).returncode, 3)

    def test_an_unknown_metric_is_refused_before_anything_is_printed(self):
        done = harness.run(["compare", self.base, self.base, "--fail-if", "latency > +3%"])
        self.assertEqual((done.returncode, done.stdout), (64, ""))

    def test_folders_of_runs_are_taken_for_their_results(self):
        done = harness.run(["compare", self.folder, self.real])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count(" SAME"), 8)

    def test_differences_of_experiment_and_environment_come_first(self):
        other = self.folder / "environment.h5"
        shutil.copy(self.real, other)
        with h5py.File(other, "r+") as file:
            file["provenance/ranks/cpu_model"][:] = "Another processor"
            file["provenance/ranks/threads"][:] = 64
        done = harness.run(["compare", self.real, other])
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        verdicts = next(i for i, line in enumerate(lines) if line.startswith("point"))
        for name, value in (("cpu_model", "'Another processor' in B"), ("threads", "'64' in B")):
            (at,) = [i for i, line in enumerate(lines) if line.startswith(f"differs: {name}: ")]
            self.assertLess(at, verdicts)
            self.assertIn(value, lines[at])


if __name__ == "__main__":
    harness.main()
