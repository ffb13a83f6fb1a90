//! What is wrong in the files, as the editor shows it.

use std::collections::BTreeSet;

use lsp_types::{Diagnostic, DiagnosticSeverity};
use serde_json::{Value, json};

use super::position::{offset, range_of_place};
use super::workspace::Workspace;
use crate::catalog::Problem;

/// What was told last, so that a file whose problems are gone is told to have none.
#[derive(Debug, Default)]
pub(super) struct Published {
    files: BTreeSet<String>,
}

impl Published {
    /// The parameters of `textDocument/publishDiagnostics` for each file that has problems, had some, or is open.
    pub(super) fn next(&mut self, workspace: &Workspace) -> Vec<Value> {
        let problems = workspace.problems();
        let of_path = |file: &String| workspace.path_of_file(file);
        let wrong: BTreeSet<String> = problems.keys().filter_map(of_path).collect();
        let open = workspace.open.keys().cloned();
        let mut files: BTreeSet<String> = wrong.iter().cloned().chain(open).collect();
        files.append(&mut self.files);
        self.files = wrong;
        let mut told = Vec::new();
        for path in files {
            let Some(uri) = workspace.uri_of(&path) else {
                continue;
            };
            let text = workspace.text(&path).unwrap_or_default();
            let found = problems
                .iter()
                .find(|(file, _)| workspace.path_of_file(file).as_ref() == Some(&path));
            let found = found.map(|(_, found)| found.as_slice()).unwrap_or_default();
            let diagnostics: Vec<Diagnostic> =
                found.iter().map(|it| diagnostic(text, it)).collect();
            let mut message = json!({ "uri": uri, "diagnostics": diagnostics });
            if let Some(document) = workspace.open.get(&path) {
                message["version"] = json!(document.version);
            }
            told.push(message);
        }
        told
    }
}

fn diagnostic(text: &str, problem: &Problem) -> Diagnostic {
    Diagnostic {
        range: range_of_place(text, problem.place),
        severity: Some(match problem.is_error() {
            true => DiagnosticSeverity::ERROR,
            false => DiagnosticSeverity::WARNING,
        }),
        source: Some("samsara-etl".into()),
        message: problem.reason.clone(),
        ..Diagnostic::default()
    }
}

/// Code actions that take the nearest name which problems tell.
pub(super) fn fixes(workspace: &Workspace, path: &str, diagnostics: &[Diagnostic]) -> Vec<Value> {
    let (Some(uri), Some(text)) = (workspace.uri_of(path), workspace.text(path)) else {
        return Vec::new();
    };
    let fix = |problem: &Diagnostic| {
        let told = problem.message.split("did you mean `").nth(1)?;
        let (name, _) = told.split_once("`?")?;
        let start = offset(text, problem.range.start);
        let written = text.get(start..offset(text, problem.range.end))?;
        let quote = written.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let quote = quote.map(String::from).unwrap_or_default();
        let edit = json!({ "range": problem.range, "newText": format!("{quote}{name}{quote}") });
        Some(json!({
            "title": format!("Write `{name}`"),
            "kind": "quickfix",
            "isPreferred": true,
            "diagnostics": [problem],
            "edit": { "changes": { uri.clone(): [edit] } },
        }))
    };
    diagnostics.iter().filter_map(fix).collect()
}
