"""Measures what does not fit into a microbenchmark: memory as the data grows, runs with nothing to do, runs that are bound
by a rate limit, models that were edited, start-up and size. Prints a table.

    target/peers/venv/bin/python benches/figures.py [--binary target/release/samsara-etl] [FIGURE…]

The environment is the one that `peers/run.sh` makes; the figure `edited` uses its pages too.
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
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "figures"
ENDPOINT = "fleet/vehicles/stats/history"


def measured(command, **options):
    """Runs a command: its output, seconds, CPU seconds, peak MB of memory."""
    began = time.monotonic()
    with open(WORK / "stderr", "wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **options)
        out = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        told = (WORK / "stderr").read_text()
        sys.exit(f"{command} ended with {process.returncode}:\n{out[-2000:]}\n{told[-2000:]}")
    return out, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@contextmanager
def simulator(binary, *options):
    """A simulator on a free port: the variables that point the program to it."""
    server = subprocess.Popen([binary, "simulate", "--listen", "127.0.0.1:0", *options],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        told = dict(server.stdout.readline().strip().split("=", 1) for _ in range(2))
        clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LD_PRELOAD")}
        yield {**clean, **told}
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def fresh(name):
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def catalog(name, limit=None):
    """A copy of the SQL; with `limit`, every source has that rate limit."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "sql", folder)
    for file in folder.rglob("sources.toml") if limit else []:
        file.write_text(re.sub(r'rate_limit = "[^"]*"', f'rate_limit = "{limit}"', file.read_text()))
    return folder


def tell(what, value, goal=""):
    print(f"| {what} | {value} | {goal} |", flush=True)


def start_up(binary):
    """`--help`, and the size of the program as it is shipped."""
    times = [measured([binary, "--help"])[1] for _ in range(15)]
    tell("`--help`", f"{statistics.median(times) * 1000:.0f} ms", "< 20 ms")
    stripped = WORK / "stripped"
    subprocess.run(["strip", "--strip-all", "-o", stripped, binary], check=True)
    tell("program, stripped", f"{stripped.stat().st_size / 1e6:.0f} MB of {binary.stat().st_size / 1e6:.0f}", "< 80 MB")


def sql_check(binary):
    times = [measured([binary, "sql", "check", "--sql-dir", ROOT / "sql"])[1:3] for _ in range(3)]
    seconds, cpu = (statistics.median(column) for column in zip(*times))
    tell("`sql check`, all models", f"{seconds:.2f} s, {cpu:.2f} s of CPU", "< 2 s")


def demo(binary):
    _, seconds, cpu, memory = measured([binary, "demo"], cwd=fresh("demo"))
    tell("`demo`", f"{seconds:.1f} s, {cpu:.1f} s of CPU, {memory:.0f} MB", "< 5 s")


def year(binary):
    """A year of every table of a fleet of two, and then nothing to do."""
    folder, sql = fresh("year"), catalog("year-sql", "100000/s")
    with simulator(binary, "--vehicles", "2", "--sql-dir", sql) as variables:
        run = [binary, "run", "--sql-dir", sql, "--tables", "ALL", "--start-date", "2024-01-01",
               "--end-date", "2025-01-01"]
        _, seconds, cpu, memory = measured(run, cwd=folder, env=variables)
        flattened = sum(1 for _ in (folder / "samsara-data" / "flattened").rglob("*.parquet"))
        tell("a year of a fleet of two, every table",
             f"{seconds:.0f} s, {cpu:.0f} s of CPU, {memory:.0f} MB; {flattened} flattened objects, "
             f"{cpu / max(1, flattened) * 1000:.1f} ms of CPU each", "≤ 3 ms, ≤ 256 MB")
        again = [measured(run, cwd=folder, env=variables)[1:] for _ in range(3)]
        seconds, cpu, memory = (statistics.median(column) for column in zip(*again))
        tell("the same again: nothing to do", f"{seconds:.2f} s, {cpu:.2f} s of CPU, {memory:.0f} MB", "< 0.5 s")
        for command in ("plan", "status"):
            options = run[2:] if command == "plan" else ["--sql-dir", sql]
            _, seconds, cpu, _ = measured([binary, command, *options], cwd=folder, env=variables)
            tell(f"`{command}`", f"{seconds:.2f} s, {cpu:.2f} s of CPU", "< 0.5 s")


def page(number, pages, vehicles=100, readings=250):
    """A page of engine speed: each page holds vehicles of its own, over most of a day."""
    records = []
    for vehicle in range(vehicles):
        ident = number * vehicles + vehicle
        texts = ",".join(
            '{"time":"2024-01-01T%02d:%02d:%02d.%03dZ","value":%d}' % (
                n * 300 // 3600, n * 300 // 60 % 60, n * 300 % 60, (n * 37 + ident) % 1000,
                600 + (n * 37 + ident * 11) % 1800)
            for n in range(readings))
        records.append('{"id":"%d","name":"Tractor %d","externalIds":{"samsara.serial":"G%d"},"engineRpm":[%s]}' % (
            281474982859091 + ident, ident, ident, texts))
    more = "true" if number + 1 < pages else "false"
    return '{"data":[%s],"pagination":{"endCursor":"c%d","hasNextPage":%s}}' % (",".join(records), number, more)


def pages(name, count):
    """Pages of one day for the simulator to repeat; how many bytes they have."""
    folder = fresh(name)
    chain = folder / ENDPOINT / "types=engineRpm"
    chain.mkdir(parents=True)
    total = 0
    for number in range(count):
        body = page(number, count)
        total += len(body)
        (chain / f"{number + 1:05}.json").write_text(body)
    return folder, total


TABLE = ["--table", "fleet_vehicle_stats_engineRpm", "--start-date", "2024-01-01", "--end-date", "2024-01-02"]


def memory(binary):
    """One day of one table with 1, 10 and 100 times as many pages."""
    sql = catalog("memory-sql", "100000/s")
    for factor in (1, 10, 100):
        served, total = pages("memory-pages", 4 * factor)
        folder = fresh("memory")
        with simulator(binary, "--pages", served) as variables:
            run = [binary, "run", "--sql-dir", sql, *TABLE]
            _, seconds, cpu, peak = measured(run, cwd=folder, env=variables)
        tell(f"one day, {factor}× ({total / 1e6:.0f} MB of JSON, {4 * factor * 25_000 / 1e6:.1f} M readings)",
             f"{seconds:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB", "≤ 256 MB")


def limiter(binary):
    """As many requests as the rate limit allows, whatever the latency."""
    for latency in (0, 200, 500):
        sql, folder = catalog("limiter-sql", "10/s"), fresh("limiter")
        with simulator(binary, "--vehicles", "2", "--latency", str(latency), "--sql-dir", sql) as variables:
            run = [binary, "run", "--sql-dir", sql, "--max-workers", "10", "--table", "fleet_vehicle_stats_engineRpm",
                   "--start-date", "2024-01-01", "--end-date", "2024-07-19", "--format", "json"]
            out, seconds, _, _ = measured(run, cwd=folder, env=variables)
        asked = sum(endpoint["pages"] for endpoint in json.loads(out)["endpoints"].values())
        tell(f"{asked} requests at 10 a second, {latency} ms of latency",
             f"{seconds:.1f} s, {seconds / (asked / 10):.3f} of the least", "≤ 1.02")


def edited(binary):
    """A model is edited, and its table derived again from raw Parquet."""
    sys.path.insert(0, str(ROOT / "benches" / "peers"))
    import compare

    for name, goal in (("engineRpm", 10), ("gps", 3)):
        data = compare.make(name, 1.0)
        readings = int((data / "done").read_text())
        sql, folder = catalog("edited-sql", "100000/s"), fresh("edited")
        with simulator(binary, "--pages", data / "pages") as variables:
            run = [binary, "run", "--sql-dir", sql, "--table", f"fleet_vehicle_stats_{name}", "--start-date",
                   "2024-01-01", "--end-date", f"2024-01-{compare.DAYS + 1:02}"]
            measured(run, cwd=folder, env=variables)
            model = next(sql.rglob(f"vehicle_stats/fleet_vehicle_stats_{name}.sql"))
            text = model.read_text()
            model.write_text(text.replace("SELECT DISTINCT\n", "SELECT DISTINCT\n  1 AS edited, -- edited\n", 1))
            _, seconds, cpu, peak = measured([*run, "--stages", "transform"], cwd=folder, env=variables)
        tell(f"edited model {name}, {readings / 1e6:.0f} M rows",
             f"{readings / seconds / 1e6:.1f} M rows/s, {seconds:.2f} s, {cpu:.2f} s of CPU, {peak:.0f} MB",
             f"≥ {goal} M rows/s")


STATISTICS = """ambientAirTemperatureMilliC barometricPressurePa batteryMilliVolts defLevelMilliPercent ecuSpeedMph
engineCoolantTemperatureMilliC engineLoadPercent engineOilPressureKPa engineRpm evAverageBatteryTemperatureMilliCelsius
evBatteryCurrentMilliAmp evBatteryStateOfHealthMilliPercent evBatteryVoltageMilliVolt evChargingCurrentMilliAmp
evChargingEnergyMicroWh evChargingVoltageMilliVolt evConsumedEnergyMicroWh evDistanceDrivenMeters
evRegeneratedEnergyMicroWh evStateOfChargeMilliPercent fuelConsumedMilliliters fuelPercents gpsDistanceMeters
gpsOdometerMeters idlingDurationMilliseconds intakeManifoldTemperatureMilliC obdEngineSeconds obdOdometerMeters
spreaderAirTemp syntheticEngineSeconds""".split()
PER_DAY = 96
PER_PAGE = 100


def readings(statistic, vehicle):
    """A day of one statistic of a vehicle, every quarter of an hour."""
    first = 600 + vehicle * 11 % 1800
    return '"%s":[%s]' % (statistic, ",".join(
        '{"time":"2024-01-01T%02d:%02d:%02dZ","value":%d}' % (n // 4, n % 4 * 15, vehicle % 60, first + n * 7)
        for n in range(PER_DAY)))


def fleet_pages(vehicles):
    """A day of 30 statistics of a fleet, as the API sends them: three statistics a request, each vehicle on one page."""
    folder, total = fresh("fleet-pages"), 0
    count = -(-vehicles // PER_PAGE)
    for group in (STATISTICS[n:n + 3] for n in range(0, len(STATISTICS), 3)):
        chain = folder / ENDPOINT / f"types={','.join(group)}"
        chain.mkdir(parents=True)
        for number in range(count):
            records = ",".join('{"id":"%d","name":"Tractor %d",%s}' % (
                281474982859091 + vehicle, vehicle, ",".join(readings(it, vehicle) for it in group))
                for vehicle in range(number * PER_PAGE, min(vehicles, (number + 1) * PER_PAGE)))
            more = "true" if number + 1 < count else "false"
            body = '{"data":[%s],"pagination":{"endCursor":"c%d","hasNextPage":%s}}' % (records, number, more)
            total += len(body)
            (chain / f"{number + 1:05}.json").write_text(body)
    return folder, total


def fleet(binary):
    """A day of 30 statistics of fleets of 100, 1,000 and 10,000 vehicles."""
    sql = catalog("fleet-sql", "100000/s")
    tables = WORK / "fleet-tables.txt"
    tables.write_text("\n".join(f"fleet_vehicle_stats_{name}" for name in STATISTICS))
    for vehicles in (100, 1_000, 10_000):
        served, total = fleet_pages(vehicles)
        folder = fresh("fleet")
        with simulator(binary, "--pages", served) as variables:
            run = [binary, "run", "--sql-dir", sql, "--tables", tables, "--start-date", "2024-01-01",
                   "--end-date", "2024-01-02", "--format", "json"]
            out, seconds, cpu, peak = measured(run, cwd=folder, env=variables)
        sizes = [sum(it.stat().st_size for it in (folder / "samsara-data" / part).rglob("*.parquet")) / 1e6
                 for part in ("raw", "flattened")]
        rows = vehicles * len(STATISTICS) * PER_DAY
        loaded = sum(it["loaded_rows"] for it in json.loads(out)["models"].values())
        if loaded != rows:
            sys.exit(f"{rows} rows expected, {loaded} loaded")
        tell(f"a day of {vehicles:,} vehicles × 30 statistics: {total / 1e6:,.0f} MB of JSON, {rows / 1e6:.1f} M rows",
             f"{seconds:.1f} s, {cpu:.1f} s of CPU, {peak:.0f} MB; Parquet {sizes[0]:.0f} MB raw, {sizes[1]:.0f} MB flattened",
             "≤ 256 MB")
    shutil.rmtree(served)


FIGURES = {it.__name__: it for it in (start_up, sql_check, demo, year, memory, fleet, limiter, edited)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "samsara-etl")
    arguments.add_argument("figures", nargs="*", choices=[*FIGURES, []], metavar="FIGURE")
    options = arguments.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the beginning\n\n| | measured | goal |\n|---|---|---|")
    for name in options.figures or FIGURES:
        FIGURES[name](options.binary.resolve())


main()
