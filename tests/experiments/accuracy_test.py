"""`accuracy` of an experiment and `gptscore` at the binary: what they compute, and that nothing of it is lost.

The numbers are computed again from `score` and `tokenize`, which know nothing of references and judges."""
import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import h5py
import numpy

import harness

JUDGE = harness.ROOT / "experiments/models/llama-tiny"
ASPECTS = ("quality", "naturalness", "informativeness")
TEMPLATES = {"quality": "Good: {given} So:", "naturalness": "{given}", "informativeness": "Facts of {given} :"}
PROMPTS = [{"prompt": "Once upon a time there was a small house near the river, and in it", "answer": "lived a cat"},
           {"prompt": "The king had three daughters. The first one was tall, the second", "answer": "was clever"},
           {"prompt": "A ship came to the island. Nobody knew who had sent it or why it", "answer": ""}]


class Accuracy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        prompts = cls.folder / "prompts.json"
        prompts.write_text(json.dumps(PROMPTS))
        cls.experiment = harness.experiment(
            cls.folder / "accuracy.yaml", prompts={"file": str(prompts)},
            generation={"max_new_tokens": 5}, measure={"warmup": 0, "repeats": 2}, parallel={"threads": 1},
            ssm={"chunk_size": 4}, sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}},
            accuracy={"reference": "exact_fp32", "state_drift": True,
                      "gptscore": {"judge": str(JUDGE), **TEMPLATES}})
        cls.results = cls.run_whole("whole")
        cls.digest = harness.digest_of(cls.results)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    @classmethod
    def run_whole(cls, name, ranks=0, words=()):
        done = harness.run(["run", cls.experiment, "--out", cls.folder / name, "-q", *words], ranks)
        assert done.returncode == 0, done.stderr
        return cls.folder / name / "results.h5"

    def column(self, group, name, point=None, prompt=None):
        with h5py.File(self.results) as file:
            values = file[group][name][()]
            rows = file["requests/repeat"][()] == 0
            if point is not None:
                rows &= file["requests/point"][()] == point
            if prompt is not None:
                rows &= file["requests/prompt"][()] == prompt
            return values[rows]

    def tokens_of(self, model, texts, bos):
        path = self.folder / "texts.json"
        path.write_text(json.dumps(texts))
        done = harness.run(["tokenize", "--model", model, "--input", path] + (["--bos"] if bos else []))
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def nll(self, model, sequences, words=()):
        """Per sequence the negative log-likelihoods of its tokens after the first."""
        path, out = self.folder / "ids.json", self.folder / "score.h5"
        path.write_text(json.dumps(sequences))
        done = harness.run(["score", "--model", model, "--dtype", "fp32", "--tokens", path, "--out", out, *words])
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(out) as file:
            return [file[f"sequences/{i}/nll"][()].astype(float) for i in range(len(sequences))]

    def test_the_number_of_ranks_changes_nothing(self):
        self.assertEqual(harness.digest_of(self.run_whole("three", ranks=3)), self.digest)

    def test_ranks_that_share_a_sequence_evaluate_the_same(self):
        shared = self.run_whole("group", ranks=2, words=[
            "-s", "parallel.mode=sequence", "-s", "parallel.ranks_per_group=2", "-s", "parallel.deadline=5s"])
        harness.digest_of(shared)
        with h5py.File(shared) as file, h5py.File(self.results) as alone:
            for name in ("nll_mean", "kl_mean", "first_divergence", "gptscore_quality", "state_drift"):
                numpy.testing.assert_array_equal(file["accuracy"][name][()], alone["accuracy"][name][()])

    def test_only_the_first_repeat_is_evaluated(self):
        with h5py.File(self.results) as file:
            evaluated = file["accuracy/evaluated"][()]
            self.assertEqual(list(evaluated), list((file["requests/repeat"][()] == 0).astype(int)))
            self.assertEqual(file["accuracy"].attrs["reference"], "exact_fp32")
            self.assertEqual(file["accuracy"].attrs["instruction_quality"], TEMPLATES["quality"])
            self.assertTrue(numpy.isnan(file["accuracy/kl_mean"][evaluated == 0]).all())

    def test_an_exact_variant_is_its_own_reference_and_a_forgetful_one_is_not(self):
        self.assertLess(self.column("accuracy", "kl_max", point=0).max(), 1e-9)
        self.assertEqual(self.column("accuracy", "top1_agreement", point=0).min(), 1)
        self.assertTrue((self.column("accuracy", "first_divergence", point=0) == 5).all())
        self.assertGreater(self.column("accuracy", "kl_mean", point=1).min(), 1e-4)
        drift = self.column("accuracy", "state_drift", point=1)
        self.assertEqual(drift.shape[0], 3)
        self.assertGreater(drift.min(), 1e-3)

    def test_nll_equals_score(self):
        texts = [p["prompt"] for p in PROMPTS]
        given = self.tokens_of(harness.MODEL, texts, bos=True)
        answers = self.tokens_of(harness.MODEL, [p["answer"] for p in PROMPTS], bos=False)
        with h5py.File(self.results) as file:  # no answer: what the reference, here point 0, wrote
            offsets, ids = file["tokens/offsets"][()], file["tokens/token_id"][()]
        answers[2] = [int(i) for i in ids[offsets[4]:offsets[5]]]
        for point, variant in enumerate(("default_optimized", "independent")):
            all_nll = self.nll(harness.MODEL, [g + a for g, a in zip(given, answers)],
                               ["--variant", variant, "--chunk-size", "4"])
            for prompt, nll in enumerate(all_nll):
                border = len(given[prompt]) - 1
                for name, expected in (("nll_prompt", nll[:border].mean()), ("nll_answer", nll[border:].mean()),
                                       ("nll_mean", nll.mean())):
                    found = self.column("accuracy", name, point, prompt)[0]
                    self.assertAlmostEqual(found, expected, delta=1e-5, msg=f"{name} {variant} {prompt}")

    def gptscore(self, aspect, given, scored):
        before, after = TEMPLATES[aspect].split("{given}")
        [head] = self.tokens_of(JUDGE, [before + given + after], bos=True)
        [tail] = self.tokens_of(JUDGE, [scored], bos=False)
        [nll] = self.nll(JUDGE, [head + tail])
        return -nll[len(head) - 1:].mean()

    def test_gptscore_equals_score(self):
        with h5py.File(self.results) as file:
            outputs = [file["outputs/text"].asstr()[i] for i in (0, 2, 4)]
        for aspect in ASPECTS:
            output, prompt = outputs[0], PROMPTS[0]
            source = self.gptscore(aspect, prompt["prompt"], output)
            precision = self.gptscore(aspect, prompt["answer"], output)
            recall = self.gptscore(aspect, output, prompt["answer"])
            for suffix, expected in (("_source", source), ("_precision", precision), ("_recall", recall),
                                     ("", (precision + recall) / 2),
                                     ("_harmonic", 2 * precision * recall / (precision + recall))):
                found = self.column("accuracy", f"gptscore_{aspect}{suffix}", 0, 0)[0]
                self.assertAlmostEqual(found, expected, delta=1e-5, msg=aspect + suffix)
            self.assertTrue(numpy.isnan(self.column("accuracy", f"gptscore_{aspect}", 0, 2)[0]))  # no answer

    def test_the_table_after_a_run_says_what_was_lost(self):
        done = harness.run(["run", self.experiment, "--out", self.folder / "whole"])  # nothing is left to do
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("NLL lost, KL: means over prompts", done.stdout)
        (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("independent")]
        for shown, column in ((row[-1], self.column("accuracy", "kl_mean", 1)),
                              (row[-2], self.column("accuracy", "nll_mean", 1) -
                               self.column("accuracy", "reference_nll_mean", 1))):
            self.assertAlmostEqual(float(shown), column.mean(), delta=0.006 * abs(column.mean()))

    def test_gptscore_of_a_file_equals_the_step_of_a_run(self):
        plain = self.folder / "plain"
        done = harness.run(["run", self.experiment, "--out", plain, "-q", "-s", "accuracy="])
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(plain / "results.h5") as file:
            self.assertNotIn("accuracy", file)
        out = self.folder / "scored.h5"
        before = (plain / "results.h5").read_bytes()
        words = ["gptscore", plain / "results.h5", "--judge", JUDGE]
        for aspect in ASPECTS:
            words += ["--" + aspect, TEMPLATES[aspect]]
        self.assertEqual(harness.run(words + ["-o", out]).returncode, 0)
        self.assertEqual((plain / "results.h5").read_bytes(), before)
        harness.digest_of(out)
        with h5py.File(out) as file, h5py.File(self.results) as expected:
            for aspect in ASPECTS:
                numpy.testing.assert_array_equal(file["accuracy"]["gptscore_" + aspect][()],
                                                 expected["accuracy"]["gptscore_" + aspect][()])
        self.assertEqual(harness.run(words).returncode, 0)
        self.assertEqual(harness.digest_of(plain / "results.h5"), harness.digest_of(out))
        # No journal has these scores: who writes the file of the finished experiment anew must not drop them.
        for again in (["run", self.experiment, "--out", plain, "-q", "-s", "accuracy="],
                      ["merge", plain, "-o", plain / "results.h5"]):
            done = harness.run(again)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(harness.digest_of(plain / "results.h5"), harness.digest_of(out), again[0])

    def test_killed_while_it_evaluates_and_run_again(self):
        for attempt, kills in enumerate((1, 2)):
            out = self.folder / f"killed{attempt}"
            for kill in range(kills):
                job = subprocess.Popen(harness.command(["run", self.experiment, "--out", out, "-q"]),
                                       env=harness.ENVIRONMENT, cwd=harness.ROOT)
                deadline = time.time() + 120
                while self.evaluations(out) <= kill and job.poll() is None and time.time() < deadline:
                    time.sleep(0.002)
                job.send_signal(signal.SIGKILL)
                job.wait()
            if attempt == 0 and not (out / "results.h5").exists():
                merged = harness.run(["merge", out, "-o", self.folder / "partial.h5"])
                self.assertEqual(merged.returncode, 75, merged.stderr)
                self.assertIn("outputs are not evaluated", merged.stderr)
                self.assertFalse((self.folder / "partial.h5").exists())
            self.assertEqual(harness.digest_of(self.run_whole(out.name)), self.digest)

    @staticmethod
    def evaluations(out):
        return sum(path.read_text(errors="replace").count('"kind":"evaluation"')
                   for path in (out / "journal").glob("*.jsonl"))

    def test_shards_evaluate_their_own_and_merge_to_the_same(self):
        out = self.folder / "shards"
        for shard in ("0/2", "1/2"):
            done = harness.run(["run", self.experiment, "--out", out, "-q", "--shard", shard])
            self.assertEqual(done.returncode, 0, done.stderr)
        merged = self.folder / "merged.h5"
        done = harness.run(["merge", out, "-o", merged])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(harness.digest_of(merged), self.digest)

    def test_a_judge_must_be_a_model_with_a_tokenizer(self):
        for judge, fragment in (("synthetic:bamba-9b", "a judge needs a tokenizer"), ("/nowhere", "/nowhere")):
            done = harness.run(["run", self.experiment, "--out", self.folder / "none",
                                "-s", f"accuracy.gptscore.judge={judge}"])
            self.assertIn(done.returncode, (64, 65))
            self.assertIn(fragment, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        done = harness.run(["gptscore", self.results, "--judge", JUDGE, "--quality", "nothing"])
        self.assertEqual(done.returncode, 64)
        self.assertIn("{given} exactly once", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
