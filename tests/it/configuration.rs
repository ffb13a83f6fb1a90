//! Configuration in `.env` and on the command line, and its effect on the working folder.

use std::time::Duration;

use tokio::process::Command;

use crate::program::{Program, Ran, simulator};
use crate::support::gcs::GcsDouble;

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_env_files_are_warned_about() {
    let simulator = simulator(|_| ()).await;
    let text = format!(
        "# Flotte\r\nSAMSARA_API_URL={}\r\nexport SAMSARA_API_TOKEN='{}' # of the simulator\r\nsource hush.sh && hush\r\n\
         GCS_BUKET_NAME=hush\r\n",
        simulator.url(),
        simulator.token()
    );
    let wide: Vec<u8> = format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for bytes in [
        text.as_bytes(),
        &[b"\xef\xbb\xbf", text.as_bytes()].concat(),
        &wide,
    ] {
        let program = Program::new();
        program.write(".env", bytes);
        let ran = program.succeed(&["check", "--table", "fleet_tags"]).await;
        assert!(
            ran.stdout.contains("ok    /tags: answers"),
            "{}",
            ran.stdout
        );
        for part in [
            ".env:4: ignored: neither NAME=value nor a comment",
            ".env:5: `GCS_BUKET_NAME` is not a known setting and is ignored; did you mean",
        ] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        assert!(
            ran.stderr
                .contains("other users of this machine can read it"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("hush"), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_waited_for_for_ever_is_refused() {
    let program = Program::new();
    let list = program.folder().join("list.csv");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&list)
            .status()
            .unwrap()
            .success()
    );
    let ran = program.run(&["plan", "--tables", "list.csv"]).await;
    assert!(
        ran.code == 2
            && ran
                .stderr
                .contains("list.csv: it is a named pipe, not a file"),
        "{}",
        ran.stderr
    );
    std::fs::rename(&list, program.folder().join(".env")).unwrap();
    let ran = program.run(&["plan"]).await;
    assert!(
        ran.code == 2 && ran.stderr.contains(".env: it is a named pipe, not a file"),
        "{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_makes_nothing_in_folders_and_buckets() {
    let double = GcsDouble::start(&["raw-bucket", "flat-bucket"]);
    let local = Program::new();
    let remote = Program::new()
        .set("STORAGE_EMULATOR_HOST", double.url())
        .set("GCS_BUCKET_NAME", "raw-bucket")
        .set("GCS_BUCKET_FLATTENED_NAME", "flat-bucket");
    for program in [&local, &remote] {
        for (arguments, code) in [
            (&["plan", "--table", "fleet_trips"][..], 0),
            (&["run", "--dry-run", "--table", "fleet_trips"], 0),
            (&["status", "--table", "fleet_trips"], 0),
            (&["query", "SELECT count(*) FROM raw.fleet_vehicles"], 0),
            (&["sources", "drift", "fleet_vehicles"], 0),
            (&["sql", "preview", "fleet_vehicles"], 2),
            (&["clean", "--dry-run"], 2),
            (&["clean", "--dry-run", "--older-than", "4294967295"], 2),
        ] {
            let ran = program.run(arguments).await;
            assert_eq!(
                ran.code, code,
                "{arguments:?}\n{}{}",
                ran.stdout, ran.stderr
            );
            let made: Vec<_> = std::fs::read_dir(program.folder()).unwrap().collect();
            assert!(made.is_empty(), "{arguments:?} has made {made:?}");
        }
    }
    assert!(
        double
            .requests()
            .iter()
            .all(|request| request.method == "GET" || request.method == "HEAD")
    );
    assert_eq!(
        local
            .run(&["clean", "--older-than", "4294967295"])
            .await
            .code,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_announces_its_start_date() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator).set("SAMSARA_API_TOKEN", "samsara_api_wrong");
    let notice = "1 source that was never read starts at the default, 13/07/2020; use --start-date";
    let ran = program.run(&["run", "--table", "fleet_trips"]).await;
    let (before, after) = ran.stderr.split_once("error: ").unwrap();
    assert!(
        before.contains(&format!("note: {notice}")) && after.contains("token was rejected"),
        "{}",
        ran.stderr
    );
    assert!(
        program
            .succeed(&["plan", "--table", "fleet_trips"])
            .await
            .stdout
            .contains(notice)
    );
    for arguments in [
        &["--lookback-days", "3"][..],
        &["--start-date", "2024-01-01"],
    ] {
        let ran = program
            .succeed(&[&["plan", "--table", "fleet_trips"], arguments].concat())
            .await;
        assert!(!ran.stdout.contains("never read"), "{}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_unless_they_are_asked_for() {
    let program = Program::new();
    program.write(".env", "not ours\n");
    let has_colours = |ran: &Ran| ran.stderr.contains('\u{1b}');
    for (arguments, expected) in [
        (&["plan"][..], false),
        (&["plan", "--color", "always"], true),
        (&["--color=never", "plan"], false),
        (&["plan", "--max-workers", "0"], false),
        (&["--color", "always", "plan", "--max-workers", "0"], true),
    ] {
        let ran = program.run(arguments).await;
        assert!(
            ran.stderr.contains("WARN") || ran.stderr.contains("error:"),
            "{}",
            ran.stderr
        );
        assert_eq!(has_colours(&ran), expected, "{arguments:?} {}", ran.stderr);
    }
}

/// If the system gives no further thread, the program ends with a line that says so, or works with the threads it has.
#[tokio::test(flavor = "multi_thread")]
async fn missing_threads_are_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let program = Program::new();
    std::fs::set_permissions(program.folder(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let is_root = std::fs::metadata(program.folder())
        .is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    // The limit does not apply to root, and counts all threads of a user: so a user with no other processes.
    let user = 200_000 + std::process::id();
    let shed = if is_root {
        format!("setpriv --reuid={user} --regid={user} --clear-groups")
    } else {
        String::new()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in 1..2 * cores + 12 {
        let run = async |arguments: &[&str]| {
            let script = format!("{shed} prlimit --nproc={threads} \"$0\" \"$@\"");
            let mut command = Command::new("sh");
            command
                .args(["-c", &script, env!("CARGO_BIN_EXE_samsara-etl")])
                .args(arguments);
            program.prepare(&mut command);
            command.env("PATH", std::env::var_os("PATH").unwrap());
            let ended = tokio::time::timeout(Duration::from_secs(300), command.output()).await;
            let ran = Ran::of(
                ended
                    .unwrap_or_else(|_| panic!("{arguments:?} hangs with {threads} threads"))
                    .unwrap(),
            );
            assert!(
                !ran.stderr.contains("panicked"),
                "{threads}: {}",
                ran.stderr
            );
            ran
        };
        let ran = run(&["query", "SELECT 1 AS one", "--format", "csv"]).await;
        match ran.code {
            126 | 127 => return eprintln!("skipped: {}", ran.stderr),
            // If all threads just start, a whole run succeeds too: none waits for a thread that does not exist.
            0 => {
                assert!(
                    threads > 1 && ran.stdout == "one\n1\n",
                    "{threads}: {}",
                    ran.stdout
                );
                let ran = run(&["demo", "--vehicles", "1", "--end-date", "2024-01-02"]).await;
                return assert_eq!(ran.code, 0, "{threads}: {}", ran.stderr);
            }
            code => {
                assert_eq!(code, 1, "{threads}: {}", ran.stderr);
                assert!(
                    ran.stderr.starts_with("error: cannot start threads"),
                    "{threads}: {}",
                    ran.stderr
                );
            }
        }
    }
    assert!(!is_root, "no number of threads is enough");
}
