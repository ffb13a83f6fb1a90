//! Where objects are stored. The table comes before the date, so that keys spread over a bucket's ranges.
//!
//! Folders have Hive's form `name=value`, and tools that read a folder (pandas, DuckDB, Spark) make a column of it. So
//! the name must not be that of a column: `date`, which was used before, is a column of several tables. Nor may it
//! begin with `_`, which pyarrow treats as hidden. Objects under the older name are found by the state, which stores
//! whole paths.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The unit of work, commit, retry and reload: a source's UTC day, or its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// The whole list, as of its last read.
    Snapshot,
    /// A UTC day of a source by time.
    Day(NaiveDate),
}

impl Partition {
    /// The day, if it is one.
    pub fn day(self) -> Option<NaiveDate> {
        match self {
            Self::Day(day) => Some(day),
            Self::Snapshot => None,
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "snapshot" => Some(Self::Snapshot),
            day => written_day(day)
                .or_else(|| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok())
                .map(Self::Day),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot => f.write_str("snapshot"),
            Self::Day(day) => write!(f, "{day}"),
        }
    }
}

/// As it is displayed; other spellings are refused.
impl Serialize for Partition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PartitionVisitor)
    }
}

struct PartitionVisitor;

impl Visitor<'_> for PartitionVisitor {
    type Value = Partition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a day or `snapshot`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Partition, E> {
        parse_partition(text).ok_or_else(|| {
            let start: String = text.chars().take(60).collect();
            E::invalid_value(Unexpected::Str(&start), &self)
        })
    }
}

/// One execution of the pipeline: names its objects, so that no two runs ever write the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId {
    started: DateTime<Utc>,
    text: String,
}

impl RunId {
    /// A new id: the start time, and eight digits that begin with its milliseconds and are random otherwise.
    pub fn new(started: DateTime<Utc>) -> Self {
        // Two short runs may start within the same second.
        let millis = started.timestamp_subsec_millis().min(MILLIS_MASK);
        let tail = millis << RANDOM_BITS | rand::random::<u32>() >> MILLIS_BITS;
        Self {
            started,
            text: format!("{}-{tail:08x}", started.format(STAMP)),
        }
    }

    /// When the run started.
    pub fn started(&self) -> DateTime<Utc> {
        self.started
    }

    /// The id as text, fit for keys and job ids.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name in the folders of days. No table has a column of this name.
pub const DAY_FOLDER: &str = "partition_day";
/// The earlier name; such objects are read, loaded and cleaned as long as there are any.
pub const OLD_DAY_FOLDER: &str = "date";
/// Bits of an id's tail that hold milliseconds.
const MILLIS_BITS: u32 = 10;
const MILLIS_MASK: u32 = (1 << MILLIS_BITS) - 1;
/// The other bits of the tail.
const RANDOM_BITS: u32 = u32::BITS - MILLIS_BITS;
/// An instant in keys.
const STAMP: &str = "%Y%m%dT%H%M%SZ";

fn folder(partition: Partition, run: &RunId) -> String {
    match partition {
        Partition::Day(day) => format!("{DAY_FOLDER}={}", day.format("%Y-%m-%d")),
        Partition::Snapshot => format!("snapshot={}", run.started().format(STAMP)),
    }
}

/// Key of a raw object in the raw bucket.
pub fn raw_object(source: &str, partition: Partition, run: &RunId, number: u64) -> String {
    format!(
        "raw/{source}/{}/{run}-{number:05}.parquet",
        folder(partition, run)
    )
}

/// Key of a flattened object in the flattened bucket.
pub fn flattened_object(model: &str, partition: Partition, run: &RunId, number: u64) -> String {
    format!(
        "flattened/{model}/{}/{run}-{number:05}.parquet",
        folder(partition, run)
    )
}

/// Prefix of raw objects in the raw bucket.
pub const RAW: &str = "raw";
/// Prefix of flattened objects in the flattened bucket.
pub const FLATTENED: &str = "flattened";
/// Prefix of the state documents in the raw bucket.
pub const STATE: &str = "state";
/// Prefix of shipped logs in the raw bucket, and the folder of log files in the working directory.
pub const LOGS: &str = "logs";
/// Prefix of what describes runs in the flattened bucket.
pub const AUDIT: &str = "audit";

/// How the name of a log file ends.
const LOG_SUFFIX: &str = ".jsonl";
/// Suffix of the name of a run's HTML report.
const REPORT_SUFFIX: &str = ".html";

/// Whether an object is private to the program (state, locks and logs) and not for readers of the data.
pub(super) fn is_private(key: &str) -> bool {
    let first = key.split('/').next().unwrap_or_default();
    matches!(first, STATE | LOGS | LOCK_OBJECT)
}

/// Key of the run lock in the raw bucket.
pub const LOCK_OBJECT: &str = "lock.json";

/// Key of a source's state document in the raw bucket.
pub fn state_object(source: &str) -> String {
    format!("state/{source}.json")
}

/// Key of an archive of a source's state for one year. `mark` distinguishes it from earlier and later ones.
pub fn archive_object(source: &str, year: i32, mark: &str) -> String {
    format!("{STATE}/{source}/{year}-{mark}.json")
}

/// Name of a run's log file. `number` is above 1 only if another file has the name already.
pub fn log_file(started: DateTime<Utc>, process: u32, number: u32) -> String {
    let number = if number > 1 {
        format!("-{number}")
    } else {
        String::new()
    };
    format!("{}-{process}{number}.jsonl", started.format(STAMP))
}

/// Name of the HTML report of a run, next to its log file.
pub fn report_file(log: &str) -> String {
    let stem = log.strip_suffix(LOG_SUFFIX).unwrap_or(log);
    format!("{stem}{REPORT_SUFFIX}")
}

/// Key of a shipped log or report in the raw bucket.
pub fn log_object(started: DateTime<Utc>, file: &str) -> String {
    format!("{LOGS}/{}/{file}", started.format("%Y_%m_%d"))
}

/// Key of a table's manifest in the local warehouse.
pub fn manifest_object(table: &str) -> String {
    format!("{table}/_table.json")
}

/// Key of a table's Parquet file in the local warehouse: a copy of the flattened object called `file`, with the content
/// digest `mark`.
pub fn warehouse_object(table: &str, partition: Partition, mark: &str, file: &str) -> String {
    format!("{table}/{partition}/{mark}-{file}")
}

/// Digits of the mark of an archive.
pub const MARK_DIGITS: usize = 16;
/// Characters of a fingerprint that mark a file of the local warehouse.
pub const MARK_LENGTH: usize = 12;

/// Folder of a table's Delta log, below that of its flattened objects.
const DELTA_LOG: &str = "_delta_log";
/// Name of the document with the last checkpoint of a Delta log.
const DELTA_HINT: &str = "_last_checkpoint";

/// Prefix of a table's flattened objects in the flattened bucket: the root of its Delta table.
pub fn table_root(table: &str) -> String {
    format!("{FLATTENED}/{table}")
}

/// Key of a commit of a table's Delta log.
pub fn delta_commit(table: &str, version: u64) -> String {
    format!("{FLATTENED}/{table}/{DELTA_LOG}/{version:020}.json")
}

/// Key of a checkpoint of a table's Delta log: the state after all commits up to this one.
pub fn delta_checkpoint(table: &str, version: u64) -> String {
    format!("{FLATTENED}/{table}/{DELTA_LOG}/{version:020}.checkpoint.parquet")
}

/// Key of the document with the last checkpoint of a table's Delta log.
pub fn delta_hint(table: &str) -> String {
    format!("{FLATTENED}/{table}/{DELTA_LOG}/{DELTA_HINT}")
}

/// Prefix of a table's Delta log.
pub fn delta_log(table: &str) -> String {
    format!("{FLATTENED}/{table}/{DELTA_LOG}")
}

// The functions below parse the keys built above, and nothing else: a key that this program would not have written is
// foreign. `clean` and the pruning of logs remove nothing foreign, and a state document that names a foreign key is
// refused.

/// The parsed key of an object of a source or table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnObject<'a> {
    /// The source or table.
    pub name: &'a str,
    /// The partition that the object belongs to.
    pub partition: Partition,
}

/// The run that wrote a raw or flattened object: ids of later runs sort after those of earlier ones.
pub fn run_of(key: &str) -> Option<&str> {
    let (_, file) = key.rsplit_once('/')?;
    let (run, _) = file.strip_suffix(".parquet")?.rsplit_once('-')?;
    is_run_id(run).then_some(run)
}

/// Parses the key of a raw object; `None` for a foreign key.
pub fn parse_raw_object(key: &str) -> Option<OwnObject<'_>> {
    let (object, number) = parse_object(RAW, key)?;
    is_object_number(number).then_some(object)
}

/// Parses the key of a flattened object; `None` for a foreign key.
pub fn parse_flattened_object(key: &str) -> Option<OwnObject<'_>> {
    let (object, number) = parse_object(FLATTENED, key)?;
    is_object_number(number).then_some(object)
}

/// Parses the key of a Parquet file of the local warehouse; `None` for a foreign key.
pub fn parse_warehouse_object(key: &str) -> Option<OwnObject<'_>> {
    let [name, folder, file] = segments(key)?;
    let partition = parse_partition(folder)?;
    let (mark, file) = file.split_once('-')?;
    let (run, number) = file.strip_suffix(".parquet")?.rsplit_once('-')?;
    // Audit rows are not made from flattened objects; their files are marked with the beginning of the run's id.
    let is_mark = is_hex(mark, MARK_LENGTH) || run.get(..MARK_LENGTH) == Some(mark);
    // Has the number of its rows instead of an object's number.
    let is_own = is_name(name)
        && is_mark
        && is_run_id(run)
        && (is_object_number(number) || is_number(number));
    is_own.then_some(OwnObject { name, partition })
}

/// Whether a file with this key may hold rows of the table's partition in the local warehouse: it is in its folder.
pub fn is_file_of(table: &str, partition: Partition, key: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    segments(key).is_some_and(|[name, folder, file]| {
        name == table
            && parse_partition(folder) == Some(partition)
            && file.ends_with(".parquet")
            && file.bytes().all(fine)
    })
}

/// A file of a Delta log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeltaFile {
    /// The commit that makes this version of the table.
    Commit(u64),
    /// The checkpoint of this version.
    Checkpoint(u64),
    /// The document with the last checkpoint.
    Hint,
}

/// Parses the key of a file of a table's Delta log; `None` for a foreign key.
pub fn parse_delta_file(key: &str) -> Option<(&str, DeltaFile)> {
    let [FLATTENED, table, DELTA_LOG, file] = segments(key)? else {
        return None;
    };
    let version = |number: &str| {
        let is_padded = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|_| is_padded)
    };
    let file = match file.split_once('.') {
        Some((number, "json")) => DeltaFile::Commit(version(number)?),
        Some((number, "checkpoint.parquet")) => DeltaFile::Checkpoint(version(number)?),
        None if file == DELTA_HINT => DeltaFile::Hint,
        _ => return None,
    };
    is_name(table).then_some((table, file))
}

/// The table whose manifest in the local warehouse this key is.
pub fn parse_manifest_object(key: &str) -> Option<&str> {
    let [name, "_table.json"] = segments(key)? else {
        return None;
    };
    is_name(name).then_some(name)
}

/// The source whose state document this key is.
pub fn parse_state_object(key: &str) -> Option<&str> {
    let [STATE, file] = segments(key)? else {
        return None;
    };
    file.strip_suffix(".json").filter(|name| is_name(name))
}

/// The source of whose state this key is an archive.
pub fn parse_archive_object(key: &str) -> Option<&str> {
    let [STATE, source, file] = segments(key)? else {
        return None;
    };
    let (year, mark) = file.strip_suffix(".json")?.split_once('-')?;
    let is_own = is_name(source) && is_number(year) && is_hex(mark, MARK_DIGITS);
    is_own.then_some(source)
}

/// When the run started whose log file has this name.
pub fn parse_log_file(name: &str) -> Option<DateTime<Utc>> {
    parse_run_file(name.strip_suffix(LOG_SUFFIX)?)
}

/// When the run started whose HTML report has this name.
pub fn parse_report_file(name: &str) -> Option<DateTime<Utc>> {
    parse_run_file(name.strip_suffix(REPORT_SUFFIX)?)
}

/// `<start>-<process>`, and a number if two runs would have the same name.
fn parse_run_file(stem: &str) -> Option<DateTime<Utc>> {
    let mut parts = stem.split('-');
    let started = parse_stamp(parts.next()?)?;
    let is_process = |number: &str| is_number(number) && number.parse::<u32>().is_ok();
    let is_own = parts.next().is_some_and(is_process) && parts.next().is_none_or(is_number);
    (is_own && parts.next().is_none()).then_some(started)
}

/// The day of the run whose shipped log this key is.
pub fn parse_log_object(key: &str) -> Option<NaiveDate> {
    parse_shipped(key, parse_log_file)
}

/// The day of the run whose shipped HTML report this key is.
pub fn parse_report_object(key: &str) -> Option<NaiveDate> {
    parse_shipped(key, parse_report_file)
}

fn parse_shipped(key: &str, parse_file: fn(&str) -> Option<DateTime<Utc>>) -> Option<NaiveDate> {
    let [LOGS, _, file] = segments(key)? else {
        return None;
    };
    let started = parse_file(file)?;
    (log_object(started, file) == key).then(|| started.date_naive())
}

/// Whether this program may have written an object with this key into one of its buckets or its local warehouse.
pub fn is_own(key: &str) -> bool {
    let is_audit = || parse_object(AUDIT, key).is_some_and(|(_, number)| is_number(number));
    key == LOCK_OBJECT
        || parse_raw_object(key).is_some()
        || parse_flattened_object(key).is_some()
        || parse_delta_file(key).is_some()
        || parse_warehouse_object(key).is_some()
        || parse_manifest_object(key).is_some()
        || parse_state_object(key).is_some()
        || parse_archive_object(key).is_some()
        || parse_log_object(key).is_some()
        || parse_report_object(key).is_some()
        || is_audit()
}

/// `<prefix>/<name>/<folder>/<run>-<number>.parquet`
fn parse_object<'a>(prefix: &str, key: &'a str) -> Option<(OwnObject<'a>, &'a str)> {
    let [first, name, folder, file] = segments(key)?;
    let (run, number) = file.strip_suffix(".parquet")?.rsplit_once('-')?;
    let partition = parse_folder(folder)?;
    let is_own = first == prefix && is_name(name) && is_run_id(run);
    is_own.then_some((OwnObject { name, partition }, number))
}

fn segments<const N: usize>(key: &str) -> Option<[&str; N]> {
    let mut parts = key.split('/');
    let mut found = [""; N];
    for part in &mut found {
        *part = parts.next()?;
    }
    parts.next().is_none().then_some(found)
}

fn parse_folder(folder: &str) -> Option<Partition> {
    match folder.split_once('=')? {
        ("snapshot", stamp) => parse_stamp(stamp).map(|_| Partition::Snapshot),
        (DAY_FOLDER | OLD_DAY_FOLDER, day) => parse_partition(day).filter(|it| it.day().is_some()),
        _ => None,
    }
}

/// A partition in its canonical form; [`Partition::parse`] accepts `2024-1-1` too.
fn parse_partition(text: &str) -> Option<Partition> {
    let as_written = written_day(text).map(Partition::Day);
    as_written.or_else(|| Partition::parse(text).filter(|partition| partition.to_string() == text))
}

fn parse_stamp(text: &str) -> Option<DateTime<Utc>> {
    written_stamp(text).or_else(|| {
        let at = NaiveDateTime::parse_from_str(text, STAMP).ok()?.and_utc();
        (at.format(STAMP).to_string() == text).then_some(at)
    })
}

/// `2024-01-31`, parsed by hand: states name hundreds of thousands of objects, and `chrono`'s date formats are slow.
fn written_day(text: &str) -> Option<NaiveDate> {
    let [year, month, day] = digits(text, ["-", "-"], [4, 2, 2])?;
    NaiveDate::from_ymd_opt(year as i32, month, day)
}

/// `20240131T100000Z` by hand.
fn written_stamp(text: &str) -> Option<DateTime<Utc>> {
    let text = text.strip_suffix('Z')?;
    let between = ["", "", "T", "", ""];
    let [year, month, day, hour, minute, second] = digits(text, between, [4, 2, 2, 2, 2, 2])?;
    let at = NaiveDate::from_ymd_opt(year as i32, month, day)?.and_hms_opt(hour, minute, second)?;
    Some(at.and_utc())
}

/// Numbers with this many digits each, separated by these texts, and nothing else.
fn digits<const BETWEEN: usize, const N: usize>(
    text: &str,
    between: [&str; BETWEEN],
    lengths: [usize; N],
) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut rest = text.as_bytes();
    for (index, (number, length)) in numbers.iter_mut().zip(lengths).enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(between.get(index - 1)?.as_bytes())?;
        }
        for digit in rest.get(..length)? {
            let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
            *number = *number * 10 + digit;
        }
        rest = &rest[length..];
    }
    rest.is_empty().then_some(numbers)
}

/// Whether this may be the name of a source or table: the catalog accepts no other, and at most 200 characters, to
/// which history tables add some.
pub fn is_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=220).contains(&name.len()) && name.bytes().all(fine)
}

fn is_run_id(run: &str) -> bool {
    run.split_once('-')
        .is_some_and(|(stamp, tail)| parse_stamp(stamp).is_some() && is_hex(tail, 8))
}

/// Whether this is a digest with this many digits, as this program writes them.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The number of an object has five digits, or as many as it needs.
fn is_object_number(number: &str) -> bool {
    let is_padded = number.len() == 5 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_padded || (number.len() > 5 && is_number(number))
}

/// A number without unnecessary leading zeros.
fn is_number(number: &str) -> bool {
    let is_plain = number == "0" || !number.starts_with('0');
    (1..=19).contains(&number.len()) && is_plain && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "20240131T100000Z-0123abcd";

    #[test]
    fn files_of_delta_logs_are_told_from_others() {
        for (key, file) in [
            (delta_commit("t", 7), DeltaFile::Commit(7)),
            (delta_checkpoint("t", 10), DeltaFile::Checkpoint(10)),
            (delta_hint("t"), DeltaFile::Hint),
        ] {
            assert_eq!(parse_delta_file(&key), Some(("t", file)), "{key}");
            assert!(is_own(&key) && key.starts_with(&delta_log("t")));
        }
        for name in [
            "7.json",
            "00000000000000000007.crc",
            ".00000000000000000007.json.crc",
            "0000000000000000000x.json",
            "99999999999999999999.json",
            "00000000000000000010.checkpoint.0000000001.0000000002.parquet",
            "_last_checkpoint.tmp",
            "a/_last_checkpoint",
        ] {
            let key = format!("{}/{name}", delta_log("t"));
            assert_eq!(parse_delta_file(&key), None, "{key}");
        }
        assert_eq!(parse_delta_file("raw/t/_delta_log/_last_checkpoint"), None);
    }

    #[test]
    fn times_are_read_by_hand_as_by_pattern() {
        for text in [
            "2024-01-31",
            "0001-01-01",
            "9999-12-31",
            "2024-02-30",
            "2024-1-31",
            "2024-01-31 ",
            "+2024-01-31",
            "２024-01-3",
            "10000-01-01",
        ] {
            let by_pattern = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
            let as_written = by_pattern.filter(|day| day.format("%Y-%m-%d").to_string() == text);
            assert_eq!(
                written_day(text),
                as_written.filter(|_| text.len() == 10),
                "{text}"
            );
            assert_eq!(
                Partition::parse(text),
                by_pattern.map(Partition::Day),
                "{text}"
            );
            let shown = by_pattern.map(|day| Partition::Day(day).to_string());
            assert_eq!(
                shown,
                by_pattern.map(|day| day.format("%Y-%m-%d").to_string())
            );
        }
        for (text, is_one) in [
            ("20240131T100059Z", true),
            ("20240131T100060Z", true),
            ("20240131T240000Z", false),
            ("20240230T100000Z", false),
            ("20240131T100000", false),
            ("20240131t100000Z", false),
            ("2024013T1100000Z", false),
        ] {
            let by_pattern = NaiveDateTime::parse_from_str(text, STAMP);
            let by_pattern = by_pattern.ok().map(|at| at.and_utc());
            let as_written = by_pattern.filter(|at| at.format(STAMP).to_string() == text);
            assert_eq!(parse_stamp(text), as_written, "{text}");
            assert_eq!(parse_stamp(text).is_some(), is_one, "{text}");
        }
    }

    #[test]
    fn ids_of_later_runs_sort_after_those_of_earlier_ones() {
        let started: DateTime<Utc> = "2024-01-31T10:00:59Z".parse().unwrap();
        let times = (0..2100).map(|millis| started + chrono::TimeDelta::milliseconds(millis));
        let ids: Vec<String> = times.map(|at| RunId::new(at).to_string()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| is_run_id(id)), "{ids:?}");
        let unlike = RunId::new(started) != RunId::new(started);
        assert!(unlike, "two runs of one millisecond");
        let leap = chrono::NaiveDate::from_ymd_opt(2016, 12, 31)
            .and_then(|day| day.and_hms_milli_opt(23, 59, 59, 1999))
            .unwrap();
        assert!(is_run_id(RunId::new(leap.and_utc()).as_str()));
    }

    #[test]
    fn what_is_written_is_known_as_ones_own() {
        let started = "2024-01-31T10:00:00Z".parse().unwrap();
        let run = RunId::new(started);
        for partition in [Partition::Snapshot, Partition::Day(started.date_naive())] {
            for number in [0, 99_999, 100_000, u64::MAX / 2] {
                let own = OwnObject {
                    name: "fleet_trips",
                    partition,
                };
                assert_eq!(
                    parse_raw_object(&raw_object("fleet_trips", partition, &run, number)),
                    Some(own)
                );
                let flattened = flattened_object("fleet_trips", partition, &run, number);
                assert_eq!(parse_flattened_object(&flattened), Some(own));
            }
            for mark in ["0123456789ab", &run.as_str()[..MARK_LENGTH]] {
                let key = warehouse_object(
                    "fleet_trips",
                    partition,
                    mark,
                    &format!("{run}-00000.parquet"),
                );
                assert_eq!(
                    parse_warehouse_object(&key),
                    Some(OwnObject {
                        name: "fleet_trips",
                        partition
                    }),
                    "{key}"
                );
                assert!(
                    is_own(&key) && is_own(&key.replace("-00000.", "-17.")),
                    "{key}"
                );
            }
        }
        assert_eq!(
            parse_state_object(&state_object("fleet_trips")),
            Some("fleet_trips")
        );
        assert_eq!(
            parse_manifest_object(&manifest_object("fleet_trips")),
            Some("fleet_trips")
        );
        for number in [1, 2, 9] {
            let file = log_file(started, 4711, number);
            assert_eq!(parse_log_file(&file), Some(started), "{file}");
            assert_eq!(
                parse_log_object(&log_object(started, &file)),
                Some(started.date_naive()),
                "{file}"
            );
            let report = report_file(&file);
            assert_eq!(parse_report_file(&report), Some(started), "{report}");
            let key = log_object(started, &report);
            assert_eq!(parse_report_object(&key), Some(started.date_naive()));
            assert!(is_own(&key) && parse_log_object(&key).is_none(), "{key}");
        }
        assert!(
            is_own(LOCK_OBJECT)
                && is_own(&format!("audit/_etl_runs/date=2024-01-31/{run}-17.parquet"))
        );
    }

    #[test]
    fn whatever_is_written_otherwise_is_foreign() {
        let foreign = [
            "raw/part-0.parquet".to_string(),
            "raw/fleet_trips/export.parquet".into(),
            "raw/fleet_trips/date=2024-01-31/export.parquet".into(),
            "raw/fleet_trips/date=2024-01-31/part-00000.parquet".into(),
            format!("raw/fleet_trips/date=2024-1-31/{RUN}-00000.parquet"),
            format!("raw/fleet_trips/date=2024-02-30/{RUN}-00000.parquet"),
            format!("raw/fleet_trips/day=snapshot/{RUN}-00000.parquet"),
            format!("raw/fleet_trips/date=snapshot/{RUN}-00000.parquet"),
            format!("raw/fleet_trips/snapshot=2024/{RUN}-00000.parquet"),
            format!("raw/fleet_trips/date=2024-01-31/{RUN}-0.parquet"),
            format!("raw/fleet_trips/date=2024-01-31/{RUN}-000000.parquet"),
            format!("raw/fleet_trips/date=2024-01-31/{RUN}-+0000.parquet"),
            format!("raw/fleet_trips/date=2024-01-31/{RUN}-00000.PARQUET"),
            format!("raw/fleet_trips/date=2024-01-31/{RUN}-00000.parquet.bak"),
            format!("raw/fleet_trips/date=2024-01-31/sub/{RUN}-00000.parquet"),
            "raw/fleet_trips/date=2024-01-31/20240131T100000Z-0123ABCD-00000.parquet".into(),
            "raw/fleet_trips/date=2024-01-31/20240131T250000Z-0123abcd-00000.parquet".into(),
            format!("raw/../date=2024-01-31/{RUN}-00000.parquet"),
            format!("raw/fleet trips/date=2024-01-31/{RUN}-00000.parquet"),
            format!("raw//date=2024-01-31/{RUN}-00000.parquet"),
            format!("/raw/fleet_trips/date=2024-01-31/{RUN}-00000.parquet"),
            format!("flattened/fleet_trips/date=2024-01-31/{RUN}-00000.parquet/"),
            "warehouse/part-0.parquet".into(),
            "fleet_trips/2024-01-31/export.parquet".into(),
            format!("fleet_trips/2024-01-31/{RUN}-00000.parquet"),
            format!("fleet_trips/2024-01-31/0123456789-{RUN}-00000.parquet"),
            format!("fleet_trips/2024-01-31/0123456789aé-{RUN}-00000.parquet"),
            format!("fleet_trips/date=2024-01-31/0123456789ab-{RUN}-00000.parquet"),
            "logs/2024_01_31/20240131_accounting.jsonl".into(),
            "logs/2024_01_31/etl_info.log".into(),
            "logs/20240131T100000Z-17.jsonl".into(),
            "logs/2024_01_30/20240131T100000Z-17.jsonl".into(),
            "logs/2024_01_31/20240131T100000Z-17.jsonl.gz".into(),
            "logs/2024_01_30/20240131T100000Z-17.html".into(),
            "logs/2024_01_31/report.html".into(),
            "logs/2024_01_31/20240131T100000Z-017.jsonl".into(),
            "logs/2024_01_31/20240131T100000Z-99999999999.jsonl".into(),
            "logs/2024_01_31/20240131T100000Z-17-2-3.jsonl".into(),
            "state/notes.txt".into(),
            "state/sub/fleet_trips.json".into(),
            "state/.json".into(),
            "lock.json.bak".into(),
            "fleet_trips/_table.json.old".into(),
            "sub/fleet_trips/_table.json".into(),
            String::new(),
        ];
        for key in foreign {
            assert!(!is_own(&key), "{key}");
        }
        for name in [
            "20230101_accounting.jsonl",
            "20240131.jsonl",
            "20240131T100000Z.jsonl",
            "20240131T100000Z-.jsonl",
        ] {
            assert_eq!(parse_log_file(name), None, "{name}");
        }
    }
}
