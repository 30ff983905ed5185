"""`merge` at the binary: unions of parts, conflicts, and the damaged and hostile results files of bad_results.py, each of
which must end with exit code 65 and one line, under a second, and write nothing."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy

import harness
from bad_results import BAD


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Merge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        cls.addClassCleanup(folder.cleanup)
        cls.base = pathlib.Path(folder.name)
        cls.whole = cls.base / "whole"
        file = harness.experiment(cls.base / "exp.yaml", measure={"warmup": 0, "repeats": 2},
                                  sweep={"matrix": {"ssm.variant": ["default", "independent"]}})
        done = harness.run(["run", file, "--out", cls.whole], 2)
        assert done.returncode == 0, done.stderr
        cls.digest = harness.digest_of(cls.whole / "results.h5")

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def merge(self, inputs, code=0, partial=False):
        """Runs merge; returns what it said, and the digest of what it wrote if it should have."""
        out = self.folder / "out.h5"
        out.unlink(missing_ok=True)
        with harness.ProcessorTime() as spent:
            done = harness.run(["merge", *inputs, "-o", out] + (["--partial"] if partial else []), timeout=30)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertLess(spent.seconds, 1.0)
        self.assertEqual(out.exists(), code == 0, done.stderr)
        return done

    def digest_of_merge(self, inputs):
        self.merge(inputs)
        return harness.digest_of(self.folder / "out.h5")

    def part(self, name, keep, change=lambda record: record):
        """A copy of the run's directory with only those of its results that `keep(number)` wants."""
        target = self.folder / name
        (target / "journal").mkdir(parents=True)
        shutil.copy(self.whole / "manifest.h5", target)
        number = 0
        for journal in sorted((self.whole / "journal").iterdir()):
            lines = []
            for line in journal.read_bytes().splitlines():
                record = json.loads(line[9:])
                if record["kind"] == "result":
                    number += 1
                    if not keep(number - 1):
                        continue
                    changed = change(dict(record))
                    if changed != record:
                        text = json.dumps(changed).encode()
                        line = b"%08x %s" % (crc32c(text), text)
                if record["kind"] != "claim":
                    lines.append(line + b"\n")
            (target / "journal" / journal.name).write_bytes(b"".join(lines))
        return target

    def test_parts_of_any_width_in_any_form_give_the_digest_of_the_whole(self):
        for width in (2, 3, 5):
            parts = [self.part(f"{width}-{i}", lambda n, i=i: n % width == i) for i in range(width)]
            for i in range(1, width, 2):  # every other one as a file
                self.merge([parts[i]], partial=True)
                parts[i] = (self.folder / "out.h5").rename(self.folder / f"{width}-{i}.h5")
            self.assertEqual(self.digest_of_merge(parts), self.digest)
            self.assertEqual(self.digest_of_merge(parts[::-1] + parts[:1]), self.digest)
            self.merge(parts[1:], code=75)

    def test_overlapping_parts_are_counted_once_and_every_process_is_kept_once(self):
        first = self.part("first", lambda n: n < 8)
        second = self.part("second", lambda n: n >= 4)
        done = self.merge([first, second, first, self.whole / "results.h5"])
        with h5py.File(self.folder / "out.h5") as merged, h5py.File(self.whole / "results.h5") as whole:
            self.assertEqual(merged["shards/name"].asstr()[:].tolist(), ["first", "second", "first", "results.h5"])
            self.assertEqual(merged["shards/items"][:].tolist(), [8, 8, 8, 12])
            self.assertEqual(merged["shards/duplicates"][:].tolist(), [0, 4, 8, 12])
            for name in ("host", "pid", "rank"):
                self.assertEqual(merged[f"provenance/ranks/{name}"][:].tolist(),
                                 whole[f"provenance/ranks/{name}"][:].tolist())
            pid = merged["provenance/ranks/pid"][:]
            self.assertEqual(pid[merged["requests/process"][:]].tolist(),
                             whole["provenance/ranks/pid"][:][whole["requests/process"][:]].tolist())
        self.assertEqual(harness.digest_of(self.folder / "out.h5"), self.digest)
        self.assertEqual(len(done.stdout.splitlines()), 9, done.stdout)

    def test_a_merged_file_holds_what_the_run_wrote(self):
        self.merge([self.whole])
        self.merge([(self.folder / "out.h5").rename(self.folder / "again.h5")])
        with h5py.File(self.folder / "out.h5") as merged, h5py.File(self.whole / "results.h5") as whole:
            def same(name, item):
                if isinstance(item, h5py.Dataset) and not name.startswith("provenance/"):
                    other = merged[name]
                    self.assertEqual(other.dtype, item.dtype, name)
                    numpy.testing.assert_array_equal(other[()], item[()], name)
                    self.assertEqual(other.attrs["long_name"], item.attrs["long_name"], name)
            whole.visititems(same)

    def test_two_results_of_one_item_are_a_conflict_that_is_named(self):
        def shout(record):
            return dict(record, text=record["text"] + "!")
        other = self.part("other", lambda n: n == 5, shout)
        for inputs in ([self.whole, other], [other, self.whole / "results.h5"]):
            done = self.merge(inputs, code=4)
            self.assertRegex(done.stderr, r"item \w{32} \(point \d, prompt 'item-\d', repeat \d\) has two different "
                             r"results: \w{32} in .*, \w{32} in ")
            for path in inputs:
                self.assertIn(str(path), done.stderr)
        same = self.folder / "same"
        shutil.copytree(self.whole, same)
        for journal in (other / "journal").iterdir():
            shutil.copy(journal, same / "journal" / ("again-" + journal.name))
        self.assertIn("1 conflicts", self.merge([same], code=4).stderr)

    def test_a_success_replaces_a_failure(self):
        def fail(record):
            return dict(record, kind="failed", error="bad_alloc: x", text="", token_ids=[], logprobs=[], t_emit=[])
        failed = self.part("failed", lambda n: n < 3, fail)
        self.assertEqual(self.digest_of_merge([failed, self.whole]), self.digest)
        self.assertEqual(self.digest_of_merge([self.whole, failed]), self.digest)

    def test_another_experiment_is_refused_with_what_differs(self):
        other = self.folder / "other"
        done = harness.run(["run", self.base / "exp.yaml", "-s", "generation.max_new_tokens=3", "--out", other])
        self.assertEqual(done.returncode, 0, done.stderr)
        for inputs in ([self.whole, other], [other / "results.h5", self.whole]):
            self.assertIn("generation.max_new_tokens: ", self.merge(inputs, code=3).stderr)
        for journal in (other / "journal").iterdir():
            shutil.copy(journal, self.part("mixed", lambda n: True) / "journal")
            break
        self.assertIn("max_new_tokens", self.merge([self.folder / "mixed"], code=3).stderr)
        prompts = [dict(p, prompt=p["prompt"] + " x") for p in json.loads(harness.PROMPTS.read_text())[:3]]
        (self.folder / "prompts.json").write_text(json.dumps(prompts))
        # The same YAML: the file it names has changed.
        (self.folder / "exp.yaml").write_text((self.base / "exp.yaml").read_text().replace(
            str(harness.PROMPTS), "prompts.json"))
        for folder in ("before", "after"):
            run = subprocess.run(harness.command(["run", self.folder / "exp.yaml", "--out", self.folder / folder]),
                                 cwd=self.folder, env=harness.ENVIRONMENT, capture_output=True, text=True)
            self.assertEqual(run.returncode, 0, run.stderr)
            (self.folder / "prompts.json").write_text(json.dumps(prompts[::-1]))
        self.assertIn("the prompts: ", self.merge([self.folder / "before", self.folder / "after"], code=3).stderr)

    def test_an_unfinished_run_is_refused_and_named_unless_partial(self):
        part = self.part("part", lambda n: n < 5)
        done = self.merge([part], code=75)
        self.assertIn("7 of 12 items have no outcome: point ", done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1)
        self.merge([part], partial=True)
        with h5py.File(self.folder / "out.h5") as file:
            self.assertEqual(file.attrs["complete"], 0)
            self.assertEqual(len(file["requests/point"]), 5)

    def test_a_directory_that_is_written_to_is_merged_as_it_is_and_its_writers_are_named(self):
        part = self.part("live", lambda n: n < 5)
        journal = next((part / "journal").iterdir())
        lines = journal.read_bytes().splitlines(keepends=True)
        start = json.loads(lines[0][9:])
        stat = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        start.update(pid=os.getpid(), start_ticks=int(stat[19]))
        text = json.dumps(start).encode()
        body = [line for line in lines[1:] if b'"run_end"' not in line]
        journal.write_bytes(b"%08x %s\n" % (crc32c(text), text) + b"".join(body) + b"01234567 {\"kind\":")
        done = self.merge([part], partial=True)
        self.assertRegex(done.stderr, f"{os.getpid()} is still running")

    def test_status_shows_the_jobs_that_share_a_directory(self):
        out = self.folder / "shared"
        first = self.part("first", lambda n: n < 6, lambda r: r)
        shutil.copytree(first, out)
        before = json.loads(harness.run(["status", out, "--json"]).stdout)
        self.assertEqual((before["items"], before["done"], before["remaining"]), (12, 6, 6))
        done = harness.run(["run", self.base / "exp.yaml", "--out", out])
        self.assertEqual(done.returncode, 0, done.stderr)
        after = json.loads(harness.run(["status", out, "--json"]).stdout)
        self.assertEqual((after["done"], after["remaining"], after["live_processes"]), (12, 0, 0))
        self.assertEqual(len({p["run_id"] for p in after["processes"]}), 2)
        text = harness.run(["status", out]).stdout
        rows = [line.split() for line in text.splitlines() if len(line.split()) == 8]
        self.assertEqual([row[2:7] for row in rows[-2:]], [["2", "0", "0", "6", "0"], ["1", "0", "0", "6", "0"]], text)

    def test_directories_that_are_none(self):
        self.assertIn("no run has started here", self.merge([self.folder], code=65).stderr)
        self.assertIn("No such file", self.merge([self.folder / "nowhere"], code=65).stderr)

    def test_bad_files(self):
        self.assertGreaterEqual(len(BAD), 35)
        for number, what, fragment, spoil in BAD:
            with self.subTest(number=number, what=what):
                path = self.folder / "bad.h5"
                shutil.copy(self.whole / "results.h5", path)
                with h5py.File(path, "r+") as file:
                    spoil(file)
                self.check_bad(path, fragment)

    def check_bad(self, path, fragment):
        done = self.merge([self.whole, path], code=65)
        self.assertIn(fragment, done.stderr)
        self.assertIn(path.name, done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_files_that_are_no_hdf5_or_were_left_open(self):
        path = self.folder / "bad.h5"
        good = (self.whole / "results.h5").read_bytes()
        for number, content, fragment in ((91, b"", "0 bytes"), (92, b"hello\n" * 1000, "not an HDF5 file"),
                                          (93, good[:len(good) // 2], "bad.h5")):
            with self.subTest(number=number):
                path.write_bytes(content)
                self.check_bad(path, fragment)
        with self.subTest(number=94):
            path.unlink()
            subprocess.run([sys.executable, "-c", """if True:
                import h5py, os, sys
                with h5py.File(sys.argv[1]) as good, h5py.File(sys.argv[2], "w", libver="latest") as left:
                    for name in good:
                        good.copy(name, left)
                    left.attrs.update(good.attrs)
                left = h5py.File(sys.argv[2], "r+", libver="latest")
                left.flush()
                os._exit(0)
                """, self.whole / "results.h5", path], check=True)
            self.check_bad(path, "already open for write")


if __name__ == "__main__":
    harness.main()
