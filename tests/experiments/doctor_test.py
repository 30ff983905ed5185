"""`doctor` on this machine as it is, and on the same machine with one thing broken at a time."""
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness

CPUS = len(os.sched_getaffinity(0))


class Doctor(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.tools = self.folder / "tools"  # in place of Slurm's commands; what mpirun needs stays
        self.tools.mkdir()
        for name, code in (("sinfo", 1), ("sbatch", 0), ("srun", 1)):
            self.tool(name, f"echo {name}: no cluster >&2\nexit {code}\n")

    def tool(self, name, body):
        path = self.tools / name
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)

    def doctor(self, *arguments, out=None, ranks=0, expect=0, before=None, **variables):
        """What was printed; with --json parsed and checked for its form."""
        environment = dict(harness.ENVIRONMENT, PATH=f"{self.tools}:{os.environ['PATH']}", **variables)
        for name in list(environment):
            if name.startswith(("SLURM_", "OMP_")) and name not in variables:
                del environment[name]
        words = harness.command(["doctor", "--out", out or self.folder / "out", *arguments], ranks)
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment,
                              cwd=self.folder, preexec_fn=before)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        if "--json" not in arguments:
            return done.stdout
        report = json.loads(done.stdout)
        self.assertEqual(set(report), {"ranks", "findings", "peer_copies", "well"})
        self.assertEqual(report["well"], expect == 0)
        for finding in report["findings"]:
            self.assertEqual(set(finding), {"verdict", "check", "found", "expected", "do"})
            self.assertIn(finding["verdict"], ("ok", "note", "warning", "problem"))
            self.assertTrue(finding["check"] and finding["found"])
            if finding["verdict"] == "problem":
                self.assertTrue(finding["expected"] and finding["do"], finding)
        self.assertEqual(any(f["verdict"] == "problem" for f in report["findings"]), expect != 0)
        return report

    def lines(self, text, verdict):
        return [line for line in text.splitlines() if line.startswith(verdict + " ")]

    def test_alone_it_prints_one_line_per_finding_and_leaves_nothing_behind(self):
        text = self.doctor()
        self.assertRegex(text, r"(?m)^rank +host +pid +threads +CPUs +NUMA +backend +GPU +PCI +of NUMA$")
        for check in ("mpi", "cores", "limits", "hdf5", "locks", "space"):
            self.assertRegex(text, rf"(?m)^(ok|note) +{check} ")
        self.assertEqual(self.lines(text, "PROBLEM"), [])
        self.assertFalse((self.folder / "out").exists())
        (self.folder / "out").mkdir()
        self.doctor()
        self.assertEqual(list((self.folder / "out").iterdir()), [])

    def test_json_holds_every_rank_with_its_place(self):
        report = self.doctor("--json", "--threads", "1", ranks=2, expect=0 if CPUS > 1 else 1)
        self.assertEqual([rank["rank"] for rank in report["ranks"]], [0, 1])
        for rank in report["ranks"]:
            self.assertEqual(rank["threads"], 1)
            self.assertEqual(rank["launched"], 2)
            for name in ("host", "cpus", "numa", "pci_bus_id", "gpu_numa", "mpi", "group_cpus"):
                self.assertIn(name, rank)
        found = {finding["check"]: finding["found"] for finding in report["findings"]}
        self.assertIn("sums over ranks", " ".join(f["found"] for f in report["findings"]))
        self.assertIn("hdf5", found)

    def test_more_threads_than_cores_are_a_problem(self):
        text = self.doctor("--threads", CPUS, ranks=2, expect=1)
        self.assertRegex("\n".join(self.lines(text, "PROBLEM")),
                         rf"cores +ranks 0-1 on \S+ have {CPUS} CPUs? .* for 2 ranks x {CPUS} threads?; expected")

    @unittest.skipIf(CPUS < 2, "needs two cores")
    def test_ranks_bound_to_one_core_are_a_problem(self):
        cpu = min(os.sched_getaffinity(0))
        text = self.doctor(ranks=2, expect=1, before=lambda: os.sched_setaffinity(0, {cpu}))
        problems = "\n".join(self.lines(text, "PROBLEM"))
        self.assertRegex(problems, rf"cores +ranks 0-1 on \S+ have 1 CPU \({cpu}\) for 2 ranks x 1 thread")

    def test_pinned_threads_of_ranks_that_share_cores_are_a_problem(self):
        text = self.doctor("--threads", "1", ranks=2, expect=1, OMP_PROC_BIND="close")
        self.assertIn("OMP_PROC_BIND=close pins the threads of ranks 0-1", text)

    def test_a_launcher_of_another_library_is_named_once(self):
        variables = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}
        text = self.doctor(expect=1, SLURM_PROCID="0", **variables)
        self.assertIn("srun started 4 processes that know nothing of each other", text)
        self.assertEqual(self.doctor(expect=1, SLURM_PROCID="2", **variables), "")
        text = self.doctor(expect=1, PMI_SIZE="3", PMI_RANK="0")
        self.assertIn("took each of the 3 processes that the launcher started for a job of its own", text)

    def test_a_folder_that_cannot_be_written_is_a_problem(self):
        (self.folder / "out").write_text("in the way")
        self.assertIn("PROBLEM  folder", self.doctor(expect=1))
        self.assertEqual((self.folder / "out").read_text(), "in the way")
        self.assertIn("PROBLEM  folder       /proc/nowhere: mkdir: No such file",
                      self.doctor(out="/proc/nowhere", expect=1))

    def test_small_limits_are_problems_and_no_signal_ends_it(self):
        text = self.doctor(expect=1, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
        self.assertRegex(text, r"(?m)^PROBLEM +folder .*File too large")
        self.assertRegex(text, r"(?m)^PROBLEM +limits +files of rank 0 end at 0")
        text = self.doctor(expect=1, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
        self.assertRegex(text, r"(?m)^PROBLEM +limits +40 open files")

    def test_slurm_is_asked_and_the_site_file_held_against_it(self):
        self.assertRegex(self.doctor(), r"(?m)^warning +slurm +sinfo: exit code 1: sinfo: no cluster; expected")
        self.tool("sinfo", "echo 'cpu*|up|12|(null)'; echo 'gpu|up|4|gpu:h100:4(S:0-1)'\n")
        self.tool("srun", "echo 'MPI plugin types are...'; echo '\tpmi2'; echo '\tpmix'; echo '\tpmix_v4'\n")
        site = self.folder / "site.yaml"
        site.write_text("partition: gpu\ngpus_per_node: 4\nnodes: 2\n")
        text = self.doctor("--site", site)
        self.assertRegex(text, r"(?m)^ok +slurm +cpu\* \(12 nodes\), gpu \(4 nodes of 4 GPUs\)$")
        self.assertRegex(text, r"(?m)^ok +slurm +srun --mpi=pmix starts ranks")
        self.assertRegex(text, r"(?m)^ok +site ")
        site.write_text("partition: gpus\n")
        self.assertIn("partition 'gpus'; expected one of cpu, gpu; do: correct",
                      self.doctor("--site", site, expect=1))
        report = self.doctor("--site", site, "--json", expect=1, SLURM_JOB_ID="7", SLURM_NTASKS="4")
        self.assertTrue(any("in job 7" in finding["found"] for finding in report["findings"]))
        site.write_text("parition: gpu\n")
        self.doctor("--site", site, expect=64)
        self.doctor("--backend", "gpu", expect=64)

    def test_a_run_shows_the_same_table(self):
        file = harness.experiment(self.folder / "exp.yaml")
        done = harness.run(["run", file, "--out", self.folder / "results"], ranks=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        table = re.search(r"(?m)^rank +host +pid +threads +CPUs +NUMA +backend +GPU +PCI +of NUMA\n-+\n(0 .*)\n(1 .*)$",
                          done.stdout)
        self.assertTrue(table, done.stdout)


if __name__ == "__main__":
    harness.main()
