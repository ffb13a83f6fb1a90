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

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_lists_the_tables_of_the_catalog() {
    let table = crate::program::Program::new().succeed(&["tables", "--markdown"]).await.stdout;
    let readme = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let listed = readme.split("<!-- tables: samsara-etl tables --markdown -->\n").nth(1).unwrap();
    let listed = listed.split("<!-- /tables -->").next().unwrap();
    assert!(listed == table, "put the output of `samsara-etl tables --markdown` into README.md");
}
