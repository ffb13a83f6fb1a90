//! Records values that do not fit while records are read: position, exact text, and how often each kind occurred.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::drift::{Counted, Drift};
use super::rescue::{ListPlace, Rescued, RescuedValue};
use crate::json::path::{push_index, push_name};
use crate::json::unescape;

/// What is made of a page at a time, and of one record.
pub(super) const BOUNDS: Bounds = Bounds {
    slice_records: 8192,
    slice_bytes: 8 << 20,
    items: 8 << 20,
    rescued: 1 << 20,
};
/// Up to this number, names are compared one by one: that is faster than a hash.
const FEW_NAMES: usize = 16;
/// Number of kinds of misfits that are remembered.
const MOST_RECENT: usize = 8;

/// Why an undeclared field is rescued.
pub(super) const UNKNOWN: &str = "not in the schema";
pub(super) const MISFIT: &str = "does not fit its type";
pub(super) const REPEATED: &str = "the same name twice in one object";

/// Bounds that keep memory small for any page.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// A slice ends after this many records,
    pub(super) slice_records: usize,
    /// or after the record with which its text becomes this long.
    pub(super) slice_bytes: usize,
    /// Maximum number of list items and map entries of a record. A vehicle that reports every second has a hundredth of
    /// that.
    pub(super) items: usize,
    /// Maximum number of values of a record that do not fit.
    pub(super) rescued: usize,
}

/// A record holds more than it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) &'static str);

/// One step of the path to the value that is read.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Name(&'a str),
    Item { list: usize, index: usize },
}

/// An open object, and where its names begin in the list of counted names.
#[derive(Clone, Copy)]
pub(super) struct Object {
    /// Number of the object in the page.
    pub(super) number: u64,
    names: usize,
}

/// The misfits of some records.
pub(super) struct Misfits<'a> {
    pub(super) bounds: Bounds,
    /// To the value that is read.
    pub(super) path: Vec<Step<'a>>,
    pub(super) rescued: Rescued<'a>,
    /// The last rescued path, without list positions.
    general: String,
    /// The record in its slice, and the column of it.
    pub(super) record: usize,
    pub(super) column: Option<usize>,
    /// List items and map entries of the record so far.
    items: usize,
    /// Number of values rescued before this record.
    rescued_before: usize,
    objects: u64,
    pub(super) names: Names<'a>,
    pub(super) drift: Drift,
    /// The kinds of the last misfits: schema drift repeats in every reading.
    recent: Vec<Recent<'a>>,
    /// The one that goes next.
    oldest: usize,
}

/// A kind of misfit, and what is known of the last one.
struct Recent<'a> {
    path: Vec<Step<'a>>,
    name: Option<String>,
    column: Option<usize>,
    reason: &'static str,
    /// Where the drift counts it.
    counted: Counted,
    /// Its path in [`Rescued::paths`], and its position.
    last: Range<usize>,
    list: Option<ListPlace>,
}

impl Recent<'_> {
    /// Whether a misfit differs from it at most in the index of its only list.
    #[inline]
    fn is_like(
        &self,
        path: &[Step<'_>],
        name: Option<&str>,
        column: Option<usize>,
        reason: &'static str,
    ) -> bool {
        let is_same = |(one, other): (&Step<'_>, &Step<'_>)| match (one, other) {
            (Step::Name(one), Step::Name(other)) => std::ptr::eq(*one, *other),
            (Step::Item { list: one, .. }, Step::Item { list: other, .. }) => one == other,
            _ => false,
        };
        self.column == column
            && self.path.len() == path.len()
            && std::ptr::eq(self.reason, reason)
            && self.name.as_deref() == name
            && self.path.iter().zip(path).all(is_same)
    }
}

/// Names that the schema does not have, with the number of values rescued under each: a name may occur again.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// For the open objects, outermost first.
    few: Vec<(Cow<'a, str>, u32)>,
    /// Of objects with more.
    many: HashMap<(u64, Cow<'a, str>), u32>,
}

impl<'a> Names<'a> {
    /// The count of a name of an object, and whether the name is new.
    pub(super) fn entry(&mut self, object: Object, name: Cow<'a, str>) -> (&mut u32, bool) {
        let own = self.few.len() - object.names;
        if own <= FEW_NAMES {
            let first = object.names;
            if let Some(at) = self.few[first..]
                .iter()
                .position(|(known, _)| *known == name)
            {
                return (&mut self.few[first + at].1, false);
            }
            self.few.push((name, 0));
            if own < FEW_NAMES {
                let last = self.few.len() - 1;
                return (&mut self.few[last].1, true);
            }
            let moved = self.few[first..]
                .iter()
                .map(|(name, count)| ((object.number, name.clone()), *count));
            self.many.extend(moved);
            let name = self.few[self.few.len() - 1].0.clone();
            return (self.many.entry((object.number, name)).or_default(), true);
        }
        let mut is_new = false;
        let count = self.many.entry((object.number, name)).or_insert_with(|| {
            is_new = true;
            0
        });
        (count, is_new)
    }

    fn clear(&mut self) {
        self.few.clear();
        if !self.many.is_empty() {
            self.many = HashMap::new();
        }
    }
}

impl<'a> Misfits<'a> {
    pub(super) fn new() -> Self {
        Self {
            bounds: BOUNDS,
            path: Vec::new(),
            rescued: Rescued::default(),
            general: String::new(),
            record: 0,
            column: None,
            items: 0,
            rescued_before: 0,
            objects: 0,
            names: Names::default(),
            drift: Drift::default(),
            recent: Vec::new(),
            oldest: 0,
        }
    }

    /// What was rescued, and how it was counted; ends the slice.
    pub(super) fn end_slice(&mut self) -> (Rescued<'a>, Drift) {
        self.recent.clear();
        (
            std::mem::take(&mut self.rescued),
            std::mem::take(&mut self.drift),
        )
    }

    /// A record begins.
    pub(super) fn begin_record(&mut self) {
        (self.items, self.rescued_before, self.column) = (0, self.rescued.values.len(), None);
        self.names.clear();
    }

    /// An object begins.
    #[inline]
    pub(super) fn begin_object(&mut self) -> Object {
        self.objects += 1;
        Object {
            number: self.objects,
            names: self.names.few.len(),
        }
    }

    /// An object ends.
    #[inline]
    pub(super) fn end_object(&mut self, object: Object) {
        self.names.few.truncate(object.names);
    }

    /// Counts a list item or map entry of the record.
    #[inline]
    pub(super) fn count_item(&mut self) -> Result<(), TooMany> {
        self.items += 1;
        if self.items > self.bounds.items {
            return Err(TooMany(
                "one record has more list items and map entries than any can have",
            ));
        }
        Ok(())
    }

    /// Records a member that is cut out of its object.
    pub(super) fn cut(
        &mut self,
        object: Object,
        name: Cow<'a, str>,
        text: &'a [u8],
        reason: &'static str,
    ) -> Result<(), TooMany> {
        let (count, _) = self.names.entry(object, name.clone());
        *count += 1;
        let turn = *count;
        self.rescue(Some(&name), turn, text, reason)
    }

    /// Records a value that is cut out: the `turn`-th with this name that its object has rescued.
    pub(super) fn rescue(
        &mut self,
        name: Option<&str>,
        turn: u32,
        text: &'a [u8],
        reason: &'static str,
    ) -> Result<(), TooMany> {
        if turn == 1 {
            let like = |recent: &Recent<'_>| recent.is_like(&self.path, name, self.column, reason);
            if let Some(recent) = self.recent.iter().position(like) {
                return self.rescue_again(recent, text);
            }
        }
        let paths = &mut self.rescued.paths;
        let start = paths.len();
        let (mut list, mut lists) = (None, 0);
        self.general.clear();
        for step in &self.path {
            match step {
                Step::Name(name) => {
                    push_name(paths, start, name);
                    push_name(&mut self.general, 0, name);
                }
                Step::Item { list: id, index } => {
                    let bracket = paths.len();
                    push_index(paths, *index);
                    self.general.push_str("[]");
                    lists += 1;
                    if list.is_none() {
                        list = Some(ListPlace {
                            id: *id,
                            index: *index,
                            bracket: bracket..paths.len(),
                        });
                    }
                }
            }
        }
        if let Some(name) = name {
            push_name(paths, start, name);
            push_name(&mut self.general, 0, name);
        }
        // A name may occur three times: every text gets a key of its own.
        if turn > 1 {
            paths.push('#');
            paths.push_str(&turn.to_string());
        }
        let last = start..paths.len();
        let counted = self.note(start, list.clone(), text, reason)?;
        if let (1, 0 | 1, Some(counted)) = (turn, lists, counted) {
            let recent = Recent {
                path: self.path.clone(),
                name: name.map(str::to_string),
                column: self.column,
                reason,
                counted,
                last,
                list,
            };
            if self.recent.len() < MOST_RECENT {
                self.recent.push(recent);
            } else {
                self.recent[self.oldest] = recent;
                self.oldest = (self.oldest + 1) % MOST_RECENT;
            }
        }
        Ok(())
    }

    /// Records a misfit like a previous one: the same path except for the index.
    fn rescue_again(&mut self, recent: usize, text: &'a [u8]) -> Result<(), TooMany> {
        self.check_room()?;
        let recent = &mut self.recent[recent];
        let paths = &mut self.rescued.paths;
        let start = paths.len();
        let item = self.path.iter().find_map(|step| match step {
            Step::Item { index, .. } => Some(*index),
            Step::Name(_) => None,
        });
        if let (Some(list), Some(index)) = (&mut recent.list, item) {
            paths.extend_from_within(recent.last.start..list.bracket.start);
            let bracket = paths.len();
            push_index(paths, index);
            let behind = paths.len();
            paths.extend_from_within(list.bracket.end..recent.last.end);
            (list.index, list.bracket) = (index, bracket..behind);
        } else {
            paths.extend_from_within(recent.last.clone());
        }
        recent.last = start..paths.len();
        self.rescued.values.push(RescuedValue {
            record: self.record,
            column: self.column,
            path: recent.last.clone(),
            list: recent.list.clone(),
            text,
        });
        self.drift.again(recent.counted);
        Ok(())
    }

    /// Counts a record that is not an object.
    pub(super) fn rescue_record(&mut self, text: &'a [u8]) -> Result<(), TooMany> {
        let path = self.rescued.paths.len();
        self.rescued.paths.push('$');
        self.general.replace_range(.., "$");
        self.note(path, None, text, MISFIT).map(|_| ())
    }

    fn check_room(&self) -> Result<(), TooMany> {
        if self.rescued.values.len() - self.rescued_before >= self.bounds.rescued {
            return Err(TooMany("one record has too many values that do not fit"));
        }
        Ok(())
    }

    fn note(
        &mut self,
        path: usize,
        list: Option<ListPlace>,
        text: &'a [u8],
        reason: &'static str,
    ) -> Result<Option<Counted>, TooMany> {
        self.check_room()?;
        self.rescued.values.push(RescuedValue {
            record: self.record,
            column: self.column,
            path: path..self.rescued.paths.len(),
            list,
            text,
        });
        Ok(self.drift.add(self.column, &self.general, reason, 1))
    }
}

/// A member's name. The body is UTF-8; a lone surrogate stays as it was sent.
pub(super) fn key_text(inside: &[u8]) -> Cow<'_, str> {
    if has_escapes(inside)
        && let Some(text) = unescape(inside)
    {
        return Cow::Owned(text);
    }
    match std::str::from_utf8(inside) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(inside),
    }
}

fn has_escapes(inside: &[u8]) -> bool {
    inside.contains(&b'\\')
}

/// Whether the inside of a string is text: a lone surrogate is not.
pub(super) fn unescapes(inside: &[u8]) -> bool {
    !has_escapes(inside) || unescape(inside).is_some()
}
