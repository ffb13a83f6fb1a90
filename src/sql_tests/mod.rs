//! Models tried without a run: on recorded pages (`sql test`), and on committed raw rows (`sql preview`). Neither state
//! nor buckets change.

mod model_test;
mod preview;
mod scratch;
mod upstream;

pub use model_test::{test_model, test_or_update};
pub use preview::{Preview, Previewed, preview};
pub use scratch::Scratch;
