//! The fuzz targets without libFuzzer: the files of `fuzz/corpus`, and mutations of them chosen by a seed.
//!
//! `FUZZ_SEED` (1 unless set) is the first seed, `FUZZ_ROUNDS` (3000) how many follow for each target. An input that
//! breaks a promise is written to `fuzz/artifacts/<target>/`; add it to `fuzz/corpus/<target>/` together with the fix.

use std::path::{Path, PathBuf};

use crate::support::dice::{Dice, setting};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// Mutations begin with seeds and may grow, but not without end.
const LONGEST: usize = 1 << 14;

#[test]
fn pages_lose_no_value_whatever_the_bytes() {
    fuzz("page");
}

#[test]
fn model_files_are_fuzzed() {
    fuzz("front_matter");
}

#[test]
fn sources_files_are_fuzzed() {
    fuzz("sources_toml");
}

#[test]
fn state_documents_are_fuzzed() {
    fuzz("state_document");
}

#[test]
fn retry_after_is_fuzzed() {
    fuzz("retry_after");
}

#[test]
fn every_fuzz_target_has_seeds() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        let source =
            std::fs::read_to_string(root().join("fuzz_targets").join(name).with_extension("rs"))
                .unwrap();
        assert!(
            source.contains(&format!("samsara_etl_fuzz::{name}(data)")),
            "{name}"
        );
        assert!(!seeds(name).is_empty(), "{name}");
    }
}

/// Reading must not recurse as deep as its input is nested: a stack overflow ends the process.
#[test]
fn nothing_is_nested_too_deeply_for_the_stack() {
    for (open, close) in NESTINGS {
        for depth in [30, 400, 4_900, 20_000] {
            let nested = [open.repeat(depth), close.repeat(depth)].concat();
            // A model ends long before the last.
            for (name, before, behind) in PLACES
                .iter()
                .filter(|(name, ..)| *name != "front_matter" || depth < 20_000)
            {
                let input = [*before, nested.as_str(), *behind].concat();
                run(
                    name,
                    target(name),
                    input.as_bytes(),
                    &format!("{depth} times {open} {close}"),
                );
            }
        }
    }
}

const PLACES: &[(&str, &str, &str)] = &[
    ("page", "", ""),
    ("page", "{\"data\":[", "]}"),
    ("page", "{\"data\":[{\"id\":\"1\",\"tags\":", "}]}"),
    ("state_document", "", ""),
    (
        "state_document",
        "{\"version\":1,\"source\":\"a\",\"partitions\":",
        "}",
    ),
    ("sources_toml", "", ""),
    ("sources_toml", "a = ", ""),
    ("sources_toml", SOURCE, "'''"),
    ("sources_toml", SOURCE, "VARCHAR DEFAULT 1'''"),
    (
        "front_matter",
        "/*---\ndescription = ",
        "\n---*/\nSELECT id FROM raw.s",
    ),
    ("front_matter", MODEL, "1 FROM raw.s"),
    (
        "front_matter",
        "/*---\ndescription = 'd'\n---*/\nSELECT id",
        " FROM raw.s",
    ),
    (
        "front_matter",
        "/*---\ndescription = 'd'\n---*/\nSELECT CAST(id AS ",
        ") FROM raw.s",
    ),
    (
        "front_matter",
        "/*---\ndescription = 'd'\n---*/\nSELECT CAST(id AS VARCHAR",
        ") FROM raw.s",
    ),
    (
        "front_matter",
        "/*---\ndescription = 'd'\n---*/\nSELECT id FROM raw.s",
        "",
    ),
    (
        "front_matter",
        "/*---\ndescription = 'd'\n---*/\nSELECT id FROM ",
        " raw.s",
    ),
];

const SOURCE: &str =
    "[s]\ndescription='d'\nkind='snapshot'\nendpoint='/s'\nrate_limit='5/s'\nschema='''id ";
const MODEL: &str = "/*---\ndescription = 'd'\n---*/\nSELECT ";

const NESTINGS: &[(&str, &str)] = &[
    ("[", "]"),
    ("{\"a\":", "}"),
    ("[{\"a\":", "}]"),
    ("{a=", "}"),
    ("a.", "b"),
    ("(", ")"),
    ("/*", "*/"),
    ("ARRAY<", ">"),
    ("STRUCT<a ", ">"),
    ("MAP(VARCHAR, ", ")"),
    ("[]", ""),
    ("[3]", ""),
    ("NULLABLE(", ")"),
    ("TABLE(a ", ")"),
    ("coalesce(", ")"),
    ("NOT ", ""),
    ("+1", ""),
    ("-", "1"),
    (" AND id", ""),
    (" IS NULL", ""),
    ("::VARCHAR", ""),
    (" UNION ALL SELECT id FROM raw.s", ""),
    (" JOIN raw.s", ""),
    ("(SELECT ", ")"),
    ("CASE WHEN ", " THEN 1 END"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, in the order of their names. Files without an extension were found by libFuzzer.
fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(root().join("corpus").join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
        .iter()
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect()
}

fn target(name: &str) -> targets::Target {
    targets::TARGETS
        .iter()
        .find(|(other, _)| *other == name)
        .unwrap()
        .1
}

fn fuzz(name: &str) {
    let (target, seeds) = (target(name), seeds(name));
    for (path, seed) in &seeds {
        run(name, target, seed, path);
    }
    let (first, rounds) = (setting("FUZZ_SEED", 1), setting("FUZZ_ROUNDS", 3000));
    for seed in first..first + rounds {
        let input = mutate(&mut Dice(seed), &seeds);
        run(
            name,
            target,
            &input,
            &format!("FUZZ_SEED={seed} FUZZ_ROUNDS=1"),
        );
    }
}

/// Runs a target; where it breaks, tells what broke it.
fn run(name: &str, target: targets::Target, input: &[u8], origin: &str) {
    if let Err(broken) = std::panic::catch_unwind(|| target(input)) {
        let folder = root().join("artifacts").join(name);
        let file = folder.join(format!(
            "found-{:x}",
            input
                .iter()
                .fold(7u64, |hash, byte| hash.wrapping_mul(31) + u64::from(*byte))
        ));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&file, input).unwrap();
        let head = input[..input.len().min(2000)].escape_ascii();
        println!("{name}, {origin}: {}\n{head}", file.display());
        std::panic::resume_unwind(broken);
    }
}

/// Some seed with some changes, all chosen by the dice.
fn mutate(dice: &mut Dice, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let pick = |dice: &mut Dice| seeds[dice.below(seeds.len() as u64) as usize].1.clone();
    let mut bytes = pick(dice);
    for _ in 0..=dice.below(6) {
        let (at, end) = chunk(dice, &bytes);
        match dice.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.insert(
                at,
                b"\"\\[]{}(),:.-+0e9<>=#'*/\n \xff\xed"[dice.below(26) as usize],
            ),
            2 => _ = bytes.drain(at..end),
            3 => bytes.truncate(end),
            4 => {
                let times = 1 + dice.below(40) as usize;
                let again = bytes[at..end].repeat(times.min(1 + LONGEST / (end - at + 1)));
                bytes.splice(at..at, again);
            }
            5 => {
                let other = pick(dice);
                let (from, to) = chunk(dice, &other);
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let (from, to) = chunk(dice, &bytes);
                let moved = bytes[from..to].to_vec();
                bytes.splice(at..end, moved);
            }
            _ => {
                let words: [&[u8]; 8] = [
                    b"null",
                    b"-9223372036854775809",
                    b"1e999",
                    b"\\ud800",
                    b"true",
                    b"9007199254740993",
                    b"\"\"",
                    b"--",
                ];
                bytes.splice(at..end, words[dice.below(8) as usize].iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// A piece of `bytes`, mostly a short one.
fn chunk(dice: &mut Dice, bytes: &[u8]) -> (usize, usize) {
    let at = dice.below(bytes.len() as u64 + 1) as usize;
    let longest = 1 << dice.below(8);
    (at, bytes.len().min(at + dice.below(longest + 1) as usize))
}
