"""Entries 28, 48 and 112 to 127 of the catalogue of bad inputs, at the binary: files that change under a run; journals
and results directories that are damaged, locked, full, foreign, read-only; a clock that runs backwards."""
import errno
import json
import os
import pathlib
import subprocess
import time
import unittest

import h5py

import faults
import harness


class Directories(unittest.TestCase):
    def setUp(self):
        folder = faults.scratch()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.experiment = faults.small_experiment(self.folder / "exp.yaml", 8, "item")
        self.case = faults.Case(self.folder / "case", self.experiment)
        self.out = self.case.out

    def whole_digest(self):
        return faults.uninterrupted(self.folder / "whole", self.experiment)[2]

    def finished_journal(self):
        self.assertEqual(self.case.run().returncode, 0)
        (journal,) = self.case.journals()
        (self.out / "results.h5").unlink()
        return journal

    def run_again(self, arguments=(), **fault):
        """A run that must end well with the digest of an uninterrupted one; its words."""
        done = self.case.run(arguments, **fault)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(harness.digest_of(self.out / "results.h5"), self.whole_digest())
        return done.stderr

    def fails(self, code, *fragments, **fault):
        done = self.case.run(**fault)
        self.assertEqual(done.returncode, code, done.stderr)
        for fragment in fragments:
            self.assertIn(str(fragment), done.stderr)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def status(self):
        return json.loads(harness.run(["status", self.out, "--json"]).stdout)

    def items_run(self):
        """How many items the last run executed."""
        return len(faults.results_in(max(self.case.journals(), key=os.path.getmtime).read_bytes()))

    def test_028_files_that_differ_between_ranks_end_the_run_before_it_starts(self):
        for rank in "01":
            (self.folder / rank).mkdir()
            (self.folder / rank / "prompts.json").write_text(json.dumps([{"prompt": f"Rank {rank}."}]))
        experiment = faults.small_experiment(self.folder / "exp.yaml", 1, "group", prompts={"file": "prompts.json"},
                                             model={"path": str(harness.MODEL), "dtype": "fp32"})
        script = f'cd "{self.folder}/$OMPI_COMM_WORLD_RANK" && exec "{harness.BINARY}" run {experiment} --out {self.out}'
        done = subprocess.run([harness.MPIEXEC, "-n", "2", "--oversubscribe", "sh", "-c", script], timeout=60,
                              env=faults.ENVIRONMENT, capture_output=True, text=True)
        self.assertEqual(done.returncode, 65, done.stderr)
        self.assertEqual(done.stderr.count("prompts differ between rank 0 and rank 1"), 1, done.stderr)
        self.assertFalse(self.out.exists())

    def test_048_prompts_replaced_between_two_runs_are_refused(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "One."}, {"prompt": "Two."}]))
        faults.small_experiment(self.experiment, 1, "item", prompts={"file": str(prompts)},
                                model={"path": str(harness.MODEL), "dtype": "fp32"})
        self.assertEqual(self.case.run(at=2, kind="kill", ops="fdatasync").returncode, -9)
        prompts.write_text(json.dumps([{"prompt": "One."}, {"prompt": "Another."}]))
        self.fails(3, self.out, "the prompts: ")

    def test_112_a_torn_tail_costs_its_line_only(self):
        journal = self.finished_journal()
        lines = journal.read_bytes().splitlines(keepends=True)
        torn = next(i for i, line in enumerate(lines) if i > 8 and b'"result"' in line)
        journal.write_bytes(b"".join(lines[:torn]) + lines[torn][:100])
        done = self.status()["done"]
        self.assertEqual(self.status()["bad_lines"], 0)
        self.run_again()
        self.assertEqual(self.items_run(), 8 - done)

    def test_112_a_tail_of_zeros_is_a_torn_tail(self):
        journal = self.finished_journal()
        with open(journal, "ab") as file:
            file.truncate(journal.stat().st_size + (8 << 20))
        with harness.ProcessorTime() as spent:
            self.assertEqual(self.status()["done"], 8)
        self.assertLess(spent.seconds, 1)
        self.run_again()

    def test_113_a_corrupt_line_in_the_middle_is_named_and_its_item_runs_again(self):
        journal = self.finished_journal()
        lines = journal.read_bytes().splitlines(keepends=True)
        index = next(i for i, line in enumerate(lines) if b'"result"' in line)
        lines[index] = lines[index].replace(b'"flops":', b'"flopz":')
        journal.write_bytes(b"".join(lines))
        self.assertEqual(self.status()["bad_lines"], 1)
        words = self.run_again()
        self.assertIn(f"{journal}:{index + 1}: checksum", words)
        self.assertEqual(self.items_run(), 1)

    def test_114_a_line_without_an_end_is_not_taken_for_a_length(self):
        # The format has no length field; the nearest thing is a line whose end never comes.
        journal = self.finished_journal()
        with open(journal, "ab") as file:
            file.write(b"00000000 " + b"[" * (16 << 20))
        self.assertEqual(self.status()["done"], 8)
        self.run_again()

    def test_115_repeated_lines_count_once_and_missing_ones_run_again(self):
        # The format has no sequence numbers: what repeats or lacks is seen by the items' ids.
        journal = self.finished_journal()
        lines = journal.read_bytes().splitlines(keepends=True)
        results = [i for i, line in enumerate(lines) if b'"result"' in line]
        del lines[results[3]]
        journal.write_bytes(b"".join(lines))
        (self.out / "journal" / ("copy-" + journal.name)).write_bytes(b"".join(lines))
        self.assertEqual(self.status()["done"], 7)
        self.assertEqual(self.status()["conflicts"], 0)
        self.run_again()
        with h5py.File(self.out / "results.h5") as results:
            self.assertEqual(len(set(results["requests/item_id"][:])), 8)

    def test_116_lines_of_another_run_are_none_of_ours(self):
        other = faults.Case(self.folder / "other", faults.small_experiment(
            self.folder / "other.yaml", 8, "item", generation={"max_new_tokens": 3}))
        self.assertEqual(other.run().returncode, 0)
        foreign = other.journals()[0].read_bytes().splitlines(keepends=True)[1:]
        journal = self.finished_journal()
        journal.write_bytes(journal.read_bytes() + b"".join(foreign))
        self.run_again()

    def test_116_the_journal_of_another_experiment_is_refused(self):
        other = faults.Case(self.folder / "other", faults.small_experiment(
            self.folder / "other.yaml", 8, "item", generation={"max_new_tokens": 3}))
        self.assertEqual(other.run().returncode, 0)
        self.finished_journal()
        os.link(other.journals()[0], self.out / "journal" / ("x" + other.journals()[0].name))
        self.fails(3, self.out, "generation.max_new_tokens: 3 there, 2 here")

    def write_lock(self, **changes):
        with open("/proc/sys/kernel/random/boot_id") as boot, open("/proc/self/stat") as stat:
            lock = {"host": os.uname().nodename, "pid": os.getpid(), "boot_id": boot.read().strip(),
                    "start_ticks": int(stat.read().rsplit(")", 1)[1].split()[19]), "since": "yesterday"}
        lock.update(changes)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "lock").write_text(json.dumps(lock) + "\n")

    def test_117_a_stale_lock_is_taken_over_and_named(self):
        dead = subprocess.Popen(["true"])
        dead.wait()
        for changes in ({"pid": dead.pid, "start_ticks": 1}, {"boot_id": "another"},
                        {"host": "another", "boot_id": "another"}):
            with self.subTest(**changes):
                self.write_lock(**changes)
                done = self.case.run(())
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"taking over from pid {changes.get('pid', os.getpid())}", done.stderr)

    def test_118_a_live_lock_ends_with_75_and_names_its_holder(self):
        slow = faults.small_experiment(self.folder / "slow.yaml", 400, "group", generation={"max_new_tokens": 100})
        first = subprocess.Popen(harness.command(["run", slow, "--out", self.out, "-q"]), env=faults.ENVIRONMENT,
                                 cwd=harness.ROOT)
        try:
            while not self.case.journals():
                time.sleep(0.01)
                self.assertIsNone(first.poll())
            case = faults.Case(self.case.base, slow)
            done = case.run()
            self.assertEqual(done.returncode, 75, done.stderr)
            self.assertIn(f"in use by pid {first.pid}", done.stderr)
            self.assertEqual(len(self.case.journals()), 1)
        finally:
            first.kill()
            first.wait()

    def test_119_a_read_only_output_is_an_error_that_names_it(self):
        self.fails(1, self.out, os.strerror(errno.EROFS), at=1, times=0, kind="EROFS")
        self.finished_journal()
        self.fails(1, self.out, os.strerror(errno.EROFS), at=1, times=0, kind="EROFS")
        self.run_again()

    def test_120_an_output_that_is_a_file_is_a_usage_error(self):
        self.out.write_text("mine")
        self.fails(64, f"{self.out}: is a file, expected a directory")
        self.assertEqual(self.out.read_text(), "mine")

    def test_121_a_full_disk_ends_with_75_and_goes_on_when_there_is_space(self):
        small = self.folder / "small"
        small.mkdir()
        self.case = faults.Case(small, self.experiment)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=240k", "none", str(self.case.watched)],
                                 capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("no right to mount; syscall_errors_test has the same by the shim")
        self.addCleanup(subprocess.run, ["umount", str(self.case.watched)], check=True)
        self.out = self.case.out
        self.fails(75, self.out, os.strerror(errno.ENOSPC))
        self.assertGreater(self.status()["done"], 0)
        self.assertEqual([p.name for p in self.out.iterdir() if "tmp" in p.name], [])
        subprocess.run(["mount", "-o", "remount,size=4m", str(self.case.watched)], check=True)
        self.run_again()

    def test_122_an_exhausted_quota_is_as_a_full_disk(self):
        whole = faults.Case(self.folder / "whole-quota", self.experiment)
        self.assertEqual(whole.run().returncode, 0)
        place = faults.number_of(whole.operations(), "write", ".jsonl", 6)
        self.fails(75, os.strerror(errno.EDQUOT), at=2, times=0, kind="EDQUOT")
        done = self.case.run(at=place, times=0, kind="EDQUOT")
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertIn(" of 8 items done, 0 failed", done.stderr)
        self.run_again()

    def test_123_a_stale_network_handle_is_an_error_and_nothing_is_lost(self):
        for number, operation in ((6, "write"), (4, "fdatasync")):
            done = self.case.run(at=number, times=0, kind="ESTALE", ops=operation)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(os.strerror(errno.ESTALE), done.stderr)
        promised = self.case.promised()
        self.assertGreater(len(promised), 0)
        self.run_again()
        self.assertIsNone(faults.check_finished(self.case, self.whole_digest(), promised))

    def test_124_files_have_the_modes_that_the_umask_says(self):
        before = os.umask(0o027)
        try:
            self.run_again()
        finally:
            os.umask(before)
        for path in self.out.rglob("*"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o750 if path.is_dir() else 0o640, path)

    def test_125_a_rename_across_devices_is_an_error_and_leaves_nothing_behind(self):
        self.fails(1, "manifest.h5", os.strerror(errno.EXDEV), at=1, kind="EXDEV", ops="rename")
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), ["lock"])
        self.fails(1, "results.h5", os.strerror(errno.EXDEV), at=2, kind="EXDEV", ops="rename")
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), ["journal", "lock", "manifest.h5"])
        self.run_again()

    def test_126_a_clock_that_runs_backwards_changes_no_duration_and_no_result(self):
        self.assertEqual(self.case.run(clock=3600, at=30, kind="kill").returncode, -9)
        promised = self.case.promised()
        self.assertGreater(len(promised), 0)
        self.run_again(clock=3600)
        self.assertIsNone(faults.check_finished(self.case, self.whole_digest(), promised))
        with h5py.File(self.out / "results.h5") as results:
            for column in ("t_start", "ttft", "e2e"):
                self.assertTrue((results["requests"][column][:] >= 0).all(), column)
            self.assertTrue((results["requests/e2e"][:] < 10).all())

    def test_127_without_kernel_locks_the_lock_file_decides(self):
        dead = subprocess.Popen(["true"])
        dead.wait()
        self.write_lock()
        self.fails(75, f"in use by pid {os.getpid()}", flock="ENOLCK")
        self.write_lock(pid=dead.pid)
        self.run_again(flock="ENOLCK")
        self.assertEqual((self.out / "lock").read_bytes(), b"")


if __name__ == "__main__":
    harness.main()
