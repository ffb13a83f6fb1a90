//! The catalog in `sql/` is embedded: a changed, new or removed file there makes a new program.
fn main() {
    println!("cargo::rerun-if-changed=sql");
}
