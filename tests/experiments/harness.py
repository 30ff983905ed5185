"""What the tests of the built binary share: running it, small models and experiments."""
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ["CHUNKSTATE_BINARY"]
MPIEXEC = os.environ.get("CHUNKSTATE_MPIEXEC", "mpirun")
MODEL = ROOT / "experiments/models/bamba-tiny"
PROMPTS = ROOT / "experiments/prompts/performance_by_chunks.json"

# Open MPI's wishes as variables: other launchers know other options. Threads sleep while they wait for each other:
# where they spin and others use the machine too, verbs_test took more than 200 s, asleep 89 s.
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                   OMPI_MCA_mpi_yield_when_idle="1", OMP_WAIT_POLICY="passive")


def command(arguments, ranks=0):
    """The argument list of a run; ranks 0 means without a launcher."""
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks else []
    return launcher + [BINARY] + [str(a) for a in arguments]


def run(arguments, ranks=0, timeout=300, **options):
    return subprocess.run(command(arguments, ranks), capture_output=True, text=True, timeout=timeout,
                          env=ENVIRONMENT, cwd=ROOT, **options)


class ProcessorTime:
    """`with ProcessorTime() as spent:` counts what finished children used in it: others may use the machine."""

    def __enter__(self):
        self.before = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self

    def __exit__(self, *_):
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.seconds = after.ru_utime + after.ru_stime - self.before.ru_utime - self.before.ru_stime


def digest_of(results):
    """The content digest that `verify` recomputes; fails if the file is not sound and complete."""
    done = run(["verify", results, "--json"])
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["digest"]


def experiment(path, **sections):
    """Writes an experiment file (JSON is YAML) with small defaults for the sections not given."""
    content = {
        "schema": 1,
        "name": "test",
        "model": {"path": str(MODEL), "dtype": "fp32"},
        "prompts": {"file": str(PROMPTS), "limit": 3},
        "generation": {"max_new_tokens": 4},
        "measure": {"warmup": 0, "repeats": 1},
    }
    content.update(sections)
    content = {key: value for key, value in content.items() if value is not None}
    pathlib.Path(path).write_text(json.dumps(content, indent=1))
    return path


def safetensors(tensors, metadata=None):
    """The bytes of a container; tensors: name -> (dtype, shape, bytes)."""
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # as the reference writer does: data is then aligned and used in place
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(path):
    """name -> (dtype, shape, bytes)"""
    content = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    data = content[8 + size:]
    return {name: (e["dtype"], e["shape"], data[slice(*e["data_offsets"])])
            for name, e in header.items() if name != "__metadata__"}


def copy_golden_model(name, target):
    shutil.copytree(ROOT / "tests/golden" / name, target)
    return pathlib.Path(target)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def ranks_in(out):
    """Pids of the job's ranks: their command lines name the results directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words and words[0].endswith(b"chunkstate") and str(out).encode() in words:
            found.append(int(entry.name))
    return found


def wait_until_ended(job, out):
    """Waits for the end of a job of which ranks were killed.

    Open MPI 4.1's launcher can lock itself up when a rank dies while it connects: it waits for ever in
    PMIx_server_finalize, after all ranks have ended and said all they will say. Then it is killed too."""
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in ranks_in(out)):
        assert time.monotonic() < deadline, "ranks are still there"
        time.sleep(0.01)
    try:
        job.wait(timeout=10)
    except subprocess.TimeoutExpired:
        print(f"{job.args[0]} did not end after its ranks", flush=True)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait(timeout=10)


class Scratch(unittest.TestCase):
    """A folder that is gone after each test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="chunkstate-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_ok(self, arguments, ranks=0, timeout=300):
        done = run(arguments, ranks, timeout)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


def main():
    unittest.main(argv=[sys.argv[0], "-v"] + sys.argv[1:])
