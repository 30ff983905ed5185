"""tests/hidden_exchange.py on timelines made by hand."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))
import hidden_exchange  # noqa: E402


def span(name, begin, end, rank=0, place="gpu"):
    return {"ph": "X", "pid": rank, "tid": 0, "cat": place, "name": name, "ts": begin, "dur": end - begin}


class HiddenExchange(unittest.TestCase):
    def test_counts_each_moment_once_within_the_last_prefill(self):
        content = {"traceEvents": [
            span("prefill", 0, 50, place="host"), span("ncclDevKernel_SendRecv", 10, 40),  # a warm-up
            span("prefill", 100, 200, place="host"),
            span("chunkstate::cuda::scan_kernel", 90, 120), span("gemm", 130, 150), span("gemm", 140, 160),
            span("ncclDevKernel_SendRecv", 110, 135), span("ncclDevKernel_SendRecv", 115, 138),
            span("chunkstate::cuda::peer_sum_kernel", 155, 170), span("ncclDevKernel_SendRecv", 195, 220),
            {"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "rank 0"}},
            span("prefill", 0, 10, rank=1, place="host"), span("gemm", 2, 9, rank=1),
        ]}
        rows = hidden_exchange.rows(content)
        # Exchange 110-138, 155-170, 195-200; alone in 120-130, 160-170, 195-200; computing 100-120, 130-160.
        self.assertEqual(rows[0], (100, 48, 25, 50, 25))
        self.assertEqual(rows[1], (10, 0, 0, 7, 3))

    def test_says_what_is_missing(self):
        with tempfile.TemporaryDirectory(prefix="chunkstate-hidden-") as folder:
            file = pathlib.Path(folder) / "trace.json"
            file.write_text(json.dumps({"otherData": {"ranks": [{"gpu": "no CUPTI"}]},
                                        "traceEvents": [span("prefill", 0, 5, place="host")]}))
            done = subprocess.run([sys.executable, TESTS / "hidden_exchange.py", file], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no kernels in a prefill: no CUPTI", done.stderr)


if __name__ == "__main__":
    unittest.main()
