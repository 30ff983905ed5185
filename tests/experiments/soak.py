"""soak.py [--items N] [--ranks R]: memory, files and threads of every rank over a run of many tiny items.

CHUNKSTATE_BINARY=build/cpu/chunkstate python tests/experiments/soak.py --items 100000

Samples /proc of each rank, fits a line to its memory after warm-up (the first third of the work), and ends with
code 1 if memory grows, a file or a thread is left over, or the results are not complete. The CI form is
`--items 2000`; there the fit says nothing and the growth itself is limited."""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy

import harness

MOST_MB_PER_HOUR = 1.0
MOST_GROWTH_MB = 1.0  # of a run that is too short for a rate
SHORTEST_FIT_SECONDS = 120


def ranks_of(out):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"chunkstate") and str(out).encode() in words:
                found.append(int(entry.name))
    return sorted(found)


def sample(pid):
    """Resident and private memory in MB (10^6 bytes), open files, threads; None if the process is gone."""
    try:
        status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))
        return [int(status[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "RssAnon")] + [files, int(
            status["Threads"])]
    except (OSError, KeyError):
        return None


def run(items, ranks, tokens, folder):
    """Samples per rank as rows of (seconds, RSS, private, files, threads), and facts of the run."""
    out = folder / "out"
    file = harness.experiment(
        folder / "exp.yaml", model={"path": str(harness.ROOT / "tests/golden/bamba-a"), "dtype": "fp32"},
        prompts={"synthetic": {"tokens": 4, "count": items // 8}}, generation={"max_new_tokens": tokens},
        sweep={"matrix": {"ssm.variant": ["default_optimized", "independent"]}}, measure={"warmup": 0, "repeats": 4})
    job = subprocess.Popen(harness.command(["run", file, "-s", "parallel.threads=1", "--out", out, "--quiet"], ranks),
                           env=harness.ENVIRONMENT, cwd=harness.ROOT, stderr=subprocess.PIPE)
    while len(list(out.glob("journal/*.jsonl"))) < ranks and job.poll() is None:
        time.sleep(0.01)
    pids = ranks_of(out)
    begin = time.time()
    samples = {pid: [] for pid in pids}
    while job.poll() is None:
        for pid in pids:
            now = sample(pid)
            if now:
                samples[pid].append([time.time()] + now)
        time.sleep(min(1.0, 0.05 + (time.time() - begin) / 500))
    end = time.time()
    assert job.returncode == 0, job.stderr.read()
    journals = list(out.glob("journal/*.jsonl"))
    worked = max(path.stat().st_mtime for path in journals)
    megabytes = sum(path.stat().st_size for path in journals) / 1e6
    # Reading the journals and writing the file is no part of the steady state.
    rows = {pid: numpy.array([s for s in rows if s[0] < worked - 0.1]) for pid, rows in samples.items()}
    largest = max(s[1] for s in samples[pids[0]])
    begin_merge = time.time()
    with harness.ProcessorTime() as spent:
        merged = harness.run(["merge", out, "-o", folder / "merged.h5"])
    assert merged.returncode == 0, merged.stderr
    facts = {"seconds": worked - begin, "finalise": end - worked, "merge": time.time() - begin_merge,
             "merge_busy": spent.seconds, "megabytes": megabytes, "largest": largest, "ranks": len(pids),
             "digest": harness.digest_of(out / "results.h5")}
    return rows, facts


def judge(rows, problems):
    for rank, (pid, table) in enumerate(rows.items()):
        t = table[:, 0] - table[0, 0]
        steady = t > t[-1] / 3
        t, table = t[steady], table[steady]
        files, threads = table[:, 3], table[:, 4]
        line = f"rank {rank}: {table[-1, 1]:.1f} MB resident, {table[-1, 2]:.1f} private"
        growth = numpy.median(table[-len(t) // 5:, 2]) - numpy.median(table[:len(t) // 5 + 1, 2])
        line += f", {growth:+.3f} MB from the first to the last fifth of {t[-1] - t[0]:.0f} s"
        if t[-1] - t[0] >= SHORTEST_FIT_SECONDS:
            slope, error = fit(t, table[:, 2])
            line += f", {3600 * slope:+.2f} +- {3600 * error:.2f} MB/h"
            if 3600 * slope > MOST_MB_PER_HOUR:
                problems.append(f"rank {rank} grows by {3600 * slope:.2f} MB/h")
        elif growth > MOST_GROWTH_MB:
            problems.append(f"rank {rank} grew by {growth:.2f} MB")
        print(f"{line}; {files[0]:.0f}..{files[-1]:.0f} files, {threads[0]:.0f}..{threads[-1]:.0f} threads")
        # One more for a moment: the file in /proc that a measurement reads.
        if numpy.median(files[-9:]) > numpy.median(files[:9]) or threads[-1] > threads[0]:
            problems.append(f"rank {rank} leaves files or threads behind")


def fit(t, values):
    """Slope of the line through the values and its standard error."""
    coefficients, covariance = numpy.polyfit(t, values, 1, cov=True)
    return coefficients[0], numpy.sqrt(covariance[0, 0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4, help="per item")
    parser.add_argument("--samples", help="CSV of all samples")
    flags = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory(prefix="chunkstate-") as folder:
        rows, facts = run(flags.items, flags.ranks, flags.tokens, pathlib.Path(folder))
    print(f"{flags.items} items on {facts['ranks']} ranks in {facts['seconds']:.1f} s, digest {facts['digest']}")
    judge(rows, problems)
    print(f"finalisation: {facts['megabytes']:.1f} MB of journals in {facts['finalise']:.2f} s to the end of mpirun, "
          f"{facts['megabytes'] / facts['finalise']:.0f} MB/s; rank 0 then has {facts['largest']:.0f} MB")
    print(f"merge of the directory: {facts['merge']:.2f} s, of which at work {facts['merge_busy']:.2f} s: "
          f"{facts['megabytes'] / facts['merge_busy']:.0f} MB per second of processor time")
    if flags.samples:
        table = numpy.concatenate([numpy.insert(table, 0, pid, axis=1) for pid, table in rows.items()])
        numpy.savetxt(flags.samples, table, delimiter=",", header="pid,time,resident,private,files,threads")
    for problem in problems:
        print("PROBLEM:", problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
