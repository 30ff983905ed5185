# SPDX-License-Identifier: Apache-2.0
"""What `report`, `export` and `compare` say is what is in the HDF5 file, recomputed with numpy."""
import csv
import html.parser
import io
import json
import pathlib
import shutil
import tempfile
import unittest

import h5py
import numpy as np

import harness

METRICS = ["ttft", "tpot", "e2e", "throughput", "bandwidth", "peak_memory_bytes", "cpu_percent"]


class Page(html.parser.HTMLParser):
    """tables: id -> rows of {column key: attributes}; marks: figure -> [(series, class, x, y, low, high)]."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.marks = {}, {}
        self.table = self.figure = self.series = None
        self.keys = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "table":
            self.table = attributes["id"].removeprefix("table-")
            self.tables[self.table], self.keys[self.table] = [], []
        elif tag == "th":
            self.keys[self.table].append(attributes["data-key"])
        elif tag == "tr":
            self.row = {}
        elif tag == "td":
            if not self.row:
                self.tables[self.table].append(self.row)
            self.row[self.keys[self.table][len(self.row)]] = attributes
        elif tag == "svg":
            self.figure = attributes["id"]
            self.marks[self.figure] = []
        elif tag == "g":
            self.series = attributes["data-series"]
        elif tag in ("circle", "path") and "data-y" in attributes:
            numbers = [float(attributes.get(f"data-{name}", "nan"))
                       for name in ("x", "y", "low", "high")]
            self.marks[self.figure].append((self.series, attributes["class"].split(), *numbers))


class Report(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        exp = harness.experiment(
            cls.folder / "exp.yaml",
            prompts={"file": str(harness.ROOT / "experiments/prompts/prompt_lengths.json"), "limit": 2},
            generation={"max_new_tokens": 3},
            measure={"warmup": 1, "repeats": 3},
            sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"],
                              "execution.mode": ["auto", "eager"]}},
            parallel={"threads": 1})
        done = harness.run(["run", exp, "--out", cls.folder])
        assert done.returncode == 0, done.stderr
        cls.results = cls.folder / "results.h5"
        done = harness.run(["report", cls.results, "--csv", cls.folder / "csv",
                            "--figures", cls.folder / "figures"])
        assert done.returncode == 0, done.stderr
        cls.said = done.stdout + done.stderr
        cls.page = Page((cls.folder / "results.html").read_text())
        with h5py.File(cls.results) as file:
            cls.requests = {name: column[:] for name, column in file["requests"].items()}
            cls.summary = file["summary/value"][:]
            cls.metrics = list(file["summary/metric"].asstr())
            cls.stats = list(file["summary/stat"].asstr())

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_the_tables_have_the_medians_and_intervals_of_the_file(self):
        for name, metrics in (("summary", METRICS),
                              ("execution", ["warmup_seconds", "ttft", "tpot", "throughput"])):
            rows = self.page.tables[name]
            self.assertEqual(len(rows), 4)
            for point, row in enumerate(rows):
                done = (self.requests["point"] == point) & (self.requests["status"] == 0)
                for metric in metrics:
                    shown = row[metric]
                    values = self.requests[metric][done]
                    median = np.median(values[~np.isnan(values)])
                    np.testing.assert_allclose(float(shown["data-value"]), median, rtol=1e-12)
                    stored = self.summary[point, self.metrics.index(metric)]
                    for key, stat in (("value", "median"), ("low", "ci_low"), ("high", "ci_high")):
                        np.testing.assert_array_equal(float(shown.get(f"data-{key}", "nan")),
                                                      stored[self.stats.index(stat)])
            if name == "summary":
                self.assertEqual([int(row["requests"]["data-value"]) for row in rows], [6] * 4)

    def test_the_changes_are_those_of_the_medians(self):
        rows = self.page.tables["changes"]
        self.assertEqual(len(rows), 3)
        for point, row in enumerate(rows, start=1):
            for metric in ("ttft", "tpot", "e2e", "peak_memory_bytes"):
                before, after = (np.median(self.requests[metric][self.requests["point"] == p]) for p in (0, point))
                shown = {key: float(row[metric][f"data-{key}"]) for key in ("value", "low", "high")}
                np.testing.assert_allclose(shown["value"], after / before - 1, rtol=1e-9, atol=1e-12)
                self.assertLessEqual(shown["low"], shown["high"])

    def test_the_csv_has_the_same_numbers(self):
        rows = list(csv.DictReader(io.StringIO((self.folder / "csv/summary.csv").read_text())))
        for row, shown in zip(rows, self.page.tables["summary"]):
            for metric in METRICS:
                self.assertEqual(row[metric], shown[metric]["data-value"])
                self.assertEqual(row.get(metric + "_low", ""), shown[metric].get("data-low", ""))

    def test_the_marks_of_each_figure_are_the_values_of_the_file(self):
        names = ["default_optimized, mode auto", "default_optimized, eager",
                 "independent, mode auto", "independent, eager"]
        lengths = self.requests["tokens_in"] if "ttft-by-tokens" in self.page.marks else None
        for metric in METRICS[:-1]:
            base = metric.replace("_", "-")
            name = f"{base}-by-tokens" if lengths is not None else f"{base}-by-chunks"
            marks = self.page.marks[name]
            self.assertEqual(sum("mark" not in m[1] for m in marks), 24, name)
            for point, series in enumerate(names):
                of_point = self.requests["point"] == point
                stored = sorted(self.requests[metric][of_point])
                cloud = sorted(m[3] for m in marks if m[0] == series and "mark" not in m[1])
                self.assertEqual(cloud, stored, name)
                medians = [m[3] for m in marks if m[0] == series and "mark" in m[1]]
                expected = [np.median(self.requests[metric][of_point & (self.requests["prompt"] == p)])
                            for p in (0, 1)]
                np.testing.assert_allclose(medians, expected, rtol=1e-12)
        roofline = self.page.marks["roofline"]
        for point, series in enumerate(names):
            of_point = self.requests["point"] == point
            intensity = np.median((self.requests["flops"] / self.requests["bytes_moved"])[of_point])
            rate = np.median((self.requests["flops"] / self.requests["e2e"])[of_point])
            (_, _, x, y, _, _), = [m for m in roofline if m[0] == series and "mark" in m[1]]
            np.testing.assert_allclose([x, y], [intensity, rate], rtol=1e-12)

    def test_figures_are_files_of_their_own(self):
        figures = sorted((self.folder / "figures").glob("*.svg"))
        self.assertEqual(sorted(f.stem for f in figures), sorted(self.page.marks))
        for figure in figures:
            self.assertTrue(figure.read_text().startswith("<?xml"))
        pictures = sorted(f.stem for f in (self.folder / "figures").glob("*.png"))
        if shutil.which("rsvg-convert"):
            self.assertEqual(pictures, [f.stem for f in figures])
            for picture in (self.folder / "figures").glob("*.png"):
                self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        else:
            self.assertEqual(pictures, [])
            self.assertIn("rsvg-convert", self.said)


class Accuracy(unittest.TestCase):
    """The same of what is evaluated: means over prompts."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        prompts = json.loads((harness.ROOT / "experiments/prompts/accuracy_256.json").read_text())[:4]
        for prompt in prompts:
            prompt.pop("token_len", None)
        (cls.folder / "prompts.json").write_text(json.dumps(prompts))
        exp = harness.experiment(
            cls.folder / "exp.yaml", prompts={"file": str(cls.folder / "prompts.json")},
            ssm={"chunk_size": 64}, parallel={"threads": 1},
            sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}},
            accuracy={"reference": "exact_fp32", "state_drift": True,
                      "gptscore": {"judge": str(harness.ROOT / "experiments/models/llama-tiny")}})
        done = harness.run(["run", exp, "--out", cls.folder], timeout=600)
        assert done.returncode == 0, done.stderr
        done = harness.run(["report", cls.folder / "results.h5"])
        assert done.returncode == 0, done.stderr
        cls.page = Page((cls.folder / "results.html").read_text())
        with h5py.File(cls.folder / "results.h5") as file:
            cls.point = file["requests/point"][:]
            cls.e2e = file["requests/e2e"][:]
            cls.columns = {name: column[:] for name, column in file["accuracy"].items()
                           if column.dtype.kind in "if"}
        cls.columns["nll_difference"] = cls.columns["nll_mean"] - cls.columns["reference_nll_mean"]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def test_the_table_has_the_means_over_prompts(self):
        for point, row in enumerate(self.page.tables["accuracy"]):
            for key, shown in row.items():
                if key in ("point", "prompts"):
                    continue
                values = self.columns[key][self.point == point]
                np.testing.assert_allclose(float(shown["data-value"]), np.nanmean(values),
                                           rtol=1e-12, atol=1e-15)
                self.assertLessEqual(float(shown["data-low"]), float(shown["data-value"]) + 1e-12)
                self.assertGreaterEqual(float(shown["data-high"]), float(shown["data-value"]) - 1e-12)
        self.assertGreater(len(self.page.tables["accuracy"][0]), 12)

    def test_the_paired_differences_are_those_of_the_prompts(self):
        rows = self.page.tables["gptscore"]
        self.assertEqual(len(rows), 3)
        for aspect, row in zip(("quality", "naturalness", "informativeness"), rows):
            values = self.columns[f"gptscore_{aspect}"]
            difference = values[self.point == 1] - values[self.point == 0]
            np.testing.assert_allclose(float(row["difference"]["data-value"]),
                                       np.nanmean(difference), rtol=1e-12, atol=1e-15)

    def test_the_figures_have_them_too(self):
        marks = [m for m in self.page.marks["accuracy-speed-nll"] if "mark" in m[1]]
        self.assertEqual(len(marks), 2)
        for point, (_, _, x, y, _, _) in enumerate(marks):
            np.testing.assert_allclose(x, np.median(self.e2e[self.point == point]), rtol=1e-12)
            np.testing.assert_allclose(
                y, np.nanmean(self.columns["nll_difference"][self.point == point]), rtol=1e-12, atol=1e-15)
        drift = [m for m in self.page.marks["state-drift"] if m[0] == "independent"]
        np.testing.assert_allclose([m[3] for m in drift if "mark" in m[1]],
                                   np.nanmean(self.columns["state_drift"][self.point == 1], axis=0),
                                   rtol=1e-12)


if __name__ == "__main__":
    harness.main()
