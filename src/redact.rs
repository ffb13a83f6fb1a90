//! Masks secrets in text that leaves the program, and escapes text from elsewhere.
//!
//! Errors of libraries quote what they were given, and servers echo what was sent to them. So every configured secret
//! is registered here once (by [`Secret::new`](crate::config::Secret::new), by the readers of key files and access
//! tokens), and all text for people, logs, the state or a warehouse passes [`mask`].
//!
//! | function | what it does | where it stands |
//! | --- | --- | --- |
//! | [`mask`] | secrets become `***` | the writers of stdout, stderr and the log file |
//! | [`screen`] | the same, and control characters are escaped | text of several lines for a terminal |
//! | [`one_line`] | the same, on one line, 4,000 characters at most | a whole error: reports, state, audit rows |
//! | [`foreign`] | the same, 600 characters at most | what a server or a library said, inside an error |
//!
//! Records of the API are data, not text about them: they go into Parquet as they came.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::RwLock;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex::{Captures, Regex};
use serde_json::{Map, Value};

/// What replaces a secret.
const MASK: &str = "***";
/// A secret of at least this many characters is masked anywhere.
const LONG: usize = 8;
/// A shorter one only as a separate word, and below this not at all: it would mask half of every message.
const SHORT: usize = 4;
/// Most characters of [`foreign`] text.
pub const MOST_FOREIGN: usize = 600;
/// Most characters of [`one_line`].
const MOST_LINE: usize = 4_000;
/// Text beyond this many bytes is not examined: none of it would be shown.
const LOOKED_AT: usize = 64 << 10;

/// All texts to be masked, longest first, so that no part of a longer secret remains.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Masks `secret` from now on, also as JSON, percent-encoding or a source literal would write it, and each line of it.
pub fn register(secret: &str) {
    let secret = secret.trim();
    if SECRETS.read().iter().any(|known| known == secret) {
        return;
    }
    let mut forms = BTreeSet::from([secret.to_string()]);
    forms.extend(
        secret
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("-----"))
            .map(str::to_string),
    );
    for form in forms.clone() {
        let quoted = Value::from(form.as_str()).to_string();
        forms.insert(quoted[1..quoted.len() - 1].to_string());
        let quoted = format!("{form:?}");
        forms.insert(quoted[1..quoted.len() - 1].to_string());
        forms.insert(utf8_percent_encode(&form, NON_ALPHANUMERIC).to_string());
        forms.insert(url::form_urlencoded::byte_serialize(form.as_bytes()).collect());
    }
    forms.retain(|form| form.chars().count() >= SHORT);
    let known = SECRETS.read();
    forms.retain(|form| !known.contains(form));
    drop(known);
    if !forms.is_empty() {
        let mut known = SECRETS.write();
        known.extend(forms);
        known.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        known.dedup();
    }
}

/// Registers user and password of an address, `scheme://user:password@host`, in all encodings that are sent.
pub fn register_userinfo(address: &str) {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((userinfo, _)) = authority
        .rsplit_once('@')
        .filter(|(userinfo, _)| userinfo.len() > 1)
    else {
        return;
    };
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    register(userinfo);
    for part in [password, &decoded(password)] {
        register(part);
    }
    // The user name alone is not secret, but a token put there by mistake is.
    for part in [user, &decoded(user)]
        .into_iter()
        .filter(|part| part.chars().count() >= LONG)
    {
        register(part);
    }
    register(&BASE64_STANDARD.encode(format!("{}:{}", decoded(user), decoded(password))));
}

/// Registers every secret of a document, of whatever kind of credentials it is.
pub fn register_document(document: &Map<String, Value>) {
    for (name, value) in document {
        match value {
            Value::Object(inner) => register_document(inner),
            Value::String(text) => {
                let is_secret = ["private_key", "password"].contains(&name.as_str())
                    || name.ends_with("secret")
                    || name.ends_with("token");
                if is_secret {
                    register(text);
                    register(&text.replace("\\r", "").replace("\\n", "\n"));
                }
                if text.contains("://") {
                    register_userinfo(text);
                }
            }
            _ => {}
        }
    }
}

/// Secrets that are recognised by their form, configured or not.
static FORMS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let forms = [
        // A PEM key, complete or truncated. A quote ends it: the rest belongs to a JSON document around it.
        (
            r#"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^"]*?-----END [A-Z0-9 ]*PRIVATE KEY-----"#,
            MASK,
        ),
        (r#"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^"]*"#, MASK),
        // Members of credential files, also with escaped quotes.
        (
            r#"(?P<keep>"(?:private_key|client_secret|refresh_token|access_token|id_token)\\*"\s*:\s*)\\*"[^"]*(?:"|\z)"#,
            "${keep}***",
        ),
        (
            r#"(?P<keep>[a-zA-Z][a-zA-Z0-9+.-]*:/{2})[^/?#\s'`"<>]*@"#,
            "${keep}***@",
        ),
        (
            r"(?P<keep>\b(?:[Bb]earer|BEARER|Basic|basic) +)[A-Za-z0-9._~+/=-]{16,}",
            "${keep}***",
        ),
        // Samsara's tokens, Google's access tokens, JSON web tokens.
        (r"samsara_api_[A-Za-z0-9]{8,}", MASK),
        (r"ya29\.[A-Za-z0-9._-]{8,}", MASK),
        (
            r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
            MASK,
        ),
    ];
    let compiled = forms
        .into_iter()
        .filter_map(|(form, mask)| Some((Regex::new(form).ok()?, mask)));
    compiled.collect()
});

/// Bytes as `Debug` prints them: `[45, 45, 66]`.
static BYTES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\[?[0-9]{1,3}(?:, ?[0-9]{1,3}){7,}\]?").ok());

/// The text with `***` instead of every registered secret, and of everything that has the form of a secret.
pub fn mask(text: &str) -> Cow<'_, str> {
    let masked = mask_text(text);
    let Some(bytes) = BYTES.as_ref().filter(|bytes| bytes.is_match(&masked)) else {
        return masked;
    };
    let list = |found: &Captures<'_>| {
        let numbers = found[0]
            .trim_matches(['[', ']'])
            .split(',')
            .map(|number| number.trim().parse::<u8>());
        let read = numbers.collect::<Result<Vec<u8>, _>>().unwrap_or_default();
        let read = String::from_utf8_lossy(&read).into_owned();
        if mask_text(&read) == read {
            found[0].to_string()
        } else {
            format!("[{MASK}]")
        }
    };
    Cow::Owned(bytes.replace_all(&masked, list).into_owned())
}

fn mask_text(text: &str) -> Cow<'_, str> {
    let mut masked = Cow::Borrowed(text);
    for secret in SECRETS.read().iter() {
        if masked.contains(secret.as_str()) {
            let anywhere = secret.chars().count() >= LONG;
            masked = if anywhere {
                masked.replace(secret.as_str(), MASK)
            } else {
                mask_alone(&masked, secret)
            }
            .into();
        }
    }
    for (form, mask) in FORMS.iter() {
        if form.is_match(&masked) {
            masked = Cow::Owned(form.replace_all(&masked, *mask).into_owned());
        }
    }
    masked
}

/// Whether the text contains a registered secret that is long enough not to be an ordinary word.
pub fn holds_secret(text: &str) -> bool {
    let known = SECRETS.read();
    known
        .iter()
        .any(|secret| secret.chars().count() >= LONG && text.contains(secret.as_str()))
}

/// Masks `secret` where it is a separate word.
fn mask_alone(text: &str, secret: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(secret) {
        let (before, behind) = (&rest[..at], &rest[at + secret.len()..]);
        let previous = before
            .chars()
            .next_back()
            .or_else(|| masked.chars().next_back());
        let is_of_word =
            |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
        let alone = ![previous, behind.chars().next()]
            .into_iter()
            .flatten()
            .any(is_of_word);
        masked.push_str(before);
        masked.push_str(if alone { MASK } else { secret });
        rest = behind;
    }
    masked + rest
}

/// Whether a character could move the cursor, colour or hide text, or turn its order around.
fn is_control(character: char) -> bool {
    let reorders = matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || reorders
}

/// The text with control characters escaped (`\u{1b}`), except those that `keeps` allows.
fn escape(text: &str, keeps: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text
        .chars()
        .any(|character| is_control(character) && !keeps(character))
    {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_control(character) && !keeps(character) {
            // Writing into a String cannot fail.
            let _ = write!(escaped, "{}", character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// A value on one line with its control characters escaped; nothing is masked or truncated. For names and cells that
/// people read.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same for text of several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| character == '\n')
}

/// Text of several lines for people: masked, with control characters escaped.
pub fn screen(text: &str) -> String {
    escape(&mask(text), |character| character == '\n').into_owned()
}

/// A whole message on one line: masked, escaped, at most 4,000 characters.
pub fn one_line(text: impl Display) -> String {
    clean(&text.to_string(), MOST_LINE)
}

/// What a server or a library said: masked, on one line, escaped, at most 600 characters.
pub fn foreign(text: impl Display) -> String {
    clean(&text.to_string(), MOST_FOREIGN)
}

/// Bytes of a server, likewise.
pub fn foreign_bytes(bytes: &[u8]) -> String {
    foreign(String::from_utf8_lossy(
        &bytes[..bytes.len().min(LOOKED_AT + 1)],
    ))
}

fn clean(text: &str, most: usize) -> String {
    let mut end = text.len().min(LOOKED_AT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let is_cut = end < text.len();
    let masked = mask(&text[..end]);
    let line = masked.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = escape(&line, |_| false);
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        // The beginning of a secret may remain where the text was truncated.
        None if is_cut => format!("{}…", line.chars().take(most / 2).collect::<String>()),
        None => line.into_owned(),
    }
}

/// A writer that masks secrets. Each write must be of whole messages, as those of `tracing_subscriber` are.
#[derive(Debug)]
pub struct Masked<W>(pub W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let masked = mask(&text);
        let (message, end) = masked
            .strip_suffix('\n')
            .map_or((&*masked, ""), |message| (message, "\n"));
        // One event is one line, whatever it contains. Colours are those of the subscriber, which escapes others.
        let line = message.replace('\n', "\\n") + end;
        self.0.write_all(line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// From now on panics are printed as one masked line on stderr.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        let mut text = panic_line(panic);
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            text = format!("{text}\n{}", screen(&trace.to_string()));
        }
        // If stderr is closed, the message is lost.
        let _ = writeln!(std::io::stderr(), "{text}");
    }));
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_string(), ToString::to_string);
    let message = panic.payload_as_str().unwrap_or("no message");
    format!("internal error: panicked at {place}: {}", one_line(message))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_registered_secret_is_masked_in_every_form() {
        let secret = "Canary\"One\\/ä+=&1";
        register(secret);
        let json = serde_json::json!({ "error": { "echo": secret } }).to_string();
        let percent = "Canary%22One%5C%2F%C3%A4%2B%3D%261";
        for text in [
            secret,
            &json,
            percent,
            &format!("{secret:?}"),
            &format!("x{secret}y{secret}"),
        ] {
            let masked = mask(text);
            assert!(
                !masked.contains("Canary") && !masked.contains("261"),
                "{text} → {masked}"
            );
        }
        assert_eq!(
            mask(&format!("before {secret} behind")),
            "before *** behind"
        );
        // As the bytes that a parser quotes.
        let bytes = format!(
            "illegal section start: {:?}",
            format!("--{secret}--").as_bytes()
        );
        assert_eq!(mask(&bytes), "illegal section start: [***]");
        let harmless = format!("{:?}", b"nothing of importance");
        assert_eq!(mask(&harmless), harmless);
    }

    #[test]
    fn each_line_of_a_key_is_masked_and_the_longest_secret_first() {
        register(
            "-----BEGIN PRIVATE KEY-----\nCanaryLineOne\nCanaryLineTwo\n-----END PRIVATE KEY-----\n",
        );
        assert_eq!(
            mask("found CanaryLineTwo, CanaryLineOne\\nCanaryLineTwo"),
            "found ***, ***\\n***"
        );
        register("canary-long");
        register("canary-long-and-longer");
        assert_eq!(mask("canary-long-and-longer, canary-long"), "***, ***");
    }

    #[test]
    fn short_secrets_are_masked_as_words() {
        register("qzqz");
        register("qz9");
        assert_eq!(
            mask("`qzqz` of qzqzs, qzqz_a and qzqz"),
            "`***` of qzqzs, qzqz_a and ***"
        );
        assert_eq!(mask("qz9"), "qz9");
    }

    #[test]
    fn userinfo_of_addresses_is_known_in_all_forms() {
        register_userinfo("http://canary-user:p%40canary@proxy.example:3128");
        for text in [
            "p%40canary",
            "p@canary",
            "canary-user",
            &BASE64_STANDARD.encode("canary-user:p@canary"),
        ] {
            assert_eq!(mask(text), MASK, "{text}");
        }
        assert_eq!(mask("proxy.example:3128"), "proxy.example:3128");
    }

    #[test]
    fn what_is_a_secret_by_its_form_needs_no_registration() {
        for (text, expected) in [
            (
                "https://a:b@host/x and https://host/@x",
                "https://***@host/x and https://host/@x",
            ),
            (
                "authorization: Bearer abcdefghijklmnop.qrs",
                "authorization: Bearer ***",
            ),
            ("the bearer of a token", "the bearer of a token"),
            ("token samsara_api_AbCdEfGh123 refused", "token *** refused"),
            ("ya29.a0AfH6SMBx-y_z", "***"),
            ("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln", "***"),
            (
                r#"{"private_key": "-----BE\nGIN", "x": 1}"#,
                r#"{"private_key": ***, "x": 1}"#,
            ),
            (
                r#"{\"refresh_token\":\"1//abc\",\"x\":1}"#,
                r#"{\"refresh_token\":***,\"x\":1}"#,
            ),
            (
                r#"{\\\"access_token\\\": \\\"a\\\\nb\\\",1"#,
                r#"{\\\"access_token\\\": ***,1"#,
            ),
            (
                "key -----BEGIN RSA PRIVATE KEY----- MII -----END RSA PRIVATE KEY----- end",
                "key *** end",
            ),
            ("key -----BEGIN PRIVATE KEY-----\\nMII", "key ***"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn foreign_text_is_shortened_and_escaped() {
        let forged = "\u{1b}[2K\rno such day\nfailed:\tfleet_trips\u{9b}31m\u{202e}\u{0}";
        assert_eq!(
            foreign(forged),
            "\\u{1b}[2K no such day failed: fleet_trips\\u{9b}31m\\u{202e}\\u{0}"
        );
        let long = foreign("é".repeat(50 << 20));
        assert_eq!(
            (long.chars().count(), long.ends_with('…')),
            (MOST_FOREIGN + 1, true)
        );
        // A secret across the limit is masked before the text is truncated.
        register("canary-at-the-end");
        let cut = foreign(format!("{}canary-at-the-end", "x".repeat(MOST_FOREIGN - 6)));
        assert!(!cut.contains("canar"), "{cut}");
        let beyond =
            foreign_bytes(format!("{}canary-at-the-end", " ".repeat(LOOKED_AT - 6)).as_bytes());
        assert!(!beyond.contains("canary-at"), "{beyond}");
        assert_eq!(screen("a\n\u{1b}b\n"), "a\n\\u{1b}b\n");
        assert_eq!(printable("Zoë 🚚"), "Zoë 🚚");
    }

    #[test]
    fn a_log_line_is_masked_and_stays_one_line() {
        register("canary-in-log");
        let mut written = Vec::new();
        Masked(&mut written)
            .write_all(b"\x1b[2mWARN\x1b[0m a\nfailed: canary-in-log\n")
            .unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "\x1b[2mWARN\x1b[0m a\\nfailed: ***\n"
        );
    }

    /// Panics, in a process of its own, with a secret in the message.
    #[test]
    #[ignore = "run by the test below, in a process of its own"]
    fn panicking_child() {
        install_panic_hook();
        register("canary-in-panic");
        let text = "two lines\nwith canary-in-panic";
        panic!("{text}");
    }

    #[test]
    fn a_panic_is_told_in_one_masked_line() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "redact::tests::panicking_child",
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let all = String::from_utf8([child.stdout, child.stderr].concat()).unwrap();
        let line = all
            .lines()
            .find(|line| line.contains("internal error: panicked at src/redact.rs:"))
            .unwrap();
        assert!(
            line.ends_with("two lines with ***") && !all.contains("canary-in-panic"),
            "{all}"
        );
    }
}
