//! `lsp`: an editor speaks with the program over stdin and stdout.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::program::{Program, simulator};
use crate::rerun::copy_families;

/// An editor.
struct Editor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    root: String,
    texts: BTreeMap<String, String>,
    problems: BTreeMap<String, Value>,
    /// Requests and messages of the server.
    asked: VecDeque<Value>,
    id: i64,
}

impl Editor {
    async fn start(program: &Program, capabilities: Value) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samsara-etl"));
        command.args(["lsp", "--stdio"]);
        program.prepare(&mut command);
        command.stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let root = program.folder().canonicalize().unwrap();
        let mut editor = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            root: format!("file://{}", root.display()),
            texts: BTreeMap::new(),
            problems: BTreeMap::new(),
            asked: VecDeque::new(),
            id: 0,
        };
        // Nothing is answered before `initialize`.
        let early = editor.request("textDocument/hover", json!({})).await;
        assert_eq!(early["error"]["code"], -32002, "{early}");
        let params =
            json!({ "processId": null, "rootUri": editor.root, "capabilities": capabilities });
        let answer = editor.request("initialize", params).await;
        assert_eq!(
            answer["result"]["capabilities"]["positionEncoding"],
            "utf-16"
        );
        editor.notify("initialized", json!({})).await;
        editor
    }

    async fn write(&mut self, text: &str) {
        let head = format!("Content-Length: {}\r\n\r\n", text.len());
        self.input.write_all(head.as_bytes()).await.unwrap();
        self.input.write_all(text.as_bytes()).await.unwrap();
    }

    async fn notify(&mut self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.write(&message.to_string()).await;
    }

    /// The next message. Everything on stdout must be one.
    async fn read(&mut self) -> Value {
        let mut head = String::new();
        self.output.read_line(&mut head).await.unwrap();
        let length = head.strip_prefix("Content-Length: ");
        let length = length.unwrap_or_else(|| panic!("not of the protocol: {head:?}"));
        let mut body = vec![0; length.trim().parse().unwrap()];
        self.output.read_line(&mut head).await.unwrap();
        self.output.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Reads until a message fits, and keeps what else comes.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.read().await;
            if message["method"] == "textDocument/publishDiagnostics" {
                let uri = message["params"]["uri"].as_str().unwrap().to_string();
                self.problems.insert(uri, message["params"].clone());
            } else if message.get("method").is_some() {
                self.asked.push_back(message.clone());
            }
            if fits(&message) {
                return message;
            }
        }
    }

    async fn request(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let id = self.id;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.write(&message.to_string()).await;
        self.until(|message| message["id"] == id && message.get("method").is_none())
            .await
    }

    fn uri(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    /// Opens a text, or changes it whole.
    async fn set(&mut self, path: &str, text: &str) {
        let uri = self.uri(path);
        let version = self.texts.len();
        match self.texts.insert(path.to_string(), text.to_string()) {
            None => {
                let document =
                    json!({ "uri": uri, "languageId": "sql", "version": version, "text": text });
                let params = json!({ "textDocument": document });
                self.notify("textDocument/didOpen", params).await;
            }
            Some(_) => {
                let params = json!({
                    "textDocument": { "uri": uri, "version": version + 1 },
                    "contentChanges": [{ "text": text }],
                });
                self.notify("textDocument/didChange", params).await;
            }
        }
    }

    /// Sends a request about the position of `|` in a text, which the editor then has without it.
    async fn at(&mut self, method: &str, path: &str, marked: &str, mut more: Value) -> Value {
        let offset = marked.find('|').unwrap();
        let text = marked.replacen('|', "", 1);
        self.set(path, &text).await;
        let line = text[..offset].matches('\n').count();
        let begin = text[..offset].rfind('\n').map_or(0, |at| at + 1);
        let character = text[begin..offset].encode_utf16().count();
        more["textDocument"] = json!({ "uri": self.uri(path) });
        more["position"] = json!({ "line": line, "character": character });
        self.request(&format!("textDocument/{method}"), more).await
    }

    /// The names that are offered at `|`.
    async fn offers(&mut self, path: &str, marked: &str) -> Vec<String> {
        let answer = self.at("completion", path, marked, json!({})).await;
        let items = answer["result"]["items"].as_array().unwrap();
        let labels = items
            .iter()
            .map(|it| it["label"].as_str().unwrap().to_string());
        labels.collect()
    }

    async fn hover(&mut self, path: &str, marked: &str) -> String {
        let answer = self.at("hover", path, marked, json!({})).await;
        let text = answer["result"]["contents"]["value"].as_str();
        text.unwrap_or_else(|| panic!("{marked}: {answer}"))
            .to_string()
    }

    /// The text at the place where that at `|` is defined, with its file.
    async fn definition(&mut self, program: &Program, path: &str, marked: &str) -> String {
        let answer = self.at("definition", path, marked, json!({})).await;
        let uri = answer["result"]["uri"].as_str();
        let uri = uri.unwrap_or_else(|| panic!("{marked}: {answer}"));
        let file = uri.strip_prefix(&format!("{}/", self.root)).unwrap();
        let text = match self.texts.get(file) {
            Some(text) => text.clone(),
            None => std::fs::read_to_string(program.folder().join(file)).unwrap(),
        };
        let line = answer["result"]["range"]["start"]["line"].as_u64().unwrap();
        let line = text.lines().nth(line as usize).unwrap().trim();
        format!("{file}: {line}")
    }

    /// The problems of a file, once they fit: `line:from-to severity reason`.
    async fn problems(&mut self, path: &str, fits: impl Fn(&[String]) -> bool) -> Vec<String> {
        let uri = self.uri(path);
        loop {
            if let Some(known) = self.problems.get(&uri) {
                let of = |it: &Value| {
                    let (start, end) = (&it["range"]["start"], &it["range"]["end"]);
                    format!(
                        "{}:{}-{} {} {}",
                        start["line"],
                        start["character"],
                        end["character"],
                        it["severity"],
                        it["message"].as_str().unwrap()
                    )
                };
                let found: Vec<String> = known["diagnostics"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(of)
                    .collect();
                if fits(&found) {
                    return found;
                }
            }
            self.until(|message| message["method"] == "textDocument/publishDiagnostics")
                .await;
        }
    }

    /// Ends the conversation; what was said on stderr.
    async fn end(mut self) -> String {
        let answer = self.request("shutdown", Value::Null).await;
        assert_eq!(answer["result"], Value::Null);
        self.notify("exit", Value::Null).await;
        let mut stderr = String::new();
        let pipe = self.child.stderr.take();
        pipe.unwrap().read_to_string(&mut stderr).await.unwrap();
        assert!(self.child.wait().await.unwrap().success(), "{stderr}");
        stderr
    }
}

const CARS: &str = "sql/m/cars.sql";
const LONG: &str = "sql/m/long.sql";

fn head(more: &str) -> String {
    format!("/*---\ndescription = \"Größe 🚚 of cars.\"\n{more}---*/\n")
}

fn catalog(program: &Program) {
    program.write(
        "sql/m/sources.toml",
        "[cars]\ndescription = \"All cars.\"\nkind = \"snapshot\"\nendpoint = \"/cars\"\nrate_limit = \"5/s\"\n\
         schema = \"\"\"\n  id VARCHAR,\n  distanceMeters DOUBLE,\n  at VARCHAR,\n\
         stops ARRAY<STRUCT<kind VARCHAR, place STRUCT<lat DOUBLE, lon DOUBLE>>>,\n  gateway STRUCT<serial VARCHAR, model VARCHAR>\n\"\"\"\n",
    );
    program.write(
        CARS,
        format!("{}SELECT\n  id, -- the car\n  distanceMeters AS distance_m -- driven, metres\nFROM raw.cars\n", head("unique_key = [\"id\"]\n")),
    );
    program.write(
        LONG,
        format!("{}SELECT\n  c.id, -- the car\n  distance_m / 1000 AS km -- driven, kilometres\nFROM cars AS c\nWHERE c.distance_m > 1\nORDER BY distance_m\n", head("")),
    );
    program.write(
        "sql/m/top.sql",
        format!("{}SELECT id AS car, distance_m -- driven, metres\nFROM (SELECT id, distance_m FROM cars) AS x\n", head("[[tests]]\nnot_null = [\"distance_m\"]\n")),
    );
    program.write("sql/m/tests/top.expected.csv", "car,distance_m\n");
    program.write(
        "sql/m/last.sql",
        format!(
            "{}SELECT car, -- it\n  t.distance_m AS d -- driven, metres\nFROM top AS t\n",
            head("")
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_are_told_what_they_ask() {
    let program = Program::new();
    catalog(&program);
    let mut editor = Editor::start(&program, json!({})).await;
    let saved = |path: &str| std::fs::read_to_string(program.folder().join(path)).unwrap();

    // Problems while typing, also of models downstream; ranges count UTF-16 units.
    let front = head("");
    let cars = format!("{front}SELECT '🚚', distanceMetres AS distance_m FROM raw.cars");
    editor.set(CARS, &cars).await;
    let found = editor.problems(CARS, |found| !found.is_empty()).await;
    assert_eq!(
        found,
        ["3:13-27 1 unknown column `distanceMetres`; did you mean `distanceMeters`?"]
    );
    let params = json!({
        "textDocument": { "uri": editor.uri(CARS) },
        "range": editor.problems[&editor.uri(CARS)]["diagnostics"][0]["range"],
        "context": { "diagnostics": editor.problems[&editor.uri(CARS)]["diagnostics"] },
    });
    let actions = editor.request("textDocument/codeAction", params).await;
    let fix = &actions["result"][0];
    assert_eq!(fix["title"], "Write `distanceMeters`");
    let edit = &fix["edit"]["changes"][editor.uri(CARS)][0];
    assert_eq!(
        (&edit["newText"], &edit["range"]["start"]["character"]),
        (&json!("distanceMeters"), &json!(13))
    );
    let without = saved(CARS).replace("distance_m ", "meters ");
    editor.set(CARS, &without).await;
    let found = editor.problems(LONG, |found| !found.is_empty()).await;
    assert!(
        found
            .iter()
            .any(|it| it.starts_with("7:6-18 1 unknown column `distance_m`")),
        "{found:?}"
    );
    let undescribed = saved(CARS).replace("-- driven, metres", "");
    editor.set(CARS, &undescribed).await;
    let found = editor
        .problems(CARS, |found| {
            found.iter().any(|it| it.contains("description"))
        })
        .await;
    assert!(
        found[0].contains(" 2 column `distance_m` has no description"),
        "{found:?}"
    );
    editor.set(CARS, &saved(CARS)).await;
    editor.problems(CARS, <[String]>::is_empty).await;
    editor.problems(LONG, <[String]>::is_empty).await;
    // One character, as editors send it: `id` becomes `iid`.
    let change = json!({ "range": { "start": { "line": 5, "character": 2 }, "end": { "line": 5, "character": 2 } }, "text": "i" });
    let document = json!({ "uri": editor.uri(CARS), "version": 9 });
    let params = json!({ "textDocument": document, "contentChanges": [change] });
    editor.notify("textDocument/didChange", params).await;
    let found = editor.problems(CARS, |found| !found.is_empty()).await;
    assert!(
        found
            .iter()
            .any(|it| it.starts_with("5:2-5 1 unknown column `iid`")),
        "{found:?}"
    );

    // Nothing that is broken ends it.
    for broken in [
        "",
        "/*---",
        "/*---\n---*/",
        "SELECT 'ü",
        &cars[..40],
        "((((",
        "\u{0}",
        &"(".repeat(5000),
    ] {
        editor.set(CARS, broken).await;
        editor
            .at(
                "hover",
                LONG,
                &saved(LONG).replacen("km", "k|m", 1),
                json!({}),
            )
            .await;
    }
    for bad in ["{", "[]", "{\"id\":1}", "\"x\""] {
        editor.write(bad).await;
        let refused = editor.until(|it| it.get("error").is_some()).await;
        assert_eq!(
            (&refused["id"], &refused["error"]["code"]),
            (&Value::Null, &json!(-32700))
        );
    }
    editor
        .notify("textDocument/didChange", json!({ "odd": 1 }))
        .await;
    let refused = editor
        .request("textDocument/hover", json!({ "odd": 1 }))
        .await;
    assert_eq!(refused["error"]["code"], -32602);
    let refused = editor.request("textDocument/dance", json!({})).await;
    assert_eq!(refused["error"]["code"], -32601);
    editor.set(CARS, &saved(CARS)).await;
    editor.problems(CARS, <[String]>::is_empty).await;

    // Completion.
    let new = "sql/m/new.sql";
    for (query, offered, others) in [
        ("SELECT id FROM raw.|", &["cars"][..], &["long", "sum"][..]),
        ("SELECT id FROM |", &["cars", "long", "raw"], &["sum", "id"]),
        (
            "SELECT |\nFROM raw.cars",
            &[
                "id",
                "gateway",
                "m_to_km",
                "samsara_time",
                "SELECT",
                "_rescued_data",
            ],
            &["lat", "_version_time"],
        ),
        (
            "SELECT gateway['|\nFROM raw.cars",
            &["serial", "model"],
            &["id"],
        ),
        (
            "SELECT gateway['se|'] FROM raw.cars",
            &["serial", "model"],
            &["id"],
        ),
        (
            "SELECT item['place']['| FROM (SELECT unnest(stops) AS item FROM raw.cars)",
            &["lat", "lon"],
            &["kind"],
        ),
        (
            "SELECT stops[1]['| FROM raw.cars",
            &["kind", "place"],
            &["lat"],
        ),
        (
            "WITH w AS (SELECT id AS one FROM cars) SELECT | FROM w",
            &["one"],
            &["distance_m"],
        ),
        (
            "WITH w AS (SELECT id AS one FROM cars) SELECT one FROM |",
            &["w", "cars"],
            &["one"],
        ),
        (
            "SELECT c.| FROM cars AS c JOIN long AS l ON l.id = c.id",
            &["id", "distance_m"],
            &["km", "sum"],
        ),
        (
            "SELECT l.km, l.| FROM cars AS c JOIN long AS l ON l.id = c.id",
            &["km"],
            &["distance_m"],
        ),
        ("SELECT id -- |\nFROM cars", &[], &["id"]),
        ("SELECT '| FROM cars", &[], &["id"]),
    ] {
        let found = editor.offers(new, &format!("{front}{query}")).await;
        for name in offered {
            assert!(
                found.iter().any(|it| it == name),
                "{query}: {name} {found:?}"
            );
        }
        for name in others {
            assert!(!found.iter().any(|it| it == name), "{query}: not {name}");
        }
    }
    let found = editor
        .offers(new, "/*---\nunique|\n---*/\nSELECT id FROM cars")
        .await;
    assert!(found.contains(&"unique_key".to_string()) && !found.contains(&"not_null".to_string()));
    let found = editor
        .offers(CARS, &saved(CARS).replace("[\"id\"]", "[\"|\"]"))
        .await;
    assert_eq!(found, ["id", "distance_m"]);
    let answer = editor
        .at(
            "completion",
            new,
            &format!("{front}SELECT dist|anceMeters FROM raw.cars"),
            json!({}),
        )
        .await;
    let items = answer["result"]["items"].as_array().unwrap();
    let item = items
        .iter()
        .find(|it| it["label"] == "distanceMeters")
        .unwrap();
    assert_eq!(
        (&item["detail"], &item["documentation"]["value"]),
        (&json!("DOUBLE"), &json!("unit: metres"))
    );
    assert_eq!(
        item["textEdit"]["range"],
        json!({ "start": { "line": 3, "character": 7 }, "end": { "line": 3, "character": 11 } })
    );

    // Of sources.toml.
    let sources = "sql/m/sources.toml";
    for (from, to, offered, others) in [
        (
            "kind = \"snapshot\"",
            "ki|",
            &["kind", "schema"][..],
            &["unique_key"][..],
        ),
        ("\"snapshot\"", "\"|\"", &["snapshot", "updates"], &["ev"]),
        (
            "rate_limit",
            "key = [\"|\"]\nrate_limit",
            &["id", "gateway.serial"],
            &["cars"],
        ),
        ("at VARCHAR", "at |", &["VARCHAR", "STRUCT<"], &["id"]),
        (
            "rate_limit",
            "parent = { source = \"|\" }\nrate_limit",
            &["cars"],
            &["id"],
        ),
    ] {
        let marked = saved(sources).replacen(from, to, 1);
        let found = editor.offers(sources, &marked).await;
        let is_offered = |name: &&str| found.iter().any(|it| it == name);
        assert!(offered.iter().all(is_offered), "{to}: {found:?}");
        assert!(!others.iter().any(is_offered), "{to}: {found:?}");
    }
    editor.set(sources, &saved(sources)).await;

    // Hover.
    editor.set(CARS, &saved(CARS)).await;
    for (query, told) in [
        (
            "SELECT distance|Meters FROM raw.cars",
            &["raw.cars.distanceMeters DOUBLE", "unit: metres"][..],
        ),
        (
            "SELECT gateway['ser|ial'] FROM raw.cars",
            &["raw.cars.gateway.serial VARCHAR"],
        ),
        (
            "SELECT it|em['kind'] FROM (SELECT unnest(stops) AS item FROM raw.cars)",
            &[
                "item STRUCT<kind VARCHAR, place",
                "comes from `raw.cars.stops`",
            ],
        ),
        (
            "SELECT id FROM raw.ca|rs",
            &["All cars.", "/cars", "5 columns"],
        ),
        ("SELECT id FROM lo|ng", &["**long**", "Größe 🚚"]),
        (
            "SELECT l.k|m FROM long AS l",
            &[
                "long.km FLOAT64",
                "driven, kilometres",
                "comes from `cars.distance_m` ← `raw.cars.distanceMeters`",
            ],
        ),
        (
            "SELECT m_to|_km(1) AS x FROM cars",
            &["metres to kilometres", "m_to_km(1500) → 1.5"],
        ),
        ("SELECT coal|esce(id, '') AS x FROM cars", &["coalesce("]),
    ] {
        let text = editor.hover(new, &format!("{front}{query}")).await;
        for part in told {
            assert!(text.contains(part), "{query}: {text}");
        }
    }
    let text = editor
        .hover(
            CARS,
            &saved(CARS).replace("AS distance_m", "AS dist|ance_m"),
        )
        .await;
    assert!(
        text.contains("cars.distance_m FLOAT64")
            && text.contains("comes from `raw.cars.distanceMeters`"),
        "{text}"
    );
    let text = editor
        .hover(CARS, &saved(CARS).replace("unique_key", "uni|que_key"))
        .await;
    assert!(text.contains("identify a row"), "{text}");

    // Definitions.
    for (query, place) in [
        ("SELECT id FROM raw.ca|rs", "sql/m/sources.toml: [cars]"),
        (
            "SELECT at| FROM raw.cars",
            "sql/m/sources.toml: at VARCHAR,",
        ),
        (
            "SELECT gateway['mod|el'] FROM raw.cars",
            "sql/m/sources.toml: gateway STRUCT<serial VARCHAR, model VARCHAR>",
        ),
        ("SELECT id FROM lon|g", "sql/m/long.sql: SELECT"),
        (
            "SELECT l.k|m FROM long AS l",
            "sql/m/long.sql: distance_m / 1000 AS km -- driven, kilometres",
        ),
        (
            "SELECT on|e\nFROM (SELECT id AS one FROM cars)",
            "sql/m/new.sql: FROM (SELECT id AS one FROM cars)",
        ),
    ] {
        let found = editor
            .definition(&program, new, &format!("{front}{query}"))
            .await;
        assert_eq!(found, place, "{query}");
    }

    // A column is renamed through all models that read it, and tests.
    editor
        .set(new, &format!("{front}SELECT id -- a\nFROM cars"))
        .await;
    let marked = saved(CARS).replace("AS distance_m", "AS dist|ance_m");
    // At once: the server has had no time to look at the other text.
    let answer = editor
        .at("rename", CARS, &marked, json!({ "newName": "driven_m" }))
        .await;
    let prepared = editor.at("prepareRename", CARS, &marked, json!({})).await;
    assert_eq!(prepared["result"]["placeholder"], "distance_m");
    let mut renamed = String::new();
    for path in [
        CARS,
        LONG,
        "sql/m/top.sql",
        "sql/m/last.sql",
        "sql/m/tests/top.expected.csv",
    ] {
        let edits = answer["result"]["changes"][editor.uri(path)].as_array();
        let edits = edits.unwrap_or_else(|| panic!("{path}: {answer}"));
        let mut lines: Vec<String> = saved(path).lines().map(String::from).collect();
        for edit in edits.iter().rev() {
            let (start, end) = (&edit["range"]["start"], &edit["range"]["end"]);
            let of = |value: &Value| value.as_u64().unwrap() as usize;
            let line = &mut lines[of(&start["line"])];
            line.replace_range(
                of(&start["character"])..of(&end["character"]),
                edit["newText"].as_str().unwrap(),
            );
        }
        renamed.push_str(&lines.join("\n"));
        renamed.push('\n');
    }
    let expected: Vec<String> = [
        CARS,
        LONG,
        "sql/m/top.sql",
        "sql/m/last.sql",
        "sql/m/tests/top.expected.csv",
    ]
    .map(|path| saved(path).replace("distance_m", "driven_m"))
    .into();
    assert_eq!(renamed, expected.concat());
    for (name, reason) in [
        ("id", "cannot become `id`"),
        ("a b", "not the name of a column"),
    ] {
        let answer = editor
            .at("rename", CARS, &marked, json!({ "newName": name }))
            .await;
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
    }
    let answer = editor
        .at(
            "rename",
            CARS,
            &saved(CARS).replace("distanceMeters", "dist|anceMeters"),
            json!({ "newName": "x" }),
        )
        .await;
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("only columns"),
        "{answer}"
    );

    // What was closed is again as it is saved; new files are seen.
    editor.set(CARS, "broken").await;
    editor.problems(CARS, |found| !found.is_empty()).await;
    let params = json!({ "textDocument": { "uri": editor.uri(CARS) } });
    editor.notify("textDocument/didClose", params).await;
    editor.problems(CARS, <[String]>::is_empty).await;
    program.write("sql/m/other.sql", format!("{front}SELECT idd FROM cars"));
    editor
        .notify("workspace/didChangeWatchedFiles", json!({ "changes": [] }))
        .await;
    let found = editor
        .problems("sql/m/other.sql", |found| !found.is_empty())
        .await;
    assert!(found[0].contains("did you mean `id`?"), "{found:?}");

    let stderr = editor.end().await;
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_show_rows_and_what_would_change() {
    let simulator = simulator(|_| ()).await;
    let program = Program::with_simulator(&simulator);
    copy_families(&program, &["vehicles"]);
    program.succeed(&["run", "--table", "fleet_vehicles"]).await;
    let mut editor = Editor::start(
        &program,
        json!({ "window": { "showDocument": { "support": true } } }),
    )
    .await;
    let path = "sql/vehicles/fleet_vehicles.sql";
    let text = std::fs::read_to_string(program.folder().join(path)).unwrap();
    editor.set(path, &text).await;
    let range =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 0 } });
    let params = json!({ "textDocument": { "uri": editor.uri(path) }, "range": range, "context": { "diagnostics": [] } });
    let actions = editor.request("textDocument/codeAction", params).await;
    let actions = actions["result"].as_array().unwrap().clone();
    assert_eq!(actions.len(), 2);
    // Of the text that is not saved.
    let edited = text.replacen("  vin,", "  'x' AS extra, -- an extra\n  vin,", 1);
    editor.set(path, &edited).await;
    for (action, told) in actions.iter().zip(["| extra", "extra"]) {
        let answer = editor
            .request("workspace/executeCommand", action["command"].clone())
            .await;
        let text = answer["result"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer}"));
        assert!(
            text.contains(told) && text.contains("fleet_vehicles"),
            "{text}"
        );
        let shown = editor.asked.pop_back().unwrap();
        assert_eq!(shown["method"], "window/showDocument");
        let file = shown["params"]["uri"]
            .as_str()
            .unwrap()
            .strip_prefix("file://")
            .unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }
    let params = json!({ "command": "samsara-etl.preview", "arguments": ["fleet_vehicels"] });
    let answer = editor.request("workspace/executeCommand", params).await;
    let told = answer["error"]["message"].as_str().unwrap();
    assert!(told.contains("did you mean `fleet_vehicles`?"), "{told}");
    editor.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_settings_is_told_in_models() {
    let program = Program::new();
    catalog(&program);
    let settings = "sql/settings.toml";
    program.write(settings, "least_m = 1.5\n");
    program.write(
        LONG,
        format!(
            "{}SELECT id, -- the car\n  distance_m + setting('least_m') AS d_m -- driven, metres\nFROM cars\n",
            head("")
        ),
    );
    let mut editor = Editor::start(&program, json!({})).await;
    // Nothing else is open. A setting that is gone, a type that does not fit, text that is no TOML.
    for (text, file, told) in [
        (
            "least = 1.5\n",
            LONG,
            "settings.toml has no setting `least_m`; did you mean `least`?",
        ),
        ("least_m = [1]\n", settings, "a number, a text"),
        ("least_m = true\n", LONG, "Boolean"),
    ] {
        editor.set(settings, text).await;
        let is_told = |found: &[String]| found.iter().any(|it| it.contains(told));
        editor.problems(file, is_told).await;
        editor.set(settings, "least_m = 2.5\n").await;
        editor.problems(file, <[String]>::is_empty).await;
    }
    // On disk, by another program.
    let closed = json!({ "textDocument": { "uri": editor.uri(settings) } });
    editor.notify("textDocument/didClose", closed).await;
    editor.texts.remove(settings);
    program.write(settings, "most_m = 1.5\n");
    let changed = json!({ "changes": [{ "uri": editor.uri(settings), "type": 2 }] });
    editor
        .notify("workspace/didChangeWatchedFiles", changed)
        .await;
    let is_told = |found: &[String]| found.iter().any(|it| it.contains("no setting `least_m`"));
    editor.problems(LONG, is_told).await;
    editor.end().await;
}
