//! Puts the emulator and its DuckDB extensions under the target folder, once.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

const REQUIREMENTS: &str = include_str!("../requirements-emulator.txt");

/// DuckDB would fetch these from a host of its own; packages carry them too, and this puts them
/// where it looks, which is under `HOME`.
const IMPORT_EXTENSIONS: &str = "\
from duckdb_extensions import import_extension
for name in ('icu', 'spatial', 'ducklake', 'httpfs', 'delta'):
    import_extension(name)
";

/// Where to find what was installed.
pub struct Installation {
    /// The Python which has the emulator's packages.
    pub python: PathBuf,
    /// The value for `HOME`.
    pub home: PathBuf,
    /// The folder of all this, where logs go too.
    pub folder: PathBuf,
}

/// Installs, unless an earlier run did; Err says what is lacking.
pub fn install() -> Result<Installation, String> {
    let folder = target_folder().join("emulators");
    let say = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(say)?;
    let installation = Installation {
        python: folder.join("venv/bin/python"),
        home: folder.join("home"),
        folder: folder.clone(),
    };
    // Test processes run concurrently; one installs while the others wait for it.
    let guard = File::create(folder.join("lock")).map_err(say)?;
    guard.lock().map_err(say)?;
    // The stamp is what was installed, so that other pins install again.
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return Ok(installation);
    }
    let python = python_3_13().ok_or("Python 3.13 was not found, which the emulator needs")?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).map_err(say)?;
    fs::create_dir_all(&installation.home).map_err(say)?;
    run(python
        .command()
        .args(["-m", "venv", "--clear"])
        .arg(folder.join("venv")))?;
    run(Command::new(&installation.python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&requirements))?;
    run(Command::new(&installation.python)
        .args(["-c", IMPORT_EXTENSIONS])
        .env("HOME", &installation.home))?;
    fs::write(&stamp, REQUIREMENTS).map_err(say)?;
    Ok(installation)
}

fn target_folder() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"))
}

struct Python {
    name: &'static str,
    pyenv_version: Option<&'static str>,
}

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        command.envs(self.pyenv_version.map(|version| ("PYENV_VERSION", version)));
        command
    }

    fn is_3_13(&self) -> bool {
        let show = "import sys; print('%d.%d' % sys.version_info[:2])";
        let output = self.command().args(["-c", show]).output();
        output.is_ok_and(|output| output.stdout.trim_ascii() == b"3.13")
    }
}

/// pyenv's shims refuse to run a version that is installed but not chosen, hence the first one.
fn python_3_13() -> Option<Python> {
    let candidates = [
        ("python3.13", Some("3.13.0")),
        ("python3.13", None),
        ("python3", None),
    ];
    let mut pythons = candidates.into_iter().map(|(name, pyenv_version)| Python {
        name,
        pyenv_version,
    });
    pythons.find(Python::is_3_13)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
