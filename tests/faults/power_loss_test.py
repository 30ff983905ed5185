"""Power loss, modelled: from the log of a run's operations, what a disk may hold when the power fails at some moment:
everything that was synced, and of the rest any subset, in any order, writes torn. Then run again.

CHUNKSTATE_FAULTS=full tries 2,000 states, otherwise 200."""
import pathlib
import random
import shutil
import time
import unittest

import faults
import harness

STATES = 2000 if faults.FULL else 200


class File:
    def __init__(self):
        self.synced = b""   # what the disk certainly holds
        self.pending = []   # operations since the last sync: ("write", offset, bytes) or ("ftruncate", length)

    def apply(self, content, change):
        if change[0] == "ftruncate":
            return content[:change[1]].ljust(change[1], b"\0")
        _, offset, data = change
        content = content.ljust(offset, b"\0")  # an earlier write did not reach the disk: a hole
        return content[:offset] + data + content[offset + len(data):]

    def sync(self):
        for change in self.pending:
            self.synced = self.apply(self.synced, change)
        self.pending = []

    def after_power_loss(self, rng):
        """One of the contents that the disk may hold."""
        fate = rng.randrange(4)
        if fate == 0:
            kept = []
        elif fate == 1:
            kept = list(self.pending)
        elif fate == 2:
            kept = self.pending[:rng.randint(0, len(self.pending))]
        else:
            kept = [change for change in self.pending if rng.random() < 0.5]
        content = self.synced
        for index, change in enumerate(kept):
            if change[0] == "write" and (index == len(kept) - 1 or rng.random() < 0.2):
                change = ("write", change[1], change[2][:rng.randint(0, len(change[2]))])
            content = self.apply(content, change)
        return content


class Disk:
    """Names and files; a name is safe when its directory has been synced, a content when its file has."""

    def __init__(self):
        self.files = {}      # path -> File, as the process sees it
        self.names = {}      # path -> File, as the disk certainly does; None: a directory
        self.unsynced = []   # (directory, path, File or None to add, or "remove")

    def replay(self, op):
        if op.error != 0:
            return
        directory = str(pathlib.Path(op.path).parent)
        if op.name == "mkdir":
            self.unsynced.append((directory, op.path, None))
        elif op.name == "open":
            if op.offset == 1:
                self.files[op.path] = File()
                self.unsynced.append((directory, op.path, self.files[op.path]))
            elif op.length == 1:
                self.files[op.path].pending.append(("ftruncate", 0))
        elif op.name == "write":
            self.files[op.path].pending.append(("write", op.offset, op.data))
        elif op.name == "ftruncate":
            self.files[op.path].pending.append(("ftruncate", op.offset))
        elif op.name in ("fsync", "fdatasync"):
            if op.path in self.files:
                self.files[op.path].sync()
            for change in [c for c in self.unsynced if c[0] == op.path]:
                self.change_name(self.names, change)
                self.unsynced.remove(change)
        elif op.name == "rename":
            self.files[op.to] = self.files.pop(op.path)
            self.unsynced.append((directory, op.path, "remove"))
            self.unsynced.append((directory, op.to, self.files[op.to]))
        elif op.name == "remove":
            self.files.pop(op.path)
            self.unsynced.append((directory, op.path, "remove"))

    @staticmethod
    def change_name(names, change):
        _, path, file = change
        if isinstance(file, str):
            names.pop(path, None)
        else:
            names[path] = file

    def write_after_power_loss(self, rng, watched, target):
        """Writes one of the possible states of `watched` to `target`."""
        names = dict(self.names)
        for change in self.unsynced:
            if rng.random() < 0.5:
                self.change_name(names, change)
        for path, file in sorted(names.items()):
            place = target / pathlib.Path(path).relative_to(watched)
            if not place.parent.is_dir():
                continue  # its directory's own name was lost
            if file is None:
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(file.after_power_loss(rng))


class PowerLoss(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = faults.scratch()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def lose_power(self, name, experiment, states, before=None):
        """`before` is a fault that ends a first run: power fails in the second one."""
        whole = faults.Case(self.folder / f"{name}-whole", experiment)
        if before is not None:
            self.assertEqual(whole.run(keep_data=True, **before).returncode, -9)
        self.assertEqual(whole.run(keep_data=True).returncode, 0)
        digest = harness.digest_of(whole.out / "results.h5")
        operations = whole.operations()

        def attempt(state):
            rng = random.Random(f"{name} {state}")
            # Often after the end too: what a run that ended well has written must be there.
            moment = len(operations) if state % 8 == 0 else rng.randint(1, len(operations))
            disk = Disk()
            for op in operations[:moment]:
                disk.replay(op)
            promised = {}
            for path, file in disk.files.items():
                if path.endswith(".jsonl"):
                    promised.update((r["item"], r) for r in faults.results_in(file.synced))
            case = faults.Case(faults.fresh(self.folder / f"{name}-{state}"), experiment)
            disk.write_after_power_loss(rng, whole.watched, case.watched)
            problem = self.judge_results(case.out / "results.h5", digest, moment == len(operations))
            again = case.run()
            if problem is None:
                problem = (f"code {again.returncode}: {again.stderr}" if again.returncode != 0 else
                           faults.check_finished(case, digest, promised, once=False))
            shutil.rmtree(case.base)
            return (len(promised), f"{name}, state {state}, after operation {moment}: {problem}" if problem else None)

        started = time.time()
        outcomes = faults.each(attempt, range(states))
        kept = sum(count for count, _ in outcomes)
        print(f"{name}: {states} states of the disk, {kept} acknowledged results kept, "
              f"{time.time() - started:.1f} s", flush=True)
        self.assertEqual("\n".join(problem for _, problem in outcomes if problem), "")
        self.assertGreater(kept, 0)

    @staticmethod
    def judge_results(results, digest, ended):
        if not results.exists():
            return "the results of a run that had ended are lost" if ended else None
        try:
            return None if faults.digest_in(results) == digest else "results.h5 with another digest"
        except OSError as error:
            return f"a results.h5 that is not whole: {error}"

    def test_synced_in_groups(self):
        self.lose_power("group", faults.small_experiment(self.folder / "group.yaml", 60, "group"), STATES // 2)

    def test_synced_item_by_item(self):
        self.lose_power("item", faults.small_experiment(self.folder / "item.yaml", 20, "item"), STATES // 4)

    def test_in_a_run_that_resumes_a_dead_one(self):
        self.lose_power("resume", faults.small_experiment(self.folder / "resume.yaml", 60, "group"), STATES // 4,
                        before={"at": 80, "kind": "tear:100"})


if __name__ == "__main__":
    harness.main()
