"""A rank of a group that works on one prompt dies (kill -9) or freezes (SIGSTOP) at a random moment: every
other rank says which one it misses, all end with a failure within the deadline and 15 s, nothing is left
over, and what the journals hold stays: running again finishes with the digest of an undisturbed run.

--cases N for more than the ten of CI; --seed S for others."""
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import harness

CASES = 10
SEED = 1
DEADLINE = 3
GRACE = 15


def ranks_of(out):
    """rank -> pid of the job that writes to `out`."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if not words[0].endswith(b"chunkstate") or str(out).encode() not in words:
                continue
            environment = dict(pair.split(b"=", 1) for pair in (entry / "environ").read_bytes().split(b"\0")
                               if b"=" in pair)
            found[int(environment[b"OMPI_COMM_WORLD_RANK"])] = int(entry.name)
        except (OSError, KeyError, ValueError):
            continue
    return found


def sent(signal_number, pid):
    """False if the process has ended."""
    try:
        os.kill(pid, signal_number)
        return True
    except ProcessLookupError:
        return False


def results_in(out):
    """Item ids of the result lines of all journals, one entry per line."""
    items = []
    for journal in sorted(out.glob("journal/*.jsonl")):
        for line in journal.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line.split(" ", 1)[1])
            except (IndexError, ValueError):
                continue  # a torn last line
            if record.get("kind") == "result":
                items.append(record["item"])
    return items


class RankMissing(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = harness.experiment(
            self.folder / "exp.yaml", prompts={"file": str(harness.PROMPTS), "limit": 16},
            generation={"max_new_tokens": 32}, parallel={"mode": "sequence", "threads": 1,
                                                         "deadline": f"{DEADLINE}s"},
            sweep={"matrix": {"ssm.variant": ["default_optimized", "lookback"]}},
            output={"durability": "item"})

    def job(self, out, ranks, group):
        return harness.command(["run", self.file, "--out", out, "-s", f"parallel.ranks_per_group={group}"],
                               ranks)

    def test_a_missing_rank_ends_all_others_with_its_name(self):
        whole = self.folder / "whole"
        job = subprocess.Popen(self.job(whole, 2, 2), env=harness.ENVIRONMENT, cwd=harness.ROOT,
                               stdout=subprocess.DEVNULL)
        while job.poll() is None and len(list(whole.glob("journal/*.jsonl"))) < 2:
            time.sleep(0.005)
        begin = time.monotonic()
        self.assertEqual(job.wait(timeout=300), 0)
        self.longest_delay = 0.8 * (time.monotonic() - begin)
        expected = harness.digest_of(whole / "results.h5")
        rng = random.Random(SEED)
        rows, finished = [], 0
        out = self.folder / "out0"
        while len(rows) < CASES:
            row = self.disturbed_run(out, rng, len(rows))
            if row:
                rows.append(row)
            else:  # it had finished before the signal
                self.check_result(out, expected)
                finished += 1
                out = self.folder / f"out{finished}"
        subprocess.run(self.job(out, 2, 2), env=harness.ENVIRONMENT, cwd=harness.ROOT, check=True,
                       capture_output=True, timeout=300)
        self.check_result(out, expected)
        self.report(rows, finished + 1)

    def check_result(self, out, expected):
        self.assertEqual(harness.digest_of(out / "results.h5"), expected)
        items = results_in(out)
        self.assertEqual(len(items), len(set(items)), "an acknowledged item ran again")

    def disturbed_run(self, out, rng, case):
        ranks, group = rng.choice([(2, 2), (3, 3), (4, 4), (4, 2)])
        fault = signal.SIGKILL if case % 2 == 0 else signal.SIGSTOP
        delay, victim = rng.uniform(0, self.longest_delay), rng.randrange(ranks)
        started = set(out.glob("journal/*.jsonl"))
        with open(self.folder / "stderr", "w+") as errors:
            job = subprocess.Popen(self.job(out, ranks, group), stdout=subprocess.DEVNULL, stderr=errors,
                                   env=harness.ENVIRONMENT, cwd=harness.ROOT)
            while job.poll() is None and len(set(out.glob("journal/*.jsonl")) - started) < ranks:
                time.sleep(0.005)
            time.sleep(delay)
            pids = ranks_of(out)
            if job.poll() is not None or victim not in pids or not sent(fault, pids[victim]):
                job.wait(timeout=60)
                errors.seek(0)
                self.assertEqual(job.returncode, 0, f"case {case}: ended before the signal\n{errors.read()}")
                return None
            begin = time.monotonic()
            try:
                code = job.wait(timeout=DEADLINE + GRACE)
            except subprocess.TimeoutExpired:
                if self.stopped_at_its_very_end(out, pids, victim):
                    sent(signal.SIGCONT, pids[victim])
                    self.assertEqual(job.wait(timeout=DEADLINE + GRACE), 0)
                    return None
                errors.seek(0)
                for pid in [job.pid, *pids.values()]:
                    sent(signal.SIGKILL, pid)
                self.fail(f"case {case}: {fault.name} of rank {victim} of {ranks}: still there\n{errors.read()}")
            seconds = time.monotonic() - begin
            errors.seek(0)
            said = errors.read()
        while any(harness.alive(pid) for pid in pids.values()) and time.monotonic() - begin < DEADLINE + GRACE:
            time.sleep(0.02)
        left = [pid for pid in pids.values() if harness.alive(pid)]
        self.assertEqual(left, [], f"case {case}: processes left over")
        named = re.findall(rf"chunkstate: rank (\d+): [^\n]*: rank {victim} \(pid {pids[victim]} ", said)
        speakers = {int(rank) for rank in named} - {victim}
        # The signal came after the last message: the results are there and nobody needed that rank any more. The
        # launcher still counts its death.
        if code == 0 or (not speakers and self.has_ended(out)):
            return None
        context = f"case {case}: {fault.name} of rank {victim} of {ranks} (groups of {group}), code {code}"
        self.assertTrue(speakers, f"{context}: nobody named it\n{said}")
        self.assertLess(seconds, DEADLINE + GRACE, context)
        return {"fault": fault.name, "code": code, "seconds": seconds, "silent": ranks - 1 - len(speakers)}

    @staticmethod
    def has_ended(out):
        return (out / "results.h5").exists()

    def stopped_at_its_very_end(self, out, pids, victim):
        """The others have left MPI_Finalize with it and ended: nobody is there to miss it."""
        others = [pid for rank, pid in pids.items() if rank != victim]
        return self.has_ended(out) and not any(harness.alive(pid) for pid in others)

    @staticmethod
    def report(rows, runs):
        for fault in ("SIGKILL", "SIGSTOP"):
            some = [row for row in rows if row["fault"] == fault]
            seconds = sorted(row["seconds"] for row in some)
            codes = sorted({row["code"] for row in some})
            print(f"{fault}: {len(some)} of {len(some)} ended and named, median {seconds[len(some) // 2]:.1f} s, "
                  f"longest {seconds[-1]:.1f} s, exit codes {codes}, "
                  f"survivors without a message {sum(row['silent'] for row in some)}")
        print(f"{runs} results finished in between, all with the undisturbed digest")


if __name__ == "__main__":
    for flag in ("--cases", "--seed"):
        if flag in sys.argv:
            at = sys.argv.index(flag)
            globals()[flag[2:].upper()] = int(sys.argv[at + 1])
            del sys.argv[at:at + 2]
    harness.main()
