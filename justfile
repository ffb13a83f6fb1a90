# Shorthands; nothing needs them. `just --list` shows them.

# The whole pipeline on a simulated fleet, into ./samsara-demo.
demo:
    cargo run --locked -- demo

# All tests.
test:
    cargo test --locked

# What a change must pass.
ci:
    .ci/run

# The long chaos test. A failure prints its seed.
chaos seed="1":
    CHAOS_SEED={{ seed }} CHAOS_KILLS=120 CHAOS_PAIRS=20 cargo test --locked --test it chaos -- --nocapture

# Fuzz one target (page, front_matter, sources_toml, state_document, retry_after); needs `cargo install cargo-fuzz`.
fuzz target seconds="60":
    CARGO_TARGET_DIR=target/fuzz RUSTC_BOOTSTRAP=1 cargo fuzz run --dev --sanitizer none {{ target }} -- -max_total_time={{ seconds }} -max_len=4096

# Speed of each stage on this machine.
bench:
    cargo bench --locked

# simd-json on the pages of `just bench`, for comparison.
tape:
    cargo run --release --locked --manifest-path benches/tape/Cargo.toml --target-dir target/tape -- target/bench-pages/*.json

# The program beside DuckDB, Polars, pandas and ClickHouse.
peers *options:
    benches/peers/run.sh {{ options }}

# The program as it is shipped, with its symbols beside it: gdb and perf find them by the link in it.
release:
    cargo build --release --locked --bin samsara-etl
    objcopy --only-keep-debug --compress-debug-sections=zlib target/release/samsara-etl target/release/samsara-etl.debug
    strip --strip-all --output-file target/release/samsara-etl.stripped target/release/samsara-etl
    cd target/release && objcopy --add-gnu-debuglink=samsara-etl.debug samsara-etl.stripped
