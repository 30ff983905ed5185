# SPDX-License-Identifier: Apache-2.0
"""readers_test.py FULL.h5 EMPTY.h5: other programs open a results file as it is, with equal content.

Exit code 77 (skipped) only if a Python package or ncdump/h5dump is missing; it says which.
"""

import shutil
import subprocess
import sys
import unittest
import warnings

try:
    import h5netcdf  # noqa: F401: an engine of xarray
    import h5py
    import netCDF4  # noqa: F401: an engine of xarray
    import numpy as np
    import xarray as xr
except ImportError as error:
    print(f"SKIPPED: {error}; install tests/requirements.txt")
    sys.exit(77)

FULL, EMPTY = sys.argv[1:3]
GROUPS = ["config", "provenance", "provenance/ranks", "model", "sweep", "prompts", "requests",
          "outputs", "tokens", "summary"]
ENGINES = ["h5netcdf", "netcdf4"]
CONTRACT = {
    "provenance/ranks": "host local_rank gpu_name gpu_uuid pci_bus_id numa cpus driver",
    "sweep": "point status error ssm.variant ssm.chunk_size",
    "prompts": "prompt id text answer token_len num_chunks topic level",
    "requests": "request point prompt repeat rank t_start ttft tpot e2e tokens_in tokens_out "
                "throughput peak_memory_bytes bytes_moved bandwidth flops cpu_percent gpu_percent "
                "io_wait energy launches batch_mean warmup_seconds stop_reason error item_id",
    "outputs": "request text",
    "tokens": "offsets token_id t_emit logprob",
    "summary": "point metric stat value",
}


def datasets(path):
    """(path, dataset) of every dataset of a file, in the file's own order."""
    with h5py.File(path) as file:
        found = []
        file.visititems(lambda name, item: found.append((name, item))
                        if isinstance(item, h5py.Dataset) else None)
        yield from found


class Readers(unittest.TestCase):
    def test_xarray_opens_every_group_with_both_engines_alike(self):
        for path in (FULL, EMPTY):
            for group in GROUPS:
                with self.subTest(path=path, group=group), warnings.catch_warnings():
                    warnings.simplefilter("error")
                    opened = [xr.open_dataset(path, group=group, engine=engine)
                              for engine in ENGINES]
                    a, b = opened
                    self.assertEqual(list(a.variables), list(b.variables))
                    self.assertEqual(dict(a.sizes), dict(b.sizes))
                    with h5py.File(path) as file:
                        stored = [name for name, item in file[group].items()
                                  if isinstance(item, h5py.Dataset)]
                    self.assertEqual(sorted(stored), sorted(a.variables))
                    for name in CONTRACT.get(group, "").split():
                        self.assertIn(name, a.variables)
                    for dimension in a.sizes:
                        self.assertNotIn("phony", dimension)
                        self.assertIn(dimension, a.variables)
                    for name, variable in a.variables.items():
                        self.assertIn("units", variable.attrs | variable.encoding, name)
                        self.assertIn("long_name", variable.attrs, name)
                        if variable.dtype.kind in "iuf":
                            np.testing.assert_array_equal(variable.values, b[name].values)
                    for one in opened:
                        one.close()

    def test_xarray_computes_with_the_columns(self):
        for engine in ENGINES:
            with self.subTest(engine=engine):
                requests = xr.open_dataset(FULL, group="requests", engine=engine)
                done = requests.where(requests.status == 0, drop=True)
                tpot = (done.e2e - done.ttft) / (done.tokens_out - 1)
                np.testing.assert_allclose(done.tpot, tpot)
                np.testing.assert_allclose(done.throughput, done.tokens_out / done.e2e)
                self.assertEqual(requests.sizes["request"], 12)
                self.assertEqual(int(np.isnan(requests.ttft).sum()), 1)
                self.assertEqual(requests.to_dataframe().shape[0], 12)
                self.assertEqual(requests.stop_reason.attrs["flag_meanings"], "none length eos")
                summary = xr.open_dataset(FULL, group="summary", engine=engine)
                median = summary.value.sel(metric="ttft", stat="median", point=1)
                of_point = requests.ttft[requests.point == 1]
                np.testing.assert_allclose(median, np.median(of_point))
                n = summary.value.sel(metric="ttft", stat="n", point=0)
                self.assertEqual(float(n), 5)

    def test_h5py_reads_tokens_by_offsets(self):
        with h5py.File(FULL) as file:
            offsets = file["tokens/offsets"][:]
            self.assertEqual(len(offsets), len(file["requests/item_id"]) + 1)
            self.assertEqual(offsets[-1], len(file["tokens/token_id"]))
            lengths = np.diff(offsets)
            counted = file["requests/tokens_out"][:]
            np.testing.assert_array_equal(lengths, np.maximum(counted, 0))
            for i, (begin, end) in enumerate(zip(offsets, offsets[1:])):
                if end - begin > 1:
                    self.assertEqual(file["tokens/t_emit"][end - 1], file["requests/e2e"][i])
            text = file["outputs/text"].asstr()[0]
            self.assertEqual(text, 'Prompt 0 \u20ac \U0001f600 "q"\n')
            self.assertEqual(file.attrs["Conventions"], "Chunkstate-1.0")
            self.assertEqual(file.attrs["complete"], 1)
            self.assertEqual(len(file.attrs["content_digest"]), 32)
            self.assertEqual(len(file["requests/item_id"][0]), 32)

    def test_every_dataset_is_of_a_kind_all_readers_know(self):
        for path in (FULL, EMPTY):
            for name, dataset in datasets(path):
                with self.subTest(path=path, name=name):
                    self.assertIn(dataset.dtype.kind, "iufOS")
                    self.assertIsNone(h5py.check_enum_dtype(dataset.dtype))
                    self.assertIn("units", dataset.attrs)
                    self.assertIn("long_name", dataset.attrs)
                    if dataset.dtype.kind in "iuf" and dataset.shape:
                        self.assertTrue(dataset.shuffle)
                        self.assertTrue(dataset.fletcher32)
                        self.assertEqual(dataset.compression, "gzip")
                        self.assertLessEqual(dataset.dtype.itemsize * np.prod(dataset.chunks), 2**20)
                    if "_FillValue" in dataset.attrs:
                        np.testing.assert_array_equal(dataset.attrs["_FillValue"][0],
                                                      dataset.fillvalue)

    def test_columns_keep_their_order(self):
        with h5py.File(FULL) as file:
            self.assertEqual(list(file), ["config", "provenance", "model", "sweep", "prompts",
                                          "requests", "outputs", "tokens", "summary"])
            names = list(file["requests"])
            wanted = CONTRACT["requests"].split()
            self.assertEqual([name for name in names if name in wanted], wanted)
            self.assertEqual(list(file.attrs)[:3], ["Conventions", "schema_version", "title"])

    def test_command_line_readers_are_silent_on_stderr(self):
        for path in (FULL, EMPTY):
            for command in (["ncdump", "-h", path], ["ncdump", path], ["h5dump", path],
                            ["h5ls", "-r", path]):
                with self.subTest(command=command):
                    done = subprocess.run(command, capture_output=True, timeout=120)
                    self.assertEqual(done.stderr, b"")
                    self.assertEqual(done.returncode, 0)
                    self.assertNotIn(b"phony", done.stdout)
        header = subprocess.run(["ncdump", "-h", FULL], capture_output=True, text=True).stdout
        for name in CONTRACT["requests"].split():
            self.assertIn(f" {name}(request)", header)


if __name__ == "__main__":
    for tool in ("ncdump", "h5dump", "h5ls"):
        if shutil.which(tool) is None:
            print(f"SKIPPED: {tool} is not installed (packages netcdf-bin, hdf5-tools)")
            sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
