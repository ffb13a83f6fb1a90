//! What the documents say is so.

use samsara_etl::config::env;

#[test]
fn every_variable_is_documented() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["README.md", ".env.example"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        for variable in env::ALL {
            assert!(text.contains(variable.name), "{file} lacks {}", variable.name);
        }
    }
}
