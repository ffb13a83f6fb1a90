//! Drivers.

use serde_json::Value;

use super::vehicles::attribute_list;
use super::{Days, Row, id_and_name, ids, row, tag_list, text, time};
use crate::world::{Driver, RuleSet, TagRef, World};

pub(super) fn drivers(world: &World, _: Days) -> Vec<Row> {
    world.drivers.iter().map(driver).collect()
}

fn driver(driver: &Driver) -> Row {
    let carrier = driver.carrier.as_ref();
    let rule = driver.rule_override.as_ref();
    let rule_sets: Option<Value> = driver
        .rule_sets
        .as_ref()
        .map(|rule_sets| rule_sets.iter().map(RuleSet::json).collect());
    let (vehicle_id, vehicle_name) = id_and_name(driver.vehicle.as_ref());
    let [personal, yard, weather, big_day] = driver.eld_flags;
    let mut columns = row([
        ("id", driver.driver.id.as_str().into()),
        ("name", driver.driver.name.as_str().into()),
        ("username", driver.username.as_str().into()),
        ("phone", text(driver.phone.as_deref())),
        ("licenseNumber", text(driver.license_number.as_deref())),
        ("licenseState", text(driver.license_state)),
        ("driverActivationStatus", driver.activation_status().into()),
        ("isDeactivated", (!driver.active).into()),
        ("timezone", driver.time_zone.into()),
        ("locale", text(driver.locale)),
        ("notes", driver.notes.into()),
        ("profileImageUrl", text(driver.image_url.as_deref())),
        ("currentIdCardCode", text(driver.card_code.as_deref())),
        (
            "tachographCardNumber",
            text(driver.tachograph_card.as_deref()),
        ),
        ("eldExempt", driver.eld_exempt.into()),
        ("eldExemptReason", text(driver.eld_exempt_reason)),
        ("eldPcEnabled", personal.into()),
        ("eldYmEnabled", yard.into()),
        ("eldDayStartHour", driver.eld_day_start_hour.into()),
        ("eldAdverseWeatherExemptionEnabled", weather.into()),
        ("eldBigDayExemptionEnabled", big_day.into()),
        ("waitingTimeDutyStatusEnabled", driver.waiting_time.into()),
        ("hasDrivingFeaturesHidden", driver.features_hidden.into()),
        ("hasVehicleUnpinningEnabled", driver.unpinning.into()),
        (
            "carrierSettings_carrierName",
            carrier.map(|carrier| carrier.name).into(),
        ),
        (
            "carrierSettings_dotNumber",
            carrier.and_then(|carrier| carrier.dot_number).into(),
        ),
        (
            "carrierSettings_homeTerminalName",
            carrier.map(|carrier| carrier.home_terminal).into(),
        ),
        (
            "carrierSettings_homeTerminalAddress",
            carrier.map(|carrier| carrier.home_terminal_address).into(),
        ),
        (
            "carrierSettings_mainOfficeAddress",
            carrier.map(|carrier| carrier.main_office).into(),
        ),
        ("eldSettings_rulesets", rule_sets.into()),
        (
            "usDriverRulesetOverride_cycle",
            rule.map(|rule| rule.cycle).into(),
        ),
        (
            "usDriverRulesetOverride_restart",
            rule.map(|rule| rule.restart).into(),
        ),
        (
            "usDriverRulesetOverride_restbreak",
            rule.map(|rule| rule.rest_break).into(),
        ),
        (
            "usDriverRulesetOverride_usStateToOverride",
            rule.map(|rule| rule.state).into(),
        ),
        ("staticAssignedVehicle_id", vehicle_id),
        ("staticAssignedVehicle_name", vehicle_name),
        ("tags", tag_list(driver.tags.as_deref())),
        ("attributes", attribute_list(driver.attributes.as_deref())),
        ("externalIds", ids(driver.external_ids.as_ref())),
        ("createdAtTime", time(driver.created)),
        ("updatedAtTime", driver.updated.map_or(Value::Null, time)),
    ]);
    group(&mut columns, "peerGroupTag", driver.peer_group.as_ref());
    group(
        &mut columns,
        "vehicleGroupTag",
        driver.vehicle_group.as_ref(),
    );
    group(
        &mut columns,
        "trailerGroupTag",
        driver.trailer_group.as_ref(),
    );
    columns
}

fn group(columns: &mut Row, name: &str, tag: Option<&TagRef>) {
    let (id, tag_name) = id_and_name(tag.map(|tag| &tag.tag));
    columns.insert(format!("{name}_id"), id);
    columns.insert(format!("{name}_name"), tag_name);
    columns.insert(
        format!("{name}_parentTagId"),
        tag.and_then(|tag| tag.parent.as_deref()).into(),
    );
}

/// The one row about the organisation.
pub(super) fn organization(world: &World, _: Days) -> Vec<Row> {
    let name = "Transports Fictifs S.A.";
    vec![row([
        ("id", "61".into()),
        ("name", name.into()),
        ("region", world.region.name().into()),
        ("carrierSettings_carrierName", name.into()),
        ("carrierSettings_dotNumber", 98_231.into()),
        (
            "carrierSettings_mainOfficeAddress",
            "12 Rue du Port, Lyon".into(),
        ),
    ])]
}
