#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Python package against the binary: logits, score, generate, results and messages."""
import json
import os
import pathlib
import sys
import tempfile
import unittest

import harness

if not os.environ.get("CHUNKSTATE_PYTHON_PACKAGE"):
    print("SKIPPED: built without nanobind")
    sys.exit(77)
sys.path.insert(0, os.environ["CHUNKSTATE_PYTHON_PACKAGE"])

import h5py
import numpy as np

import chunkstate

GOLDEN = harness.ROOT / "tests/golden"
SEQUENCES = [[1, 5, 9, 2, 60, 33], [7] * 40]


class PythonModule(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def of_binary(self, verb, model, values, *flags, option="--tokens"):
        """What the verb writes for each of the sequences."""
        given, out = self.folder / "given.json", self.folder / "out.h5"
        given.write_text(json.dumps(values))
        done = harness.run([verb, "--model", model, option, given, "-o", out, *flags])
        self.assertEqual(done.returncode, 0, done.stderr)
        name = {"logits": "logits", "score": "nll"}[verb]
        with h5py.File(out) as file:
            return [file[f"sequences/{i}/{name}"][:] for i in range(len(values))]

    def message_of_binary(self, *arguments):
        done = harness.run(arguments)
        self.assertIn(done.returncode, (64, 65))
        return done.stderr.strip().removeprefix("chunkstate: ")

    def test_logits_and_scores_are_the_binarys(self):
        for name, flags in (("bamba-a", []), ("llama-a", []), ("mamba1-b", ["--variant", "eager"]),
                            ("bamba-b", ["--dtype", "bf16", "--variant", "independent"])):
            options = {flags[i][2:]: flags[i + 1] for i in range(0, len(flags), 2)}
            model = chunkstate.Model(GOLDEN / name if not flags else str(GOLDEN / name), **options)
            for verb, method in (("logits", model.logits), ("score", model.score)):
                for ids, expected in zip(SEQUENCES, self.of_binary(verb, GOLDEN / name, SEQUENCES, *flags)):
                    for given in (ids, tuple(ids), np.array(ids, dtype=np.int64)):
                        found = method(given)
                        self.assertEqual((found.dtype, found.shape), (np.float32, expected.shape))
                        np.testing.assert_array_equal(found, expected)

    def test_texts_are_tokenized_scored_and_continued_as_by_the_binary(self):
        text = "The kernel of the operating system"
        model = chunkstate.Model(harness.MODEL)
        (expected,) = self.of_binary("score", harness.MODEL, [text], option="--text")
        np.testing.assert_array_equal(model.score(text), expected)
        ids = model.encode(text)
        np.testing.assert_array_equal(model.score(ids), expected)
        self.assertIn(text, model.decode(ids))
        done = harness.run(["generate", "--model", harness.MODEL, "--prompt", text, "-n", "12", "--json"])
        (expected,) = [row["tokens"] for row in json.loads(done.stdout)]
        self.assertEqual(model.generate(ids, max_new_tokens=12), expected)
        self.assertEqual(model.generate(text, max_new_tokens=12), model.decode(expected))
        self.assertEqual(len(model.generate(ids, max_new_tokens=5, stop_at_eos=False)), 5)
        sampled = [model.generate(ids, max_new_tokens=8, temperature=1.0) for _ in range(2)]
        self.assertEqual(sampled[0], sampled[1])  # one seed

    def test_bad_input_raises_the_binarys_message(self):
        missing = self.folder / "none"
        bad = harness.copy_golden_model("bamba-a", self.folder / "bad")
        (bad / "config.json").write_text("{")
        for error, arguments, call in (
                (chunkstate.InputError, ["inspect", "--model", missing],
                 lambda: chunkstate.Model(missing)),
                (chunkstate.InputError, ["inspect", "--model", bad], lambda: chunkstate.Model(bad)),
                (chunkstate.UsageError, ["inspect", "--model", "synthetic:none"],
                 lambda: chunkstate.Model("synthetic:none")),
                (chunkstate.UsageError, ["inspect", "--model", harness.MODEL, "--variant", "fused"],
                 lambda: chunkstate.Model(harness.MODEL, variant="fused")),
                (chunkstate.InputError, ["verify", missing], lambda: chunkstate.open_results(missing)),
                (chunkstate.InputError, ["verify", self.folder],
                 lambda: chunkstate.open_results(self.folder)),
                (chunkstate.InputError, ["verify", bad / "config.json"],
                 lambda: chunkstate.open_results(bad / "config.json"))):
            with self.assertRaises(error) as raised:
                call()
            self.assertEqual(str(raised.exception), self.message_of_binary(*arguments))
            self.assertIsInstance(raised.exception, ValueError)
        model = chunkstate.Model(GOLDEN / "bamba-a")
        for ids in ([1, 10**6], [1, -1], [1, 2**40]):
            with self.assertRaisesRegex(chunkstate.UsageError, "^sequence 0, token 1: id .*, expected 0 to"):
                model.logits(ids)
        with self.assertRaises(chunkstate.UsageError):
            model.logits([])
        with self.assertRaises(TypeError):
            model.logits([1.5])

    def test_results_open_as_xarray(self):
        file = harness.experiment(self.folder / "exp.yaml")
        out = self.folder / "out"
        self.assertEqual(harness.run(["run", file, "--out", out]).returncode, 0)
        with chunkstate.open_results(out) as results, h5py.File(out / "results.h5") as file:
            frame = results["requests"].to_dataset().to_dataframe()
            self.assertEqual(len(frame), 3)
            np.testing.assert_array_equal(frame["e2e"], file["requests/e2e"][:])
            self.assertTrue((frame["launches"] > 0).all())
        with h5py.File(self.folder / "other.h5", "w") as other:
            other["x"] = 1
        with self.assertRaisesRegex(chunkstate.InputError, "not a results file of Chunkstate"):
            chunkstate.open_results(self.folder / "other.h5")


if __name__ == "__main__":
    harness.main()
