//! `lsp`: a Language Server for editors.

use std::sync::Arc;

use clap::Args;

use super::options::reading_config_of;
use super::{Context, Exit};
use crate::error::Error;
use crate::lsp;

/// Speak the Language Server Protocol over stdin and stdout: problems, completion, hover and more while you edit models.
///
/// Editors start it (docs/editor.md tells how). It works on the folder of models that the editor has open, with texts that
/// are not saved yet; it needs no token and no warehouse. Its log goes to stderr.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  samsara-etl lsp")]
pub(super) struct Lsp {
    /// Accepted because many editors give it: stdin and stdout are the only way
    #[arg(long)]
    stdio: bool,
}

impl Lsp {
    pub(super) async fn execute(self, context: &Context) -> Result<Exit, Error> {
        let reader = context.without_log();
        let options = lsp::Options {
            sql_dir: context.sql_dir.clone(),
            directory: context.directory.clone(),
            config: Arc::new(move || reading_config_of(&reader, None)),
        };
        let is_clean = lsp::serve(options).await?;
        Ok(match is_clean {
            true => Exit::Success,
            false => Exit::Failure,
        })
    }
}
