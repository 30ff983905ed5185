# SPDX-License-Identifier: Apache-2.0
"""experiments/notebooks/results.ipynb, executed on a fresh results file."""
import io
import json
import os
import pathlib
import tempfile
import unittest

import h5py
import nbclient
import nbformat
import numpy as np
import pandas as pd

import harness

NOTEBOOK = harness.ROOT / "experiments/notebooks/results.ipynb"


class Notebook(unittest.TestCase):
    def test_it_is_kept_without_outputs(self):
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if cell.cell_type == "code":
                self.assertEqual((cell.outputs, cell.execution_count), ([], None))

    def test_it_runs_and_has_the_numbers_of_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            exp = harness.experiment(
                folder / "exp.yaml", measure={"warmup": 0, "repeats": 2}, parallel={"threads": 1},
                accuracy={"reference": "exact_fp32", "state_drift": True,
                          "gptscore": {"judge": str(harness.ROOT / "experiments/models/llama-tiny")}},
                sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}})
            done = harness.run(["run", exp, "--out", folder])
            self.assertEqual(done.returncode, 0, done.stderr)
            notebook = nbformat.read(NOTEBOOK, as_version=4)
            notebook.cells.append(nbformat.v4.new_code_cell(
                "print(medians.xs('median', axis=1, level='stat').to_csv())"))
            os.environ.update(CHUNKSTATE_RESULTS=str(folder / "results.h5"), HOME=str(folder))
            nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
            outputs = [output for cell in notebook.cells if cell.cell_type == "code"
                       for output in cell.outputs]
            self.assertNotIn("stderr", [output.get("name") for output in outputs],
                             json.dumps(outputs)[:2000])
            pictures = [o for o in outputs if "image/png" in o.get("data", {})]
            self.assertEqual(len(pictures), 5)
            medians = pd.read_csv(io.StringIO(outputs[-1].text), index_col=0)
            with h5py.File(folder / "results.h5") as file:
                requests = {name: column[:] for name, column in file["requests"].items()}
            self.assertEqual(list(medians.index), ["default_optimized", "independent"])
            for metric in ("ttft", "tpot", "e2e", "throughput"):
                expected = [np.median(requests[metric][requests["point"] == p]) for p in (0, 1)]
                np.testing.assert_allclose(medians[metric], expected, rtol=1e-12)


if __name__ == "__main__":
    harness.main()
