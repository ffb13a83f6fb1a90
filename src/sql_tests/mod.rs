//! Runs models without a run of the pipeline: on recorded pages (`sql test`), and on committed raw rows (`sql preview`,
//! `sql diff`). Neither state nor buckets change.

mod diff;
mod model_test;
mod preview;
mod scratch;
mod upstream;

pub use diff::{Change, ChangedValue, Diff, Differ, RetypedColumn, Sample, Underived};
pub use model_test::{ModelTestError, test_model, test_or_update};
pub use preview::{Preview, Previewed, preview};
pub use scratch::Scratch;
