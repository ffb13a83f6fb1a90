//! A Language Server for models: problems while typing, completion, hover, definitions, renaming, previews.
//!
//! Editors start it and speak the Language Server Protocol over stdin and stdout; nothing else is written to stdout.
//! Messages are handled one after the other, and problems are told once no message waits. What reads rows runs beside
//! that.

mod actions;
mod completion;
mod definition;
mod diagnostics;
mod front_matter;
mod hover;
mod lexer;
mod position;
mod rename;
mod resolve;
mod scope;
mod source_keys;
mod transport;
mod words;
mod workspace;

use std::collections::HashMap;
use std::io::BufReader;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;
use futures::FutureExt;
use lsp_server::{ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::{
    CodeActionParams, DidChangeTextDocumentParams, DidCloseTextDocumentParams,
    DidOpenTextDocumentParams, ExecuteCommandParams, RenameParams, TextDocumentPositionParams,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

use self::diagnostics::Published;
use self::transport::{Incoming, Outgoing};
use self::workspace::{Document, Workspace};
use crate::config::Config;
use crate::error::Error;

/// What a server is started with.
pub struct Options {
    /// The folder of sources and models; none: `sql` in the folder that the editor has open, or in `directory`.
    pub sql_dir: Option<PathBuf>,
    /// The working directory.
    pub directory: PathBuf,
    /// The configuration, for what reads rows. It is read anew each time.
    pub config: Arc<dyn Fn() -> Result<Config, Error> + Send + Sync>,
}

/// Speaks with an editor until that says `exit`, or its end of the pipe is closed. Gives whether it ended as the protocol
/// says, with `shutdown` before.
///
/// # Errors
/// [`Error::System`] if no thread can be started.
pub async fn serve(options: Options) -> Result<bool, Error> {
    let (sender, mut messages) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("lsp".into())
        .spawn(move || {
            let mut input = BufReader::new(std::io::stdin());
            loop {
                match transport::read(&mut input) {
                    Ok(Some(message)) => {
                        if sender.send(message).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!("the editor's messages cannot be read: {error}");
                        return;
                    }
                    Ok(None) => return,
                }
            }
        })
        .map_err(|source| Error::System {
            what: "cannot start threads".into(),
            source,
        })?;
    let mut server = Server::new(options, Outgoing::new(std::io::stdout()));
    while let Some(message) = server.next(&mut messages).await {
        match message {
            Incoming::Bad(reason) => {
                tracing::warn!("a message was passed over: {reason}");
                server.out.refuse(&reason);
            }
            Incoming::Message(Message::Notification(it)) if it.method == "exit" => break,
            Incoming::Message(message) => server.handle(message).await,
        }
    }
    Ok(server.stage == Stage::ShutDown)
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Started,
    Initialized,
    ShutDown,
}

/// A refusal, as the protocol has it.
struct Refusal {
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

type Answer = Result<Value, Refusal>;

struct Server {
    options: Options,
    out: Arc<Outgoing>,
    stage: Stage,
    workspace: Option<Workspace>,
    published: Published,
    /// Whether files have changed since the catalog was looked at.
    is_stale: bool,
    /// Models to bind before problems are told.
    pending: Vec<String>,
    /// Whether problems have changed since they were told.
    is_untold: bool,
    /// Whether the editor shows documents on request.
    shows_documents: bool,
    /// Where shown documents are written.
    shown: Option<TempDir>,
    tasks: JoinSet<RequestId>,
    running: HashMap<RequestId, AbortHandle>,
    /// Number of the server's own requests.
    requests: i32,
}

impl Server {
    fn new(options: Options, out: Outgoing) -> Self {
        Self {
            options,
            out: Arc::new(out),
            stage: Stage::Started,
            workspace: None,
            published: Published::default(),
            is_stale: false,
            pending: Vec::new(),
            is_untold: false,
            shows_documents: false,
            shown: None,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            requests: 0,
        }
    }

    /// The next message. While none waits, files are looked at and models bound.
    async fn next(&mut self, messages: &mut UnboundedReceiver<Incoming>) -> Option<Incoming> {
        loop {
            match messages.try_recv() {
                Ok(message) => return Some(message),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let worked = AssertUnwindSafe(self.work()).catch_unwind().await;
            match worked {
                Ok(true) => continue,
                Ok(false) => {}
                // The panic is told on stderr; it would come again.
                Err(_) => {
                    self.pending.clear();
                    (self.is_stale, self.is_untold) = (false, false);
                }
            }
            tokio::select! {
                message = messages.recv() => return message,
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(id) = ended {
                        self.running.remove(&id);
                    }
                }
            }
        }
    }

    /// One step of what there is to do. False if there is nothing.
    async fn work(&mut self) -> bool {
        if self.is_stale {
            self.look();
            return true;
        }
        let Some(workspace) = &mut self.workspace else {
            return false;
        };
        if let Some(name) = self.pending.pop() {
            workspace.bind(&name).await;
            return true;
        }
        if self.is_untold {
            self.is_untold = false;
            for parameters in self.published.next(workspace) {
                let method = "textDocument/publishDiagnostics".to_string();
                self.out.send(Notification::new(method, parameters));
            }
            // The rest is not waited for.
            return true;
        }
        let Some(name) = workspace.unbound() else {
            return false;
        };
        workspace.bind(&name).await;
        self.is_untold = workspace.unbound().is_none();
        true
    }

    /// Looks at all files again, if they have changed.
    fn look(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        if let Some(workspace) = &mut self.workspace {
            if let Err(error) = workspace.check() {
                tracing::warn!("{error}");
            }
            self.pending = workspace.wanted();
            self.is_untold = true;
        }
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Request(Request { id, method, params }) => {
                let answered = self.answer(&id, &method, params);
                let answer = AssertUnwindSafe(answered).catch_unwind().await;
                let internal =
                    || Refusal::new(ErrorCode::InternalError, "an internal error, see stderr");
                match answer.unwrap_or_else(|_| Err(internal())) {
                    // It answers itself, once it is done.
                    Ok(Value::Null) if self.running.contains_key(&id) => {}
                    Ok(value) => self.out.send(Response::new_ok(id, value)),
                    Err(Refusal { code, message }) => {
                        self.out.send(Response::new_err(id, code as i32, message));
                    }
                }
            }
            Message::Notification(Notification { method, params }) => {
                if self.stage == Stage::Initialized
                    && let Err(refusal) = self.take(&method, params)
                {
                    tracing::warn!("{method}: {}", refusal.message);
                }
            }
            Message::Response(_) => {}
        }
    }

    async fn answer(&mut self, id: &RequestId, method: &str, params: Value) -> Answer {
        match (self.stage, method) {
            (Stage::Started, "initialize") => Ok(self.initialize(&params)),
            (Stage::Started, _) => Err(Refusal::new(
                ErrorCode::ServerNotInitialized,
                "the first request must be `initialize`",
            )),
            (Stage::ShutDown, _) | (_, "initialize") => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("`{method}` is not expected here"),
            )),
            (Stage::Initialized, "shutdown") => {
                self.stage = Stage::ShutDown;
                self.tasks.abort_all();
                Ok(Value::Null)
            }
            (Stage::Initialized, "workspace/executeCommand") => self.execute(id, parsed(params)?),
            (Stage::Initialized, _) => {
                self.look();
                match &mut self.workspace {
                    Some(workspace) => ask(workspace, method, params).await,
                    None => Ok(Value::Null),
                }
            }
        }
    }

    fn initialize(&mut self, params: &Value) -> Value {
        self.stage = Stage::Initialized;
        let shows = "/capabilities/window/showDocument/support";
        self.shows_documents = params.pointer(shows) == Some(&Value::Bool(true));
        let folders = params
            .pointer("/workspaceFolders")
            .and_then(Value::as_array);
        let folders = folders.into_iter().flatten();
        let named = folders.filter_map(|it| it.get("uri")?.as_str());
        let root = params.get("rootUri").and_then(Value::as_str);
        let paths = named
            .chain(root)
            .filter_map(|uri| Url::parse(uri).ok()?.to_file_path().ok());
        let given = self
            .options
            .sql_dir
            .iter()
            .map(|it| self.options.directory.join(it));
        let found = match self.options.sql_dir {
            Some(_) => given.into_iter().next(),
            None => paths
                .chain([self.options.directory.clone()])
                .flat_map(|path| [path.join("sql"), path])
                .find(|path| is_catalog(path)),
        };
        if let Some(folder) = found {
            self.open_folder(&folder);
        }
        let commands = [actions::PREVIEW, actions::DIFF];
        json!({
            "serverInfo": { "name": "samsara-etl", "version": env!("CARGO_PKG_VERSION") },
            "capabilities": {
                "positionEncoding": "utf-16",
                "textDocumentSync": { "openClose": true, "change": 2, "save": {} },
                "completionProvider": { "triggerCharacters": [".", "'", "[", "\""] },
                "hoverProvider": true,
                "definitionProvider": true,
                "renameProvider": { "prepareProvider": true },
                "codeActionProvider": true,
                "executeCommandProvider": { "commands": commands },
            }
        })
    }

    fn open_folder(&mut self, folder: &Path) {
        match Workspace::open(folder) {
            Ok(workspace) => {
                self.workspace = Some(workspace);
                self.is_stale = true;
            }
            Err(error) => {
                tracing::warn!("{error}");
                let parameters = json!({ "type": 2, "message": error });
                let method = "window/showMessage".to_string();
                self.out.send(Notification::new(method, parameters));
            }
        }
    }

    /// Takes what the editor tells.
    fn take(&mut self, method: &str, params: Value) -> Result<(), Refusal> {
        match method {
            "textDocument/didOpen" => {
                let DidOpenTextDocumentParams { text_document: it } = parsed(params)?;
                let uri = it.uri.to_string();
                // A folder that the editor did not name: `sql/<family>/<file>`, or `sql/settings.toml`.
                if self.workspace.is_none()
                    && let Some(path) = Url::parse(&uri).ok().and_then(|it| it.to_file_path().ok())
                    && let Some(folder) = path.ancestors().skip(1).take(2).find(|it| is_catalog(it))
                {
                    self.open_folder(folder);
                }
                let document = Document {
                    uri: uri.clone(),
                    text: it.text,
                    version: it.version,
                };
                self.set(&uri, Some(document));
            }
            "textDocument/didChange" => {
                let params: DidChangeTextDocumentParams = parsed(params)?;
                let uri = params.text_document.uri.to_string();
                let Some(mut document) = self.document(&uri).cloned() else {
                    return Ok(());
                };
                for change in params.content_changes {
                    document.text = position::changed(&document.text, change.range, &change.text);
                }
                document.version = params.text_document.version;
                self.set(&uri, Some(document));
            }
            "textDocument/didClose" => {
                let params: DidCloseTextDocumentParams = parsed(params)?;
                self.set(&params.text_document.uri.to_string(), None);
                self.reread();
            }
            "textDocument/didSave" | "workspace/didChangeWatchedFiles" => self.reread(),
            "$/cancelRequest" => {
                let id: Option<RequestId> =
                    params.get("id").cloned().and_then(|id| parsed(id).ok());
                if let Some((id, task)) = id.and_then(|id| self.running.remove_entry(&id)) {
                    task.abort();
                    let code = ErrorCode::RequestCanceled as i32;
                    self.out
                        .send(Response::new_err(id, code, "cancelled".into()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn document(&self, uri: &str) -> Option<&Document> {
        let workspace = self.workspace.as_ref()?;
        workspace.open.get(&workspace.path_of(uri)?)
    }

    fn set(&mut self, uri: &str, document: Option<Document>) {
        if let Some(workspace) = &mut self.workspace
            && let Some(path) = workspace.path_of(uri)
        {
            workspace.set(&path, document);
            self.is_stale = true;
        }
    }

    fn reread(&mut self) {
        if let Some(workspace) = &mut self.workspace {
            if let Err(error) = workspace.reread() {
                tracing::warn!("{error}");
            }
            self.is_stale = true;
        }
    }

    /// Begins a command, which answers when it is done.
    fn execute(&mut self, id: &RequestId, params: ExecuteCommandParams) -> Answer {
        let invalid = |message: &str| Refusal::new(ErrorCode::InvalidParams, message);
        let command = params.command;
        if ![actions::PREVIEW, actions::DIFF].contains(&command.as_str()) {
            return Err(invalid(&format!("unknown command `{command}`")));
        }
        let mut arguments = params.arguments.iter().map(Value::as_str);
        let model = arguments.next().flatten();
        let model = model.ok_or_else(|| invalid("the first argument is the name of a model"))?;
        let day: Option<NaiveDate> = match arguments.next().flatten() {
            Some(day) => {
                let day = day.parse();
                Some(day.map_err(|_| invalid("the second argument is a day, 2024-01-31"))?)
            }
            None => None,
        };
        self.look();
        let failed = |error: Error| Refusal::new(ErrorCode::RequestFailed, error.to_string());
        let Some(workspace) = &self.workspace else {
            return Err(invalid("no folder of models is open"));
        };
        let catalog = workspace.catalog().clone();
        let config = (self.options.config)().map_err(failed)?;
        let name = format!("{model}{}.md", command.trim_start_matches("samsara-etl"));
        let file = self
            .shows_documents
            .then(|| self.shown_file(&name))
            .flatten();
        self.requests += 1;
        let (out, model, request) = (self.out.clone(), model.to_string(), self.requests);
        let own = id.clone();
        let task = async move {
            match actions::run(&command, config, catalog, &model, day).await {
                Ok(text) => {
                    show(&out, request, file.as_deref(), &text).await;
                    out.send(Response::new_ok(own.clone(), text));
                }
                Err(error) => {
                    let message = crate::redact::one_line(&error);
                    let code = ErrorCode::RequestFailed as i32;
                    out.send(Response::new_err(own.clone(), code, message));
                }
            }
            own
        };
        let task = self.tasks.spawn(task);
        self.running.insert(id.clone(), task);
        Ok(Value::Null)
    }

    /// Where a document is written that is to be shown.
    fn shown_file(&mut self, name: &str) -> Option<PathBuf> {
        if self.shown.is_none() {
            self.shown = tempfile::Builder::new()
                .prefix("samsara-etl-")
                .tempdir()
                .ok();
        }
        // The names of models are those of files.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        Some(self.shown.as_ref()?.path().join(name)).filter(|_| name.chars().all(is_plain))
    }
}

/// Shows a text: as a document where the editor can, else as a message.
async fn show(out: &Outgoing, request: i32, file: Option<&Path>, text: &str) {
    let uri = match file {
        Some(file) if tokio::fs::write(file, text).await.is_ok() => Url::from_file_path(file).ok(),
        _ => None,
    };
    let message: Message = match uri {
        Some(uri) => {
            let params = json!({ "uri": uri.to_string(), "takeFocus": true });
            let id = RequestId::from(format!("show-{request}"));
            Request::new(id, "window/showDocument".into(), params).into()
        }
        None => {
            let params = json!({ "type": 3, "message": text });
            Notification::new("window/showMessage".into(), params).into()
        }
    };
    out.send(message);
}

/// Whether a folder has sources.
fn is_catalog(folder: &Path) -> bool {
    let families = std::fs::read_dir(folder);
    let mut families = families.into_iter().flatten().flatten();
    families.any(|family| family.path().join("sources.toml").is_file())
}

fn parsed<T: DeserializeOwned>(params: Value) -> Result<T, Refusal> {
    serde_json::from_value(params)
        .map_err(|error| Refusal::new(ErrorCode::InvalidParams, error.to_string()))
}

/// Answers a question about a text.
async fn ask(workspace: &mut Workspace, method: &str, params: Value) -> Answer {
    if method == "textDocument/codeAction" {
        let params: CodeActionParams = parsed(params)?;
        let path = workspace.path_of(&params.text_document.uri.to_string());
        let Some(path) = path else {
            return Ok(json!([]));
        };
        let mut all = diagnostics::fixes(workspace, &path, &params.context.diagnostics);
        all.extend(code_actions(workspace, &path));
        return Ok(all.into());
    }
    let methods = [
        "completion",
        "hover",
        "definition",
        "prepareRename",
        "rename",
    ];
    let method = method
        .strip_prefix("textDocument/")
        .filter(|it| methods.contains(it));
    let Some(method) = method else {
        return Err(Refusal::new(ErrorCode::MethodNotFound, "not supported"));
    };
    let new_name = match method {
        "rename" => parsed::<RenameParams>(params.clone())?.new_name,
        _ => String::new(),
    };
    let params: TextDocumentPositionParams = parsed(params)?;
    let Some(path) = workspace.path_of(&params.text_document.uri.to_string()) else {
        return Ok(Value::Null);
    };
    let Some(text) = workspace.text(&path).map(String::from) else {
        return Ok(Value::Null);
    };
    let offset = position::offset(&text, params.position);
    workspace.bind_tables_of(&text).await;
    if let Some(name) = workspace.model_of(&path).map(|model| model.name.clone()) {
        workspace.bind(&name).await;
    }
    match method {
        "completion" => {
            let items = completion::complete(workspace, &path, &text, offset).await;
            Ok(json!({ "isIncomplete": false, "items": items }))
        }
        "hover" => {
            let found = hover::hover(workspace, &path, &text, offset).await;
            Ok(found.map_or(Value::Null, |(value, bytes)| {
                let range = position::range(&text, bytes);
                json!({ "contents": { "kind": "markdown", "value": value }, "range": range })
            }))
        }
        "definition" => {
            let found = definition::definition(workspace, &path, &text, offset).await;
            let location = found.and_then(|(path, bytes)| {
                let range = position::range(workspace.text(&path)?, bytes);
                Some(json!({ "uri": workspace.uri_of(&path)?, "range": range }))
            });
            Ok(location.unwrap_or(Value::Null))
        }
        "prepareRename" => {
            let column = rename::column_at(workspace, &path, &text, offset).await;
            Ok(column.map_or(Value::Null, |column| {
                let range = position::range(&text, column.place);
                json!({ "range": range, "placeholder": column.name })
            }))
        }
        _ => {
            let refused = |reason| Refusal::new(ErrorCode::RequestFailed, reason);
            let edits = rename::rename(workspace, &path, &text, offset, &new_name).await;
            Ok(json!({ "changes": changes(workspace, edits.map_err(refused)?) }))
        }
    }
}

/// Edits of files, as the editor takes them.
fn changes(workspace: &Workspace, edits: rename::Edits) -> Value {
    let mut all = serde_json::Map::new();
    for (path, edits) in edits {
        let Some(uri) = workspace.uri_of(&path) else {
            continue;
        };
        let text = match workspace.text(&path) {
            Some(text) => text.to_string(),
            // The expected rows of a test are no file of the catalog.
            None => match workspace.read(&path) {
                Some(text) => text,
                None => continue,
            },
        };
        let edit = |(bytes, new): (std::ops::Range<usize>, String)| json!({ "range": position::range(&text, bytes), "newText": new });
        all.insert(uri, edits.into_iter().map(edit).collect());
    }
    Value::Object(all)
}

/// What can be done with a model.
fn code_actions(workspace: &Workspace, path: &str) -> Vec<Value> {
    let Some(model) = workspace.model_of(path) else {
        return Vec::new();
    };
    let action = |title: String, command: &str| {
        let name = &model.name;
        let command = json!({ "title": title, "command": command, "arguments": [name] });
        json!({ "title": title, "kind": "source", "command": command })
    };
    vec![
        action(format!("Preview rows of {}", model.name), actions::PREVIEW),
        action(
            format!("Diff {} with what is committed", model.name),
            actions::DIFF,
        ),
    ]
}
