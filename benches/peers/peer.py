"""One peer, one data set: pages, one a line, to one flattened Parquet file. `peer.py <peer> <set> <in> <out>`."""

import sys

COLUMNS = {
    "engineRpm": [("time", "VARCHAR"), ("value", "DOUBLE")],
    "gps": [
        ("time", "VARCHAR"), ("latitude", "DOUBLE"), ("longitude", "DOUBLE"), ("headingDegrees", "DOUBLE"),
        ("speedMilesPerHour", "DOUBLE"), ("isEcuSpeed", "BOOLEAN"),
        ("reverseGeo", 'STRUCT("formattedLocation" VARCHAR)'),
    ],
}
FLAT = {
    "engineRpm": [("engineRpm", "r.value")],
    "gps": [
        (name, f"r.{name}")
        for name in ["latitude", "longitude", "headingDegrees", "speedMilesPerHour", "isEcuSpeed"]
    ] + [("reverseGeo_formattedLocation", "r.reverseGeo.formattedLocation")],
}


def duckdb(name, source, target):
    import duckdb

    reading = ", ".join(f'"{column}" {kind}' for column, kind in COLUMNS[name])
    data = f'STRUCT(id VARCHAR, name VARCHAR, "{name}" STRUCT({reading})[])[]'
    columns = ", ".join(f"{what} AS {column}" for column, what in FLAT[name])
    duckdb.execute("SET preserve_insertion_order = false")
    duckdb.execute(f"""
        COPY (
            SELECT id AS vehicle_id, name AS parc_id, CAST(r.time AS TIMESTAMP) AS time, {columns}
            FROM (
                SELECT v.id AS id, v.name AS name, unnest(v."{name}") AS r
                FROM (
                    SELECT unnest(data) AS v
                    FROM read_json('{source}', format = 'newline_delimited', columns = {{data: '{data}'}},
                                   maximum_object_size = 67108864)
                )
            )
        ) TO '{target}' (FORMAT parquet, COMPRESSION zstd)""")


def polars(name, source, target):
    import polars as pl

    kinds = {"VARCHAR": pl.String, "DOUBLE": pl.Float64, "BOOLEAN": pl.Boolean}
    reading = pl.Struct({
        column: kinds.get(kind, pl.Struct({"formattedLocation": pl.String})) for column, kind in COLUMNS[name]
    })
    data = pl.List(pl.Struct({"id": pl.String, "name": pl.String, name: pl.List(reading)}))
    field = pl.col("r").struct.field
    columns = [
        field("value").alias("engineRpm"),
    ] if name == "engineRpm" else [
        *(field(column) for column, kind in COLUMNS[name] if kind in ("DOUBLE", "BOOLEAN")),
        field("reverseGeo").struct.field("formattedLocation").alias("reverseGeo_formattedLocation"),
    ]
    form = "%Y-%m-%dT%H:%M:%S%.fZ"
    (
        pl.scan_ndjson(source, schema={"data": data})
        .explode("data")
        .select(
            pl.col("data").struct.field("id").alias("vehicle_id"),
            pl.col("data").struct.field("name").alias("parc_id"),
            pl.col("data").struct.field(name).alias("r"),
        )
        .explode("r")
        .select("vehicle_id", "parc_id", field("time").str.to_datetime(form, time_unit="us"), *columns)
        .sink_parquet(target, compression="zstd")
    )


def pandas(name, source, target):
    import json

    import pandas as pd

    rows = []
    with open(source) as lines:
        for line in lines:
            for vehicle in json.loads(line)["data"]:
                for reading in vehicle[name]:
                    place = reading.pop("reverseGeo", None)
                    if place is not None:
                        reading["reverseGeo_formattedLocation"] = place["formattedLocation"]
                    rows.append({"vehicle_id": vehicle["id"], "parc_id": vehicle["name"], **reading})
    frame = pd.DataFrame(rows)
    frame["time"] = pd.to_datetime(frame["time"], format="ISO8601")
    frame.to_parquet(target, compression="zstd", index=False)


def chdb(name, source, target):
    import chdb

    kinds = {"VARCHAR": "String", "DOUBLE": "Float64", "BOOLEAN": "Bool"}
    reading = ", ".join(
        f"{column} {kinds.get(kind, 'Tuple(formattedLocation String)')}" for column, kind in COLUMNS[name]
    )
    data = f"data Array(Tuple(id String, name String, {name} Array(Tuple({reading}))))"
    columns = ", ".join(f"{what} AS {column}" for column, what in FLAT[name])
    chdb.query(f"""
        SELECT v.id AS vehicle_id, v.name AS parc_id, parseDateTime64BestEffort(r.time, 6, 'UTC') AS time, {columns}
        FROM file('{source}', 'JSONEachRow', '{data}') ARRAY JOIN data AS v ARRAY JOIN v.{name} AS r
        INTO OUTFILE '{target}' FORMAT Parquet
        SETTINGS input_format_skip_unknown_fields = 1, output_format_parquet_compression_method = 'zstd'""")


peer, name, source, target = sys.argv[1:]
globals()[peer](name, source, target)
