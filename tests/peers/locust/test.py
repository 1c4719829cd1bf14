"""What a Locust master and workers of the load test do together, and that their totals are the simulator's own."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.environ["PROGRAMS"]
REQUESTS = int(os.environ.get("REQUESTS", "4000"))
# The simulator answers no sooner, in seconds.
LATENCY = 0.02
# A worker reports as often, in seconds.
REPORT = 0.1
DEADLINE = float(os.environ.get("DEADLINE", 60)) + REQUESTS / 100


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Locust(unittest.TestCase):
    def setUp(self):
        self.running = []
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.addCleanup(self.end_all)
        self.scratch = scratch.name
        self.port = free_port()
        self.until = time.monotonic() + DEADLINE
        # No agent comes to its quota, nor all of them to their login limit.
        options = ["--listen", "127.0.0.1:0", "--client-secret", "s3cret", "--rate-limit", "1000000"]
        self.simulator = self.start("simulator", [os.path.join(PROGRAMS, "simulator"), *options])
        self.url = self.wait(lambda: next((line[13:] for line in self.said("simulator") if line.startswith("listening on ")), None))

    def end_all(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start(self, name, command, **env):
        out = open(os.path.join(self.scratch, name + ".out"), "wb")
        env = {**os.environ, "GENESYSCLOUD_OAUTHCLIENT_ID": "load-test", "GENESYSCLOUD_OAUTHCLIENT_SECRET": "s3cret", **env}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=self.scratch)
        out.close()
        self.running.append(process)
        return process

    def said(self, name):
        with open(os.path.join(self.scratch, name + ".out"), encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()

    def wait(self, for_what):
        while time.monotonic() < self.until:
            found = for_what()
            if found:
                return found
            time.sleep(0.05)
        outs = {name[:-4]: self.said(name[:-4])[-15:] for name in sorted(os.listdir(self.scratch)) if name.endswith(".out")}
        self.fail(f"waited in vain: {json.dumps(outs, indent=1)}")

    def ended(self, process):
        self.wait(lambda: process.poll() is not None)
        return process.returncode

    def master(self, workers, users, *options, classes=("Script",)):
        command = [sys.executable, "-m", "locust", "-f", os.path.join(HERE, "master.py"), *classes, "--master", "--headless"]
        command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(self.port), "--expect-workers", str(workers)]
        command += ["--users", str(users), "--spawn-rate", str(users), "--stop-timeout", "10", "--enable-rebalancing"]
        journal = os.path.join(self.scratch, "journal")
        master = self.start("master", [*command, "--only-summary", *options], JOURNAL=journal)
        self.wait(lambda: any("Starting Locust" in line for line in self.said("master")))
        return master

    def stop(self, master):
        """The test is stopped, and then all are told to quit."""
        master.send_signal(signal.SIGUSR1)
        return self.ended(master)

    def worker(self, name, *options, said_in=None):
        command = [os.path.join(PROGRAMS, "load"), "worker", "--locust", f"127.0.0.1:{self.port}", "--id", name]
        return self.start(said_in or name, [*command, "--api-url", self.url, *options])

    def journal(self, kind="report"):
        try:
            with open(os.path.join(self.scratch, "journal"), encoding="utf-8") as file:
                notes = [json.loads(line) for line in file.read().splitlines(keepends=True) if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [note for note in notes if note["kind"] == kind]

    def in_all(self):
        return next((note["in_all"] for note in reversed(self.journal())), 0)

    def reported(self, name):
        return sum(note["requests"] for note in self.journal() if note["id"] == name)

    def served(self):
        """What the simulator answered with a script, and what it began to answer."""
        outcomes = self.simulator_stats()["script_requests"]
        return outcomes.get("200", 0), sum(outcomes.values())

    def simulator_stats(self):
        with urllib.request.urlopen(self.url + "/_simulator/stats") as answer:
            return json.load(answer)

    def totals(self):
        [end] = self.journal("end")
        self.assertEqual(end["requests"], end["by_second"], end)
        self.assertEqual(end["requests"], end["by_time"], end)
        self.assertEqual(end["requests"], sum(end["by_name"].values()), end)
        return end

    def assert_totals_equal(self, failures=0):
        totals = self.totals()
        self.assertEqual((totals["requests"], totals["failures"]), (self.served()[0], failures), totals)
        return totals

    def test_one_of_four_is_killed_and_the_totals_miss_only_what_it_had_not_reported(self):
        master = self.master(4, 40)
        workers = {f"worker-{n}": self.worker(f"worker-{n}") for n in range(4)}
        self.wait(lambda: self.in_all() >= REQUESTS / 2)
        workers["worker-2"].kill()
        killed = time.time()
        # Its users go to the others.
        self.wait(lambda: sum(self.users(name) for name in ["worker-0", "worker-1", "worker-3"]) == 40)
        self.wait(lambda: self.in_all() >= REQUESTS)
        self.assertEqual(self.stop(master), 0, self.said("master"))

        self.assertTrue(any("worker-2 failed to send heartbeat" in line for line in self.said("master")), self.said("master"))
        totals = self.totals()
        lost = self.served()[1] - totals["requests"]
        reports = [note for note in self.journal() if note["id"] == "worker-2"]
        users, silent = max(note["users"] for note in reports), max(0, killed - reports[-1]["at"])
        self.assertLess(silent, 0.5, "a worker that is killed loses no more than its last moment")
        # It had so long since its last report, which the master may have noted a moment late, and each of its users one request
        # at a time.
        self.assertTrue(0 <= lost <= users * ((silent + REPORT) / LATENCY + 1), f"{lost} lost, {users} users, {silent} s")
        self.assertEqual((totals["failures"], users), (0, 10))
        print(f"\n  {totals['requests']} requests; {lost} of worker-2 lost, which was killed {silent:.2f} s after its last report")
        # Of those that lived nothing is lost.
        for name in ["worker-0", "worker-1", "worker-3"]:
            self.assertEqual(self.ended(workers[name]), 0, self.said(name))
            self.assertIn(f"{name}: {self.reported(name)} iterations, of which 0 failed", self.said(name))
        self.assertEqual(sum(self.reported(name) for name in workers), totals["requests"])

    def test_a_master_that_dies_ends_the_load(self):
        master = self.master(2, 6)
        workers = [self.worker(f"worker-{n}", "--master-timeout", "3s") for n in range(2)]
        self.wait(lambda: self.in_all() > 100)
        master.kill()
        for worker, name in zip(workers, ["worker-0", "worker-1"]):
            self.assertEqual(self.ended(worker), 1)
            self.assertTrue(any("no word from the master" in line and "the load is ended" in line for line in self.said(name)))

    def test_a_master_that_is_told_to_end_ends_its_workers(self):
        master = self.master(2, 6)
        # Each in its own way.
        workers = [self.worker("worker-0", "--mode", "naive"), self.worker("worker-1")]
        self.wait(lambda: self.in_all() > 100)
        # One by the name of another is not heard, and does nothing.
        twin = self.worker("worker-1", "--master-timeout", "2s", said_in="twin")
        self.assertEqual(self.ended(twin), 1)
        self.assertTrue(any("another worker by the name worker-1" in line for line in self.said("twin")), self.said("twin"))
        master.send_signal(signal.SIGTERM)
        self.assertEqual(self.ended(master), 0)
        self.assertEqual([self.ended(worker) for worker in workers], [0, 0])
        totals = self.assert_totals_equal()
        self.assertEqual(totals["by_name"].keys(), {"naive get script", "resilient get script"})

    def test_a_worker_that_joins_late_gets_its_share(self):
        master = self.master(2, 12)
        early = [self.worker(f"worker-{n}") for n in range(2)]
        self.wait(lambda: self.in_all() > 100)
        late = self.worker("late")
        self.wait(lambda: self.reported("late") > 50)
        self.wait(lambda: all(self.users(name) == 4 for name in ["worker-0", "worker-1", "late"]))
        # One that is told to end says so, and is not missed; its users go back.
        late.send_signal(signal.SIGTERM)
        self.assertEqual(self.ended(late), 143)
        self.wait(lambda: all(self.users(name) == 6 for name in ["worker-0", "worker-1"]))
        self.assertIn(f"late: {self.reported('late')} iterations, of which 0 failed", self.said("late"))
        self.assertTrue(any("'late' (index 2) quit" in line for line in self.said("master")), self.said("master"))
        # Under its name it has its number again, and with it its rows.
        again = self.worker("late")
        self.wait(lambda: any("number 2" in line for line in self.said("late")))
        self.wait(lambda: all(self.users(name) == 4 for name in ["worker-0", "worker-1", "late"]))
        self.assertEqual(self.stop(master), 0)
        self.assertEqual([self.ended(worker) for worker in [*early, again]], [0, 0, 0])
        self.assert_totals_equal()

    def users(self, name):
        return next((note["users"] for note in reversed(self.journal()) if note["id"] == name), None)

    def test_ten_workers_and_their_totals(self):
        master = self.master(10, 30, classes=["Script", "Published", "FirstScreen"])
        workers = [self.worker(f"worker-{n}") for n in range(10)]
        self.wait(lambda: all(self.reported(f"worker-{n}") > 100 for n in range(10)))
        self.assertEqual(self.stop(master), 0, self.said("master"))
        self.assertEqual([self.ended(worker) for worker in workers], [0] * 10)
        totals = self.totals()
        script, published, first_screen = (
            totals["by_name"][f"resilient {name}"] for name in ["get script", "get published script", "first screen"]
        )
        served = self.simulator_stats()["operations"]
        served = [served[name] for name in ["getScript", "getScriptsPublishedScriptId", "getScriptPages"]]
        self.assertEqual(([script + first_screen, published, first_screen], totals["failures"]), (served, 0), totals)
        print(f"\n  {totals['requests']} iterations of ten workers")

    def refresh_token(self):
        back = "http://localhost/back"
        query = urllib.parse.urlencode({"response_type": "code", "client_id": "load-test", "redirect_uri": back})
        opener = urllib.request.build_opener(Stay)
        location = opener.open(f"{self.url}/oauth/authorize?{query}").headers["Location"]
        code = urllib.parse.parse_qs(urllib.parse.urlparse(location).query)["code"][0]
        form = urllib.parse.urlencode({"grant_type": "authorization_code", "code": code, "redirect_uri": back}).encode()
        basic = base64.b64encode(b"load-test:s3cret").decode()
        request = urllib.request.Request(f"{self.url}/oauth/token", form, {"Authorization": f"Basic {basic}"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["refresh_token"]

    def test_no_two_workers_use_one_row(self):
        with urllib.request.urlopen(self.url + "/_simulator/scripts") as answer:
            script = json.load(answer)[0]["id"]
        rows = [f"agent-{n},{script},{self.refresh_token()}" for n in range(11)]
        feeder = os.path.join(self.scratch, "agents.csv")
        with open(feeder, "w", encoding="utf-8") as file:
            file.write("\n".join(["agent,script_id,refresh_token", *rows]))
        options = ["--feeder", feeder, "--mode", "resilient"]
        # More users than rows: 4, 4 and 3.
        master = self.master(3, 15, "--shares", "3")
        workers = [self.worker(f"worker-{n}", *options) for n in range(3)]
        self.wait(lambda: sorted(self.users(f"worker-{n}") or 0 for n in range(3)) == [3, 4, 4])
        self.wait(lambda: all(self.reported(f"worker-{n}") > 20 for n in range(3)))
        self.wait(lambda: any("Spawning is complete" in line for line in self.said("master")))
        # Rows are dealt in three shares, so a fourth worker has none.
        fourth = self.worker("fourth", *options)
        self.assertEqual(self.ended(fourth), 1)
        self.assertTrue(any("is number 3" in line and "--shares" in line for line in self.said("fourth")), self.said("fourth"))
        self.wait(lambda: any("'fourth' (index 3) quit" in line for line in self.said("master")))
        # Locust counts what its workers tell as errors.
        self.assertEqual(self.stop(master), 1)
        self.assertEqual([self.ended(worker) for worker in workers], [0, 0, 0])
        totals = self.assert_totals_equal()
        told = sorted(told.split(",")[0] for told in totals["exceptions"])
        short = "this worker's share of the feeder has {} rows"
        self.assertEqual(told, [short.format(3), short.format(4), "worker fourth is number 3"], totals)


class Stay(urllib.request.HTTPRedirectHandler):
    """The code is in the redirect, which leads nowhere."""

    def redirect_request(self, *_):
        return None

    def http_error_302(self, request, answer, code, message, headers):
        return answer


if __name__ == "__main__":
    unittest.main()
