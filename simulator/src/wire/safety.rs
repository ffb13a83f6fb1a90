//! Safety events, scores and idling.

use serde_json::Value;

use super::{Record, Wire};
use crate::time::wire_time;
use crate::world::{BehaviourLabel, Idling, SafetyEvent, SafetyScore, Vehicle, number};

impl Wire {
    pub(crate) fn safety_event(self, event: &SafetyEvent<'_>) -> Value {
        let location = Record::new()
            .put("latitude", number(event.latitude))
            .put("longitude", number(event.longitude));
        let labels = event
            .labels
            .as_ref()
            .map(|labels| labels.iter().map(label).collect::<Vec<Value>>());
        let record = Record::new()
            .put("id", event.id())
            .put("time", wire_time(event.time))
            .put(
                "vehicle",
                self.vehicle_reference(event.vehicle, "ExternalIds"),
            )
            .put("location", self.strange_part(location).done())
            .put_some(
                "driver",
                event
                    .driver
                    .map(|driver| self.reference(&driver.driver, None, "")),
            )
            .put_some("maxAccelerationGForce", event.acceleration.map(number))
            .put_some("coachingState", event.coaching)
            .put_some("behaviorLabels", labels)
            .put_some("downloadForwardVideoUrl", event.video(0))
            .put_some("downloadInwardVideoUrl", event.video(1))
            .put_some("downloadTrackedInwardVideoUrl", event.video(2));
        self.strange_record(record).done()
    }

    /// The score of a vehicle, in the v1 form: numbers as ids, and without the window.
    pub(crate) fn safety_score(self, score: &SafetyScore) -> Value {
        let record = Record::new()
            .put("vehicleId", score.vehicle)
            .put("safetyScore", score.score)
            .put("safetyScoreRank", score.rank.as_str())
            .put("crashCount", score.crashes)
            .put("harshAccelCount", score.accelerations)
            .put("harshBrakingCount", score.brakings)
            .put("harshTurningCount", score.turns)
            .put("totalHarshEventCount", score.harsh.len())
            .put("harshEvents", score.harsh_json())
            .put("timeOverSpeedLimitMs", score.over_speed)
            .put("totalDistanceDrivenMeters", score.distance)
            .put("totalTimeDrivenMs", score.driven);
        self.strange_record(record).done()
    }

    pub(crate) fn idling(self, vehicle: &Vehicle, idling: &Idling) -> Value {
        let address = idling.address.as_ref().map(|address| {
            let record = Record::new()
                .put("latitude", number(address.latitude))
                .put("longitude", number(address.longitude))
                .put_some("formatted", address.text.as_deref());
            self.strange_part(record).done()
        });
        let record = Record::new()
            .put("vehicle", self.vehicle_reference(vehicle, "externalIds"))
            .put("startTime", wire_time(idling.start))
            .put("endTime", wire_time(idling.end))
            .put("durationMs", idling.end - idling.start)
            .put("fuelConsumptionMl", number(idling.fuel))
            .put("isPtoActive", idling.power_take_off)
            .put_some("address", address);
        self.strange_record(record).done()
    }
}

fn label(label: &BehaviourLabel) -> Value {
    let record = Record::new()
        .put("label", label.label)
        .put("source", label.source);
    record.put_some("name", label.name).done()
}
