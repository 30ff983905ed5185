"""profile.trace: one file of the Trace Event Format for all ranks, and nothing else changes."""
import html
import json
import pathlib
import re
import tempfile
import unittest

import h5py

import harness
import trace_format
from trace_format import spans


class Traces(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-trace-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_experiment(self, name, ranks=0, trace=True, arguments=(), **sections):
        sections.setdefault("sweep", {"matrix": {"ssm.variant": ["default", "independent"]}})
        sections.setdefault("prompts", {"synthetic": {"tokens": 96, "count": 3}})
        sections.setdefault("measure", {"warmup": 1, "repeats": 2})
        file = harness.experiment(self.folder / f"{name}.yaml", profile={"trace": trace}, **sections)
        out = self.folder / name
        done = harness.run(["run", file, "--out", out, *arguments], ranks)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return out

    def checked(self, file):
        self.assertEqual(trace_format.problems(file), [])
        return trace_format.load(file)

    def check_requests(self, content, results):
        """Every request of the file is a span of its rank, as long as its generation at least."""
        with h5py.File(results) as file:
            requests = file["requests"]
            expected = {item.decode() if isinstance(item, bytes) else item: (int(rank), float(e2e)) for item, rank, e2e
                        in zip(requests["item_id"][:], requests["rank"][:], requests["e2e"][:])}
        found = spans(content, "request")
        self.assertEqual(len(found), len(expected))
        for span in found:
            rank, e2e = expected.pop(span["args"]["item"])
            self.assertEqual(span["pid"], rank)
            self.assertGreaterEqual(span["dur"] * 1e-6, e2e)
            self.assertIn(span["args"]["variant"], ("default", "independent"))
        self.assertEqual(expected, {})

    def test_one_rank_and_three_give_a_valid_file_with_every_request(self):
        plain = harness.digest_of(self.run_experiment("plain", trace=False) / "results.h5")
        self.assertFalse((self.folder / "plain/trace.json").exists())
        for ranks in (0, 3):
            with self.subTest(ranks=ranks):
                out = self.run_experiment(f"ranks{ranks}", ranks)
                content = self.checked(out / "trace.json")
                self.check_requests(content, out / "results.h5")
                self.assertEqual(harness.digest_of(out / "results.h5"), plain)
                self.assertEqual({e["pid"] for e in spans(content)}, set(range(max(ranks, 1))))
                names = {e["name"] for e in spans(content)}
                self.assertGreaterEqual(names, {
                    "set up", "run", "open model", "load model", "warm-up", "request", "generate", "prefill", "decode",
                    "step", "mamba layer", "mlp layer", "logits", "journal", "wait for ranks", "results"})
                # 2 points x 3 prompts x 2 repeats of 4 tokens, and each rank's warm-ups of 2 tokens.
                self.assertEqual(len(spans(content, "step")), 12 * 3 + len(spans(content, "warm-up")))
                self.assertEqual([p.name for p in out.iterdir() if ".tmp" in p.name], [])

    def test_ranks_of_one_host_have_one_clock(self):
        content = self.checked(self.run_experiment("clocks", 3) / "trace.json")
        ranks = content["otherData"]["ranks"]
        self.assertEqual([rank["rank"] for rank in ranks], [0, 1, 2])
        for rank in ranks:
            for moment in ("start", "end"):
                self.assertLessEqual(abs(rank[moment]["offset_us"]), rank[moment]["uncertainty_us"])
                self.assertLess(rank[moment]["uncertainty_us"], 1e6)
            self.assertEqual(rank["correction_us"], 0)
            self.assertEqual(rank["drift_ns_per_s"], 0)
            self.assertEqual(rank["dropped"], 0)
        # A barrier ends for all ranks at about one time: within what a busy machine takes to wake them.
        ends = [e["ts"] + e["dur"] for e in spans(content, "wait for ranks")]
        self.assertEqual(len(ends), 3)
        self.assertLess(max(ends) - min(ends), 1e6)

    def test_groups_of_ranks_show_what_they_wait_for(self):
        out = self.run_experiment("group", 2, parallel={"mode": "sequence", "ranks_per_group": 2},
                                  sweep={"matrix": {"ssm.variant": ["default"]}})
        content = self.checked(out / "trace.json")
        requests = spans(content, "request")
        self.assertEqual(sorted(e["pid"] for e in requests), [0] * 6 + [1] * 6)
        self.assertTrue(any(e["pid"] == 1 for e in spans(content, "receive")))

    def test_every_task_of_an_array_has_its_own_file(self):
        file = harness.experiment(self.folder / "array.yaml", profile={"trace": True})
        out = self.folder / "array"
        for shard in (0, 1):
            done = harness.run(["run", file, "--out", out, "--shard", f"{shard}/2"])
            self.assertEqual(done.returncode, 0, done.stderr)
        found = []
        for shard in (0, 1):
            content = self.checked(out / f"trace.shard-{shard}-of-2.json")
            found += [e["args"]["item"] for e in spans(content, "request")]
        self.assertEqual(len(set(found)), 3)
        self.assertEqual(len(found), 3)
        self.assertFalse((out / "trace.json").exists())

    def test_a_run_with_nothing_to_do_leaves_the_timeline_of_the_one_before(self):
        out = self.run_experiment("twice")
        before = (out / "trace.json").read_bytes()
        (out / "results.h5").unlink()
        self.assertEqual(self.run_experiment("twice"), out)
        self.assertEqual((out / "trace.json").read_bytes(), before)
        self.assertTrue((out / "results.h5").exists())

    def test_a_timeline_that_cannot_be_written_costs_no_result(self):
        (self.folder / "blocked/trace.json").mkdir(parents=True)
        (self.folder / "blocked/trace.json/x").touch()
        file = harness.experiment(self.folder / "blocked.yaml", profile={"trace": True})
        done = harness.run(["run", file, "--out", self.folder / "blocked"], 2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("no timeline: ", done.stderr)
        harness.digest_of(self.folder / "blocked/results.h5")

    def test_the_report_has_the_table_of_regions_that_python_computes(self):
        out = self.run_experiment("report", 2)
        content = self.checked(out / "trace.json")
        done = harness.run(["report", out / "results.h5", "-o", self.folder / "page.html"])
        self.assertEqual(done.returncode, 0, done.stderr)
        page = (self.folder / "page.html").read_text()
        self.assertIn("Where requests spend their time", page)
        rows = [[html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row)]
                for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)]
        found = {tuple(row[:3]): row for row in rows if len(row) == 7 and row[1] == "host"}
        requests = spans(content, "request")
        expected = {}
        for span in spans(content):
            for request in requests:
                if request["pid"] == span["pid"] and request["ts"] <= span["ts"] < request["ts"] + request["dur"]:
                    key = (request["args"]["variant"], "host", span["name"])
                    expected.setdefault(key, []).append(span["dur"])
        self.assertEqual(set(found), set(expected))
        for key, durations in expected.items():
            whole = sum(expected[(key[0], "host", "request")])
            self.assertEqual(int(found[key][3]), len(durations))
            self.assertAlmostEqual(float(found[key][6].rstrip(" %")), 100 * sum(durations) / whole, delta=0.051)
        (out / "trace.json").write_text("{}")
        done = harness.run(["report", out / "results.h5", "-o", self.folder / "page.html"])
        self.assertEqual(done.returncode, 65)
        self.assertIn("trace.json: no timeline of this program", done.stderr)

    def test_the_validator_finds_what_is_wrong(self):
        def span(**changes):
            return {"ph": "X", "pid": 0, "tid": 0, "name": "a", "ts": 1.0, "dur": 2.0, **changes}
        name = {"ph": "M", "pid": 0, "tid": 0, "name": "thread_name", "args": {"name": "t"}}
        cases = {
            "good": [name, span(), span(ts=1.5, dur=1.0), span(ts=3.0)],
            "phase": [name, {"ph": "?"}], "missing": [name, {"ph": "X", "name": "a", "pid": 0, "tid": 0, "ts": 1}],
            "empty name": [name, span(name="")], "negative": [name, span(dur=-1)], "text time": [name, span(ts="1")],
            "crossing": [name, span(), span(ts=2.0, dur=2.0)], "unnamed thread": [span()],
        }
        for case, events in cases.items():
            with self.subTest(case=case):
                file = self.folder / "case.json"
                file.write_text(json.dumps({"traceEvents": events}))
                self.assertEqual(len(trace_format.problems(file)) > 0, case != "good")


if __name__ == "__main__":
    harness.main()
