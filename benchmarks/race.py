"""The race: FITS files into torch tensors, torchfits beside its peers and beside a floor.

Every library has a warm process of its own; only one works at a time, and in every round each has a turn,
another one first. Results are compared with astropy's, bit for bit, before anything is timed. Where a library
documents several ways to do a thing, the fastest that reads right is timed; what is short is done again and
again for 0.1 s, and each time counts. What is needed to end in a torch
tensor, such as the change of byte order, is part of the time. The files are written by astropy and are in the
page cache.

torchfits comes twice. *Anew* opens the file every time (`cache=False`), and is compared with peers that do
so too. *Kept* is its default, which keeps files open, and is compared with those that keep what they learnt
about files too. What takes a list of paths opens every file in both. The floor is a small C program that
reads and byte-swaps the data and does nothing else, into fresh memory, or for `out=` into memory in use, by
one thread or two, whichever is faster. Where a ratio with a peer is below 1, the peer is faster. The last
column says how many cores other programs kept busy meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks import report
from benchmarks.cases import CASES, Case, Files
from benchmarks.report import FLOORS, NAMES, NAMESAKE, Outcome
from torchfits import _direct

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
BUDGET = 60.0  # seconds a case may take: slow ones get fewer rounds, but at least 7
SHORTEST_TURN = 0.1  # seconds: what takes less is done several times in a turn
PATIENCE = 30.0  # seconds to wait for others to finish, before each case


class Worker:
    """A process that answers a line of JSON to every line; started when first asked, again if it died."""

    def __init__(self, *command: str | Path):
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.versions: dict[str, str] = {}

    def ask(self, line: str, limit: float = 300) -> dict[str, Any]:
        if self.process is None:
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, env=environment)
            answer = self._answer(self.process, limit)
            if "error" in answer:
                return answer
            self.versions = answer
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self._answer(self.process, limit)

    def prepare(self, case: str, files: Files, expected: str | None = None) -> dict[str, Any]:
        return self.ask(f"prepare {json.dumps({'kind': case, 'files': files, 'expected': expected})}")

    def _answer(self, process: subprocess.Popen[bytes], limit: float) -> dict[str, Any]:
        assert process.stdout is not None
        ready = select.select([process.stdout], [], [], limit)[0]
        answer = process.stdout.readline() if ready else b""
        if answer:
            return json.loads(answer)
        self.stop()
        return {"error": "the process died" if ready else f"no answer in {limit:.0f} s"}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def workers() -> dict[str, Worker]:
    """Of all readers and floors that can be had here."""
    python, script, floor = sys.executable, HERE / "worker.py", BUILD / "floor"
    made = {name: Worker(python, script, "ours", name) for name in ("anew", "kept")}
    made |= {name: Worker(python, script, "arrays", name) for name in ("astropy", "fitsio", "rustfits")}
    try:
        python = str(namesake())
        made |= {f"namesake {name}": Worker(python, script, "namesake", name) for name in ("anew", "kept")}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"\n*** A PEER IS MISSING, {NAMES['namesake anew']}: {error} ***\n", file=sys.stderr)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-O3", "-march=native", "-pthread", "-o", floor, HERE / "floor.c"], check=True)
    return made | {name: Worker(floor, *name.split()) for name in FLOORS}


def namesake() -> Path:
    """The interpreter of an environment with the torchfits of PyPI and its own torch; made at first."""
    folder = BUILD / f"torchfits-{NAMESAKE}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"{folder}: installing a peer, which takes minutes and may take 6 GB", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
        small = subprocess.run([*install, f"torchfits[cpu]=={NAMESAKE}"], capture_output=True)
        if small.returncode:  # not every index has a torch without CUDA; the one with it needs all of it
            subprocess.run([*install, f"torchfits=={NAMESAKE}"], check=True)
        subprocess.run(
            [python, "-c", "import torch, torchfits; torchfits.read_tensor"], check=True, cwd=folder
        )
        done.touch()
    return python


def busy(of: Sequence[int] = ()) -> float:
    """CPU seconds used so far by these processes, or by all; 0 where the system does not tell."""
    try:
        if not of:
            user, nice, system, _, _, *more = Path("/proc/stat").read_text().split()[1:9]
            ticks = sum(map(int, (user, nice, system, *more)))
        else:
            used = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in of]
            ticks = sum(int(fields[11]) + int(fields[12]) for fields in used)
    except FileNotFoundError:
        return 0.0
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for_quiet() -> None:
    """Returns when others use little of the machine, or when patience is over."""
    end, before = time.monotonic() + PATIENCE, -1.0
    while busy() - before > 0.1 and time.monotonic() < end:
        before = busy()
        time.sleep(0.5)


def prepare(case: Case, files: Files, runners: dict[str, Worker], outcome: Outcome) -> dict[str, float]:
    """Everyone reads the case and is compared with astropy; gives the seconds of those that read right."""
    seconds: dict[str, float] = {}
    answer: dict[str, Any]
    # only torchfits has `out=`; what it must read there is the image
    expected = runners["astropy"].prepare("image" if case.kind == "out" else case.kind, files).get("digest")
    for name, worker in runners.items():
        if name not in FLOORS:
            answer = worker.prepare(case.kind, files, expected) if expected else {"error": "astropy failed"}
        elif case.floor:
            line, total = floor_line(files)
            answer = worker.ask(line)
            if answer.get("digest") != total:
                answer = {"wrong": "not the bytes of the file"}
        else:
            continue
        if "seconds" in answer:
            seconds[name] = answer["seconds"]
            outcome.ways[name] = answer.get("way", "")
        for mark in answer.keys() & {"wrong", "error"}:
            outcome.marks[name] = mark
            outcome.notes.append(f"{NAMES[name]}, {case.title}: {answer[mark]}")
    return seconds


def floor_line(files: Files) -> tuple[str, str]:
    """What the floor is asked for a file of one image, and the sum that it must answer."""
    assert isinstance(files, str)
    with fits.open(files) as file:
        start, width = file[0].fileinfo()["datLoc"], abs(file[0].header["BITPIX"]) // 8
        count = file[0].size // width
    swapped = np.fromfile(files, f">u{width}", count, offset=start).astype(f"u{width}")
    return f"prepare {width} {start} {count * width} {files}", str(swapped.view("u8").sum(dtype="u8"))


def race(case: Case, files: Files, runners: dict[str, Worker], rounds: int, patient: bool) -> Outcome:
    outcome = Outcome(case.title, case.kind)
    seconds = prepare(case, files, runners, outcome)
    if not seconds:
        return outcome
    # short cases many times in a row, as timeit does: else waking up and cold caches are what is measured
    repeats = {name: max(1, round(SHORTEST_TURN / took)) for name, took in seconds.items()}
    turn = sum(took * repeats[name] + 0.01 for name, took in seconds.items())
    outcome.rounds = min(rounds, max(7, int(BUDGET / turn)))
    own = [os.getpid(), *(worker.process.pid for worker in runners.values() if worker.process)]
    for _ in range(3 if patient else 1):
        if patient:
            wait_for_quiet()
        began, others = time.monotonic(), busy() - busy(own)
        times = medians({name: runners[name] for name in seconds}, repeats, outcome.rounds)
        others = max(0.0, busy() - busy(own) - others) / (time.monotonic() - began)
        if not outcome.times or others < outcome.others:
            outcome.times, outcome.others = times, others
        if others < 0.2:  # else again, and the quietest counts
            break
    outcome.marks |= dict.fromkeys(seconds.keys() - outcome.times.keys(), "error")
    return outcome


def medians(runners: dict[str, Worker], repeats: dict[str, int], rounds: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    for i in range(rounds):
        # a virtual machine may have given free memory back to its host, and getting it again is very slow
        np.ones(1 << 29, np.uint8)
        first = i % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(0.005)  # threads of the one before may still spin
            if name in found:
                answer = runners[name].ask(f"run {repeats[name]}")
                if "error" in answer:
                    del found[name]
                else:
                    found[name] += answer["seconds"]
    return {name: 1000 * statistics.median(each) for name, each in found.items()}


def peak_memory(runner: Worker, first: Files, files: Files) -> str:
    runner.stop()  # a fresh process
    answer = runner.ask(f"peak {json.dumps({'kind': 'image', 'first': first, 'files': files})}")
    if "peak" not in answer:
        return f"Peak memory of a full read: {answer}"
    tensor, more = answer["tensors"] / 2**20, (answer["peak"] - answer["tensors"]) / 2**20
    return f"Peak memory of reading float32 8192²: the tensor of {tensor:.0f} MiB and {more:.1f} MiB."


def scale(runner: Worker, folder: Path) -> str:
    """Whether a file costs more among 100,000 than among 1,000: images of one block, `read_batch`."""
    fits.writeto(folder / "tiny.fits", np.arange(720, dtype="f4").reshape(24, 30))
    tiny = (folder / "tiny.fits").read_bytes()
    paths = [str(folder / f"{i // 1000:02}" / f"{i % 1000:03}.fits") for i in range(100_000)]
    for i, path in enumerate(paths):
        if i % 1000 == 0:
            Path(path).parent.mkdir()
        Path(path).write_bytes(tiny)
    os.sync()
    costs: dict[int, list[float]] = {1000: [], 100_000: []}
    for _ in range(5):
        for count, found in costs.items():
            answer = runner.prepare("stamps", paths[-count:])
            if "seconds" not in answer:
                return f"Scale check: {answer}"
            found += [1e6 * each / count for each in runner.ask("run 3")["seconds"]]
    few, many = (statistics.median(found) for found in costs.values())
    return f"Tiny files in a list: {few:.1f} us a file of 1,000, {many:.1f} us a file of 100,000."


def rates(ours: Worker, fitsio: Worker, files: Files) -> str:
    """How fast one core reads RICE_1: by each variant of our kernels, and by cfitsio."""
    kinds = dict.fromkeys(_direct.variants(), ours) | {"fitsio": fitsio}
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(5):
        for name, runner in kinds.items():
            answer = runner.prepare("compressed" if runner is fitsio else f"compressed {name}", files)
            if "seconds" not in answer:
                return f"Rates of RICE_1, {name}: {answer}"
            seconds[name] += runner.ask("run 3")["seconds"]
    found = [f"{name} {4096**2 / 1e6 / statistics.median(each):.0f}" for name, each in seconds.items()]
    return f"RICE_1 int16 4096² by one thread, million pixels a second: {', '.join(found)}."


def main() -> None:
    title, _, text = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=title)
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be repeated")
    parser.add_argument("--rounds", type=int, default=20, help="slow cases get fewer (default: 20)")
    parser.add_argument("--quick", action="store_true", help="5 rounds, without waiting for a quiet machine")
    parser.add_argument("--scale", action="store_true", help="the scale check too: it makes 100,000 files")
    parser.add_argument("--write", action="store_true", help="write benchmarks/README.md and race.png")
    options = parser.parse_args()
    if options.write and (options.case or options.quick):
        parser.error("--write is for the whole race")
    BUILD.mkdir(parents=True, exist_ok=True)
    runners, outcomes, after = workers(), [], []
    load = os.getloadavg()[0]
    made: dict[Any, Files] = {}
    print(report.HEADS, flush=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        for name in options.case or CASES:
            case = CASES[name]
            if case.make not in made:
                made[case.make] = case.make(Path(folder) / name)
                os.sync()
            rounds = 5 if options.quick else options.rounds
            outcomes.append(race(case, made[case.make], runners, rounds, not options.quick))
            print(report.row(outcomes[-1]), flush=True)
        small, large = made.get(CASES["f32_256"].make), made.get(CASES["f32_8k"].make)
        if small and large:
            after += [peak_memory(runners["anew"], small, large)]
        if rice := made.get(CASES["rice"].make):
            after += [rates(runners["kept"], runners["fitsio"], rice)]
        if options.scale:
            after += [scale(runners["anew"], Path(folder))]
    versions = [worker.versions for worker in runners.values()]
    for worker in runners.values():
        worker.stop()
    after += [
        report.conditions(versions, outcomes),
        f"{datetime.date.today()}, load {load:.1f} at the start.",
    ]
    after += [f"Missing here: {NAMES[name]}." for name in report.KEEPING_PEERS.keys() - runners.keys()]
    after = [*report.remarks(outcomes), *(f"\n{each}" for each in after)]
    print("\n".join(after))
    (BUILD / "race.json").write_text(json.dumps([vars(each) for each in outcomes], indent=1))
    report.chart(outcomes, (HERE if options.write else BUILD) / "race.png")
    if options.write:
        parts = [f"# {title.removesuffix('.')}", text, "![how much longer the peers take](race.png)", ""]
        parts += [report.HEADS, *map(report.row, outcomes), *after, ""]
        (HERE / "README.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
