//! Change feeds: which past days of a source have changed.
//!
//! Sources that share requests share those of their change feeds too: each then has the position of the request in its
//! own state, and goes on with the others as long as the positions are the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::commit_raw::is_moved;
use super::run::{Run, ends_run};
use crate::catalog::Source;
use crate::clock;
use crate::error::Error;
use crate::extract::{Changes, ExtractError, Extractor};
use crate::samsara::{Request, SamsaraError, Watch};
use crate::state::{Feed, Position, SourceHandle};
use crate::store::layout::Partition;

/// What reading change feeds needs.
#[derive(Clone, Copy)]
pub(super) struct ChangeFeeds<'a> {
    pub(super) run: &'a Run,
    pub(super) extractor: &'a Extractor,
    pub(super) slots: &'a Semaphore,
}

/// A source whose change feed is read.
struct Member {
    /// The feed, named like the source.
    feed: Source,
    handle: SourceHandle,
}

impl Member {
    /// Where its feed stands, if the API still knows that.
    fn position(&self, now: DateTime<Utc>) -> Option<Position> {
        let before = self.handle.look(|state| state.feed.clone());
        before
            .filter(|before| crate::plan::is_alive(before, now))
            .map(|before| before.position())
    }
}

/// How far a feed was followed.
enum Followed {
    /// To its end.
    Whole,
    /// The API does not know the position any more.
    Dead,
    /// Until the run had to stop, or a failure that is reported; or each source was read by itself.
    Stopped,
}

impl ChangeFeeds<'_> {
    /// The sources of the plan whose change feeds are read together: as they were before, if that was as many as a
    /// request takes, else all that can be.
    pub(super) async fn groups(self) -> Result<Vec<Vec<String>>, Error> {
        let (now, mut rest) = (clock::now(), Vec::new());
        let mut known: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
        let mut limits = BTreeMap::new();
        for member in self.members(&self.run.plan.feeds).await? {
            let (feed, position) = (&member.feed, member.position(now));
            match (feed.share_key(), &feed.share, position) {
                (Some(key), Some(share), Some(Position { query, cursor })) => {
                    limits.insert(key.clone(), share.limit);
                    let alike = known.entry((key, query, cursor)).or_default();
                    alike.push(member.feed.name);
                }
                _ => rest.push(member.feed.name),
            }
        }
        let mut groups = Vec::new();
        for ((key, ..), names) in known {
            match limits.get(&key) == Some(&names.len()) {
                true => groups.push(names),
                false => rest.extend(names),
            }
        }
        groups.extend(crate::plan::shared_feeds(&self.run.catalog, &rest)?);
        Ok(groups)
    }

    async fn members(self, names: &[String]) -> Result<Vec<Member>, Error> {
        let mut members = Vec::new();
        for name in names {
            // The plan names only sources that have one.
            let source = self.run.catalog.known_source(name)?;
            if let Some(feed) = self.run.catalog.change_feed(source) {
                let handle = self.run.states.source(name).await?;
                members.push(Member { feed, handle });
            }
        }
        Ok(members)
    }

    /// Reads the change feeds of sources that share requests to their end, and keeps in their states which days have
    /// changed, together with the position.
    ///
    /// Where the positions differ, a new one is taken for all first, and then each is followed to its end: what arrives
    /// meanwhile is behind the new position or before the end of the old one, or both.
    pub(super) async fn read(self, names: &[String]) -> Result<(), Error> {
        let members = self.members(names).await?;
        let (mut lost, mut followed) = (Vec::new(), BTreeMap::<_, Vec<&Member>>::new());
        for member in &members {
            match member.position(clock::now()) {
                Some(Position { query, cursor }) => {
                    followed.entry((query, cursor)).or_default().push(member);
                }
                None => lost.push(member),
            }
        }
        let all: Vec<&Member> = members.iter().collect();
        let is_one = followed.len() == 1 && lost.is_empty();
        let mut begun = None;
        if !is_one {
            begun = match self.begin(&all).await? {
                Some(begun) => Some(begun),
                None => return Ok(()),
            };
        }
        let mut joining = Vec::new();
        for ((query, cursor), members) in followed {
            match self.follow(&members, Position { query, cursor }).await? {
                Followed::Whole => joining.extend(members),
                Followed::Dead => lost.extend(members),
                Followed::Stopped => {}
            }
        }
        if begun.is_none() && !lost.is_empty() {
            begun = match self.begin(&lost).await? {
                Some(begun) => Some(begun),
                None => return Ok(()),
            };
        }
        let Some((began, changes)) = begun else {
            return Ok(());
        };
        for (members, is_cold) in [(lost, true), (joining, false)] {
            for member in members {
                let days = Vec::new();
                commit_changes(member, &changes.position, days, false, began, is_cold).await?;
            }
        }
        Ok(())
    }

    /// Takes a new position for these sources; none if the run has to stop, or if that failed, which is reported. Those
    /// that are refused together are read each by itself.
    async fn begin(self, members: &[&Member]) -> Result<Option<(DateTime<Utc>, Changes)>, Error> {
        let began = clock::now();
        match self.changes(members, None, &Watch::default()).await {
            None => Ok(None),
            Some(Ok(changes)) => Ok(Some((began, changes))),
            Some(Err(error)) if error.is_refused() && members.len() > 1 => {
                self.read_apart(members, &error).await?;
                Ok(None)
            }
            Some(Err(error)) => {
                self.report_failure(members, error)?;
                Ok(None)
            }
        }
    }

    /// Reads the change feed of each source by itself: one type that is retired, or that nobody has licensed, has the whole
    /// request refused.
    async fn read_apart(self, members: &[&Member], refused: &ExtractError) -> Result<(), Error> {
        tracing::warn!(error = %refused, "refused together: each is requested by itself");
        for member in members {
            Box::pin(self.read(std::slice::from_ref(&member.feed.name))).await?;
        }
        Ok(())
    }

    /// Follows the feed of these sources from their position to its end, with a commit for each part.
    async fn follow(self, members: &[&Member], from: Position) -> Result<Followed, Error> {
        // A position that came of a request for others too is refused with them, and this source may not be.
        let feeds: Vec<&Source> = members.iter().map(|member| &member.feed).collect();
        let own = Request::render(&feeds, None, None, &[]);
        let is_shared = own.is_none_or(|own| own.query != from.query);
        let is_for_others = |error: &ExtractError| error.is_refused() && is_shared;
        let (mut resume, watch) = (from, Watch::default());
        loop {
            let began = clock::now();
            match self.changes(members, Some(resume), &watch).await {
                None => return Ok(Followed::Stopped),
                Some(Ok(changes)) => {
                    let Changes {
                        days,
                        position,
                        more,
                    } = changes;
                    for (member, days) in members.iter().zip(days) {
                        let days = days.into_iter().map(Partition::Day).collect();
                        commit_changes(member, &position, days, more, began, false).await?;
                    }
                    if !more {
                        return Ok(Followed::Whole);
                    }
                    resume = position;
                }
                Some(Err(error)) if error.is_refused() && members.len() > 1 => {
                    self.read_apart(members, &error).await?;
                    return Ok(Followed::Stopped);
                }
                Some(Err(error)) if error.is_dead_cursor() || is_for_others(&error) => {
                    tracing::warn!(%error, "cursor dropped, the change feed starts over");
                    // The position stays until there is another: it says since when nothing is known.
                    return Ok(Followed::Dead);
                }
                Some(Err(error)) => {
                    self.report_failure(members, error)?;
                    return Ok(Followed::Stopped);
                }
            }
        }
    }

    /// Some pages, in a slot of their own; none if the run has to stop.
    async fn changes(
        self,
        members: &[&Member],
        resume: Option<Position>,
        watch: &Watch,
    ) -> Option<Result<Changes, ExtractError>> {
        let feeds: Vec<&Source> = members.iter().map(|member| &member.feed).collect();
        let slot = self.slots.acquire().await;
        let changes = tokio::select! {
            () = self.run.shutdown.cancelled() => None,
            result = self.extractor.changes(&feeds, resume, watch) => Some(result),
        };
        drop(slot);
        changes
    }

    /// A change feed that cannot be read costs its days, and ends the run only if nothing else can work either.
    fn report_failure(self, members: &[&Member], error: ExtractError) -> Result<(), Error> {
        let run = self.run;
        // An organisation without the feed has its days read `lookback_days` long, as without `changes`.
        let is_missing = |member: &Member| {
            let name = &member.feed.name;
            error.api().is_some_and(|error| {
                matches!(error, SamsaraError::NotFound { .. })
                    || (error.is_unavailable() && !run.is_named(name))
            }) && member.handle.look(|state| state.feed.is_none())
        };
        let (missing, failed): (Vec<&Member>, Vec<&Member>) =
            members.iter().partition(|member| is_missing(member));
        for member in missing {
            let source = &member.feed.name;
            tracing::info!(source, %error, "no change feed: late data are found by lookback");
        }
        let error = Error::Extract(error);
        if ends_run(&error) {
            return Err(error);
        }
        for member in failed {
            run.failed(&member.feed.name, None, &error);
        }
        Ok(())
    }
}

/// Marks changed days and moves the feed's position, in one commit.
///
/// If the feed started without a position, all days are marked that late data may have reached since the previous
/// position.
async fn commit_changes(
    member: &Member,
    position: &Position,
    mut days: Vec<Partition>,
    more: bool,
    began: DateTime<Utc>,
    is_cold: bool,
) -> Result<(), Error> {
    let handle = &member.handle;
    let before = handle.look(|state| state.feed.clone()).filter(|_| !is_cold);
    let position = Feed {
        query: position.query.clone(),
        cursor: position.cursor.clone(),
        at: began,
        since: before
            .as_ref()
            .filter(|_| more)
            .map(|before| before.since.unwrap_or(before.at)),
        contiguous_since: before.map_or(Some(began), |before| before.contiguous_since),
        // If its position is lost, days are read again.
        gaps: Vec::new(),
    };
    if is_cold {
        let unverified = handle.look(crate::plan::unverified_days);
        days.extend(unverified.into_iter().map(Partition::Day));
        if let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) {
            let (source, days) = (&member.feed.name, days.len());
            tracing::warn!(source, days, %first, %last, "no change feed was read meanwhile: days are read again");
        }
    }
    let moved = handle.look(|state| is_moved(state.feed.as_ref(), &position));
    if moved || !days.is_empty() {
        let at = clock::now();
        handle
            .commit(move |state| {
                // A day that was never asked for is of no interest; one of which a part was read must not go on from its
                // checkpoint.
                for day in days {
                    if day.day().is_some_and(|day| state.is_asked(day)) {
                        state.partition_mut(day).changed = Some(at);
                    }
                }
                state.feed = Some(position);
            })
            .await?;
    }
    Ok(())
}
