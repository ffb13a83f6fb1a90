//! The order in which lists are read.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, PlannedTask};
use crate::catalog::Catalog;

/// The lists of a plan that are not read yet. A list that is requested for the rows of another one waits until that is
/// read. Of the others, those come first on which the most requests wait, with their own: lists are read side by side, and
/// the longest chain ends last.
#[derive(Debug)]
pub struct Lists<'a> {
    catalog: &'a Catalog,
    /// Those not begun, the next one last, each with the number of requests that end with it or wait for it.
    waiting: Vec<(u64, &'a PlannedTask)>,
    /// Sources whose list has not ended.
    unread: BTreeSet<&'a str>,
}

impl<'a> Lists<'a> {
    /// All lists of a plan.
    pub fn new(catalog: &'a Catalog, plan: &'a Plan) -> Self {
        // Of the chains that wait for a source, the longest.
        let mut chains: BTreeMap<&str, u64> = BTreeMap::new();
        let mut waiting = Vec::new();
        // In a plan, parents come before their children.
        for task in plan.snapshots.iter().rev() {
            let sources = task.sources.iter();
            let longest = sources.filter_map(|name| chains.get(name.as_str())).max();
            let requests = task.requests + longest.copied().unwrap_or_default();
            if let Some(parent) = parent(catalog, task) {
                let chain = chains.entry(parent).or_default();
                *chain = requests.max(*chain);
            }
            waiting.push((requests, task));
        }
        // The sort keeps the order of equals, which is that of the plan.
        waiting.sort_by_key(|(requests, _)| *requests);
        let sources = plan.snapshots.iter().flat_map(|task| &task.sources);
        Self {
            catalog,
            waiting,
            unread: sources.map(String::as_str).collect(),
        }
    }

    fn place(&self) -> Option<usize> {
        self.waiting.iter().rposition(|(_, task)| {
            let parent = parent(self.catalog, task);
            parent.is_none_or(|parent| !self.unread.contains(parent))
        })
    }

    /// Whether there is a list that can be read now.
    pub fn has_next(&self) -> bool {
        self.place().is_some()
    }

    /// The next list, which is being read from now on.
    pub fn begin_next(&mut self) -> Option<&'a PlannedTask> {
        let place = self.place()?;
        Some(self.waiting.remove(place).1)
    }

    /// A list was read, or failed: those that wait for it are next.
    pub fn end(&mut self, task: &PlannedTask) {
        for source in &task.sources {
            self.unread.remove(source.as_str());
        }
    }
}

/// The source for whose rows a list is requested.
fn parent<'a>(catalog: &'a Catalog, task: &PlannedTask) -> Option<&'a str> {
    let source = catalog.source(task.sources.first()?)?;
    Some(&source.parent.as_ref()?.source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlannedScope, RunRequest, Selection, Stage, make};
    use crate::state::StateStore;
    use crate::store::Bucket;

    #[tokio::test]
    async fn the_longest_chain_begins_first() {
        let catalog = Catalog::open(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let states = StateStore::new(Bucket::of_folder(folder.path()));
        let run_request = RunRequest {
            selection: Selection::all(&catalog, false),
            dates: Default::default(),
            stages: [Stage::Extract].into(),
            historical: false,
        };
        let now = crate::clock::now();
        let mut plan = make(&catalog, &states, run_request, now).await.unwrap();
        let requests = [
            ("fleet_tags", 5),
            ("fleet_trailers", 5),
            ("attributes", 2),
            ("attributes_entities", 4),
            ("fleet_vehicles", 1),
        ];
        plan.snapshots = [
            "attributes",
            "fleet_tags",
            "fleet_trailers",
            "fleet_vehicles",
        ]
        .into_iter()
        .chain(["attributes_entities"])
        .map(|name| PlannedTask {
            sources: vec![name.into()],
            scope: PlannedScope::Snapshot,
            requests: requests.iter().find(|it| it.0 == name).unwrap().1,
        })
        .collect();
        let mut lists = Lists::new(&catalog, &plan);
        let mut begun = Vec::new();
        while lists.has_next() {
            begun.push(lists.begin_next().unwrap());
        }
        let names = |tasks: &[&PlannedTask]| -> Vec<String> {
            tasks.iter().map(|task| task.sources[0].clone()).collect()
        };
        let expected = [
            "attributes",
            "fleet_tags",
            "fleet_trailers",
            "fleet_vehicles",
        ];
        assert_eq!(names(&begun), expected);
        for other in &begun[1..] {
            lists.end(other);
            assert!(lists.begin_next().is_none());
        }
        lists.end(begun[0]);
        let last = lists.begin_next().unwrap();
        assert_eq!(names(&[last]), ["attributes_entities"]);
        assert!(!lists.has_next());
    }
}
