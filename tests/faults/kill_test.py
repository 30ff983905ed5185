"""Random kill -9 of ranks and of whole jobs, alone and under mpirun with 1 to 4 ranks; then run again: same digest,
nothing acknowledged lost, nothing there twice.

At least 200 kills in 40 runs; CHUNKSTATE_FAULTS=full: 2,000 in 400."""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
import unittest

import faults
import harness

KILLS, RUNS = (2000, 400) if faults.FULL else (200, 40)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


class RandomKills(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = faults.scratch()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        # Long enough to be killed several times: about a second of work for one rank.
        self.experiment = faults.small_experiment(
            self.folder / "exp.yaml", 150, "group", generation={"max_new_tokens": 24},
            sweep={"matrix": {"ssm.variant": ["default", "default_optimized"]}})
        _, _, self.digest = faults.uninterrupted(self.folder / "whole", self.experiment)

    def run_and_kill(self, case, ranks, rng):
        """1 if something was killed, 0 if the run ended first."""
        environment = dict(faults.ENVIRONMENT, LD_PRELOAD=faults.SHIM, FAULT_BELOW=str(case.watched),
                           FAULT_LOG=str(case.log))
        words = harness.command(["run", self.experiment, "--out", case.out, "-q"], ranks)
        job = subprocess.Popen(words, env=environment, cwd=harness.ROOT, start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if rng.random() < 0.8:  # else also while it starts
            known = len(case.journals())
            while len(case.journals()) == known and job.poll() is None:
                time.sleep(0.002)
        time.sleep(rng.expovariate(1 / 0.15))
        pids = harness.ranks_in(case.out)
        if job.poll() is not None:
            return 0
        if rng.random() < 0.5 and pids:
            killed = kill(rng.choice(pids))  # one rank: the launcher ends the others
        else:
            os.killpg(job.pid, signal.SIGKILL)  # the launcher, and without one the process itself
            killed = True
            for pid in pids:
                kill(pid)
        harness.wait_until_ended(job, case.out)
        return int(killed)

    def attempt(self, number):
        rng = random.Random(number)
        case = faults.Case(self.folder / str(number), self.experiment)
        kills = 0
        for _ in range(rng.randint(3, 9)):
            kills += self.run_and_kill(case, rng.choice((0, 0, 0, 1, 2, 3, 4)), rng)
        promised = case.promised()
        again = case.run(ranks=number % 5)
        problem = (f"code {again.returncode}: {again.stderr}" if again.returncode != 0 else
                   faults.check_finished(case, self.digest, promised, once=False))
        shutil.rmtree(case.base)
        return kills, len(promised), f"run {number}: {problem}" if problem else None

    def test_killed_at_random_and_run_again(self):
        started = time.time()
        kills = promised = runs = 0
        problems = []
        while kills < KILLS or runs < RUNS:
            for count, kept, problem in faults.each(self.attempt, range(runs, runs + 2 * faults.WORKERS)):
                kills, promised, runs = kills + count, promised + kept, runs + 1
                problems += [problem] if problem else []
        print(f"{kills} kills in {runs} runs, {promised} acknowledged results kept, "
              f"{time.time() - started:.1f} s", flush=True)
        self.assertEqual("\n".join(problems), "")
        self.assertGreater(promised, 0)


if __name__ == "__main__":
    harness.main()
