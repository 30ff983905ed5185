#!/usr/bin/env python3
"""How much of what ranks exchange is hidden behind computing, from a timeline (profile.trace: true):

    python3 tests/hidden_exchange.py DIR/trace.json

Of each rank, within its last `prefill`: `exchange`, the time in which a kernel of NCCL or of peer memory was on its
GPU; `alone`, the part of that in which no other kernel ran beside it; `idle`, the time without any kernel. A
receive waits on the rank's own stream until the message is there, so what a rank waits for its left neighbour
counts as exchange that is alone.
"""
import json
import sys

EXCHANGE = ("nccl", "peer_sum_kernel", "peer_gather_kernel")


def union(intervals):
    """Sorted, without overlaps."""
    merged = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def total(intervals):
    return sum(end - begin for begin, end in intervals)


def common(left, right):
    """What lies in both of two unions."""
    found, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        begin, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if begin < end:
            found.append([begin, end])
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def rows(content):
    """Per rank: microseconds of the prefill, of exchange, of exchange alone, of computing, idle."""
    result = {}
    spans = [e for e in content["traceEvents"] if e["ph"] == "X"]
    for rank in sorted({e["pid"] for e in spans}):
        mine = [e for e in spans if e["pid"] == rank]
        prefills = [e for e in mine if e["cat"] == "host" and e["name"] == "prefill"]
        if not prefills:
            continue
        last = max(prefills, key=lambda e: e["ts"])
        window = [[last["ts"], last["ts"] + last["dur"]]]
        exchanging, computing = [], []
        for e in mine:
            if e["cat"] == "gpu":
                of_ranks = any(part in e["name"] for part in EXCHANGE)
                (exchanging if of_ranks else computing).append((e["ts"], e["ts"] + e["dur"]))
        exchange = common(union(exchanging), window)
        compute = common(union(computing), window)
        hidden = total(common(exchange, compute))
        busy = total(union([tuple(i) for i in exchange + compute]))
        result[rank] = (last["dur"], total(exchange), total(exchange) - hidden, total(compute), last["dur"] - busy)
    return result


def main():
    with open(sys.argv[1]) as file:
        content = json.load(file)
    found = rows(content)
    if not any(row[3] for row in found.values()):
        reasons = {r.get("gpu") for r in content.get("otherData", {}).get("ranks", [])}
        sys.exit(f"{sys.argv[1]}: no kernels in a prefill: {', '.join(str(r) for r in reasons) or 'no ranks'}")
    for rank, (prefill, exchange, alone, compute, idle) in found.items():
        hidden = f"{100 * (1 - alone / exchange):.1f} % hidden" if exchange else "none"
        print(f"rank {rank}: prefill {prefill / 1e3:.1f} ms, computing {compute / 1e3:.1f}, exchange {exchange / 1e3:.1f}, "
              f"alone {alone / 1e3:.1f} ({hidden}), idle {idle / 1e3:.1f}")


if __name__ == "__main__":
    main()
