"""Arrays on a real Slurm of virtual nodes: every launcher, and every way for a task to be lost and come back.

Each scenario has four nodes of its own (a rack) and a results directory of its own; they run at the same time.
All must end with the digest that mpirun gives without Slurm."""
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "experiments"))
import harness

SLURM = harness.ROOT / "slurm/one_machine_slurm.sh"
TASKS = 4
# With MPICH only the launchers: its own mpirun, and srun with PMI-2.
MPICH = "mpich" in harness.MPIEXEC
RACKS = ("launchers",) if MPICH else ("launchers", "node", "usr1", "scancel", "orphan")
LONGEST = 240  # seconds, for any one wait


def wait_for(what, found, seconds=LONGEST):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def outcomes(path):
    """Items in the order of their results in a journal."""
    items = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        record = json.loads(line[9:])
        if record["kind"] in ("result", "failed"):
            items.append(record["item"])
    return items


def kill(pids, number=signal.SIGKILL):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        subprocess.run(["bash", SLURM, "up", folder, str(TASKS * len(RACKS))], check=True, timeout=120)
        text = subprocess.run(["bash", "-c", f". {folder}/environment.sh && env -0"], check=True,
                              capture_output=True, text=True).stdout
        self.environment = dict(line.split("=", 1) for line in text.split("\0") if line)
        if MPICH:
            tools = folder / "tools"
            tools.mkdir()
            (tools / "mpirun").write_text(f'#!/bin/bash\nexec {harness.MPIEXEC} "$@"\n')
            (tools / "mpirun").chmod(0o755)
            self.environment["PATH"] = f"{tools}:{self.environment['PATH']}"

    def down(self):
        subprocess.run(["bash", SLURM, "down", self.folder], check=True, timeout=60, stdout=subprocess.DEVNULL)

    def command(self, *words):
        done = subprocess.run([str(w) for w in words], env=self.environment, cwd=harness.ROOT, text=True,
                              capture_output=True, timeout=60)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def state(self, job):
        """The fields of a job or of a task of an array."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.command("scontrol", "show", "job", job).split("\n\n")[0]))

    def wait_until_gone(self, *jobs):
        wait_for(f"jobs {jobs} to end",
                 lambda: not self.command("squeue", "-h", "-r", "-o", "%A %F", "--jobs", ",".join(jobs)).strip())

    def processes_of_job(self, job):
        """All on this machine: those that have the job in their environment, and Slurm's own."""
        found = {}
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (
                        f"\0SLURM_JOB_ID={job}\0".encode() in b"\0" + (entry / "environ").read_bytes()
                        or (entry / "cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode())):
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
        return found

    def kill_slurmd(self, node):
        kill([int((self.folder / f"run/slurmd.{node}.pid").read_text())])


class Array:
    """One submitted array with its merge job."""

    def __init__(self, cluster, name, launcher="srun", tasks=TASKS, out=None):
        self.cluster = cluster
        self.out = out or cluster.folder / "results" / f"{name}-{launcher}"
        self.tasks = tasks
        text = cluster.command(
            harness.BINARY, "submit", cluster.folder / "exp.yaml", "--out", self.out,
            "-s", f"slurm.array={tasks}", "-s", f"slurm.launcher={launcher}",
            "-s", f"slurm.tasks_per_node={1 if launcher == 'none' else 2}", "-s",
            f"slurm.mpi={'pmi2' if MPICH else 'pmix'}",
            "-s", f"slurm.constraint=rack{1 + RACKS.index(name)}")
        self.job = re.search(r"array job (\d+)", text)[1]
        self.merge_job = re.search(r"merge job (\d+)", text)[1]

    def processes(self, task):
        """Pids of the ranks of a task, of all its starts."""
        pids = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            except OSError:
                continue
            if words[0:1] == [os.fsencode(harness.BINARY)] and os.fsencode(self.out) in words \
                    and f"{task}/{self.tasks}".encode() in words and harness.alive(entry.name):
                pids.append(int(entry.name))
        return pids

    def journals(self, pids=None):
        paths = sorted((self.out / "journal").glob("*.jsonl"))
        return [p for p in paths if pids is None or int(p.name.split("-")[-2]) in pids]

    def wait_for_work(self, task, results=1, without=()):
        """Pids of the ranks of a task once one has written results and all are in the middle of an item."""
        def working():
            pids = [pid for pid in self.processes(task) if pid not in without]
            journals = self.journals(pids)
            if len(pids) < 2 or len(journals) < 2 or sum(len(outcomes(j)) for j in journals) < results:
                return None
            last = [j.read_bytes().split(b"\n")[-2] for j in journals]
            return pids if all(b'"kind":"claim"' in line for line in last) else None
        return wait_for(f"work in task {task} of {self.out.name}", working)

    def log(self, task):
        return (self.out / f"slurm/{self.job}_{task}.log").read_text()

    def starts(self, task):
        return self.log(task).count(": on n")

    def finish(self):
        self.cluster.wait_until_gone(self.job, self.merge_job)


@unittest.skipIf(subprocess.run(["bash", "-c", "command -v apt-get"], stdout=subprocess.DEVNULL).returncode,
                 "needs apt-get for Slurm's packages")
class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory(prefix="chunkstate-slurm-")
        cls.addClassCleanup(scratch.cleanup)
        folder = pathlib.Path(scratch.name)
        harness.experiment(folder / "exp.yaml", prompts={"file": str(harness.PROMPTS), "limit": 8},
                           generation={"max_new_tokens": 150},
                           sweep={"matrix": {"ssm.variant": ["default", "default_optimized", "independent"]}},
                           parallel={"threads": 1})
        done = harness.run(["run", folder / "exp.yaml", "--out", folder / "expected"], ranks=2)
        assert done.returncode == 0, done.stderr
        cls.expected = harness.digest_of(folder / "expected/results.h5")
        cls.cluster = Cluster(folder)
        cls.addClassCleanup(cls.cluster.down)

    def test_every_launcher_and_every_loss_of_a_task_end_with_the_same_digest(self):
        seconds = {}

        def timed(name):
            begin = time.monotonic()
            try:
                getattr(self, "run_" + name)()
            finally:
                seconds[name] = time.monotonic() - begin

        print(flush=True)
        with concurrent.futures.ThreadPoolExecutor(len(RACKS)) as pool:
            scenarios = {name: pool.submit(timed, name) for name in RACKS}
        for name, scenario in scenarios.items():
            with self.subTest(name):
                scenario.result()
                print(f"{name}: {seconds[name]:.0f} s")

    def test_every_rank_sees_all_gpus_of_its_node_however_they_were_asked_for(self):
        """The script that `submit` writes, with a program in place of ours that says what it sees."""
        program, seen = self.cluster.folder / "program", self.cluster.folder / "seen"
        program.write_text(f"""#!/bin/bash
            echo "$SLURMD_NODENAME $SLURM_LOCALID $CUDA_VISIBLE_DEVICES" >>{seen}
            while [ "$1" != --ending ]; do shift; done; echo 0 >"$2"
            """)
        program.chmod(0o755)
        for option in ("gpus-per-node", "gpus-per-task", "gres"):
            seen.write_text("")
            out = self.cluster.folder / f"results/{option}"
            (out / "slurm").mkdir(parents=True)
            text = self.cluster.command(
                harness.BINARY, "submit", self.cluster.folder / "exp.yaml", "--out", out, "--dry-run",
                "-s", "slurm.nodes=2", "-s", "slurm.tasks_per_node=2", "-s", "slurm.gpus_per_node=2", "-s",
                f"slurm.gpu_option={option}", "-s", f"slurm.mpi={'pmi2' if MPICH else 'pmix'}")
            script = out / "slurm/array.sbatch"
            script.write_text(re.search(r"^#!/bin/bash\n.*?(?=\n# sbatch )", text, re.M | re.S)[0]
                              .replace(harness.BINARY, str(program)))
            self.cluster.command("sbatch", "--wait", script)
            lines = [line.split() for line in seen.read_text().splitlines()]
            self.assertEqual(sorted(line[1] for line in lines), ["0", "0", "1", "1"], option)
            self.assertEqual(len({line[0] for line in lines}), 2, option)
            self.assertEqual({tuple(line[2:]) for line in lines}, {("0,1",)}, option)

    def check(self, array, duplicates=None):
        """The file that the merge job wrote has the expected digest; the journals hold no conflict and as many
        duplicates as merge says it dropped."""
        items = [item for journal in array.journals() for item in outcomes(journal)]
        self.assertEqual(len(set(items)), 24)
        made = len(items) - len(set(items))
        if duplicates is not None:
            self.assertTrue(duplicates(made), f"{made} duplicates")
        self.assertEqual(harness.digest_of(array.out / "results.h5"), self.expected, array.out)
        again = array.out / "again.h5"
        text = self.cluster.command(harness.BINARY, "merge", array.out, "-o", again)  # 4 if it had a conflict
        dropped = re.search(rf"{re.escape(array.out.name)} +(\d+) +(\d+)\n", text)
        self.assertEqual((int(dropped[1]), int(dropped[2])), (24, made), text)
        self.assertEqual(harness.digest_of(again), self.expected)

    def run_launchers(self):
        arrays = [Array(self.cluster, "launchers", launcher) for launcher in ("srun", "mpirun", "none")]
        for array in arrays:
            array.finish()
            self.check(array, lambda made: made == 0)

    def run_node(self):
        """A node dies with everything on it: Slurm queues its task again, on another node."""
        array = Array(self.cluster, "node", "srun")
        array.wait_for_work(1)
        state = self.cluster.state(f"{array.job}_1")
        self.cluster.kill_slurmd(state["NodeList"])
        kill(self.cluster.processes_of_job(state["JobId"]))
        array.finish()
        self.assertEqual(array.starts(1), 2)
        self.check(array, lambda made: made == 0)

    def run_usr1(self):
        """The warning before the time limit: the ranks finish their items, the task is queued again."""
        array = Array(self.cluster, "usr1", "srun")
        ranks = array.wait_for_work(0)
        self.cluster.command("scancel", "-b", "-s", "USR1", f"{array.job}_0")
        wait_for("the ranks to stop", lambda: not any(harness.alive(pid) for pid in ranks), 60)
        for journal in array.journals(ranks):
            self.assertIn(b'"reason":"signal"', journal.read_bytes().split(b"\n")[-2])
        array.finish()
        self.assertEqual([array.starts(task) for task in range(TASKS)], [2, 1, 1, 1])
        self.check(array, lambda made: made == 0)

    def run_scancel(self):
        """Cancelled, then submitted again with another width: only what is left is run."""
        array = Array(self.cluster, "scancel", "mpirun")
        array.wait_for_work(2)
        self.cluster.command("scancel", array.job)
        array.finish()
        self.assertFalse((array.out / "results.h5").exists(), "the merge job saw that items are missing")
        self.assertEqual([array.starts(task) for task in range(TASKS) if
                          (array.out / f"slurm/{array.job}_{task}.log").exists()].count(2), 0)
        again = Array(self.cluster, "scancel", "srun", tasks=3, out=array.out)
        again.finish()
        self.check(again, lambda made: made == 0)

    def run_orphan(self):
        """The daemon of a node dies and the node hangs: Slurm starts the task a second time. Then the first ranks
        go on, while Slurm's own processes there stay cut off. The lock files are taken away, as if the file system
        had no locks."""
        array = Array(self.cluster, "orphan", "mpirun")
        orphans = array.wait_for_work(0)
        state = self.cluster.state(f"{array.job}_0")
        self.cluster.kill_slurmd(state["NodeList"])
        frozen = self.cluster.processes_of_job(state["JobId"])
        self.assertTrue(set(orphans) <= set(frozen))
        kill(frozen, signal.SIGSTOP)
        for lock in array.out.glob("lock*"):
            lock.unlink()
        array.wait_for_work(0, results=0, without=orphans)
        # Not mpirun: the kernel wakes a stopped process whose parent ends, and its srun would cancel its step, whose
        # number the second start's has too. So the orphans end their work, but wait for mpirun in MPI_Finalize.
        kill(orphans, signal.SIGCONT)
        wait_for("the orphans to end", lambda: all(b'"kind":"run_end"' in journal.read_bytes().split(b"\n")[-2]
                                                   for journal in array.journals(orphans)))
        kill(reversed(frozen))  # srun before its parent
        array.finish()
        self.assertEqual(array.starts(0), 2, array.log(0))
        # What the two orphans were at, at least, is there twice.
        self.check(array, lambda made: made >= 2)


if __name__ == "__main__":
    harness.main()
