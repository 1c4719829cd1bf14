"""The locustfile that users get, and a journal of what the master was told, for the tests to judge."""

import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../examples/load/locust"))

import gevent
from locustfile import *  # noqa: F403
from locust import events

JOURNAL = open(os.environ["JOURNAL"], "a", buffering=1)


def note(kind, **what):
    JOURNAL.write(json.dumps({"kind": kind, "at": time.time(), **what}) + "\n")


@events.init.add_listener
def begin(environment, runner, **_):
    # As the page does: all are asked to stop, and then to quit. SIGTERM, or a run time, just tells them to quit.
    def stop():
        runner.stop()
        runner.quit()

    gevent.signal_handler(signal.SIGUSR1, lambda: gevent.spawn(stop))

    # Behind Locust's own listener, which adds up.
    @environment.events.worker_report.add_listener
    def reported(client_id, data):
        total = data["stats_total"]
        note(
            "report",
            id=client_id,
            requests=total["num_requests"],
            users=data["user_count"],
            classes=data["user_classes_count"],
            in_all=runner.stats.num_requests,
        )

    @environment.events.quit.add_listener
    def quit(exit_code, **_):
        note(
            "end",
            requests=runner.stats.num_requests,
            failures=runner.stats.num_failures,
            # Each way of counting, which must come to the same.
            by_name={f"{way} {name}": entry.num_requests for (name, way), entry in runner.stats.entries.items()},
            by_second=sum(runner.stats.total.num_reqs_per_sec.values()),
            by_time=sum(runner.stats.total.response_times.values()),
            errors=[error.to_name() for error in runner.stats.errors.values()],
            exceptions=[exception["msg"] for exception in runner.exceptions.values()],
            code=exit_code,
        )
