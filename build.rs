//! The catalog in `sql/` and the dashboards' tiles are embedded: a changed, new or removed file there makes a new program.
fn main() {
    println!("cargo::rerun-if-changed=sql");
    println!("cargo::rerun-if-changed=src/report/marts/tiles");
}
