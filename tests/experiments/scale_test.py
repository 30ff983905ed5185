"""chunkstate scale: its numbers are those of the files, its refusals are clear."""
import json
import pathlib
import shutil
import tempfile
import unittest

import h5py
import numpy

import harness

LAUNCHER = f"{harness.MPIEXEC} -n {{ranks}}"
KINDS = ("requests", "start_up", "warm_up", "between", "idle")


def lanes_of(file):
    """Per rank the requests in their order: start, time, warm-up."""
    requests = file["requests"]
    lanes = {}
    for row in zip(requests["rank"][:], requests["t_start"][:], requests["e2e"][:], requests["warmup_seconds"][:]):
        lanes.setdefault(int(row[0]), []).append([float(v) for v in row[1:]])
    return {rank: numpy.array(sorted(rows)) for rank, rows in lanes.items()}


def recomputed(path, group=1):
    with h5py.File(path) as file:
        lanes = lanes_of(file)
        ranks = len(file["provenance/ranks/rank"])
        work = float(file["requests/flops"][:].sum())
    seconds = max((rows[:, 0] + rows[:, 1]).max() for rows in lanes.values())
    times = dict.fromkeys(KINDS, 0.0)
    for rows in lanes.values():
        warm_up = numpy.nan_to_num(rows[:, 2])
        end = (rows[:, 0] + rows[:, 1]).max()
        start_up = rows[0, 0] - warm_up[0]
        times["requests"] += group * rows[:, 1].sum()
        times["warm_up"] += group * warm_up.sum()
        times["start_up"] += group * start_up
        times["between"] += group * (end - start_up - rows[:, 1].sum() - warm_up.sum())
        times["idle"] += group * (seconds - end)
    times["idle"] += (ranks - group * len(lanes)) * seconds
    return {"ranks": ranks, "seconds": seconds, "work": work, "times": times}


class Scaling(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-scale-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def experiment(self, name="exp", **sections):
        sections.setdefault("prompts", {"synthetic": {"tokens": 96, "count": 6}})
        sections.setdefault("measure", {"warmup": 1, "repeats": 2})
        return harness.experiment(self.folder / f"{name}.yaml", **sections)

    def results(self, name, ranks, *arguments, **sections):
        out = self.folder / name
        done = harness.run(["run", self.experiment(name, **sections), "--out", out, *arguments], ranks)
        self.assertEqual(done.returncode, 0, done.stderr)
        return out / "results.h5"

    def scale(self, *arguments):
        done = harness.run(["scale", *arguments, "--json"])
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)

    def check_rows(self, table, files, group=1):
        base = recomputed(files[0], group)
        for row, path in zip(table["runs"], files, strict=True):
            mine = recomputed(path, group)
            self.assertEqual(row["ranks"], mine["ranks"])
            self.assertAlmostEqual(row["seconds"], mine["seconds"], places=9)
            work = mine["work"] / base["work"]
            self.assertAlmostEqual(row["work"], work, places=9)
            self.assertAlmostEqual(row["speedup"], work * base["seconds"] / mine["seconds"], places=9)
            efficiency = work * base["ranks"] * base["seconds"] / (mine["ranks"] * mine["seconds"])
            self.assertAlmostEqual(row["efficiency"], efficiency, places=9)
            for kind in KINDS:
                self.assertAlmostEqual(row["seconds_per_rank"][kind], mine["times"][kind] / mine["ranks"], places=9)
                lost = (mine["times"][kind] - work * base["times"][kind]) / (mine["ranks"] * mine["seconds"])
                self.assertAlmostEqual(row["lost"][kind], lost, places=9)
            self.assertAlmostEqual(sum(row["lost"].values()), 1 - efficiency, places=9)
        for row in table["runs"][1:]:
            self.assertLess(row["ci_low"], row["ci_high"])
            # The draws spread about what was measured.
            self.assertLess(row["ci_low"], row["efficiency"] * 1.01)
            self.assertGreater(row["ci_high"], row["efficiency"] * 0.99)

    def test_strong_scaling_from_files_is_what_python_computes(self):
        files = [self.results(f"r{n}", n, "-s", "name=strong") for n in (1, 2, 3)]
        table = self.scale(files[1], files[2], files[0], "-o", self.folder / "scaling.h5")
        self.assertEqual(table["kind"], "strong")
        self.assertEqual([row["ranks"] for row in table["runs"]], [1, 2, 3])
        self.check_rows(table, files)
        for row in table["runs"]:  # no timeline
            self.assertIsNone(row["seconds_per_rank"]["model_load"])
        with h5py.File(self.folder / "scaling.h5") as file:
            self.assertEqual(list(file["scaling/ranks"][:]), [1, 2, 3])
            self.assertTrue(numpy.allclose(file["scaling/efficiency"][:], [row["efficiency"] for row in table["runs"]]))
            self.assertEqual(file["scaling"].attrs["kind"], "strong")
        text = harness.run(["scale", *files]).stdout
        self.assertIn("strong scaling; the base is 1 rank", text)
        self.assertIn("only a timeline records these", text)
        self.assertEqual(text, harness.run(["scale", *files]).stdout)

    def test_weak_scaling_runs_the_experiment_itself(self):
        for name, prompts in (("synthetic", None), ("file", {"file": str(harness.PROMPTS), "limit": 2})):
            with self.subTest(prompts=name):
                sections = {"prompts": prompts} if prompts else {}
                file = self.experiment(name, **sections)
                out = self.folder / name
                table = self.scale(file, "--ranks", "1,2", "--weak", "--out", out, "--launcher", LAUNCHER)
                self.assertEqual(table["kind"], "weak")
                files = [out / f"ranks-{n}/results.h5" for n in (1, 2)]
                self.check_rows(table, files)
                self.assertEqual(table["runs"][1]["items"], 2 * table["runs"][0]["items"])
                self.assertEqual({row["threads"] for row in table["runs"]}, {table["runs"][0]["threads"]})
                self.assertTrue((out / "scaling.h5").exists())
                for row in table["runs"]:
                    times = row["seconds_per_rank"]
                    self.assertGreater(times["model_load"], 0)
                    self.assertGreater(times["journal"], 0)
                    self.assertGreater(times["results"], 0)
                    self.assertEqual(times["communication"], 0)
                again = self.scale(file, "--ranks", "1,2", "--weak", "--out", out, "--launcher", LAUNCHER)
                self.assertEqual(again, table)

    def test_groups_of_ranks_count_as_lanes(self):
        sections = {"parallel": {"mode": "sequence", "threads": 1}}
        files = [self.results(f"g{n}", n, "-s", "name=groups", "-s", "parallel.ranks_per_group=2", **sections)
                 for n in (2, 4)]
        self.check_rows(self.scale(*files), files, group=2)

    def test_what_cannot_be_compared_is_refused(self):
        one = self.results("one", 1, "-s", "name=same")
        two = self.results("two", 2, "-s", "name=same")
        other = self.results("other", 2, "-s", "name=same", generation={"max_new_tokens": 5})
        weak = self.results("weak", 2, "-s", "name=same", "-s", "prompts.synthetic.count=12")
        twin = self.folder / "twin.h5"
        shutil.copy(one, twin)
        resumed = self.results("resumed", 1, "-s", "name=same", "-s", "max_failures=1")
        journal = next((self.folder / "resumed/journal").glob("*.jsonl"))
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:10]))
        resumed.unlink()
        self.results("resumed", 1, "-s", "name=same", "-s", "max_failures=1")
        self.assertEqual(self.scale(one, weak)["kind"], "weak")
        cases = [
            ([one, other], 3, "is of another experiment than"), ([one, other], 3, "generation.max_new_tokens: 4 there, 5 here"),
            ([one, twin], 64, "are both of 1 ranks"), ([two, resumed], 64, "a run that was started once"),
            ([self.folder / "missing.h5", one], 65, "missing.h5"), ([one, "--ranks", "1,2"], 64, "--ranks is for an experiment"),
            ([self.folder / "one.yaml", one], 64, "expected one experiment or results files"),
            ([self.folder / "one.yaml", "--out", self.folder / "x"], 64, "--ranks: expected two or more"),
            ([self.folder / "one.yaml", "--ranks", "1,1", "--out", self.folder / "x"], 64, "expected distinct numbers"),
            ([self.folder / "one.yaml", "--ranks", "1,2"], 64, "--out DIR is missing"),
            ([self.folder / "one.yaml", "--ranks", "1,2", "--out", self.folder / "x", "--launcher", "mpirun"], 64, "expected {ranks}"),
            ([self.folder / "one.yaml", "--ranks", "1,2", "--out", self.folder / "x", "--launcher", "false {ranks}"], 1,
             "the run on 1 ranks ended with 1"),
        ]
        for arguments, code, message in cases:
            with self.subTest(message=message):
                done = harness.run(["scale", *arguments])
                self.assertEqual(done.returncode, code, done.stdout + done.stderr)
                self.assertIn(message, done.stderr)


if __name__ == "__main__":
    harness.main()
