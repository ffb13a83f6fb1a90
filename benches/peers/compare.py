"""Runs the program and its peers on the same pages, one after the other and again, and prints medians.

The peers read pages, one a line, from the page cache and write one flattened Parquet file. The program fetches the same
pages over HTTP from its simulator, with rate limits lifted, and writes raw Parquet, flattened Parquet and the local
warehouse, with state, digests and checks. The simulator's share of the processor is the program's loss.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DATA = ROOT / "target" / "peers"
ENDPOINT = "fleet/vehicles/stats/history"
# One day: the simulator answers every window with all pages.
VEHICLES, DAYS = 100, 1
PEERS = ["pandas", "duckdb", "polars", "chdb"]


def readings_rpm(rng, start, count):
    """Engine speed, one reading every few seconds."""
    at, out = start, []
    for _ in range(count):
        at += 17
        day, second = divmod(at, 86400)
        rng = (rng * 1103515245 + 12345) & 0x7FFFFFFF
        out.append('{"time":"2024-01-%02dT%02d:%02d:%02d.%03dZ","value":%d}' % (
            day + 1, second // 3600, second // 60 % 60, second % 60, rng % 1000, 600 + (rng >> 8) % 1800))
    return rng, ",".join(out)


def readings_gps(rng, start, count):
    """GPS fixes with the place in words."""
    at, out = start, []
    for n in range(count):
        at += 69
        day, second = divmod(at, 86400)
        rng = (rng * 1103515245 + 12345) & 0x7FFFFFFF
        out.append(
            '{"time":"2024-01-%02dT%02d:%02d:%02dZ","latitude":%.7f,"longitude":%.7f,"headingDegrees":%.1f,'
            '"speedMilesPerHour":%.3f,"reverseGeo":{"formattedLocation":"%d Interstate %d, Chicago, IL, 60607"},'
            '"isEcuSpeed":%s}' % (
                day + 1, second // 3600, second // 60 % 60, second % 60, 41.88 + (rng % 100000) / 1e6,
                -87.62 - (rng >> 12) / 1e7, rng % 360, (rng >> 4) % 70000 / 1000, rng % 4000, 90 + n % 300,
                "true" if rng & 64 else "false"))
    return rng, ",".join(out)


# Readings of a vehicle on a page, pages, seconds between readings.
SETS = {"engineRpm": (readings_rpm, 250, 160, 17), "gps": (readings_gps, 125, 80, 69)}


def make(name, scale):
    """Makes the pages of a data set, unless they are there: a file for each, and all of them one a line."""
    folder = DATA / f"{name}-{scale:g}"
    mark = folder / "done"
    if mark.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    readings, count, pages, step = SETS[name]
    pages = max(1, round(pages * scale))
    # A hundred vehicles are on each page, until their readings fill the days.
    span = DAYS * 86400
    chain = folder / "pages" / ENDPOINT / f"types={name}"
    chain.mkdir(parents=True)
    rng, rows = 7, 0
    with open(folder / "pages.ndjson", "w") as lines:
        for page in range(pages):
            records = []
            for vehicle in range(VEHICLES):
                start = page * count * step
                number = VEHICLES * (start // (span - count * step)) + vehicle
                rng, texts = readings(rng, start % (span - count * step), count)
                records.append('{"id":"%d","name":"Tractor %d","externalIds":{"samsara.serial":"G%d"},"%s":[%s]}' % (
                    281474982859091 + number, number, number, name, texts))
                rows += count
            more = "true" if page + 1 < pages else "false"
            body = '{"data":[%s],"pagination":{"endCursor":"c%d","hasNextPage":%s}}' % (",".join(records), page, more)
            (chain / f"{page + 1:04}.json").write_text(body)
            lines.write(body + "\n")
    mark.write_text(str(rows))
    return folder


def measured(command, **options):
    """Runs a command: seconds, CPU seconds, peak MB of memory."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} ended with {process.returncode}:\n{out.decode()}\n{err.decode()}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run_peer(peer, name, folder):
    out = DATA / "out.parquet"
    out.unlink(missing_ok=True)
    figures = measured([sys.executable, HERE / "peer.py", peer, name, folder / "pages.ndjson", out])
    return figures, pyarrow.parquet.read_metadata(out).num_rows


def catalog(binary):
    """The embedded SQL with the rate limits lifted."""
    folder = DATA / "sql"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "sql", folder)
    for file in folder.rglob("sources.toml"):
        text = file.read_text()
        file.write_text(re.sub(r'rate_limit = "[^"]*"', 'rate_limit = "100000/s"', text))
    return folder


def run_program(binary, sql, name, folder):
    server = subprocess.Popen([binary, "simulate", "--listen", "127.0.0.1:0", "--pages", folder / "pages"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        lines = [server.stdout.readline(), server.stdout.readline()]
        told = dict(line.strip().split("=", 1) for line in lines)
        # The simulator reads all pages before it answers the first request; that is not the program's time.
        request = [f"{told['SAMSARA_API_URL']}/{ENDPOINT}?types={name}", "-o", os.devnull, "-s", "-f",
                   "-H", f"Authorization: Bearer {told['SAMSARA_API_TOKEN']}"]
        subprocess.run(["curl", *request], check=True)
        work = DATA / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        table = f"fleet_vehicle_stats_{name}"
        command = [binary, "run", "--sql-dir", sql, "--table", table, "--start-date", "2024-01-01",
                   "--end-date", f"2024-01-{DAYS + 1:02}"]
        clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LD_PRELOAD")}
        figures = measured(command, cwd=work, env={**clean, **told})
        files = (work / "samsara-data" / "flattened" / "flattened").rglob("*.parquet")
        return figures, sum(pyarrow.parquet.read_metadata(file).num_rows for file in files)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1]) >> 20
    load = os.getloadavg()[0]
    return f"{model and model[1]}, {os.cpu_count()} cores, {memory} GB, load {load:.1f} at the beginning"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--scale", type=float, default=1.0)
    arguments.add_argument("--set", choices=SETS, action="append")
    arguments.add_argument("--peer", choices=PEERS, action="append")
    arguments.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "samsara-etl")
    options = arguments.parse_args()
    binary = options.binary.resolve()
    print(machine())
    sql = catalog(binary)
    for name in options.set or SETS:
        folder = make(name, options.scale)
        megabytes = (folder / "pages.ndjson").stat().st_size / 1e6
        expected = int((folder / "done").read_text())
        found = {}
        for _ in range(options.runs):
            for who in [*(options.peer or PEERS), "samsara-etl"]:
                if who == "samsara-etl":
                    figures, rows = run_program(binary, sql, name, folder)
                else:
                    figures, rows = run_peer(who, name, folder)
                if rows != expected:
                    sys.exit(f"{who} wrote {rows} rows of {expected}")
                found.setdefault(who, []).append(figures)
        print(f"\n{name}: {megabytes:.0f} MB of JSON, {expected} rows, medians of {options.runs}\n")
        print("| | MB/s | rows/s | seconds | CPU seconds | peak MB |\n|---|---|---|---|---|---|")
        for who, figures in found.items():
            seconds, cpu, memory = (statistics.median(column) for column in zip(*figures))
            print(f"| {who} | {megabytes / seconds:.0f} | {expected / seconds / 1e6:.2f} M | {seconds:.2f} | {cpu:.2f} "
                  f"| {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
