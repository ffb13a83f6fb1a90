//! `docs`: the data dictionary.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::output::say;
use super::{Context, Exit};
use crate::catalog::Problems;
use crate::error::Error;
use crate::report::dictionary::Dictionary;
use crate::transform::{TransformError, bind_catalog};

/// Default output folder.
const DEFAULT_FOLDER: &str = "samsara-docs";

/// Write a data dictionary: all tables with columns, types, descriptions, tests, SQL, and the endpoints and columns that
/// they come from.
///
/// `dictionary.html` is one searchable file that works offline, `dictionary.md` the same for a repository or wiki. Both are
/// made of the catalog alone: nothing is requested, and no data is read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl docs
  samsara-etl docs --output public")]
pub(super) struct Docs {
    /// Folder to write to, replacing what is there
    #[arg(long, short, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    output: PathBuf,
}

impl Docs {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = Arc::new(context.catalog()?);
        let (models, problems) = bind_catalog(&catalog).await?;
        if let Some(problems) = Problems::new(problems) {
            return Err(TransformError::Model(problems).into());
        }
        let dictionary = Dictionary::of(&catalog, models.values()).await?;
        let rendered = |result: Result<String, _>| {
            result.map_err(|error| Error::System {
                what: "cannot make the dictionary".into(),
                source: std::io::Error::other(error),
            })
        };
        let (html, markdown) = (
            rendered(dictionary.html())?,
            rendered(dictionary.markdown())?,
        );
        let folder = context.directory.join(&self.output);
        std::fs::create_dir_all(&folder).map_err(|source| Error::System {
            what: format!("cannot make the folder {}", folder.display()),
            source,
        })?;
        for (name, text) in [("dictionary.html", html), ("dictionary.md", markdown)] {
            write(&folder.join(name), &text)?;
            say(format_args!("{}", self.output.join(name).display()));
        }
        Ok(Exit::Success)
    }
}

/// Readers see the old file or the new one, never a part.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // It is meant to be published, unlike other temporary files.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let written = builder.tempfile_in(folder).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    });
    written.map_err(|source| Error::System {
        what: format!("cannot write {}", path.display()),
        source,
    })
}
