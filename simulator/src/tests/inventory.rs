//! Lists, as served and as the tables should have them.

use super::*;

const DAYS: (&str, &str) = ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z");

async fn world() -> Simulator {
    let now = Some(at("2024-01-09T15:00:00Z"));
    start(SimulatorConfig {
        vehicles: 60,
        page_size: Some(7),
        now,
        ..Default::default()
    })
    .await
}

fn nothing(_: &Value) -> Row {
    Row::new()
}

#[tokio::test]
async fn addresses_and_contacts_are_all_served() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let addresses = client.records("/addresses", &[]).await;
    assert!(
        addresses
            .iter()
            .any(|address| address["geofence"]["circle"]["radiusMeters"].is_i64())
    );
    assert!(
        addresses
            .iter()
            .any(|address| address["geofence"]["polygon"]["vertices"].is_array())
    );
    assert!(
        addresses
            .iter()
            .any(|address| address.get("addressTypes").is_none())
    );
    assert_served(&simulator, "addresses", DAYS, &addresses, nothing);
    let contacts = client.records("/contacts", &[]).await;
    assert_served(&simulator, "contacts", DAYS, &contacts, nothing);
    // The tags of addresses and the addresses of tags are the same memberships.
    let carried: usize = addresses
        .iter()
        .map(|address| address["tags"].as_array().map_or(0, Vec::len))
        .sum();
    let tags = client.records("/tags", &[]).await;
    let listed: usize = tags
        .iter()
        .map(|tag| tag["addresses"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(carried, listed);
}

#[tokio::test]
async fn trailers_equipment_and_assets_are_all_served() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let trailers = client.records("/fleet/trailers", &[]).await;
    assert_served(&simulator, "fleet_trailers", DAYS, &trailers, |trailer| {
        let id = trailer["id"].clone();
        row([
            ("vehicle_id", id.clone()),
            ("trailer_id", id),
            ("parc_id", trailer["name"].clone()),
        ])
    });
    let equipment = client.records("/fleet/equipment", &[]).await;
    assert_served(&simulator, "fleet_equipment", DAYS, &equipment, nothing);
    let assets = client.get("/v1/fleet/assets", &[]).await.json();
    let assets = assets["assets"].as_array().expect("a list");
    assert_eq!(assets.len(), trailers.len() + equipment.len());
    assert_served(&simulator, "fleet_assets", DAYS, assets, |asset| {
        let vehicle = id_text(&asset["vehicleId"]);
        row([
            ("asset_id", id_text(&asset["id"])),
            ("asset_name", asset["name"].clone()),
            ("vehicleId", vehicle),
        ])
    });
}

#[tokio::test]
async fn devices_and_their_health_are_told_on_request() {
    let simulator = world().await;
    let client = Client::new(&simulator);
    let bare = client.records("/devices", &[]).await;
    assert!(
        bare.iter()
            .all(|device| device.get("health").is_none() && device.get("tags").is_none())
    );
    let devices = client
        .records(
            "/devices",
            &[("includeHealth", "true"), ("includeTags", "true")],
        )
        .await;
    assert_eq!(bare.len(), devices.len());
    assert_served(&simulator, "fleet_devices", DAYS, &devices, |device| {
        row([(
            "lastKnownLocation_id",
            id_text(&device["lastKnownLocation"]["id"]),
        )])
    });
    let healthy: Vec<&Value> = devices
        .iter()
        .filter(|device| device.get("health").is_some())
        .collect();
    assert!(
        healthy.len() < devices.len(),
        "some devices do not tell how they are"
    );
    assert_served(&simulator, "fleet_devices_health", DAYS, healthy, nothing);
    let mut reasons = Vec::new();
    for device in &devices {
        for reason in device["health"]["healthReasons"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let mut record = reason.clone();
            record["serial"] = device["serial"].clone();
            record["asset"] = device["asset"].clone();
            reasons.push(record);
        }
    }
    assert_served(
        &simulator,
        "fleet_devices_healthReasons",
        DAYS,
        &reasons,
        nothing,
    );
    let ill = client
        .records(
            "/devices",
            &[
                ("includeHealth", "true"),
                ("healthStatuses", "needsReplacement"),
            ],
        )
        .await;
    assert!(
        !ill.is_empty()
            && ill
                .iter()
                .all(|device| device["health"]["healthStatus"] == "needsReplacement")
    );
}

#[tokio::test]
async fn document_types_are_all_served() {
    let simulator = world().await;
    let types = Client::new(&simulator)
        .records("/fleet/document-types", &[("startTime", DAYS.0)])
        .await;
    assert_served(&simulator, "fleet_document_types", DAYS, &types, |form| {
        row([("orgId", id_text(&form["orgId"]))])
    });
}
