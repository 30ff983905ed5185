"""`submit` where no Slurm is installed: what the scripts say, how words are quoted, what is asked of sbatch."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "experiments"))
import harness


class Submit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.tools = self.folder / "tools"
        self.tools.mkdir()
        self.sbatch = self.folder / "sbatch.log"

    def tool(self, name, body):
        """A command of that name, first in PATH, in place of Slurm's."""
        path = self.tools / name
        path.write_text("#!/bin/bash\n" + body)
        path.chmod(0o755)

    def experiment(self, **sections):
        return harness.experiment(self.folder / "exp.yaml", **sections)

    def submit(self, *arguments, cwd=harness.ROOT, expect=0):
        environment = dict(harness.ENVIRONMENT, PATH=f"{self.tools}:{os.environ['PATH']}")
        done = subprocess.run([harness.BINARY, "submit"] + [str(a) for a in arguments], cwd=cwd, text=True,
                              capture_output=True, timeout=60, env=environment)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout if expect == 0 else done.stderr

    def scripts(self, *arguments, **options):
        text = self.submit(*arguments, "--dry-run", **options)
        scripts = re.findall(r"^#!/bin/bash\n.*?(?=\n# sbatch )", text, re.M | re.S)
        for script in scripts:
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        return scripts

    def start(self, script, code=0, ranks_end=True, **variables):
        """Runs an array script as Slurm would, with a launcher that records its words and ends with a code, as the
        ranks do if they end by themselves."""
        self.tool("srun", f"""printf '%s\\n' "$@" >{self.folder}/words
                              while [ "$1" != --ending ]; do shift; done
                              {'echo ' + str(code) + ' >"$2"' if ranks_end else ''}
                              exit {code}\n""")
        self.tool("scontrol", f"echo $* >>{self.folder}/scontrol.log\n")
        environment = dict(os.environ, PATH=f"{self.tools}:{os.environ['PATH']}", SLURM_ARRAY_JOB_ID="7",
                           SLURM_ARRAY_TASK_ID="2", SLURM_JOB_NODELIST="n1", **variables)
        done = subprocess.run(["bash"], input=script, text=True, capture_output=True, env=environment,
                              cwd=self.folder, timeout=60)
        words = (self.folder / "words").read_text().splitlines()
        return done, words

    def test_a_dry_run_prints_what_would_be_submitted_and_touches_nothing(self):
        out = self.folder / "out"
        file = self.experiment(slurm={
            "array": 8, "simultaneous": 3, "time": "90m", "nodes": 2, "tasks_per_node": 4, "cpus_per_task": 6,
            "gpus_per_node": 4, "memory": "16G", "account": "me", "partition": "gpu", "qos": "high",
            "constraint": "a100&hbm80g", "reservation": "course", "sbatch_options": "--exclusive --mail-type=END",
            "modules": "gcc/12 openmpi/4", "launcher_options": "--distribution=block:cyclic"})
        array, merge = self.scripts(file, "--out", out)
        self.assertFalse(out.exists())
        for line in ("job-name=test", "array=0-2%3", "nodes=2", "ntasks-per-node=4", "cpus-per-task=6",
                     "gpus-per-node=4", "mem=16G", "time=0-01:30:00", "signal=B:USR1@120", "requeue", "account=me",
                     "partition=gpu", "qos=high", "constraint=a100&hbm80g", "reservation=course", "exclusive",
                     f"output={out}/slurm/%A_%a.log", "open-mode=append", f"chdir={harness.ROOT}"):
            self.assertRegex(array, rf"(?m)^#SBATCH --{re.escape(line)}( |$)")
        for line in ("job-name=test-merge", "ntasks=1", "time=0-00:30:00", "account=me", "partition=gpu"):
            self.assertRegex(merge, rf"(?m)^#SBATCH --{re.escape(line)}$")
        self.assertIn("module load gcc/12 openmpi/4", array)
        self.assertIn("srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores --cpus-per-task=6 --gpus-per-node=4 "
                      "--distribution=block:cyclic ", array)
        self.assertNotIn("@OPTIONS@", array)
        body = [line for line in array.splitlines() if not line.startswith("#")]
        self.assertTrue(body[1].startswith("trap "), "the trap stands where it cannot be late")

    def test_every_text_of_the_user_arrives_as_one_word(self):
        marker = self.folder / "pwned"
        wild = f"a b'c\"d$(touch {marker.name})`touch {marker.name}`;touch {marker.name}&|<>*?[x]#!~{{}}"
        place = self.folder / "o" / wild
        place.mkdir(parents=True)
        file = harness.experiment(place / "exp.yaml")
        (place / "slurm").mkdir()
        array, merge = self.scripts(file, "--out", place, "-s", "generation.seed=7",
                                    "-s", f"output.dir='{wild.replace(chr(39), chr(39) * 2)}'", cwd=place)
        done, words = self.start(array)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(words[3:], [
            harness.BINARY, "run", f"{place}/slurm/experiment.yaml", "--out", str(place), "--shard", "2/1",
            "--ending", f"{place}/slurm/ending.7_2.1",
            "-s", "generation.seed=7", "-s", f"output.dir='{wild.replace(chr(39), chr(39) * 2)}'"])
        self.tool("chunkstate", f"""printf '%s\\n' "$@" >{self.folder}/words\n""")
        subprocess.run(["bash"], input=merge.replace(harness.BINARY, str(self.tools / "chunkstate")), text=True,
                       check=True, cwd=self.folder)
        self.assertEqual((self.folder / "words").read_text().splitlines(),
                         ["merge", str(place), "-o", f"{place}/results.h5"])
        self.assertFalse(marker.exists())

    def test_what_a_batch_script_cannot_hold_is_refused(self):
        file = self.experiment()
        for out, message in (("a\nb", "control character"), ("a%j", "found %"), ("a\\b", "found %"),
                             ("a\x7fb", "control character")):
            error = self.submit(file, "--dry-run", "--out", self.folder / out, expect=64)
            self.assertIn(message, error)
            self.assertEqual(error.count("\n"), 1, error)
        for setting, message in (("slurm.account='a b'", "expected a word"),
                                 ("slurm.modules='a;b'", "expected words"),
                                 ("slurm.modules=\"a\\nb\"", "control character"),
                                 ("slurm.signal_before_end=2d", "at most 65535s"),
                                 ("slurm.time=2m", "less than slurm.time"),
                                 ("slurm.launcher=mpiexec", "unknown value"),
                                 ("name='a\nb'", "expected a name")):
            error = self.submit(file, "--dry-run", "-s", setting, expect=64)
            self.assertIn(message, error)
        error = self.submit(file, "--dry-run", "-s", "slurm.launcher=none", "-s", "slurm.tasks_per_node=2", expect=64)
        self.assertIn("slurm.launcher: found 'none' for 2 ranks", error)
        site = self.folder / "site.yaml"
        site.write_text("account: me\nparition: gpu\n")
        error = self.submit(file, "--dry-run", "--site", site, expect=64)
        self.assertIn("site.yaml:2:1: unknown key 'parition' (did you mean 'partition'?)", error)
        self.submit(self.folder / "absent.yaml", "--dry-run", expect=64)
        # The experiment itself is checked here, not after hours in the queue.
        error = self.submit(file, "--dry-run", "-s", "model.path=absent", expect=65)
        self.assertIn("absent", error)

    def test_devices_that_the_login_node_lacks_are_no_reason_to_refuse(self):
        self.scripts(self.experiment(), "-s", "execution.backend=cuda", "-s", "slurm.gpus_per_node=1")

    def test_a_site_file_gives_what_the_experiment_leaves_open(self):
        site = self.folder / "site.yaml"
        site.write_text("account: me\npartition: cpu\nlauncher: mpirun\n")
        array, merge = self.scripts(self.experiment(slurm={"partition": "gpu"}), "--site", site)
        self.assertIn("#SBATCH --account=me\n#SBATCH --partition=gpu\n", array)
        self.assertIn("mpirun -n 1 --bind-to none ", array)
        self.assertIn("#SBATCH --account=me\n", merge)

    def test_sbatch_gets_both_scripts_and_the_merge_waits_for_the_array(self):
        out = self.folder / "out"
        self.tool("sbatch", f"""echo "$@" >>{self.sbatch}; echo "$((40 + $(wc -l <{self.sbatch})));cluster"\n""")
        text = self.submit(self.experiment(slurm={"array": 2}), "--out", out)
        self.assertIn("array job 41\nmerge job 42\n", text)
        self.assertEqual(self.sbatch.read_text().splitlines(), [
            f"--parsable {out}/slurm/array.sbatch",
            f"--parsable --dependency=afterany:41 {out}/slurm/merge.sbatch"])
        self.assertEqual((out / "slurm/experiment.yaml").read_text(), (self.folder / "exp.yaml").read_text())
        # Only tasks that have something to do; when nothing is left, the merge alone.
        for shard, left in ((1, "0"), (0, None)):
            done = harness.run(["run", self.folder / "exp.yaml", "--out", out, "--shard", f"{shard}/2"])
            self.assertEqual(done.returncode, 0, done.stderr)
            scripts = self.scripts(self.folder / "exp.yaml", "--out", out, "-s", "slurm.array=2")
            self.assertEqual(len(scripts), 2 if left else 1)
            if left:
                self.assertIn(f"#SBATCH --array={left}\n", scripts[0])
                self.assertIn("""--shard "$SLURM_ARRAY_TASK_ID/"2""", scripts[0])
        other = harness.experiment(self.folder / "other.yaml", generation={"max_new_tokens": 5})
        self.assertIn("max_new_tokens", self.submit(other, "--out", out, expect=3))

    def test_without_slurm_the_error_names_the_way_out(self):
        environment = dict(harness.ENVIRONMENT, PATH=str(self.tools))
        done = subprocess.run([harness.BINARY, "submit", self.experiment(), "--out", self.folder / "out"], text=True,
                              capture_output=True, env=environment, cwd=harness.ROOT)
        self.assertEqual(done.returncode, 1)
        self.assertIn("sbatch is not in PATH", done.stderr)

    def test_failed_submits_the_tasks_that_hold_failed_items_and_only_those_run(self):
        prompts = self.folder / "prompts.json"
        prompts.write_text(json.dumps([{"prompt": "word " * 9000}] + [{"prompt": f"A short {i}."} for i in range(7)]))
        file = self.experiment(prompts={"file": str(prompts)})
        out = self.folder / "out"
        self.assertEqual(harness.run(["run", file, "--out", out]).returncode, 2)
        array, _ = self.scripts(file, "--out", out, "--failed", "-s", "slurm.array=4")
        self.assertRegex(array, r"(?m)^#SBATCH --array=\d$")
        before = re.search(r"--retry-failed-before (\S+Z)\)", array)[1]
        shard = int(re.search(r"--array=(\d)", array)[1])
        again = ["run", file, "--out", out, "--shard", f"{shard}/4", "--retry-failed-before", before]
        self.assertEqual(harness.run(again).returncode, 2)
        journals = [path.read_text() for path in (out / "journal").glob("*.jsonl")]
        self.assertEqual(sorted(text.count('"kind":"claim"') for text in journals), [1, 8])
        # A restart of the same task does not try again what failed since.
        self.assertEqual(harness.run(again).returncode, 2)
        self.assertEqual(len(list((out / "journal").glob("*.jsonl"))), 2)
        text = self.submit(file, "--out", self.folder / "new", "--failed")  # asks nothing of sbatch
        self.assertIn("0 of 8 items failed", text)

    def test_a_task_is_queued_again_only_if_another_start_can_help(self):
        out = self.folder / "out"
        array, _ = self.scripts(self.experiment(), "--out", out, "-s", "slurm.requeues=2")
        (out / "slurm").mkdir(parents=True)
        (out / "journal").mkdir()
        log = self.folder / "scontrol.log"
        for code in (0, 2, 3, 64, 65, 127):
            done, _ = self.start(array, code)
            self.assertEqual(done.returncode, code)
            self.assertFalse(log.exists(), f"queued again after {code}")
        for code, ranks_end, ends in ((75, True, 75), (137, False, 137), (0, False, 75)):
            done, _ = self.start(array, code, ranks_end, SLURM_RESTART_COUNT="1")
            self.assertEqual(done.returncode, ends)
        self.assertEqual(log.read_text(), "requeue 7_2\n" * 3)
        # Twice in a row without a result, and now a third time.
        done, _ = self.start(array, 75)
        self.assertIn("given up", done.stdout)
        self.assertEqual(log.read_text(), "requeue 7_2\n" * 3)
        (out / "journal/a.jsonl").write_text('x {"kind":"result"}\n')
        self.start(array, 75)
        self.assertEqual(log.read_text(), "requeue 7_2\n" * 4)

    def test_usr1_is_passed_on_and_waited_for_and_term_means_the_end(self):
        for name, requeues in (("USR1", "requeue 7_2\n"), ("TERM", None)):
            out = self.folder / name
            array, _ = self.scripts(self.experiment(), "--out", out)
            (out / "slurm").mkdir(parents=True)
            self.tool("srun", f"trap 'sleep 0.3; echo stopped; exit 75' {name}; echo started\n"
                              "for i in {1..600}; do sleep 0.1; done\n")
            self.tool("scontrol", f"echo $* >>{out}/scontrol.log\n")
            script = self.folder / "script"
            script.write_text(array)
            environment = dict(os.environ, PATH=f"{self.tools}:{os.environ['PATH']}", SLURM_ARRAY_JOB_ID="7",
                               SLURM_ARRAY_TASK_ID="2", SLURM_JOB_NODELIST="n1")
            lines = []
            with subprocess.Popen(["bash", script], stdout=subprocess.PIPE, text=True, env=environment) as job:
                for line in job.stdout:
                    lines.append(line)
                    if line == "started\n":
                        job.send_signal(getattr(signal, "SIG" + name))
            self.assertEqual(job.returncode, 75)
            self.assertIn("stopped\n", lines)
            self.assertIn(f"ended with code 75 after {name}", lines[-1])
            log = out / "scontrol.log"
            self.assertEqual(log.read_text() if log.exists() else None, requeues)

    GPU_SITE = harness.ROOT / "slurm/gpu_site.yaml"

    def launched(self, array):
        """The words before the program's, from a start of the script; and what its environment is."""
        (self.folder / "out/slurm").mkdir(parents=True, exist_ok=True)
        done, words = self.start(array, SLURM_GPUS_PER_TASK="1", SLURM_GPU_BIND="single:1", CUDA_VISIBLE_DEVICES="4,5")
        self.assertEqual(done.returncode, 0, done.stderr)
        return words[:words.index(harness.BINARY)]

    def test_a_gpu_experiment_on_one_node_and_on_several(self):
        file = harness.ROOT / "experiments/configs/bamba_9b.yaml"
        for nodes in (1, 4):
            array, merge = self.scripts(file, "--site", self.GPU_SITE, "--out", self.folder / "out",
                                        "-s", f"slurm.nodes={nodes}")
            for line in (f"nodes={nodes}", "ntasks-per-node=4", "cpus-per-task=16", "gpus-per-node=h100:4",
                         "account=project", "partition=gpu", "exclusive"):
                self.assertRegex(array, rf"(?m)^#SBATCH --{line}$")
            self.assertRegex(merge, r"(?m)^#SBATCH --partition=cpu$")
            self.assertNotIn("gpu", merge.replace(str(self.folder), ""))
            self.assertIn("module load gcc/12 cuda/13 openmpi/4 || exit 1\n", array)
            self.tool("module", "exit 0\n")
            self.assertEqual(self.launched(array), [
                "--mpi=pmix", "--kill-on-bad-exit=1", "--cpu-bind=cores", "--cpus-per-task=16",
                "--distribution=block:block", "--gpus-per-node=4"])

    def test_gpus_are_asked_for_as_the_site_wants_and_every_rank_sees_all_of_its_node(self):
        for option, asked in (("gpus-per-node", "gpus-per-node=4"), ("gpus-per-task", "gpus-per-task=2"),
                              ("gres", "gres=gpu:4")):
            array, _ = self.scripts(self.experiment(), "--out", self.folder / "out", "-s", "slurm.gpus_per_node=4",
                                    "-s", "slurm.tasks_per_node=2", "-s", f"slurm.gpu_option={option}")
            self.assertRegex(array, rf"(?m)^#SBATCH --{asked}$")
            self.assertEqual(array.count("#SBATCH --g"), 1)
            self.tool("srun", f"""env >{self.folder}/environment
                                  while [ "$1" != --ending ]; do shift; done; echo 0 >"$2"\n""")
            self.tool("scontrol", "exit 0\n")
            (self.folder / "out/slurm").mkdir(parents=True, exist_ok=True)
            environment = dict(os.environ, PATH=f"{self.tools}:{os.environ['PATH']}", SLURM_ARRAY_JOB_ID="7",
                               SLURM_ARRAY_TASK_ID="2", SLURM_JOB_NODELIST="n1", SLURM_GPUS_PER_TASK="2",
                               SLURM_GPU_BIND="single:1", CUDA_VISIBLE_DEVICES="4,5,6,7")
            subprocess.run(["bash"], input=array, text=True, check=True, env=environment, stdout=subprocess.PIPE)
            seen = (self.folder / "environment").read_text().splitlines()
            self.assertIn("CUDA_VISIBLE_DEVICES=4,5,6,7", seen)
            self.assertEqual([line for line in seen if "GPU_BIND" in line or "PER_TASK" in line], [])

    def test_groups_of_ranks_share_a_node(self):
        def submit(*settings, expect=0):
            words = [word for setting in settings for word in ("-s", setting)]
            return self.submit(self.experiment(), "--site", self.GPU_SITE, "--dry-run", *words, expect=expect)

        for mode in ("tensor", "sequence"):
            for size in (1, 2, 4):
                text = submit(f"parallel.mode={mode}", f"parallel.ranks_per_group={size}", "slurm.nodes=2")
                self.assertIn(f"-s parallel.ranks_per_group={size}", text)
            for size in (3, 6, 8):
                error = submit(f"parallel.mode={mode}", f"parallel.ranks_per_group={size}", expect=64)
                self.assertRegex(error, rf"^chunkstate: parallel.ranks_per_group: found {size}, expected a divisor of "
                                        r"slurm.tasks_per_node, which is 4[^\n]*: the ranks of a group share a node\n$")
        # States may also pass between whole nodes; sums in every layer should not.
        submit("parallel.mode=sequence", "parallel.ranks_per_group=8", "slurm.nodes=2")
        submit("parallel.mode=tensor", "parallel.ranks_per_group=8", "slurm.nodes=2", expect=64)
        error = submit("parallel.mode=tensor", "parallel.ranks_per_group=2", "slurm.tasks_per_node=8", expect=64)
        self.assertIn("slurm.tasks_per_node: found 8, expected at most slurm.gpus_per_node, which is 4", error)
        error = submit("slurm.gpu_option=gpus-per-task", "slurm.tasks_per_node=3", expect=64)
        self.assertIn("slurm.gpus_per_node: found 4, expected a multiple of slurm.tasks_per_node", error)
        error = submit("slurm.gpu_option=gpus-per-task", "slurm.launcher=mpirun", expect=64)
        self.assertIn("found 'gpus-per-task' for mpirun", error)
        error = submit("slurm.gpu_option=gpu", expect=64)
        self.assertIn("slurm.gpu_option: ", error)


if __name__ == "__main__":
    harness.main()
