//! Counts the values of pages that the declared schema does not have, by path, with bounded memory.

use std::collections::{BTreeMap, HashMap};

use crate::json::path::shorten;

/// Number of distinct paths per task; all others are counted together.
const MOST_PATHS: usize = 200;
/// Maximum length of a reported path, in bytes.
const LONGEST_PATH: usize = 200;
/// Up to this number, a linear search is faster than a hash.
const FEW_PATHS: usize = 16;

/// Represents all paths beyond the distinct ones.
pub const FURTHER_PATHS: &str = "(further names)";

/// What did not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriftKey {
    /// Path of the field as [`crate::json::path`] has it, list positions left out: `engineRpm[].quality`.
    pub path: String,
    /// Why it did not fit.
    pub reason: &'static str,
}

/// The position at which a [`Drift`] counts a path, until it is taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted(usize);

/// Schema drift that pages showed: which path, and how often.
#[derive(Debug, Default)]
pub(super) struct Drift {
    found: Vec<Found>,
    /// Positions in `found` of the paths after the first few.
    by_path: HashMap<String, Vec<usize>>,
    further: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Found {
    path: String,
    reason: &'static str,
    /// The column of the record that contained the value, if it is known.
    column: Option<usize>,
    count: u64,
}

impl Drift {
    /// Counts one more value like one that was added before.
    #[inline]
    pub(super) fn again(&mut self, Counted(at): Counted) {
        self.found[at].count += 1;
    }

    /// Counts `count` values at a path; returns its position, if the path is distinct.
    pub(super) fn add(
        &mut self,
        column: Option<usize>,
        path: &str,
        reason: &'static str,
        count: u64,
    ) -> Option<Counted> {
        let path = shorten(path, LONGEST_PATH);
        let is_same = |found: &Found| {
            std::ptr::eq(found.reason, reason) && found.path == *path && found.column == column
        };
        if let Some(at) = self.found.iter().take(FEW_PATHS).position(is_same) {
            self.found[at].count += count;
            return Some(Counted(at));
        }
        let known = self
            .by_path
            .get(&*path)
            .and_then(|at| at.iter().find(|at| is_same(&self.found[**at])).copied());
        if let Some(at) = known {
            self.found[at].count += count;
            Some(Counted(at))
        } else if self.found.len() >= MOST_PATHS {
            *self.further.entry(reason).or_default() += count;
            None
        } else {
            if self.found.len() >= FEW_PATHS {
                self.by_path
                    .entry(path.clone().into_owned())
                    .or_default()
                    .push(self.found.len());
            }
            self.found.push(Found {
                path: path.into_owned(),
                reason,
                column,
                count,
            });
            Some(Counted(self.found.len() - 1))
        }
    }

    /// Adds what other pages showed.
    pub(super) fn merge(&mut self, other: Self) {
        for Found {
            path,
            reason,
            column,
            count,
        } in other.found
        {
            self.add(column, &path, reason, count);
        }
        for (reason, count) in other.further {
            *self.further.entry(reason).or_default() += count;
        }
    }

    /// How many values.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        self.found.iter().map(|found| found.count).sum::<u64>() + self.further.values().sum::<u64>()
    }

    /// What was found, with its column.
    pub(super) fn into_found(self) -> impl Iterator<Item = (Option<usize>, DriftKey, u64)> {
        let found = self.found.into_iter().map(
            |Found {
                 path,
                 reason,
                 column,
                 count,
             }| (column, DriftKey { path, reason }, count),
        );
        let further = self.further.into_iter();
        found.chain(further.map(|(reason, count)| {
            (
                None,
                DriftKey {
                    path: FURTHER_PATHS.into(),
                    reason,
                },
                count,
            )
        }))
    }

    /// What was found, all columns together.
    pub(super) fn into_counts(self) -> BTreeMap<DriftKey, u64> {
        let mut counts = BTreeMap::new();
        for (_, key, count) in self.into_found() {
            *counts.entry(key).or_default() += count;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_up_to_a_bound_and_all_are_counted() {
        let mut drift = Drift::default();
        for round in 0..3 {
            for name in 0..300_000 {
                drift.add(None, &format!("n{name}"), "new", 1);
                if name < 100 {
                    drift.add(Some(name), "same", "new", 1);
                }
            }
            drift.add(None, &"x".repeat(1 << 20), "long", 1);
            assert_eq!(drift.total(), (round + 1) * 300_101);
        }
        let mut again = Drift::default();
        again.merge(drift);
        assert_eq!(again.total(), 3 * 300_101);
        let counts = again.into_counts();
        assert!(counts.len() <= MOST_PATHS + 2, "{}", counts.len());
        assert_eq!(
            counts[&DriftKey {
                path: "n7".into(),
                reason: "new"
            }],
            3
        );
        assert_eq!(
            counts[&DriftKey {
                path: "same".into(),
                reason: "new"
            }],
            300
        );
        assert!(counts.keys().all(|key| key.path.len() < 2 * LONGEST_PATH));
    }
}
