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
