//! What the HTML pages share: head, style, and a policy that allows exactly their own style sheet and script.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minijinja::{Environment, Value, context};
use sha2::{Digest, Sha256};

/// Head and frame of a page; its own template extends it.
const SHELL: &str = include_str!("shell.html");

/// A page that cannot be made: a fault of its template.
#[derive(Debug, thiserror::Error)]
#[error("the page cannot be written as HTML: {0}")]
pub struct HtmlError(#[from] minijinja::Error);

/// A page's own template, style sheet and script.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shell {
    /// Extends `shell.html`.
    pub page: &'static str,
    pub style: &'static str,
    /// Empty for a page without one.
    pub script: &'static str,
}

impl Shell {
    /// The page with these values.
    pub(super) fn render(
        &self,
        mut environment: Environment<'_>,
        values: Value,
    ) -> Result<String, HtmlError> {
        environment.add_template("shell.html", SHELL)?;
        environment.add_template("page.html", self.page)?;
        let script = match self.script.is_empty() {
            true => "'none'".to_string(),
            false => format!("'sha256-{}'", digest(self.script)),
        };
        let policy = format!(
            "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-{}'; script-src {script}",
            digest(self.style)
        );
        let values = context! {
            policy,
            version => env!("CARGO_PKG_VERSION"),
            style => Value::from_safe_string(self.style.into()),
            script => Value::from_safe_string(self.script.into()),
            ..values
        };
        Ok(environment.get_template("page.html")?.render(values)?)
    }
}

fn digest(text: &str) -> String {
    BASE64_STANDARD.encode(Sha256::digest(text))
}
