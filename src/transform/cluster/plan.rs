//! Plans as bytes and back: DataFusion's serialized form, with what tells our functions apart.
//!
//! DataFusion writes a function's name. That is enough for those that are the same in each session; the others are
//! written with what they hold.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::NaiveDate;
use datafusion::common::{DataFusionError, Result, not_impl_err};
use datafusion::execution::{FunctionRegistry, TaskContext};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    AsExecutionPlan, PhysicalExtensionCodec, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::transform::unfit::{Occurrence, Watched};
use crate::transform::{bounded, distinct, functions, partition_day};

/// A plan as bytes.
///
/// # Errors
/// It has an operator or expression that has no such form.
pub(super) fn encode(plan: Arc<dyn ExecutionPlan>) -> Result<Vec<u8>> {
    let codec = PlanCodec {
        tasks: None,
        watched: Mutex::default(),
    };
    let node = PhysicalPlanNode::try_from_physical_plan(plan, &codec)?;
    let mut bytes = Vec::new();
    node.try_encode(&mut bytes)?;
    Ok(bytes)
}

/// A plan, and the counters of its time functions.
///
/// # Errors
/// The bytes are no plan, or one with parts that this program does not know.
pub(super) fn decode(
    bytes: &[u8],
    tasks: &Arc<TaskContext>,
) -> Result<(Arc<dyn ExecutionPlan>, Watched)> {
    let codec = PlanCodec {
        tasks: Some(tasks.clone()),
        watched: Mutex::default(),
    };
    let plan = PhysicalPlanNode::try_decode(bytes)?.try_into_physical_plan(tasks, &codec)?;
    let watched = codec.watched.into_inner();
    Ok((plan, Watched::new(watched.into_values().collect())))
}

/// What a function holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Held {
    /// A time function: where it stands in the query, and which of the query's counters is its own.
    Time {
        column: String,
        call: usize,
        counter: usize,
    },
    /// `partition_day()`.
    Day(Option<NaiveDate>),
    /// A function whose results are bounded.
    Bounded,
    /// Doubles by their bits.
    Reinterpret,
}

/// Writes and reads what our functions hold, for one plan.
#[derive(Debug)]
struct PlanCodec {
    /// What knows all functions, to read.
    tasks: Option<Arc<TaskContext>>,
    /// Counters that were read.
    watched: Mutex<HashMap<usize, Occurrence>>,
}

impl PlanCodec {
    /// The function of that name.
    fn named(&self, name: &str) -> Result<Arc<ScalarUDF>> {
        match &self.tasks {
            Some(tasks) => tasks.udf(name),
            None => not_impl_err!("{name} is only written"),
        }
    }
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_decode(
        &self,
        _: &[u8],
        _: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("an operator that is not DataFusion's")
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        _: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        not_impl_err!("{} has no serialized form", node.name())
    }

    fn try_encode_udf(&self, node: &ScalarUDF, bytes: &mut Vec<u8>) -> Result<()> {
        let held = if let Some(occurrence) = functions::occurrence_of(node) {
            let (column, call, counter) = occurrence.parts();
            let column = column.to_string();
            Held::Time {
                column,
                call,
                counter,
            }
        } else if let Some(day) = partition_day::day_of(node) {
            Held::Day(day)
        } else if bounded::is_bounded(node) {
            Held::Bounded
        } else if distinct::is_reinterpreting(node) {
            Held::Reinterpret
        } else {
            return Ok(());
        };
        serde_json::to_writer(bytes, &held).map_err(|error| DataFusionError::External(error.into()))
    }

    fn try_decode_udf(&self, name: &str, bytes: &[u8]) -> Result<Arc<ScalarUDF>> {
        let held = serde_json::from_slice(bytes)
            .map_err(|error| DataFusionError::External(error.into()))?;
        Ok(match held {
            Held::Time {
                column,
                call,
                counter,
            } => {
                let mut watched = self.watched.lock();
                let occurrence = watched
                    .entry(counter)
                    .or_insert_with(|| Occurrence::counting(&column, call));
                let function = self.named(name)?;
                Arc::new(functions::at(&function, occurrence.clone())?)
            }
            Held::Day(day) => Arc::new(partition_day::partition_day(day)),
            Held::Bounded if name == bounded::CONCATENATION => {
                Arc::new(bounded::bounded(Arc::new(bounded::concatenation()))?)
            }
            Held::Bounded => Arc::new(bounded::bounded(self.named(name)?)?),
            Held::Reinterpret => Arc::new(distinct::reinterpreting(name)?),
        })
    }
}
