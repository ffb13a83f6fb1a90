//! Columns that must not leave the raw bucket in the clear.

use std::collections::BTreeSet;

use crate::program::{Program, simulator};

const RUN: &[&str] = &[
    "run",
    "--start_date",
    "01/01/2024",
    "--end_date",
    "02/01/2024",
    "--table",
    "people",
];

const SOURCE: &str = r#"
[drivers]
description = "Drivers."
kind = "snapshot"
endpoint = "/fleet/drivers"
scope = "Read Drivers"
rate_limit = "50/s"
schema = "id VARCHAR, name VARCHAR, username VARCHAR, driverActivationStatus VARCHAR"
"#;

fn model(keys: &str) -> String {
    format!(
        "/*---\ndescription = \"Drivers.\"\n{keys}\n---*/\nSELECT\n  id, -- id\n  name AS driver_name, -- name\n  \
         CAST(NULL AS BIGINT) AS nothing, -- nothing\n  username -- login\nFROM raw.drivers\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn private_columns_are_never_written() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    program.write("sql/f/sources.toml", SOURCE);
    program.write("sql/f/people.sql", model(""));
    program.succeed(RUN).await;
    let clear = program
        .rows("SELECT id, driver_name, username FROM people ORDER BY id")
        .await;
    assert!(!clear.is_empty() && clear.iter().all(|row| row["driver_name"].is_string()));

    // Without a salt nothing is written at all.
    program.write(
        "sql/f/people.sql",
        model("drop = [\"username\"]\nhash = [\"driver_name\", \"nothing\"]"),
    );
    std::fs::remove_dir_all(program.folder().join("samsara-data")).unwrap();
    let refused = program.run(RUN).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("SAMSARA_ETL_HASH_SALT: not set, and sql/f/people.sql hashes"),
        "{}",
        refused.stderr
    );

    let program = program.set("SAMSARA_ETL_HASH_SALT", "white pepper");
    program.succeed(&[RUN, &["-vv"]].concat()).await;
    let hashed = program.rows("SELECT * FROM people ORDER BY id").await;
    assert_eq!(hashed.len(), clear.len());
    let mut digests = BTreeSet::new();
    for (row, before) in hashed.iter().zip(&clear) {
        assert!(
            row.get("username").is_none() && row.get("nothing").is_none(),
            "{row:?}"
        );
        let digest = row["driver_name"].as_str().unwrap();
        assert!(
            digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{digest}"
        );
        assert_ne!(row["driver_name"], before["driver_name"]);
        digests.insert(digest.to_string());
    }
    let names: BTreeSet<_> = clear
        .iter()
        .map(|row| row["driver_name"].as_str().unwrap())
        .collect();
    assert_eq!(digests.len(), names.len());
    // The same again with the same salt; other digests with another.
    program
        .succeed(&[RUN, &["--full-refresh", "people"]].concat())
        .await;
    assert_eq!(
        hashed,
        program.rows("SELECT * FROM people ORDER BY id").await
    );
    // The salt is nowhere.
    for (path, _, _) in program.files("samsara-data") {
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !bytes.windows(12).any(|window| window == b"white pepper"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_private_column_is_refused() {
    let program = Program::new();
    program.write("sql/f/sources.toml", SOURCE);
    for (keys, expected) in [
        (
            "drop = [\"driver_nmae\"]",
            "drop: unknown column `driver_nmae`; did you mean `driver_name`?",
        ),
        (
            "hash = [\"usernam\"]",
            "hash: unknown column `usernam`; did you mean `username`?",
        ),
        (
            "hash = [\"id\"]\ndrop = [\"id\"]",
            "`id` is in both drop and hash",
        ),
        (
            "drop = [\"id\"]\nunique_key = [\"id\"]",
            "unique_key: unknown column `id`",
        ),
        ("hsh = [\"id\"]", "unknown key `hsh`; did you mean `hash`?"),
        ("labels = { Team = \"a\" }", "labels: `Team = a`"),
        (
            "partition_expiration_days = 3",
            "partition_expiration_days: the table has no partitions",
        ),
    ] {
        program.write("sql/f/people.sql", model(keys));
        let ran = program.run(&["sql", "check"]).await;
        assert_ne!(ran.code, 0, "{keys}");
        assert!(ran.stderr.contains(expected), "{keys}: {}", ran.stderr);
    }
}
