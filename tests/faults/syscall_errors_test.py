"""The n-th file operation fails, for every n: the run ends with the documented code or with the right results, never
with success and something missing; and running again gives the digest.

CHUNKSTATE_FAULTS=full does it with every kind of durability, otherwise with the default."""
import errno
import os
import pathlib
import shutil
import time
import unittest

import faults
import harness

CODE_OF = {"ENOSPC": 75, "EDQUOT": 75, "EIO": 1}
# What the kernel may interrupt; names are changed in one go.
INTERRUPTIBLE = ("open", "write", "fdatasync", "fsync", "ftruncate", "close")


def may_be_ignored(op):
    """Failures that take nothing from anyone: success is right if the results are."""
    return (op.name == "remove" or (op.name == "mkdir" and op.error == errno.EEXIST) or
            (op.name in ("ftruncate", "close") and op.path.endswith("/lock")) or
            # HDF5 looks for an old file of the name before it makes a new one in memory.
            (op.name == "open" and op.error == errno.ENOENT))


class SyscallErrors(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = faults.scratch()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def fail_each(self, durability):
        experiment = faults.small_experiment(self.folder / f"{durability}.yaml", 6, durability)
        _, operations, digest = faults.uninterrupted(self.folder / f"whole-{durability}", experiment)
        attempts = []
        for op in operations:
            attempts += [(op, kind, times) for kind in ("EIO", "ENOSPC", "EDQUOT") for times in (1, 0)]
            if op.name in INTERRUPTIBLE:
                attempts.append((op, "EINTR", 1))
            if op.name == "write":
                attempts += [(op, f"short:{bytes}", 1) for bytes in (1, op.length // 2, -1)]

        def attempt(point):
            op, kind, times = point
            case = faults.Case(faults.fresh(self.folder / f"{op.number}-{kind.replace(':', '-')}-{times}"), experiment)
            ended = case.run(at=op.number, kind=kind, times=times)
            promised = case.promised()
            problem = self.judge_ending(case, op, kind, times, ended, digest)
            again = case.run()
            if problem is None:
                problem = (f"then code {again.returncode}: {again.stderr}" if again.returncode != 0 else
                           faults.check_finished(case, digest, promised))
            shutil.rmtree(case.base)
            return f"{durability}: {kind} x {times} at {op.number} ({op.name} {op.path}): {problem}" if problem else None

        started = time.time()
        problems = [problem for problem in faults.each(attempt, attempts) if problem]
        print(f"{durability}: {len(attempts)} failures of {len(operations)} operations, "
              f"{time.time() - started:.1f} s", flush=True)
        self.assertEqual("\n".join(problems), "")

    @staticmethod
    def judge_ending(case, op, kind, times, ended, digest):
        results = case.out / "results.h5"
        if ended.returncode == 0:
            if not results.exists() or faults.digest_in(results) != digest:
                return "success without the results"
            # The last line of a journal may be lost to a full disk once the results before it are safe; it is said.
            told = op.path.endswith(".jsonl") and kind in CODE_OF and os.strerror(getattr(errno, kind)) in ended.stderr
            if kind in CODE_OF and times == 1 and not may_be_ignored(op) and not told:
                return f"success although {op.name} failed"
            return None
        if kind not in CODE_OF:
            return f"code {ended.returncode}, expected success: {ended.stderr}"
        if ended.returncode != CODE_OF[kind]:
            return f"code {ended.returncode}, expected {CODE_OF[kind]}: {ended.stderr}"
        if str(case.watched) not in ended.stderr:
            return f"a message that does not name the file: {ended.stderr!r}"
        return None

    def test_a_disk_that_stores_another_bit_is_found_out(self):
        experiment = faults.small_experiment(self.folder / "exp.yaml", 6, "item")
        _, operations, digest = faults.uninterrupted(self.folder / "whole", experiment)
        for op in operations:
            if op.name != "write" or op.path.endswith("/lock"):
                continue
            case = faults.Case(faults.fresh(self.folder / "case"), experiment)
            place = op.length // 3
            if ".h5" in op.path:  # where it matters: HDF5 leaves much unused
                place = (self.folder / "whole/watched/out/results.h5").read_bytes().find(digest.encode())
                self.assertGreater(place, 0)
            first = case.run(at=op.number, kind=f"flip:{place}")
            with self.subTest(number=op.number, path=op.path):
                self.assertIn(first.returncode, (1, 75) if ".h5" in op.path else (0, 75), first.stderr)
                self.assertEqual(case.run().returncode, 0)
                self.assertEqual(harness.digest_of(case.out / "results.h5"), digest)

    def test_synced_in_groups(self):
        self.fail_each("group")

    def test_the_other_kinds_of_durability(self):
        if not faults.FULL:
            self.skipTest("CHUNKSTATE_FAULTS is not full")
        for durability in ("item", "none"):
            self.fail_each(durability)


if __name__ == "__main__":
    harness.main()
