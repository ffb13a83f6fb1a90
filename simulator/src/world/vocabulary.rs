//! The words the world is made of. All invented.

/// Given and family names, from several alphabets.
pub(crate) const GIVEN_NAMES: &[&str] = &[
    "Anaïs",
    "Björn",
    "Chloé",
    "Dmytro",
    "Elif",
    "François",
    "Gül",
    "Håkon",
    "Inés",
    "Jürgen",
    "Kamala",
    "Łukasz",
    "Maëlle",
    "Noor",
    "Örjan",
    "Paula",
    "Rémi",
    "Søren",
    "Tomáš",
    "Yuki",
    "Zoë",
    "Ольга",
];
pub(crate) const FAMILY_NAMES: &[&str] = &[
    "Abel",
    "Bérard",
    "Castaño",
    "Dąbrowski",
    "Eriksson",
    "Fournier",
    "Gärtner",
    "Haddad",
    "İnce",
    "Jónsdóttir",
    "Kowalski",
    "Lefèvre",
    "Müller",
    "Novák",
    "O'Neill",
    "Pérez",
    "Råberg",
    "Šimić",
    "Tanaka",
    "Weiß",
    "Петренко",
];

/// Maker, model and type of a vehicle.
pub(crate) const MODELS: &[(&str, &str, &str)] = &[
    ("VOLVO", "FH 460", "truck"),
    ("RENAULT TRUCKS", "T High", "truck"),
    ("FORD", "Transit", "passenger"),
    ("MERCEDES-BENZ", "Actros", "truck"),
    ("CITROËN", "Jumper", "passenger"),
    ("IRIZAR", "i6S", "bus"),
];

/// Name, postal text and position of the organisation's addresses.
pub(crate) const PLACES: &[(&str, &str, f64, f64)] = &[
    (
        "Entrepôt Lyon-Sud",
        "4 Allée des Peupliers, 69200 Vénissieux",
        45.697,
        4.886,
    ),
    (
        "Dépôt Nantes",
        "17 Quai Fictif, 44100 Nantes",
        47.206,
        -1.572,
    ),
    ("Köln Niehl", "Hafenstraße 3, 50735 Köln", 50.975, 6.965),
    ("Łódź Hub", "ul. Zmyślona 8, 90-001 Łódź", 51.759, 19.456),
    ("Yard 9", "900 Invented Pkwy, Joliet, IL", 41.525, -88.081),
    ("Malmö hamn", "Kajgatan 12, 211 20 Malmö", 55.611, 12.994),
    (
        "Almacén Zaragoza",
        "Calle Inventada 21, 50001 Zaragoza",
        41.648,
        -0.889,
    ),
];

/// Roads for free-text locations.
pub(crate) const ROADS: &[&str] = &[
    "A7",
    "Rue des Érables",
    "E6",
    "Bahnhofstraße",
    "I-80",
    "Avenida del Río",
    "N 104",
    "DK92",
    "Old Mill Rd",
];

/// Names of tags; those after the first three hang below one of them.
pub(crate) const TAGS: &[&str] = &[
    "Région Nord",
    "Süd",
    "Overseas",
    "Frigorifiques",
    "Night shift",
    "Équipe Été",
    "Réserve",
    "Værksted",
    "Leased",
    "École de conduite",
];

pub(crate) const TIME_ZONES: &[&str] = &[
    "Europe/Paris",
    "Europe/Berlin",
    "America/Chicago",
    "America/Los_Angeles",
    "Europe/Stockholm",
];
pub(crate) const LOCALES: &[&str] = &["fr", "de", "us", "es", "gb"];
pub(crate) const GATEWAYS: &[&str] = &["VG34", "VG54EU", "VG55NA", "VG55EU", "AG53"];
pub(crate) const ASSET_GATEWAYS: &[&str] = &["AG24EU", "AG26", "AG46P", "AG51", "AG53EU"];
pub(crate) const AUXILIARY_INPUTS: &[&str] = &[
    "boom",
    "doors",
    "emergencyLights",
    "plow",
    "powerTakeOff",
    "sweeper",
];
pub(crate) const HARSH_SETTINGS: &[&str] = &[
    "passengerCar",
    "lightTruck",
    "heavyDuty",
    "off",
    "automatic",
];
pub(crate) const ATTRIBUTES: &[&str] = &["Centre de coûts", "Payload (t)", "Lease end", "Wrapped"];
pub(crate) const REEFER_MAKERS: &[&str] = &["Thermo King", "Carrier"];
pub(crate) const REEFER_POWER: &[&str] = &[
    "Off",
    "Active",
    "Active (Start/Stop)",
    "Active (Continuous)",
];

/// Code, description and advice of a refrigeration alarm.
pub(crate) const REEFER_ALARMS: &[(i64, &str, &str)] = &[
    (63, "Engine stopped", "Repair immediately"),
    (18, "Engine coolant too hot", "Check at the next stop"),
    (
        102,
        "Sensor of the evaporator coil",
        "Check at the end of the trip",
    ),
    (4, "Return air sensor", ""),
    (37, "Coolant low", "Top up"),
];

/// Suspect parameter number and meaning of a J1939 code.
pub(crate) const SUSPECT_PARAMETERS: &[(i64, &str)] = &[
    (100, "Oil pressure"),
    (110, "Coolant temperature"),
    (168, "Battery potential"),
    (639, "Network 1"),
    (1569, "Torque derate"),
    (3251, "Particle filter, differential pressure"),
    (5246, "Operator inducement"),
];
/// Failure mode and meaning of a J1939 code.
pub(crate) const FAILURE_MODES: &[(i64, &str)] = &[
    (0, "Above normal, most severe"),
    (2, "Erratic"),
    (4, "Shorted low"),
    (9, "Update rate"),
    (16, "Above normal, moderate"),
    (31, "Condition exists"),
];
pub(crate) const CONTROL_UNITS: &[&str] =
    &["Engine 1", "Brakes", "Instrument cluster", "Émissions"];

/// Number, short code and meaning of an OBD-II code.
pub(crate) const OBD_CODES: &[(i64, &str, &str)] = &[
    (257, "P0101", "Air mass flow range"),
    (769, "P0301", "Misfire in cylinder 1"),
    (1057, "P0421", "Warm-up catalyst efficiency"),
    (1090, "P0442", "Small evaporative leak"),
    (1280, "P0500", "Vehicle speed sensor"),
    (1536, "P0600", "Serial link"),
];

/// Actions on a safety event, and the behaviours it is labelled with.
pub(crate) const AUDIT_TYPES: &[&str] = &[
    "BehaviorLabelActivityType",
    "CoachingStateActivityType",
    "CreateSafetyEventActivityType",
];
pub(crate) const BEHAVIOURS: &[(&str, &str)] = &[
    ("Braking", "Harsh braking"),
    ("Acceleration", "Harsh acceleration"),
    ("Drowsy", "Müdigkeit"),
    ("RollingStop", "Arrêt glissé"),
    ("NoSeatbelt", "No seat belt"),
];
