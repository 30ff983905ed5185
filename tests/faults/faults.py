"""What the fault tests share: runs under fault_shim, what was promised, what must hold afterwards."""
import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "experiments"))
import harness  # noqa: E402

SHIM = os.environ["CHUNKSTATE_FAULT_SHIM"]
FULL = os.environ.get("CHUNKSTATE_FAULTS") == "full"
WORKERS = int(os.environ.get("CHUNKSTATE_FAULT_WORKERS", "2"))
# One thread: many short processes share few cores.
ENVIRONMENT = dict(harness.ENVIRONMENT, OMP_NUM_THREADS="1")

Operation = collections.namedtuple("Operation", "number name error offset length path to data")


def scratch():
    """A folder in memory: the shim decides what is lost, so syncing to a disk would only take time."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="chunkstate-faults-", dir=memory)


class Case:
    """One results directory and what happens to it. `base` holds nothing else."""

    def __init__(self, base, experiment):
        self.base = pathlib.Path(base)
        self.experiment = experiment
        self.watched = self.base / "watched"
        self.out = self.watched / "out"
        self.log = self.base / "log"
        self.data = self.base / "data"
        self.watched.mkdir(parents=True, exist_ok=True)

    def run(self, arguments=("-q",), ranks=0, keep_data=False, **fault):
        """Runs the experiment; fault: at=, kind=, times=, ops=, flock=, clock=. A killed run has code -9."""
        environment = dict(ENVIRONMENT, LD_PRELOAD=SHIM, FAULT_BELOW=str(self.watched), FAULT_LOG=str(self.log))
        if keep_data:
            environment["FAULT_DATA"] = str(self.data)
        environment.update({"FAULT_" + key.upper(): str(value) for key, value in fault.items()})
        words = ["run", self.experiment, "--out", self.out, *arguments]
        return subprocess.run(harness.command(words, ranks), env=environment, cwd=harness.ROOT, timeout=120,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def operations(self):
        content = self.data.read_bytes() if self.data.exists() else None
        result, taken = [], 0
        for line in self.log.read_text().splitlines():
            number, name, error, offset, length, path = line.split(" ", 5)
            path, _, to = path.partition(" -> ")
            length, data = int(length), b""
            if name == "write" and length > 0 and content is not None:
                data = content[taken:taken + length]
                taken += length
            result.append(Operation(int(number), name, -int(error), int(offset), length, path, to, data))
        return result

    def promised(self):
        """item -> record, of the results whose fdatasync had returned, by the shim's own account."""
        written, synced = {}, {}
        for op in self.operations():
            if op.error != 0:
                continue
            if op.name == "write":
                written[op.path] = op.offset + op.length
            elif op.name == "ftruncate":
                written[op.path] = op.offset
            elif op.name in ("fdatasync", "fsync") and op.path in written:
                synced[op.path] = written[op.path]
        records = {}
        for path, length in synced.items():
            if path.endswith(".jsonl"):
                for record in results_in(pathlib.Path(path).read_bytes()[:length]):
                    records[record["item"]] = record
        return records

    def journals(self):
        return sorted((self.out / "journal").glob("*.jsonl"))


def number_of(operations, name, suffix, nth):
    """The number of the nth operation of this name on files that end so."""
    return [op.number for op in operations if op.name == name and op.path.endswith(suffix)][nth - 1]


def results_in(journal):
    """The results of complete lines. (CRC-32C is the product's to check; a line that is JSON to its end is whole.)"""
    records = []
    for line in journal.split(b"\n")[:-1]:
        try:
            record = json.loads(line[9:])
        except ValueError:
            continue
        if record.get("kind") == "result":
            records.append(record)
    return records


def digest_in(results):
    with h5py.File(results, locking=False) as file:
        return file.attrs["content_digest"]


def check_finished(case, digest, promised, once=True):
    """What is wrong with a directory after the last run, or None: digest, promises kept, nothing twice."""
    results = case.out / "results.h5"
    if not results.exists():
        return "no results.h5"
    if digest_in(results) != digest:
        return "another digest"
    lines = collections.Counter()
    for journal in case.journals():
        lines.update(record["item"] for record in results_in(journal.read_bytes()))
    if once and any(count > 1 for count in lines.values()):
        return f"done twice: {[item for item, count in lines.items() if count > 1]}"
    with h5py.File(results, locking=False) as file:
        items = list(file["requests/item_id"].asstr()[:])
        starts = dict(zip(items, file["requests/t_start"][:]))
    if len(set(items)) != len(items):
        return "an item is there twice"
    for item, record in promised.items():
        # The time of its start tells the promised result from one that was made again.
        if starts.get(item) != record["t_start"]:
            return f"acknowledged result of {item} is lost"
    leftovers = [path.name for path in case.out.iterdir() if ".tmp." in path.name]
    if leftovers:
        return f"left behind: {leftovers}"
    return None


def small_experiment(path, count, durability, **sections):
    """Items of about a millisecond: 8 tokens in, 2 out, on the smallest golden model."""
    settings = {"model": {"path": str(harness.ROOT / "tests/golden/bamba-b"), "dtype": "fp32"},
                "prompts": {"synthetic": {"tokens": 8, "count": count}}, "generation": {"max_new_tokens": 2},
                "parallel": {"threads": 1}, "output": {"durability": durability}}
    settings.update(sections)
    return harness.experiment(path, **settings)


def each(function, cases):
    """The results of function(case) for all cases, some at a time, in order."""
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, cases))


def uninterrupted(folder, experiment, **options):
    """A run without faults: its case, operations and digest."""
    case = Case(folder, experiment)
    done = case.run(**options)
    assert done.returncode == 0, done.stderr
    return case, case.operations(), harness.digest_of(case.out / "results.h5")


def fresh(base):
    shutil.rmtree(base, ignore_errors=True)
    return base
