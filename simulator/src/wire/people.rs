//! Drivers.

use serde_json::Value;

use super::fleet::attributes;
use super::{Record, Wire, external_ids, named, tags};
use crate::time::wire_time;
use crate::world::{Driver, RuleSet, TagRef};

impl Wire {
    pub(crate) fn driver(self, driver: &Driver) -> Value {
        let carrier = driver.carrier.as_ref().map(|carrier| {
            let record = Record::new()
                .put("carrierName", carrier.name)
                .put("homeTerminalName", carrier.home_terminal)
                .put("homeTerminalAddress", carrier.home_terminal_address)
                .put("mainOfficeAddress", carrier.main_office)
                .put_some("dotNumber", carrier.dot_number);
            self.strange_part(record).done()
        });
        let rule_sets = driver.rule_sets.as_ref().map(|rule_sets| {
            let rule_sets: Value = rule_sets.iter().map(RuleSet::json).collect();
            Record::new().put("rulesets", rule_sets).done()
        });
        let rule_override = driver.rule_override.map(|rule| {
            let record = Record::new()
                .put("cycle", rule.cycle)
                .put("restart", rule.restart)
                .put("restbreak", rule.rest_break)
                .put("usStateToOverride", rule.state);
            record.done()
        });
        let group = |tag: &Option<TagRef>| tag.as_ref().map(TagRef::json);
        let [personal, yard, weather, big_day] = driver.eld_flags;
        let record = Record::new()
            .put("id", driver.driver.id.as_str())
            .put("name", driver.driver.name.as_str())
            .put("username", driver.username.as_str())
            .put("driverActivationStatus", driver.activation_status())
            .put("isDeactivated", !driver.active)
            .put("timezone", driver.time_zone)
            .put("notes", driver.notes)
            .put("eldExempt", driver.eld_exempt)
            .put("eldPcEnabled", personal)
            .put("eldYmEnabled", yard)
            .put("eldAdverseWeatherExemptionEnabled", weather)
            .put("eldBigDayExemptionEnabled", big_day)
            .put("eldDayStartHour", driver.eld_day_start_hour)
            .put("createdAtTime", wire_time(driver.created))
            .put(
                "updatedAtTime",
                driver.updated.map(wire_time).unwrap_or_default(),
            )
            .put_some("phone", driver.phone.as_deref())
            .put_some("licenseNumber", driver.license_number.as_deref())
            .put_some("licenseState", driver.license_state)
            .put_some("locale", driver.locale)
            .put_some("profileImageUrl", driver.image_url.as_deref())
            .put_some("currentIdCardCode", driver.card_code.as_deref())
            .put_some("tachographCardNumber", driver.tachograph_card.as_deref())
            .put_some("eldExemptReason", driver.eld_exempt_reason)
            .put_some("waitingTimeDutyStatusEnabled", driver.waiting_time)
            .put_some("hasDrivingFeaturesHidden", driver.features_hidden)
            .put_some("hasVehicleUnpinningEnabled", driver.unpinning)
            .put_some("carrierSettings", carrier)
            .put_some("eldSettings", rule_sets)
            .put_some("usDriverRulesetOverride", rule_override)
            .put_some("staticAssignedVehicle", named(driver.vehicle.as_ref()))
            .put_some("peerGroupTag", group(&driver.peer_group))
            .put_some("vehicleGroupTag", group(&driver.vehicle_group))
            .put_some("trailerGroupTag", group(&driver.trailer_group))
            .put_some("tags", tags(driver.tags.as_deref()))
            .put_some("attributes", attributes(driver.attributes.as_deref()))
            .put_some("externalIds", external_ids(driver.external_ids.as_ref()));
        self.strange_record(record).done()
    }
}
