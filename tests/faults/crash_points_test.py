"""kill -9 at every write, sync, rename and truncation of a run and of its finalisation, also in the middle of
writes; then run again: nothing acknowledged is lost, nothing is done twice, the digest is that of an uninterrupted run.

CHUNKSTATE_FAULTS=full goes through all points (more than 2,000), otherwise through a sample."""
import pathlib
import random
import shutil
import time
import unittest

import faults
import harness

SAMPLE = 110  # of the points of each scenario


def points(operations):
    """(number, kind, what) of every place at which the run can die."""
    result = []
    for op in operations:
        what = f"{op.name} {pathlib.Path(op.path).name}"
        result.append((op.number, "kill", what))
        if op.name == "write":
            result += [(op.number, f"tear:{cut}", what) for cut in (1, op.length // 2, -1)]
    result.append((operations[-1].number, "after", "the end"))
    return result


def sample(all_points, operations, seed):
    """All points of the start and of the finalisation, and some of the many items between."""
    if faults.FULL:
        return all_points
    edge = {op.number for op in operations if ".jsonl" not in op.path}
    edges = [point for point in all_points if point[0] in edge]
    others = [point for point in all_points if point[0] not in edge]
    return edges + random.Random(seed).sample(others, max(0, min(len(others), SAMPLE - len(edges))))


class CrashPoints(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = faults.scratch()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def die_and_run_again(self, name, experiment, prepared=None):
        """`prepared` is a directory in which the run begins, else it begins from nothing."""
        def begin(base):
            case = faults.Case(faults.fresh(base), experiment)
            if prepared is not None:
                shutil.copytree(prepared.out, case.out)
            return case

        whole = begin(self.folder / "whole")
        self.assertEqual(whole.run().returncode, 0)
        digest = harness.digest_of(whole.out / "results.h5")
        operations = whole.operations()
        all_points = points(operations)

        def attempt(point):
            number, kind, what = point
            case = begin(self.folder / f"{number}-{kind.replace(':', '-')}")
            killed = case.run(at=number, kind=kind)
            promised = case.promised()
            before = faults.digest_in(case.out / "results.h5") if (case.out / "results.h5").exists() else digest
            again = case.run()
            problem = (f"code {killed.returncode} instead of a death" if killed.returncode not in (-9, 137) else
                       "a results.h5 that is not whole" if before != digest else
                       f"code {again.returncode}: {again.stderr}" if again.returncode != 0 else
                       faults.check_finished(case, digest, promised))
            shutil.rmtree(case.base)
            return (len(promised), f"{name}: {kind} at {number} ({what}): {problem}" if problem else None)

        started = time.time()
        chosen = sample(all_points, operations, name)
        outcomes = faults.each(attempt, chosen)
        kept = sum(count for count, _ in outcomes)
        print(f"{name}: {len(chosen)} of {len(all_points)} crash points, {kept} acknowledged results kept, "
              f"{time.time() - started:.1f} s", flush=True)
        self.assertEqual("\n".join(problem for _, problem in outcomes if problem), "")
        self.assertGreater(kept, 0)

    def test_synced_item_by_item(self):
        self.die_and_run_again("item", faults.small_experiment(self.folder / "item.yaml", 100, "item"))

    def test_synced_in_groups(self):
        self.die_and_run_again("group", faults.small_experiment(self.folder / "group.yaml", 100, "group"))

    def test_in_a_run_that_resumes_a_dead_one(self):
        experiment = faults.small_experiment(self.folder / "resume.yaml", 100, "item")
        whole = faults.Case(self.folder / "whole-before", experiment)
        self.assertEqual(whole.run().returncode, 0)
        place = faults.number_of(whole.operations(), "write", ".jsonl", 110)
        half = faults.Case(self.folder / "half", experiment)
        self.assertEqual(half.run(at=place, kind="tear:40").returncode, -9)
        self.die_and_run_again("resume", experiment, prepared=half)


if __name__ == "__main__":
    harness.main()
