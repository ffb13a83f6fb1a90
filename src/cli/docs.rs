//! `docs`: the data dictionary.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::{Args, ValueEnum};

use super::options::reading_config;
use super::output::say;
use super::query::MEMORY;
use super::report::page_of;
use super::{Context, Exit};
use crate::catalog::Problems;
use crate::config::{BucketLocation, Config, WarehouseConfig};
use crate::error::Error;
use crate::load::{self, LocalWarehouse};
use crate::pipeline::Pipeline;
use crate::plan::Selection;
use crate::redact::{self, printable};
use crate::report::dictionary::Dictionary;
use crate::transform::{QueryTable, TransformError, bind_catalog, query};

/// Default output folder.
const DEFAULT_FOLDER: &str = "samsara-docs";
/// Number of rows that samples are taken from.
const SAMPLED_ROWS: usize = 100;
/// Number of samples of a column.
const SAMPLES: usize = 3;
/// Letters of a sample.
const SAMPLE_LETTERS: usize = 40;

/// Write a data dictionary: all tables with columns, types, descriptions, tests, SQL, and the endpoints and columns that
/// they come from.
///
/// `dictionary.html` is one searchable file that works offline, `dictionary.md` the same for a repository or wiki. Both are
/// made of the catalog, and of the state documents if the buckets are folders on this machine: rows, the last day with
/// rows, when it was last read. Nothing is requested. Data is read with --samples only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl docs
  samsara-etl docs --output public --freshness never
  samsara-etl docs --samples")]
pub(super) struct Docs {
    /// Folder to write to, replacing what is there
    #[arg(long, short, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    output: PathBuf,
    /// Tell how many rows each table has and how new they are, from the state documents in the raw bucket
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Freshness::Auto)]
    freshness: Freshness,
    /// Show values of each column, from the local warehouse: they may be personal, such as names of drivers, so the files
    /// are for you alone
    #[arg(long)]
    samples: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Freshness {
    /// If the raw bucket is a folder on this machine
    Auto,
    /// From Cloud Storage too
    Always,
    /// Not at all: the catalog alone decides what is written
    Never,
}

impl Docs {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = Arc::new(context.catalog()?);
        let (models, problems) = bind_catalog(&catalog).await?;
        if let Some(problems) = Problems::new(problems) {
            return Err(TransformError::Model(problems).into());
        }
        let mut dictionary = Dictionary::of(&catalog, models.values()).await?;
        if let Some(config) = self.state(context)? {
            let target = load::target_name(&config.warehouse);
            let selection = Selection::all(&catalog, false);
            let pipeline = Pipeline::looking(config, context.catalog()?)?;
            let page = page_of(&pipeline, selection, &target, None).await?;
            dictionary.add_freshness(&page.tables);
        }
        if self.samples {
            add_samples(&mut dictionary, context).await?;
        }
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
            write(&folder.join(name), &text, self.samples)?;
            say(format_args!("{}", self.output.join(name).display()));
        }
        Ok(Exit::Success)
    }

    /// Where the state documents are, if they are to be read.
    fn state(&self, context: &Context) -> Result<Option<Config>, Error> {
        if self.freshness == Freshness::Never {
            return Ok(None);
        }
        match reading_config(context) {
            Ok(config) => {
                let is_here =
                    matches!(&config.storage.raw, BucketLocation::Folder(path) if path.is_dir());
                Ok((is_here || self.freshness == Freshness::Always).then_some(config))
            }
            // The catalog's part needs no configuration.
            Err(error) if self.freshness == Freshness::Auto => {
                say(format_args!("note: freshness is left out: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Adds values from the local warehouse.
async fn add_samples(dictionary: &mut Dictionary, context: &Context) -> Result<(), Error> {
    let config = reading_config(context)?;
    let folder = match &config.warehouse {
        WarehouseConfig::Local(folder) if folder.is_dir() => folder,
        other => {
            return Err(Error::Usage(format!(
                "--samples reads a local warehouse, and {} is none: `samsara-etl run` without DWH_ID or `samsara-etl \
                 demo` makes one",
                redact::one_line(load::target_name(other))
            )));
        }
    };
    let local = LocalWarehouse::look(folder, &tokio::runtime::Handle::current())?;
    let names: BTreeSet<String> = dictionary.tables().map(str::to_string).collect();
    for table in local.tables().await? {
        let name = table.contract.table.clone();
        // The newest rows; one object is enough.
        let Some(newest) = table.objects.last().filter(|_| names.contains(&name)) else {
            continue;
        };
        let sampled = QueryTable {
            raw: false,
            schema: table.schema(),
            name: name.clone(),
            bucket: local.bucket().clone(),
            objects: vec![newest.clone()],
        };
        let sql = format!("SELECT * FROM \"{name}\" LIMIT {SAMPLED_ROWS}");
        let mut rows = query(&sql, std::slice::from_ref(&sampled), MEMORY).await?;
        let mut samples = BTreeMap::new();
        while let Some(batch) = rows.next().await? {
            sample(&batch, &mut samples)
                .map_err(|error| TransformError::Engine(Box::new(error.into())))?;
        }
        dictionary.add_samples(&name, samples);
    }
    Ok(())
}

/// Adds different values of each column, as long as there are few.
fn sample(
    batch: &RecordBatch,
    samples: &mut BTreeMap<String, Vec<String>>,
) -> Result<(), ArrowError> {
    let schema = batch.schema();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
        let known = samples.entry(field.name().clone()).or_default();
        for row in (0..column.len()).filter(|row| column.is_valid(*row)) {
            if known.len() == SAMPLES {
                break;
            }
            let value = shortened(&printable(&formatter.value(row).to_string()));
            if !value.is_empty() && !known.contains(&value) {
                known.push(value);
            }
        }
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SAMPLE_LETTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Readers see the old file or the new one, never a part.
fn write(path: &Path, text: &str, is_private: bool) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Without data it is to be published, unlike other temporary files.
    #[cfg(unix)]
    if !is_private {
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
