"""Checks a file against the Trace Event Format, as Perfetto and chrome://tracing read it."""
import json
import numbers

COMMON = {"X": {"name", "pid", "tid", "ts", "dur"}, "M": {"name", "pid", "args"}}
METADATA = {"process_name": "name", "process_sort_index": "sort_index", "thread_name": "name"}
CLOCK_STEP = 0.0011  # microseconds: a nanosecond, and what decimals lose


def problems(path):
    """What is wrong with the file, as lines; none if it is right."""
    with open(path) as file:
        content = json.load(file)
    found = []
    if not isinstance(content.get("traceEvents"), list):
        return ["no list traceEvents"]
    named_threads, spans = set(), {}
    for place, event in enumerate(content["traceEvents"]):
        phase = event.get("ph")
        if phase not in COMMON:
            found.append(f"event {place}: phase {phase!r}")
            continue
        missing = COMMON[phase] - event.keys()
        if missing:
            found.append(f"event {place}: no {sorted(missing)}")
            continue
        if not isinstance(event["name"], str) or not event["name"]:
            found.append(f"event {place}: name {event['name']!r}")
        if not isinstance(event["pid"], int) or not isinstance(event.get("tid", 0), int):
            found.append(f"event {place}: pid or tid is no integer")
        if phase == "M":
            if METADATA.get(event["name"]) not in event["args"]:
                found.append(f"event {place}: metadata {event['name']!r}")
            if event["name"] == "thread_name":
                named_threads.add((event["pid"], event["tid"]))
            continue
        times = (event["ts"], event["dur"])
        if not all(isinstance(t, numbers.Real) and not isinstance(t, bool) and t >= 0 for t in times):
            found.append(f"event {place}: ts, dur {times}")
            continue
        if not isinstance(event.get("args", {}), dict):
            found.append(f"event {place}: args")
        spans.setdefault((event["pid"], event["tid"]), []).append(event)
    for thread, events in spans.items():
        if thread not in named_threads:
            found.append(f"thread {thread} has no name")
        found += crossing(thread, events)
    return found


def crossing(thread, events):
    """Spans of one thread lie beside or within each other."""
    found, enclosing = [], []
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        end = event["ts"] + event["dur"]
        while enclosing and enclosing[-1][0] <= event["ts"] + CLOCK_STEP:
            enclosing.pop()
        if enclosing and end > enclosing[-1][0] + CLOCK_STEP:
            found.append(f"{thread}: {event['name']!r} at {event['ts']} crosses the end of {enclosing[-1][1]!r}")
        enclosing.append((end, event["name"]))
    return found


def load(path):
    with open(path) as file:
        return json.load(file)


def spans(content, name=None):
    return [e for e in content["traceEvents"] if e["ph"] == "X" and name in (None, e["name"])]
