"""Write hub_recorded.json, what several kernels need at once: ``python -m tools.record.hub``.

Runs the workshop copy of lesson 02 in one kernel, and then in four at the same time, as a class on
one machine would; about five minutes on two cores, Linux only.  For each kernel, in MB and seconds:
`peak_mb`, the most memory it ever held (resident), `held_mb`, what it still holds when its last
cell is done and it idles, and the processor's seconds; for all together also `together_mb`, the
most they held at one moment with shared pages counted once.  `server_mb` is JupyterLab's own
server, just started; `lessons` is what every lesson took alone, from the last `make lessons`.
"""

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.notebooks import EXERCISES
from tools.pages import ROOT

FILE = ROOT / "data" / "hub_recorded.json"
LESSON = "02_harmony_with_scanpy"
AT_ONCE = [1, 4]


def memory(pid: int, file: str, field: str) -> float:
    """Return a field of /proc, in MB."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024 / 1e6


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Note every half second what the kernels hold together, shared pages counted once."""

    def __init__(self, clients: list[NotebookClient]) -> None:
        super().__init__(daemon=True)
        self.clients, self.most, self.done = clients, 0.0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            pids = [client.km.provisioner.pid for client in self.clients]
            self.most = max(self.most, sum(memory(pid, "smaps_rollup", "Pss") for pid in pids))


async def together(n: int) -> dict:
    """Execute the lesson in n kernels at once and return what they took."""
    nb = nbformat.read(EXERCISES / f"{LESSON}.ipynb", as_version=4)
    where = {"metadata": {"path": str(EXERCISES)}}
    clients = [
        NotebookClient(nbformat.from_dict(nb), resources=where, timeout=1200) for _ in range(n)
    ]
    for client in clients:
        client.create_kernel_manager()
        await client.async_start_new_kernel()
        await client.async_start_new_kernel_client()
    watch, started = Watch(clients), time.perf_counter()
    watch.start()

    async def run(client: NotebookClient) -> dict:
        for number, cell in enumerate(client.nb.cells):
            await client.async_execute_cell(cell, number)
        pid = client.km.provisioner.pid
        return {
            "peak_mb": round(memory(pid, "status", "VmHWM")),
            "held_mb": round(memory(pid, "status", "VmRSS")),
            "cpu_seconds": round(cpu_seconds(pid)),
            "seconds": round(time.perf_counter() - started),
        }

    kernels = await asyncio.gather(*map(run, clients))
    watch.done.set()
    watch.join()
    for client in clients:
        await client._async_cleanup_kernel()
    return {"kernels": kernels, "together_mb": round(watch.most)}


def server_mb() -> int:
    """Start JupyterLab, and return what its server holds once it says that it runs."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--allow-root"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    next(line for line in server.stderr if "is running at" in line)
    time.sleep(2)
    held = memory(server.pid, "status", "VmRSS")
    server.terminate()
    server.communicate()
    return round(held)


def main() -> None:
    """Measure, and write the file."""
    if sys.platform != "linux":
        sys.exit("tools.record.hub reads /proc, so it runs on Linux only.")
    ran = {path.stem: json.loads(path.read_text()) for path in ROOT.glob("_build/ran/*_*.json")}
    lessons = {name: cost for name, cost in sorted(ran.items()) if "peak_mb" in cost}
    names = ["scanpy", "harmonypy", "numpy", "nbclient"]
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    record = {
        "recorded": date.today().isoformat(),
        "command": "python -m tools.record.hub",
        "machine": {
            "processor": model[1] if model else platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
            "load_before": round(os.getloadavg()[0], 1),
        },
        "versions": {name: version(name) for name in names},
        "lesson": LESSON,
        "at_once": {str(n): asyncio.run(together(n)) for n in AT_ONCE},
        "server_mb": server_mb(),
        "lessons": {
            name: {key: cost[key] for key in ("peak_mb", "cpu_seconds")}
            for name, cost in lessons.items()
        },
    }
    FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{FILE.name}: {record['at_once']}")


if __name__ == "__main__":
    main()
