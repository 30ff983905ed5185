# SPDX-License-Identifier: Apache-2.0
"""`export` on the binary: what other programs read is what is in the HDF5 file."""
import io
import json
import pathlib
import shutil
import tempfile
import unittest

import h5py
import numpy as np
import pandas as pd
import xarray as xr

import harness

SEED = ["id", "total_latency_s", "first_token_s", "mean_inter_token_s", "throughput_tok_s",
        "peak_mem_MB", "mem_bw_MBps", "cpu_start_%", "cpu_end_%", "gpu_start_%", "gpu_end_%",
        "io_wait_diff_%", "total_flops", "profiler_top_ops", "output", "num_chunks", "token_len",
        "prompt", "point", "prompt_id", "repeat"]


class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        prompts = cls.folder / "prompts.json"
        prompts.write_text(json.dumps([
            {"prompt": 'Say "hello",\nthen\tgo \u20ac', "id": "first", "num_chunks": 1, "token_len": 9},
            {"prompt": "word " * 2000, "id": "too long"}, {"prompt": "third"}]))
        exp = harness.experiment(
            cls.folder / "exp.yaml", prompts={"file": str(prompts)},
            measure={"warmup": 1, "repeats": 2}, parallel={"threads": 1},
            accuracy={"reference": "exact_fp32",
                      "gptscore": {"judge": str(harness.ROOT / "experiments/models/llama-tiny")}},
            sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}})
        done = harness.run(["run", exp, "--out", cls.folder])
        assert done.returncode in (0, 2), done.stderr
        cls.results = cls.folder / "results.h5"
        with h5py.File(cls.results) as file:
            cls.requests = {name: column[:] for name, column in file["requests"].items()}
            cls.accuracy = {name: column[:] for name, column in file.get("accuracy", {}).items()
                            if column.dtype.kind in "if" and name != "request"}
            cls.texts = list(file["outputs/text"].asstr())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def export(self, format, *flags):
        done = harness.run(["export", self.results, "--" + format, *flags])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_csv_has_every_column_of_every_request(self):
        table = pd.read_csv(io.StringIO(self.export("csv")), keep_default_na=False, na_values=[""])
        self.assertEqual(len(table), len(self.requests["point"]))
        for name, values in self.requests.items():
            if name == "request":
                continue
            self.assertIn(name, table.columns)
            if values.dtype.kind == "f":
                np.testing.assert_array_equal(table[name], values, name)
            elif name not in ("status", "stop_reason", "error", "item_id"):
                np.testing.assert_array_equal(table[name].fillna(-1), values, name)
        for name, values in self.accuracy.items():
            missing = np.nan if values.dtype.kind == "f" else -1
            np.testing.assert_array_equal(table[name].fillna(missing), values, name)
        self.assertEqual(list(table["item_id"]), [v.decode() for v in self.requests["item_id"]])
        self.assertEqual(list(table["text"].fillna("")), self.texts)
        self.assertEqual(set(table["ssm.variant"]), {"default_optimized", "independent"})
        self.assertEqual(list(table["status"]),
                         [["done", "failed"][s] for s in self.requests["status"]])

    def test_tsv_has_the_columns_of_the_seed_project(self):
        target = self.folder / "seed.tsv"
        self.assertEqual(self.export("tsv", "-o", target), "")
        table = pd.read_csv(target, sep="\t")
        self.assertEqual(list(table.columns), SEED)
        done = self.requests["status"] == 0
        self.assertEqual(len(table), done.sum())
        megabytes = self.requests["peak_memory_bytes"][done] / 2**20
        for name, values in (("total_latency_s", self.requests["e2e"][done]),
                             ("first_token_s", self.requests["ttft"][done]),
                             ("mean_inter_token_s", self.requests["tpot"][done]),
                             ("throughput_tok_s", self.requests["throughput"][done]),
                             ("peak_mem_MB", megabytes),
                             ("mem_bw_MBps", megabytes / self.requests["e2e"][done]),
                             ("total_flops", self.requests["flops"][done]),
                             ("id", self.requests["prompt"][done] + 1)):
            np.testing.assert_allclose(table[name], values, rtol=1e-14)
        first = table[table["prompt_id"] == "first"]
        self.assertEqual(set(first["prompt"]), {'Say "hello",\nthen\tgo \u20ac'})
        self.assertEqual(set(first["num_chunks"]), {1})

    def test_json_lines_feed_a_tracking_board(self):
        lines = [json.loads(line) for line in self.export("jsonl").splitlines()]
        runs = [line for line in lines if line["kind"] == "run"]
        self.assertEqual([run["params"] for run in runs],
                         [{"ssm.variant": "default_optimized"}, {"ssm.variant": "independent"}])
        for point, run in enumerate(runs):
            done = (self.requests["point"] == point) & (self.requests["status"] == 0)
            steps = [line for line in lines if line["kind"] == "metrics" and line["run"] == run["run"]]
            self.assertEqual([line["step"] for line in steps], list(range(done.sum())))
            np.testing.assert_array_equal([line["metrics"]["e2e"] for line in steps],
                                          self.requests["e2e"][done])
            (summary,) = [line for line in lines
                          if line["kind"] == "summary" and line["run"] == run["run"]]
            np.testing.assert_allclose(summary["metrics"]["e2e_median"],
                                       np.median(self.requests["e2e"][done]), rtol=1e-12)
            for line in [*steps, summary]:
                self.assertGreater(line["timestamp"], 1.7e12)  # milliseconds, after 2023
                self.assertTrue(all(isinstance(v, (int, float)) for v in line["metrics"].values()))

    def test_trace_has_a_span_per_request_around_its_prefill_and_decode(self):
        events = json.loads(self.export("trace"))["traceEvents"]
        spans = [e for e in events if e["ph"] == "X"]
        done = self.requests["status"] == 0
        whole = [e for e in spans if e["name"] == "request"]
        np.testing.assert_allclose([e["dur"] for e in whole], 1e6 * self.requests["e2e"][done])
        np.testing.assert_allclose([e["dur"] for e in spans if e["name"] == "prefill"],
                                   1e6 * self.requests["ttft"][done])
        self.assertEqual([e["args"]["item"] for e in whole],
                         [v.decode() for v in self.requests["item_id"][done]])
        for span, inner in zip(whole, (e for e in spans if e["name"] == "decode")):
            self.assertGreaterEqual(inner["ts"], span["ts"])
            self.assertLess(inner["ts"] + inner["dur"], span["ts"] + span["dur"] + 1e-3)
        self.assertEqual({e["pid"] for e in spans}, {e["pid"] for e in events if e["ph"] == "M"})

    def test_parquet_is_refused_with_the_line_that_makes_it(self):
        done = harness.run(["export", self.results, "--parquet"])
        self.assertEqual(done.returncode, 64)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        said = done.stderr.split("in Python: ")[1].strip()
        target = self.folder / "requests.parquet"
        exec("import xarray\n" + said.replace("requests.parquet", str(target)), {})  # as a reader would
        table = pd.read_parquet(target)
        np.testing.assert_array_equal(table["e2e"], self.requests["e2e"])
        self.assertEqual(len(table), xr.open_dataset(self.results, group="requests").sizes["request"])

    def test_an_unknown_format_is_a_usage_error(self):
        done = harness.run(["export", self.results, "--csv", "--xlsx"])
        self.assertEqual(done.returncode, 64)
        self.assertIn("--xlsx", done.stderr)


if __name__ == "__main__":
    harness.main()
