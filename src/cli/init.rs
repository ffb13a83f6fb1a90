//! `init`: writes a `.env` to begin with.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::path::Path;

use clap::Args;
use console::Term;

use super::output::{say, say_part};
use super::{Context, Exit};
use crate::config::env::{self, Variable};
use crate::config::{Config, Environment, LOCAL_FOLDER, Overrides};
use crate::error::Error;
use crate::redact;

/// Write .env from options, and from prompts for the rest. An existing .env is kept.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl init
  samsara-etl init --token-stdin --no-input < token.txt
  samsara-etl init --raw-bucket my-raw --flattened-bucket my-flat --project my-project --dataset dwh_samsara")]
pub(super) struct Init {
    /// Read the API token from stdin, so that it stays out of the shell history [default: SAMSARA_API_TOKEN, or a prompt]
    #[arg(long)]
    token_stdin: bool,
    /// Region of the organisation: us, eu or ca [default: the one that accepts the token]
    #[arg(long)]
    region: Option<String>,
    /// Raw bucket: a name, or file:///folder [default: ./samsara-data]
    #[arg(long, value_name = "BUCKET", requires = "flattened_bucket")]
    raw_bucket: Option<String>,
    /// Flattened bucket, written likewise
    #[arg(long, value_name = "BUCKET", requires = "raw_bucket")]
    flattened_bucket: Option<String>,
    /// Google Cloud project
    #[arg(long)]
    project: Option<String>,
    /// BigQuery dataset of the tables [default: a local warehouse]
    #[arg(long)]
    dataset: Option<String>,
    /// Location of the dataset, such as EU
    #[arg(long)]
    location: Option<String>,
    /// Service-account key file in ./credentials
    #[arg(long, value_name = "FILE")]
    credentials: Option<String>,
    /// Ask nothing
    #[arg(long)]
    no_input: bool,
}

/// Maximum length of a token.
const LONGEST_TOKEN: u64 = 4096;

/// Refuses values now that commands would refuse later.
fn check_values(values: &[(Variable, String)], context: &Context) -> Result<(), Error> {
    if let Some((variable, _)) = values.iter().find(|(_, value)| value.contains("${")) {
        return Err(Error::Usage(format!(
            "{}: `${{` cannot be used in an .env file, where it refers to another variable: set it in the environment",
            variable.name
        )));
    }
    let pairs = values.iter();
    let pairs = pairs.map(|(variable, value)| (variable.name, value.as_str()));
    Config::resolve(
        &Environment::from_pairs(pairs),
        &Overrides::default(),
        &context.directory,
        LOCAL_FOLDER,
    )?;
    Ok(())
}

impl Init {
    pub(super) fn execute(self, context: &Context) -> Result<Exit, Error> {
        let path = context.env_file();
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(exists(&path));
        }
        let asks = !self.no_input && !self.token_stdin && std::io::stdin().is_terminal();
        let token = self.token(asks)?;
        let ask = |question: &str, given: Option<String>| match given {
            None if asks => answer(question),
            given => Ok(given.unwrap_or_default()),
        };
        let raw = ask(
            "raw bucket (empty: the folder ./samsara-data)",
            self.raw_bucket,
        )?;
        let mut values = vec![(env::SAMSARA_API_TOKEN, token)];
        let mut set = |variable: Variable, value: String| {
            if !value.is_empty() {
                values.push((variable, value));
            }
        };
        set(env::SAMSARA_REGION, self.region.unwrap_or_default());
        if raw.is_empty() {
            set(
                env::GCS_BUCKET_FLATTENED_NAME,
                self.flattened_bucket.unwrap_or_default(),
            );
        } else {
            set(env::GCS_BUCKET_NAME, raw);
            set(
                env::GCS_BUCKET_FLATTENED_NAME,
                ask("flattened bucket", self.flattened_bucket)?,
            );
        }
        let dataset = ask("BigQuery dataset (empty: local files)", self.dataset)?;
        let is_loaded = !dataset.is_empty();
        set(env::DWH_ID, dataset);
        let project = match self.project {
            None if asks && is_loaded => {
                answer("Google Cloud project (empty: that of the key file)")?
            }
            project => project.unwrap_or_default(),
        };
        set(env::GOOGLE_CLOUD_PROJECT, project);
        set(env::BIGQUERY_LOCATION, self.location.unwrap_or_default());
        set(
            env::GCP_CREDENTIALS_FILE_NAME,
            self.credentials.unwrap_or_default(),
        );
        check_values(&values, context)?;
        write_private(&path, &text(&values))?;
        say(format_args!(
            "{} is written, readable by you alone; next: `samsara-etl check`, then `samsara-etl run --lookback-days 7`",
            path.display()
        ));
        Ok(Exit::Success)
    }

    fn token(&self, asks: bool) -> Result<String, Error> {
        let token = if self.token_stdin {
            let mut token = String::new();
            let read = std::io::stdin()
                .lock()
                .take(LONGEST_TOKEN)
                .read_to_string(&mut token);
            read.map_err(|source| Error::System {
                what: "cannot read the token from stdin".into(),
                source,
            })?;
            token
        } else if let Some(token) = Environment::of_process().get(env::SAMSARA_API_TOKEN) {
            token.to_string()
        } else if asks {
            say_part("Samsara API token (Settings > API Tokens; it is not shown): ");
            Term::stderr()
                .read_secure_line()
                .map_err(|source| Error::System {
                    what: "cannot read the token".into(),
                    source,
                })?
        } else {
            String::new()
        };
        let token = token.trim().to_string();
        if token.is_empty() {
            return Err(Error::Usage(
                "no API token: give it with --token-stdin or in SAMSARA_API_TOKEN, or run init on a terminal".into(),
            ));
        }
        redact::register(&token);
        Ok(token)
    }
}

fn exists(path: &Path) -> Error {
    Error::Usage(format!(
        "{} is there already and stays as it is: change it in an editor, or move it away first",
        path.display()
    ))
}

fn answer(question: &str) -> Result<String, Error> {
    say_part(format_args!("{question}: "));
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|source| Error::System {
            what: "cannot read the answer".into(),
            source,
        })?;
    Ok(line.trim().to_string())
}

/// Lines of a `.env`, each with what its variable means.
fn text(values: &[(Variable, String)]) -> String {
    let mut text =
        String::from("# Written by `samsara-etl init`; README.md describes the other variables.\n");
    for (variable, value) in values {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@+=".contains(letter);
        let value = match value.chars().all(is_plain) {
            true => value.clone(),
            false => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
        };
        // Writing into a String cannot fail.
        let _ = write!(text, "\n#{}\n{}={value}\n", variable.meaning, variable.name);
    }
    text
}

/// Writes a new file that only its owner may read.
fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
        Err(source) => Err(Error::System {
            what: format!("cannot write {}", path.display()),
            source,
        }),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_is_read_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        let values = [
            (env::SAMSARA_API_TOKEN, "samsara_api_A1b2".to_string()),
            (env::GCS_BUCKET_NAME, "a b'c\\d#e $HOME \"x\"".to_string()),
        ];
        write_private(&path, &text(&values)).unwrap();
        let environment = Environment::read(folder.path()).unwrap();
        for (variable, value) in &values {
            assert_eq!(environment.get(*variable), Some(value.as_str()));
        }
        assert!(
            write_private(&path, "")
                .unwrap_err()
                .to_string()
                .contains("stays as it is")
        );
    }
}
