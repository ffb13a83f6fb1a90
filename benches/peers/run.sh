#!/usr/bin/env bash
# The program beside DuckDB, Polars, pandas and ClickHouse (chdb), on the same pages, in one run: see ../README.md.
#   benches/peers/run.sh [--runs 3] [--scale 1.0] [--set engineRpm|gps] [--binary target/release/samsara-etl]
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/peers/venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement benches/peers/requirements.txt
exec "$venv/bin/python" benches/peers/compare.py "$@"
