"""Starts local-bigquery with load jobs into single partitions (`table$20240101`).

The emulator takes such a name for the name of a table. Here the rows are loaded into a scratch
table first, must all belong to the partition, and then replace it, or join it, in one transaction.
This leans on the emulator's internals, so its version is pinned exactly.

Usage: bigquery_emulator.py FOLDER PROJECT. Listens on a free port of the loopback interface, which
it writes to FOLDER/port, and ends, removing FOLDER, when its standard input is closed.

A question about a job is answered once the job has ended, or after a second: an answer takes longer to
make than many a job to run, and clients that ask again and again would leave no time for their jobs.
"""

import datetime
import os
import pathlib
import shutil
import socket
import sys
import threading
import types as python_types

import duckdb
import uvicorn

from local_bigquery.api import jobs as api
from local_bigquery.app import app
from local_bigquery.catalog import names, tables
from local_bigquery.engine import database, types
from local_bigquery.engine.database import quote
from local_bigquery.errors import BigQueryError, already_exists, not_found
from local_bigquery.jobs import load, runner
from local_bigquery.models import Table
from local_bigquery.settings import settings

LONGEST_ANSWER_MS = 1000
FORMATS = {"HOUR": "%Y%m%d%H", "DAY": "%Y%m%d", "MONTH": "%Y%m", "YEAR": "%Y"}
LAYOUT = {"timePartitioning", "clustering"}
OF_DESTINATION = {*LAYOUT, "schemaUpdateOptions", "createDisposition"}

# A database in memory, apart from the lake that holds the tables.
SCRATCH = {"projectId": "scratch", "datasetId": "main"}

list_objects = database.objects
load_whole_table = load.run
one_at_a_time = threading.Lock()


def run(cursor, config, upload):
    """Runs one load job; jobs wait here for each other.

    The first ones create a secret they share, and fail when they do so at the same time. Later
    ones can lose a table they create in the lake while others commit there.
    """
    with one_at_a_time:
        return load_job(cursor, config, upload)


def load_job(cursor, config, upload):
    table = config.destinationTable
    base, decorated, partition = ((table and table.tableId) or "").partition("$")
    if not decorated:
        return load_whole_table(cursor, config, upload)
    reference = tables.reference(table.replace(tableId=base))
    cursor.execute("ATTACH IF NOT EXISTS ':memory:' AS scratch")
    scratch = table.replace(**SCRATCH)
    whole = config.without(*OF_DESTINATION).replace(
        destinationTable=scratch.dump(), writeDisposition="WRITE_EMPTY"
    )
    try:
        statistics = load_whole_table(cursor, whole, upload)
        with database.writing(*reference):
            place(cursor, tables.reference(scratch), reference, partition, config)
        return statistics
    finally:
        if tables.exists(*tables.reference(scratch)):
            tables.delete(*tables.reference(scratch))


def place(cursor, scratch, reference, partition, config):
    """Puts the scratch table's rows into the partition."""
    label = names.label(*reference)
    found = tables.exists(*reference)
    if not found and config.createDisposition == "CREATE_NEVER":
        raise not_found("Table", label)
    stored = tables.load(*reference) if found else config
    check_layout(label, stored, config)
    belongs = condition(label, stored.timePartitioning, partition)
    source = cursor.table(tables.name(*scratch))
    # Creates nothing: this checks the column names of the layout.
    layout = tables.layout(source.columns, config.without("schemaUpdateOptions"), "")
    stray = f"SELECT 1 FROM {tables.name(*scratch)} WHERE ({belongs}) IS NOT TRUE LIMIT 1"
    if cursor.execute(stray).fetchone():
        raise BigQueryError(
            "invalid",
            "Some rows belong to different partitions rather than destination partition "
            f"{label}${partition}",
        )
    target = tables.name(*reference)
    cursor.execute("BEGIN")
    try:
        if found:
            check_types(label, scratch, reference)
            options = config.schemaUpdateOptions
            prefix = f"Provided Schema does not match Table {label}. "
            tables.evolve(cursor, reference, source, options, prefix)
        else:
            empty = f"SELECT * FROM {tables.name(*scratch)} LIMIT 0"
            cursor.execute(f"CREATE TABLE {target} AS {empty}")
        make_room(cursor, target, belongs, config, label)
        rows = f"SELECT * FROM {tables.name(*scratch)}"
        cursor.execute(f"INSERT INTO {target} BY NAME {rows}")
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    if not found:
        schema = {"schema": config.schema_.dump()} if config.schema_ else {}
        tables.annotate(reference, Table.model_validate(layout.dump() | schema))


def make_room(cursor, target, belongs, config, label):
    match config.writeDisposition or "WRITE_APPEND":
        case "WRITE_TRUNCATE" | "WRITE_TRUNCATE_DATA":
            cursor.execute(f"DELETE FROM {target} WHERE {belongs}")
        case "WRITE_EMPTY":
            if cursor.execute(f"SELECT 1 FROM {target} WHERE {belongs} LIMIT 1").fetchone():
                raise already_exists("Table", label)


def describe(layout):
    """A layout in words; the empty string where there is none."""
    partitioning, clustering = layout.timePartitioning, layout.clustering
    words = []
    if partitioning:
        kind = (partitioning.type or "DAY").lower()
        words.append(f"interval(type:{kind},field:{partitioning.field})")
    if clustering and clustering.fields:
        words.append(f"clustering({','.join(clustering.fields)})")
    return " ".join(words)


def check_layout(label, stored, config):
    given, expected = describe(config), describe(stored)
    if given and given != expected:
        raise BigQueryError(
            "invalid",
            "Incompatible table partitioning specification. Expects partitioning specification "
            f"{expected or 'none'}, but input partitioning specification is {given}",
        )
    if not stored.timePartitioning or not stored.timePartitioning.field:
        raise BigQueryError("invalid", f"Table {label} is not partitioned by a column")


def check_types(label, scratch, reference):
    current = {field.name.casefold(): field for field in tables.columns(*reference)}
    for field in tables.columns(*scratch):
        old = types.bigquery_type(current.get(field.name.casefold(), field), False)
        new = types.bigquery_type(field, False)
        if old != new:
            raise BigQueryError(
                "invalid",
                f"Provided Schema does not match Table {label}. "
                f"Field {field.name} has changed type from {old} to {new}",
            )


def condition(label, partitioning, partition):
    """True for the rows of the partition; the connection's time zone is UTC."""
    pattern = FORMATS[partitioning.type or "DAY"]
    try:
        time = datetime.datetime.strptime(partition, pattern)
    except ValueError:
        time = None
    # strptime also takes numbers without their leading zeros.
    if time is None or time.strftime(pattern) != partition:
        raise BigQueryError("invalid", f"Invalid partition decorator: {label}${partition}")
    return f"strftime({quote(partitioning.field)}, '{pattern}') = '{partition}'"


def find_objects(project, dataset, table=None):
    """One table or view, as a list; or all of a dataset.

    The emulator looks for one in a list of all, for which DuckDB counts the rows of each.
    """
    if table is None:
        return list_objects(project, dataset)
    name = quote(project, dataset, table)
    try:
        database.execute(f"SELECT * FROM {name} LIMIT 0")
    except duckdb.CatalogException:
        return []
    view = (
        "SELECT 1 FROM duckdb_views() "
        "WHERE database_name = $1 AND schema_name = $2 AND view_name = $3"
    )
    if database.fetch(view, [project, dataset, table]):
        return [(table, "VIEW", 0)]
    return [(table, "TABLE", *database.fetch(f"SELECT count(*) FROM {name}")[0])]


def job_that_ends_soon(project, job):
    return runner.wait(project, job, LONGEST_ANSWER_MS)


def end_with_parent(folder):
    """Standard input is a pipe that nobody writes to: it ends when the test process does."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def main():
    folder, project = pathlib.Path(sys.argv[1]), sys.argv[2]
    threading.Thread(target=end_with_parent, args=[folder], daemon=True).start()
    settings.data_dir = folder / "data"
    settings.default_project_id = project
    database.objects = find_objects
    # Its queries are small, and their threads would wait for each other and for those of the tests.
    database.connection().execute("SET threads = 1")
    runner.HANDLERS["load"] = run
    api.runner = python_types.SimpleNamespace(**vars(runner) | {"get": job_that_ends_soon})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    # Renamed into place, so that nobody reads half a number.
    (folder / "port.new").write_text(str(listener.getsockname()[1]))
    (folder / "port.new").rename(folder / "port")
    uvicorn.Server(uvicorn.Config(app)).run(sockets=[listener])


if __name__ == "__main__":
    main()
