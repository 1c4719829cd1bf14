"""What JMeter read in the load test's --jtl, beside the load test's own numbers of the same run."""

import csv
import json
import math
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    runs = json.load(file)["runs"]
with open(sys.argv[2], encoding="utf-8", newline="") as file:
    samples = list(csv.DictReader(file))
with open(sys.argv[3], encoding="utf-8") as file:
    # What it logs is around it.
    lines = [line.rstrip("\n").split("\t")[1:] for line in file if line.startswith("read\t")]
read = {(kind, label): [float(value) for value in values] for kind, label, *values in lines}

assert runs, "no runs"
for run in runs:
    label = next(sample["label"] for sample in samples if sample["label"].startswith(run["mode"] + ":"))
    count, errors, *_ = read["all", label]
    assert (count, errors) == (run["served"] + run["failed"], run["failed"]), f"{label}: {count} samples, {errors} errors"
    count, errors, mean, *rest = read["served", label]
    assert (count, errors) == (run["served"], 0), f"{label}: {count} served"
    # A file has whole milliseconds.
    ours = run["service_ms"]
    assert abs(mean - ours["mean"]) <= 0.5, f"{label}: a mean of {mean} ms, and not {ours['mean']}"
    # Of percentiles there are many definitions: within one sample, then, and the millisecond.
    times = sorted(int(s["elapsed"]) for s in samples if s["label"] == label and s["success"] == "true")
    for name, quantile, theirs in zip(["p50", "p90", "p95", "p99", "max"], [0.5, 0.9, 0.95, 0.99, 1.0], rest):
        rank = math.ceil(quantile * len(times)) - 1
        least, most = times[max(rank - 1, 0)] - 1, times[min(rank + 1, len(times) - 1)] + 1
        for whose, value in [("JMeter", theirs), ("ours", ours[name])]:
            assert least <= value <= most, f"{label}: {name} of {whose} is {value}, and not within {least} to {most} ms"
    print(f"{label}: {run['served'] + run['failed']} samples, {run['failed']} failed, mean {mean:.1f} ms "
          f"(ours {ours['mean']:.1f}), p99 {rest[3]:.0f} ms (ours {ours['p99']:.1f})")
