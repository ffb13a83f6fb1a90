//! Makes plans: what the state lacks becomes tasks, and tasks are counted in requests.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use super::{
    Estimate, MOST_PARENTS, PARENT_MAX_AGE_HOURS, Plan, PlannedScope, PlannedTask, RunRequest,
    Stage, UNAVAILABLE_DAYS, days_to_read, feed, is_alive, is_from_default_start,
    tells_of_earlier_days, updates,
};
use crate::catalog::{Catalog, CatalogError, Source, SourceKind};
use crate::state::{Gap, NotAvailable, PartitionState, SourceState, StateError, StateStore};
use crate::store::layout::Partition;

/// A plan that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A state document cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The selection or the state names a source that the catalog does not have.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Makes the plan from the catalog, the state and the clock. `now` decides which days are over, and what is stale.
///
/// # Errors
/// [`PlanError`] if the state document of a selected source cannot be read or is invalid, or if the selection is of
/// another catalog.
pub async fn make(
    catalog: &Catalog,
    states: &StateStore,
    run_request: RunRequest,
    now: DateTime<Utc>,
) -> Result<Plan, PlanError> {
    let known = |name: &String| catalog.known_source(name);
    let selected = run_request.selection.sources.iter().map(known);
    let selected: Vec<&Source> = selected.collect::<Result<_, _>>()?;
    let mut planner = Planner::begin(catalog, states, run_request, now)?;
    let parents = selected.iter().filter_map(|source| source.parent.as_ref());
    let parents = parents.map(|parent| parent.source.as_str());
    let names = selected.iter().map(|source| source.name.as_str());
    states.read_ahead(names.chain(parents)).await?;
    for source in selected {
        planner.add_source(source).await?;
    }
    planner.add_parents().await?;
    planner.finish().await
}

/// A plan in the making.
struct Planner<'a> {
    catalog: &'a Catalog,
    states: &'a StateStore,
    now: DateTime<Utc>,
    plan: Plan,
    /// The days of sources that are to be read.
    wanted: BTreeMap<&'a str, Vec<NaiveDate>>,
    /// Those of them that were never read.
    gaps: HashMap<&'a str, HashSet<NaiveDate>>,
    /// The lists that are to be read.
    snapshots: BTreeSet<&'a str>,
    /// The sources of which updates are read.
    updated: BTreeSet<&'a str>,
}

impl<'a> Planner<'a> {
    fn begin(
        catalog: &'a Catalog,
        states: &'a StateStore,
        run_request: RunRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, CatalogError> {
        let mut on_request = BTreeMap::new();
        for name in &run_request.selection.on_request {
            let reason = catalog.known_source(name)?.on_request.clone();
            on_request.insert(name.clone(), reason.unwrap_or_default());
        }
        let upstream = upstream(catalog, &run_request)?;
        Ok(Self {
            catalog,
            states,
            now,
            plan: Plan {
                run_request,
                upstream,
                snapshots: Vec::new(),
                feeds: Vec::new(),
                windows: Vec::new(),
                lasting: Vec::new(),
                committed: BTreeMap::new(),
                complete_days: 0,
                from_default_start: 0,
                today: now.date_naive(),
                estimate: Estimate::default(),
                not_available: BTreeMap::new(),
                on_request,
                gaps: BTreeMap::new(),
                derived_again: Vec::new(),
                left_behind: Vec::new(),
            },
            wanted: BTreeMap::new(),
            gaps: HashMap::new(),
            snapshots: BTreeSet::new(),
            updated: BTreeSet::new(),
        })
    }

    /// Adds what is to be read of a source, and counts what is complete.
    async fn add_source(&mut self, source: &'a Source) -> Result<(), PlanError> {
        let state = self.states.source(&source.name).await?.state();
        if self.plan.run_request.stages.contains(&Stage::Extract) {
            match self.refusal(source).await? {
                Some(refused) => {
                    let name = source.name.clone();
                    self.plan.not_available.insert(name, refused);
                }
                None => self.add_requests(source, &state),
            }
        }
        let name = source.name.as_str();
        let reading = self.wanted.get(name);
        let is_read = |partition: &Partition| match partition {
            Partition::Snapshot => self.snapshots.contains(name),
            Partition::Day(day) => reading.is_some_and(|days| days.contains(day)),
        };
        let complete = state.complete().map(|(partition, _)| partition);
        let committed: Vec<Partition> = complete.filter(|it| !is_read(it)).collect();
        if !committed.is_empty() {
            self.plan.committed.insert(source.name.clone(), committed);
        }
        Ok(())
    }

    /// The last refusal of a source, unless it was selected by name.
    async fn refusal(&self, source: &Source) -> Result<Option<NotAvailable>, StateError> {
        let selection = &self.plan.run_request.selection;
        if selection.named.contains(&source.name) {
            return Ok(None);
        }
        let known = unavailable(self.catalog, self.states, source).await?;
        Ok(known.filter(|known| self.now - known.at < TimeDelta::days(UNAVAILABLE_DAYS)))
    }

    /// Adds what is to be read of a source.
    fn add_requests(&mut self, source: &'a Source, state: &SourceState) {
        let (plan, now) = (&mut self.plan, self.now);
        let is_default = is_from_default_start(source, state, &plan.run_request);
        plan.from_default_start += u64::from(is_default);
        match source.kind {
            SourceKind::Snapshot => {
                self.snapshots.insert(&source.name);
            }
            // A feed continues from its cursor and cannot be read for a period.
            SourceKind::Feed if plan.run_request.historical => {}
            SourceKind::Feed => {
                let planned = feed(source, state, &plan.run_request.dates, now);
                let lost = gaps_of(state, planned.as_ref());
                if !lost.is_empty() {
                    plan.gaps.insert(source.name.clone(), lost);
                }
                plan.windows.extend(planned);
            }
            SourceKind::Updates => {
                let windows = updates::windows(source, state, &plan.run_request, now);
                if !windows.is_empty() {
                    self.updated.insert(&source.name);
                    plan.windows.push(PlannedTask {
                        sources: vec![source.name.clone()],
                        scope: PlannedScope::Updates(windows),
                        requests: 0,
                    });
                }
            }
            SourceKind::Window | SourceKind::Report => self.add_days(source, state),
        }
    }

    /// Adds the days of a source to read, and its change feed.
    fn add_days(&mut self, source: &'a Source, state: &SourceState) {
        let (plan, now) = (&mut self.plan, self.now);
        let (days, complete) = days_to_read(source, state, &plan.run_request, now);
        plan.complete_days += complete;
        let is_unread = |day: &&NaiveDate| {
            let found = state.partition(Partition::Day(**day));
            found.is_none_or(|partition| partition.raw.is_none())
        };
        let unread = days.iter().filter(is_unread);
        self.gaps.entry(&source.name).or_default().extend(unread);
        if tells_of_earlier_days(source, state, &days) {
            plan.lasting.push(source.name.clone());
        }
        if !days.is_empty() {
            self.wanted.insert(&source.name, days);
        }
        let has_position = state.feed.as_ref().is_some_and(|feed| is_alive(feed, now));
        if source.changes.is_some() && !(plan.run_request.historical && has_position) {
            plan.feeds.push(source.name.clone());
        }
    }

    /// Adds the parent lists that are not fresh, and their own parents.
    async fn add_parents(&mut self) -> Result<(), PlanError> {
        let mut children: Vec<&str> = self.wanted.keys().copied().collect();
        children.extend(&self.snapshots);
        children.extend(&self.updated);
        while let Some(name) = children.pop() {
            let Some(parent) = &self.catalog.known_source(name)?.parent else {
                continue;
            };
            let parent = self.catalog.known_source(&parent.source)?;
            let handle = self.states.source(&parent.name).await?;
            let is_fresh = |state: &SourceState| {
                let found = state.partition(Partition::Snapshot);
                found.is_some_and(|found| is_fresh_list(found, self.now))
            };
            if !handle.look(is_fresh) && self.snapshots.insert(&parent.name) {
                children.push(&parent.name);
            }
        }
        Ok(())
    }

    async fn finish(self) -> Result<Plan, PlanError> {
        let (catalog, gaps, mut plan) = (self.catalog, self.gaps, self.plan);
        // A parent comes before its children.
        let mut snapshots: Vec<&str> = self.snapshots.into_iter().collect();
        snapshots.sort_by_key(|name| (depth(catalog, name), *name));
        let snapshots = snapshots.into_iter().map(|name| PlannedTask {
            sources: vec![name.into()],
            scope: PlannedScope::Snapshot,
            requests: 1,
        });
        plan.snapshots = snapshots.collect();
        plan.windows.extend(group(catalog, self.wanted)?);
        // What was never read comes before what is read again, and old days before new ones, whatever the table: so the
        // complete days form one span of time.
        plan.windows.sort_by_cached_key(|task| match &task.scope {
            PlannedScope::Days(days) => {
                let is_gap = |name: &String| {
                    let unread = gaps.get(name.as_str());
                    unread.is_some_and(|unread| days.iter().any(|day| unread.contains(day)))
                };
                (!task.sources.iter().any(is_gap), days.first().copied())
            }
            _ => (false, None),
        });
        count_requests(catalog, self.states, &mut plan.snapshots).await?;
        count_requests(catalog, self.states, &mut plan.windows).await?;
        plan.estimate = estimate(catalog, &plan)?;
        Ok(plan)
    }
}

/// The models that are derived only because selected ones read their tables.
fn upstream(catalog: &Catalog, run_request: &RunRequest) -> Result<Vec<String>, CatalogError> {
    let mut upstream = BTreeSet::new();
    if run_request.stages.contains(&Stage::Transform) {
        for name in &run_request.selection.models {
            let model = catalog.known_model(name)?;
            upstream.extend(catalog.upstream_of(model).into_iter().map(|it| &it.name));
        }
    }
    let is_selected = |name: &&String| run_request.selection.models.contains(*name);
    let upstream = upstream.into_iter().filter(|name| !is_selected(name));
    Ok(upstream.cloned().collect())
}

/// Whether the rows of a list are recent enough to request their children.
fn is_fresh_list(found: &PartitionState, now: DateTime<Utc>) -> bool {
    let is_doubtful = found.failure.is_some() || found.shrunken_from.is_some();
    let age = TimeDelta::hours(PARENT_MAX_AGE_HOURS);
    let raw = found.raw.as_ref();
    !is_doubtful && raw.is_some_and(|raw| raw.extracted_at + age > now)
}

fn depth(catalog: &Catalog, source: &str) -> usize {
    catalog
        .source(source)
        .map_or(0, |source| catalog.depth(source))
}

/// Whether the state says that a source is not available: it or one of its parents was refused at the last request, and
/// it was never read, or is optional.
pub(crate) async fn unavailable(
    catalog: &Catalog,
    states: &StateStore,
    source: &Source,
) -> Result<Option<NotAvailable>, StateError> {
    let mut asked = source;
    for _ in 0..MOST_PARENTS {
        let (known, was_read) = states
            .source(&asked.name)
            .await?
            .look(|state| (state.not_available.clone(), state.was_read()));
        let counts = !was_read || asked.optional;
        if let Some(known) = known.filter(|_| counts) {
            let is_own = asked.name == source.name;
            return Ok(Some(if is_own {
                known
            } else {
                let reason = format!(
                    "{}, whose rows it needs, is not available: {}",
                    asked.name, known.reason
                );
                NotAvailable { reason, ..known }
            }));
        }
        let parent = asked.parent.as_ref();
        match parent.and_then(|parent| catalog.source(&parent.source)) {
            // A parent that was read before still provides the known ids.
            Some(parent) if !was_read => asked = parent,
            _ => break,
        }
    }
    Ok(None)
}

/// The source that represents those of a task: they share one endpoint.
fn first_source<'a>(catalog: &'a Catalog, task: &PlannedTask) -> Result<&'a Source, CatalogError> {
    catalog.known_source(task.sources.first().map_or("", String::as_str))
}

/// Counts the requests of each task, a lower bound: one for each swept value and batch of parents.
async fn count_requests(
    catalog: &Catalog,
    states: &StateStore,
    tasks: &mut [PlannedTask],
) -> Result<(), PlanError> {
    for task in tasks {
        let source = first_source(catalog, task)?;
        task.requests = source
            .sweep
            .as_ref()
            .map_or(1, |sweep| sweep.values.len() as u64);
        if let Some(parent) = &source.parent {
            let handle = states.source(&parent.source).await?;
            let parents: u64 = handle.look(|state| {
                let raw = state
                    .partition(Partition::Snapshot)
                    .and_then(|partition| partition.raw.as_ref());
                raw.map_or(1, |raw| raw.objects.iter().map(|object| object.rows).sum())
            });
            // The state does not say how many of the rows are selected.
            let parents = match parent.is_selective() {
                true => parents.min(1),
                false => parents,
            };
            task.requests *= parents.div_ceil(parent.batch as u64);
        }
        if let PlannedScope::Updates(windows) = &task.scope {
            task.requests *= windows.len() as u64;
        }
    }
    Ok(())
}

/// Counts requests by endpoint. Endpoints are requested concurrently, so the slowest one determines the duration.
fn estimate(catalog: &Catalog, plan: &Plan) -> Result<Estimate, CatalogError> {
    let mut estimate = Estimate::default();
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for task in plan.snapshots.iter().chain(&plan.windows) {
        let source = first_source(catalog, task)?;
        estimate.calls += task.requests;
        *seconds.entry(source.endpoint.as_str()).or_default() +=
            task.requests as f64 / source.rate_limit.per_second;
    }
    let groups = shared_feeds(catalog, &plan.feeds)?;
    let feeds = groups.iter().filter_map(|names| names.first());
    let feeds = feeds.filter_map(|name| catalog.change_feed(catalog.source(name)?));
    let feeds: Vec<Source> = feeds.collect();
    for feed in &feeds {
        estimate.calls += 1;
        *seconds.entry(&feed.endpoint).or_default() += 1.0 / feed.rate_limit.per_second;
    }
    estimate.seconds = seconds.into_values().fold(0.0, f64::max);
    Ok(estimate)
}

/// Groups sources by the request that reads their change feeds together.
pub fn shared_feeds(catalog: &Catalog, names: &[String]) -> Result<Vec<Vec<String>>, CatalogError> {
    let (mut groups, mut shared) = (Vec::new(), BTreeMap::<String, Vec<Source>>::new());
    for name in names {
        let Some(feed) = catalog.change_feed(catalog.known_source(name)?) else {
            continue;
        };
        match feed.share_key() {
            Some(key) => shared.entry(key).or_default().push(feed),
            None => groups.push(vec![feed.name]),
        }
    }
    for feeds in shared.values() {
        groups.extend(together(&feeds.iter().collect::<Vec<_>>()));
    }
    Ok(groups)
}

/// Tasks for the days of these sources that changed since the plan was made, without the days that the plan already
/// has.
pub async fn changed(
    catalog: &Catalog,
    states: &StateStore,
    plan: &Plan,
    sources: &[String],
) -> Result<Vec<PlannedTask>, PlanError> {
    let mut wanted = BTreeMap::new();
    for name in sources {
        let source = catalog.known_source(name)?;
        let planned = plan.days_of(&source.name);
        let handle = states.source(&source.name).await?;
        let days: Vec<NaiveDate> = handle.look(|state| {
            state
                .changed_days()
                .filter(|day| plan.run_request.dates.contains(*day) && !planned.contains(day))
                .collect()
        });
        if !days.is_empty() {
            wanted.insert(source.name.as_str(), days);
        }
    }
    let mut tasks = group(catalog, wanted)?;
    count_requests(catalog, states, &mut tasks).await?;
    Ok(tasks)
}

/// What a feed has lost once it is read as planned.
fn gaps_of(state: &SourceState, planned: Option<&PlannedTask>) -> Vec<Gap> {
    match (&state.feed, planned.map(|planned| &planned.scope)) {
        (
            Some(known),
            Some(PlannedScope::Feed {
                resume: None,
                since,
                ..
            }),
        ) => known.gaps_from(*since),
        _ => state.gaps().to_vec(),
    }
}

/// Sources that share an endpoint share requests; consecutive days share one request where the source allows it.
pub(super) fn group(
    catalog: &Catalog,
    wanted: BTreeMap<&str, Vec<NaiveDate>>,
) -> Result<Vec<PlannedTask>, CatalogError> {
    let mut tasks = Vec::new();
    let mut shared: BTreeMap<String, BTreeMap<NaiveDate, Vec<&str>>> = BTreeMap::new();
    for (name, days) in wanted {
        let source = catalog.known_source(name)?;
        if let Some(key) = source.share_key() {
            let of_days = shared.entry(key).or_default();
            for day in days {
                of_days.entry(day).or_default().push(name);
            }
            continue;
        }
        let mut run: Vec<NaiveDate> = Vec::new();
        for day in days {
            let follows = run.last().is_none_or(|last| *last + Days::new(1) == day);
            if !follows || run.len() >= source.days_per_request as usize {
                tasks.push(PlannedTask {
                    sources: vec![name.into()],
                    scope: PlannedScope::Days(std::mem::take(&mut run)),
                    requests: 1,
                });
            }
            run.push(day);
        }
        tasks.push(PlannedTask {
            sources: vec![name.into()],
            scope: PlannedScope::Days(run),
            requests: 1,
        });
    }
    for of_days in shared.into_values() {
        // Most days are needed for the same sources as the previous day.
        let (mut alike, mut requests) = (Vec::new(), Vec::new());
        for (day, names) in of_days {
            if names != alike {
                let sources = names.iter().map(|name| catalog.known_source(name));
                requests = together(&sources.collect::<Result<Vec<_>, _>>()?);
                alike = names;
            }
            tasks.extend(requests.iter().map(|sources| PlannedTask {
                sources: sources.clone(),
                scope: PlannedScope::Days(vec![day]),
                requests: 1,
            }));
        }
    }
    Ok(tasks)
}

/// Groups sources into requests: no more in one than the endpoint takes, and no two with the same field, since a record
/// holds it once.
fn together(sources: &[&Source]) -> Vec<Vec<String>> {
    // The field of each request's sources, too.
    let mut requests: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    let first = sources.first().and_then(|source| source.share.as_ref());
    let limit = first.map_or(1, |share| share.limit);
    for source in sources {
        let field = source.share.as_ref().map_or("", |share| &share.field);
        let has_room = |(fields, names): &&mut (Vec<&str>, Vec<String>)| {
            names.len() < limit && !fields.contains(&field)
        };
        match requests.iter_mut().find(has_room) {
            Some((fields, names)) => {
                fields.push(field);
                names.push(source.name.clone());
            }
            None => requests.push((vec![field], vec![source.name.clone()])),
        }
    }
    requests.into_iter().map(|(_, names)| names).collect()
}
