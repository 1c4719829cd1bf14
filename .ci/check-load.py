"""The load test's own numbers: the naive run shows the reported failure, the crate's serves everyone."""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    runs = {run["mode"]: run for run in json.load(file)["runs"]}

naive, resilient = runs["naive"], runs["resilient"]
refused = sum(naive["bad_requests"].values())
print(f"naive: {naive['served']} of {naive['agents']} served, {refused} answers 400; resilient: {resilient['served']} served")
assert naive["agents"] == resilient["agents"] == 150, "150 agents by default"
assert naive["failed"] > 0.1 * naive["agents"], "the naive run does not show the reported failure"
assert refused > 0, "the naive run's failures are not the reported 400s"
assert resilient["served"] == 150 and resilient["failed"] == 0, "not every agent got its script"
