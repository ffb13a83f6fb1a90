//! Validates state documents. A document is in a bucket that others may write to, and the program acts on its content:
//! it reads and removes paths, adds numbers, sends cursors. So it is validated as a whole when it is read, and refused
//! by name if any of it is not what this program writes.

use chrono::{DateTime, Datelike, NaiveDate, Utc};

use super::document::{
    Checkpoint, CheckpointResult, Feed, Load, ModelState, NotAvailable, PartitionState, Partitions,
    RawState, SourceState, Started, UnfinishedWindow, Updates,
};
use crate::bounds::{MAX_OBJECT_BYTES, MAX_ROWS, MAX_STATE_TEXT};
use crate::store::ObjectRef;
use crate::store::layout::{
    MARK_DIGITS, OwnObject, Partition, is_hex, is_name, parse_flattened_object, parse_raw_object,
};

/// Digits of the digests in a document.
const DIGITS: usize = 64;
/// Job ids that one load may have used up.
const MAX_ATTEMPTS: u32 = 1_000_000;

type Checked = Result<(), String>;

/// Maximum of the rows and bytes that a document lists in total, so that the sum over all sources does not overflow.
#[derive(Default)]
struct Sums {
    rows: u64,
    bytes: u64,
}

impl SourceState {
    /// Checks the whole document.
    pub(super) fn check(&self) -> Checked {
        if !is_name(&self.source) {
            return Err("invalid source name".into());
        }
        if let Some(day) = self.asked_from {
            day_is_possible(day).map_err(|reason| format!("asked_from {reason}"))?;
        }
        if let Some(feed) = &self.feed {
            feed.check()
                .map_err(|reason| format!("its feed's {reason}"))?;
        }
        if let Some(updates) = &self.updates {
            updates.check()?;
        }
        if let Some(window) = &self.unfinished {
            window
                .check(&self.source)
                .map_err(|reason| format!("unfinished: {reason}"))?;
        }
        if let Some(NotAvailable { at, reason }) = &self.not_available {
            instant("not_available", Some(*at))?;
            text("not_available", reason)?;
        }
        for (year, archive) in &self.archives {
            let is_own = is_possible_year(*year) && is_hex(&archive.mark, MARK_DIGITS);
            if !is_own {
                return Err(format!("it names an archive of {year} that cannot be"));
            }
        }
        check_partitions(&self.source, &self.partitions)
    }
}

impl Updates {
    fn check(&self) -> Checked {
        let Self {
            from,
            until,
            checked,
        } = self;
        for at in [Some(*from), Some(*until), *checked] {
            instant("updates", at)?;
        }
        if from > until || checked.is_some_and(|checked| checked < *until) {
            return Err("its updates end before they begin".into());
        }
        Ok(())
    }
}

impl UnfinishedWindow {
    fn check(&self, source: &str) -> Checked {
        instant("start", Some(self.start))?;
        instant("end", Some(self.end))?;
        self.born_before.map_or(Ok(()), day_is_possible)?;
        self.position.as_ref().map_or(Ok(()), Updates::check)?;
        let parts = &self.checkpoint.whole.parts;
        let mut parts = parts.iter().chain(&self.checkpoint.part.parts);
        if self.start >= self.end || parts.any(|part| part.source != source) {
            return Err("it is not a window of this source".into());
        }
        self.checkpoint.check(&mut Sums::default())
    }
}

/// Validates the partitions of a source in a document or an archive.
pub(super) fn check_partitions(source: &str, partitions: &Partitions) -> Checked {
    let mut sums = Sums::default();
    for (partition, state) in partitions {
        partition
            .day()
            .map_or(Ok(()), day_is_possible)
            .and_then(|()| state.check(source, *partition, &mut sums))
            .map_err(|reason| format!("{partition}: {reason}"))?;
    }
    Ok(())
}

impl PartitionState {
    fn check(&self, source: &str, partition: Partition, sums: &mut Sums) -> Checked {
        let own = OwnObject {
            name: source,
            partition,
        };
        instant("changed", self.changed)?;
        number("open_rows", self.open_rows)?;
        number("shrunken_from", self.shrunken_from.unwrap_or_default())?;
        if let Some(raw) = &self.raw {
            raw.check(own, sums)?;
        }
        instant("failure", self.failure.as_ref().map(|failure| failure.at))?;
        if let Some(load) = &self.raw_load {
            load.check()?;
        }
        if let Some(started) = &self.raw_started {
            started.check()?;
        }
        if let Some(unfinished) = &self.checkpoint {
            unfinished
                .check(sums)
                .map_err(|reason| format!("unfinished: {reason}"))?;
        }
        for (table, model) in self.models.iter() {
            if !is_name(table) {
                return Err("invalid table name".into());
            }
            let own = OwnObject {
                name: table,
                partition,
            };
            model
                .check(own, sums)
                .map_err(|reason| format!("{table}: {reason}"))?;
        }
        Ok(())
    }
}

impl RawState {
    fn check(&self, own: OwnObject<'_>, sums: &mut Sums) -> Checked {
        for (what, value) in [
            ("records", self.records),
            ("not_owned", self.out_of_window),
            ("rescued", self.rescued),
        ] {
            number(what, value)?;
        }
        content(&self.content)?;
        instant("extracted_at", Some(self.extracted_at))?;
        self.objects.iter().try_for_each(|object| {
            check_object(object, parse_raw_object(&object.path) == Some(own), sums)
        })
    }
}

impl ModelState {
    fn check(&self, own: OwnObject<'_>, sums: &mut Sums) -> Checked {
        attempts(self.attempts)?;
        self.load.as_ref().map_or(Ok(()), Load::check)?;
        self.started.as_deref().map_or(Ok(()), Started::check)?;
        self.objects.iter().try_for_each(|object| {
            check_object(
                object,
                parse_flattened_object(&object.path) == Some(own),
                sums,
            )
        })
    }
}

impl Load {
    fn check(&self) -> Checked {
        number("rows", self.rows)?;
        text("target", &self.target)?;
        text("job", self.job.as_deref().unwrap_or_default())
    }
}

impl Started {
    fn check(&self) -> Checked {
        attempts(self.attempt)?;
        text("target", &self.target)?;
        text("job", &self.job)
    }
}

impl Feed {
    fn check(&self) -> Checked {
        text("query", &self.query)?;
        text("cursor", &self.cursor)?;
        instant("at", Some(self.at))?;
        instant("since", self.since)?;
        instant("heard_from", self.contiguous_since)?;
        for gap in &self.gaps {
            instant("gaps", Some(gap.from))?;
            instant("gaps", Some(gap.until))?;
            if gap.from >= gap.until {
                return Err("gap ends before it begins".into());
            }
        }
        Ok(())
    }
}

impl Checkpoint {
    fn check(&self, sums: &mut Sums) -> Checked {
        fingerprint(&self.asked)?;
        number("requests", self.requests)?;
        instant("extracted_at", Some(self.extracted_at))?;
        for window in &self.rest {
            number("request", window.request)?;
            instant("start", Some(window.start))?;
            instant("end", Some(window.end))?;
        }
        if let Some(resume) = &self.resume {
            text("query", &resume.query)?;
            text("cursor", &resume.cursor)?;
            number("pages", resume.pages)?;
        }
        self.whole.check(sums)?;
        self.part.check(sums)
    }
}

impl CheckpointResult {
    fn check(&self, sums: &mut Sums) -> Checked {
        number("records", self.records)?;
        number("rescued", self.rescued)?;
        content(&self.content)?;
        for part in &self.parts {
            if !is_name(&part.source) {
                return Err("invalid source name".into());
            }
            let own = OwnObject {
                name: &part.source,
                partition: partition(&part.partition)?,
            };
            number("kept", part.kept)?;
            number("total", part.total)?;
            number("open_rows", part.open_rows)?;
            for object in &part.objects {
                check_object(object, parse_raw_object(&object.path) == Some(own), sums)?;
            }
        }
        for overlap in &self.overlaps {
            if !is_name(&overlap.source) {
                return Err("invalid source name".into());
            }
            day_is_possible(overlap.day)
                .map_err(|reason| format!("the day of an overlap {reason}"))?;
            instant(
                "the end of an overlap",
                overlap.ended.map(|ended| ended.end),
            )?;
        }
        Ok(())
    }
}

fn check_object(object: &ObjectRef, is_own: bool, sums: &mut Sums) -> Checked {
    let ObjectRef { path, rows, bytes } = object;
    if !is_own {
        return Err(format!("`{path:.200}` is not an object of this partition"));
    }
    sums.rows = sums.rows.saturating_add(*rows);
    sums.bytes = sums.bytes.saturating_add(*bytes);
    // A thousand times the bound of one object is the bound of all together.
    let is_possible = *rows <= MAX_ROWS && *bytes <= MAX_OBJECT_BYTES;
    if is_possible && sums.rows <= MAX_ROWS << 10 && sums.bytes <= MAX_OBJECT_BYTES << 10 {
        return Ok(());
    }
    Err(format!(
        "{path} has {rows} rows and {bytes} bytes, which is out of range"
    ))
}

fn partition(key: &str) -> Result<Partition, String> {
    let found = Partition::parse(key).filter(|partition| partition.to_string() == key);
    let found = found.ok_or_else(|| format!("`{key:.60}` is neither a day nor `snapshot`"))?;
    found
        .day()
        .map_or(Ok(()), day_is_possible)
        .map(|()| found)
        .map_err(|reason| format!("{key} {reason}"))
}

fn day_is_possible(day: NaiveDate) -> Checked {
    is_possible_year(day.year())
        .then_some(())
        .ok_or_else(|| "is not a day of the years 1970 to 9999".into())
}

/// The program computes with times and must not leave the range of its calendar.
fn is_possible_year(year: i32) -> bool {
    (1970..=9999).contains(&year)
}

fn instant(what: &str, at: Option<DateTime<Utc>>) -> Checked {
    let is_possible = at.is_none_or(|at| is_possible_year(at.year()));
    is_possible
        .then_some(())
        .ok_or_else(|| format!("{what} is not in the years 1970 to 9999"))
}

fn number(what: &str, value: u64) -> Checked {
    (value <= MAX_ROWS)
        .then_some(())
        .ok_or_else(|| format!("{what} is {value}, which is out of range"))
}

fn attempts(value: u32) -> Checked {
    (value <= MAX_ATTEMPTS)
        .then_some(())
        .ok_or_else(|| format!("{value} attempts are out of range"))
}

fn text(what: &str, text: &str) -> Checked {
    (text.len() <= MAX_STATE_TEXT)
        .then_some(())
        .ok_or_else(|| format!("{what} has {} bytes, which is too long", text.len()))
}

fn fingerprint(text: &str) -> Checked {
    is_hex(text, DIGITS)
        .then_some(())
        .ok_or_else(|| format!("`{text:.80}` is not a digest of {DIGITS} digits"))
}

/// A read that brought no page has none.
fn content(text: &str) -> Checked {
    if text.is_empty() {
        Ok(())
    } else {
        fingerprint(text)
    }
}
