"""What the measuring scripts share: the program, a cluster's API, and which processes are a cluster's. Imported, never run."""

import glob
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What is measured: the release build, or another program that MINIK names.
MINIK = os.environ.get("MINIK") or os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "minik")


class Api(http.client.HTTPConnection):
    """HTTP on a cluster's path socket."""

    def __init__(self, cluster):
        super().__init__("minik", timeout=30)
        self.path = f"/run/minik/{cluster}/api.sock"

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        self.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        data = answer.read()
        if answer.status >= 300:
            sys.exit(f"{method} {path}: {answer.status} {data.decode(errors='replace')}")
        return json.loads(data)


def minik(*arguments, check=True):
    return subprocess.run(
        [MINIK, *arguments], check=check, stdout=subprocess.PIPE, stderr=subprocess.PIPE if not check else None, text=True
    ).stdout


def down(cluster):
    minik("down", "--name", cluster, "--purge", check=False)


def processes(cluster):
    """(pid, role) of each of a cluster's own processes; a Pod's containers are not among them, what holds its sandbox is."""
    networks = {os.stat(path).st_ino for path in glob.glob(f"/run/netns/minik.{cluster}.*")}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            if os.path.basename(os.readlink(f"{folder}/exe")).removesuffix(" (deleted)") != "minik":
                continue
            with open(f"{folder}/cmdline", encoding="utf-8") as file:
                words = file.read().split("\0")
            if cluster not in words and os.stat(f"{folder}/ns/net").st_ino not in networks:
                continue  # of another cluster
        except OSError:
            continue  # it ended while we looked
        role = "pause" if words[0] == "/pause" else words[2] if words[1:2] == ["internal"] else " ".join(words[1:2])
        yield int(os.path.basename(folder)), role


def rollup(pid, field):
    """MiB of a process's memory, by a field of smaps_rollup; 0 of one that has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(f"{field}:")) / 1024
    except OSError:
        return 0.0


def memory(cluster):
    """MiB of PSS: (all but what there is for each Pod, that, the processes' roles with theirs)."""
    roles = {}
    for pid, role in processes(cluster):
        roles.setdefault(role, []).append(rollup(pid, "Pss"))
    shims = sum(roles.pop("shim", [])) + sum(roles.pop("pause", []))
    return sum(map(sum, roles.values())), shims, roles


def head():
    print(f"{'measured':<34} {'median':>9} {'p99':>9} {'':<4} {'of':>5}   aim")


def row(what, values, unit, aim):
    p99 = f"{sorted(values)[int(len(values) * 0.99)]:.1f}" if len(values) >= 50 else "–"
    print(f"{what:<34} {statistics.median(values):>9.1f} {p99:>9} {unit:<4} {len(values):>5}   {aim}", flush=True)
