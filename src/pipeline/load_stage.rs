//! Executes the load plan: loads flattened partitions as they come from the transform stage.
//!
//! Only the names of partitions wait for a full load: the state lists all that is derived.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::load_context::{LOADS, LoadContext, UNDER_WAY};
use super::table_loader::TableLoader;
use super::transform_stage::Flat;
use crate::load::LoadError;

/// Runs the load stage, or drains its queue if it is not requested.
///
/// A run that must stop does not wait for jobs, which may take hours: the state lists them, and the next run finds
/// them.
pub(super) async fn load_stage(
    context: Option<LoadContext>,
    mut loadable: mpsc::Receiver<Vec<Flat>>,
) {
    let Some(context) = context else {
        while loadable.recv().await.is_some() {}
        return;
    };
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = load_tables(&context, loadable) => {}
    }
}

async fn load_tables(context: &LoadContext, loadable: mpsc::Receiver<Vec<Flat>>) {
    context.drop_trial_tables().await;
    let loaders: BTreeMap<&str, TableLoader<'_>> = context
        .plan
        .tables
        .iter()
        .map(|(name, table)| (name.as_str(), TableLoader::new(context, table)))
        .collect();
    // Tables are created first, including those that get no rows, except those whose source may turn out to be
    // unavailable.
    let certain = loaders.values().filter(|loader| loader.is_certain());
    stream::iter(certain)
        .for_each_concurrent(LOADS, |loader| async {
            loader.method().await;
        })
        .await;
    let loaders = &loaders;
    stream::unfold(loadable, |mut queue| async move {
        let mut items = queue.recv().await?;
        // In most runs all but a few: not worth a future each.
        items.retain(|(table, partition)| {
            let loader = loaders.get(table.as_str());
            !loader.is_some_and(|loader| loader.has(*partition))
        });
        Some((stream::iter(items), queue))
    })
    .flatten()
    .for_each_concurrent(UNDER_WAY, |(table, partition)| async move {
        match loaders.get(table.as_str()) {
            Some(loader) => loader.take_partition(partition).await,
            None => {
                let error = LoadError::NotPlanned {
                    table: table.clone(),
                    partition,
                };
                context.failed(&table, Some(partition), &error.into());
            }
        }
    })
    .await;
    // By now it is known which sources are unavailable: their tables are not created.
    let available = loaders.values().filter(|loader| loader.is_available());
    stream::iter(available)
        .for_each_concurrent(LOADS, TableLoader::finish)
        .await;
}
