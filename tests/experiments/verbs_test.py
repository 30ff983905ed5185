"""The verbs beside `run`: logits, score, tokenize, generate, inspect, bench, plan, check, and every help."""
import json
import re

import h5py
import numpy

import harness


class Verbs(harness.Scratch):
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
                self.assertEqual(file.attrs["model"], str(model))
                self.assertEqual(file.attrs["variant"], extra[1] if "--variant" in extra else "default_optimized")
                self.assertEqual(file.attrs["dtype"], "fp32")
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

    def test_generate_without_a_token_states_no_times(self):
        done = harness.run(["generate", "--model", harness.MODEL, "--prompt", "The", "-n", "0"])
        self.assertEqual((done.returncode, done.stderr), (0, "0 tokens\n"))
        done = harness.run(["generate", "--model", harness.MODEL, "--prompt", "The", "-n", "1"])
        self.assertRegex(done.stderr, r"^1 tokens; first after \d+\.\d+ s\n$")

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
        half = json.loads(self.run_ok(["inspect", "--model", "synthetic:bamba-9b", "--dtype", "bf16",
                                       "--state-dtype", "bf16", "--json"]))
        states = 29 * 128 * 64 * 128  # layers x heads x head_dim x state_dim
        self.assertEqual(facts["state_bytes_per_sequence"] - half["state_bytes_per_sequence"], 2 * states)

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
        measured = json.loads(self.run_ok(["bench", "prefill", "--model", harness.MODEL, "--tokens", "64", "--dtype",
                                           "bf16", "--backend", "cpu", "--repeats", "3", "--json"]))
        shares = measured["rows"][0].get("shares_of_loop", [])
        self.assertEqual(len(shares), 3 if measured["peaks"]["ceiling_flops"] > 0 else 0)
        self.assertTrue(all(0 < share < 10 for share in shares), shares)
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
        done = self.run_ok(["plan", file, "--out", out])
        self.assertIn("3 done already", done)
        self.assertNotIn("time:", done)

    def test_a_plan_counts_what_a_rank_of_a_group_holds(self):
        file = harness.experiment(self.folder / "exp.yaml")
        words = ["plan", file, "-s", "parallel.mode=tensor", "-s", "parallel.ranks_per_group=2"]

        def plan(*more):
            text = self.run_ok([*words, *more])
            return text, float(re.search(r" ([0-9.]+) MiB more per rank", text)[1])

        alone = plan("-s", "parallel.mode=data", "-s", "parallel.ranks_per_group=1")[1]
        long = ["-s", "prompts=", "-s", "prompts.synthetic.tokens=2000", "-s", "prompts.synthetic.count=1"]
        whole = plan(*long, "-s", "parallel.mode=data", "-s", "parallel.ranks_per_group=1")[1]
        half = plan(*long, "-s", "parallel.mode=sequence")[1]  # of the activations, not of the state
        self.assertLess(half, 0.8 * whole)
        self.assertGreater(half, 0.4 * whole)
        text, split = plan("--ranks", "4")
        self.assertIn("about 2 per group of 2 on 4 ranks", text)
        self.assertLess(split, 0.8 * alone)
        self.assertGreater(split, 0.4 * alone)
        done = harness.run([*words, "--ranks", "3"])
        self.assertEqual(done.returncode, 64)
        self.assertIn("--ranks: found 3, expected a multiple of 2", done.stderr)

    def test_the_folder_of_a_run_stands_for_its_results(self):
        file = harness.experiment(self.folder / "exp.yaml")
        out = self.folder / "out"
        self.run_ok(["run", file, "--out", out])
        self.assertIn("sound and complete", self.run_ok(["verify", out]))
        self.assertEqual(self.run_ok(["export", out, "--csv"]), self.run_ok(["export", out / "results.h5", "--csv"]))
        self.assertEqual(self.run_ok(["report", out]).strip(), str(out / "results.html"))
        self.assertIn("strong scaling", self.run_ok(["scale", out]))
        (out / "results.h5").unlink()
        done = harness.run(["verify", out])
        self.assertEqual(done.returncode, 65)
        self.assertIn("no results.h5 yet", done.stderr)

    def test_check_names_what_is_not_on_this_machine(self):
        file = harness.experiment(self.folder / "exp.yaml", model={"path": "nowhere"})
        done = harness.run(["check", file, "-s", "prompts.file=none.json"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(done.stderr.splitlines()),
                         ["warning: model.path: nowhere: not on this machine",
                          "warning: prompts.file: none.json: not on this machine"])

    def test_check_prints_an_experiment_that_means_the_same(self):
        file = harness.experiment(self.folder / "exp.yaml")
        resolved = self.run_ok(["check", file])
        (self.folder / "resolved.yaml").write_text(resolved)
        self.assertEqual(self.run_ok(["check", self.folder / "resolved.yaml"]), resolved)
        json.loads(self.run_ok(["schema"]))


if __name__ == "__main__":
    harness.main()
