//! Drivers.

use serde_json::{Value, json};

use super::World;
use super::draw::Draw;
use super::parts::{Attribute, ExternalIds, Named, TagRef};
use super::tags::Tag;
use super::vocabulary::{FAMILY_NAMES, GIVEN_NAMES, LOCALES, TIME_ZONES};
use crate::time::{DAY, Millis};

const FIRST_DRIVER: u64 = 5_600_000;

/// Carrier fields of a driver.
#[derive(Debug, Clone)]
pub(crate) struct Carrier {
    pub(crate) name: &'static str,
    pub(crate) dot_number: Option<i64>,
    pub(crate) home_terminal: &'static str,
    pub(crate) home_terminal_address: &'static str,
    pub(crate) main_office: &'static str,
}

/// One hours-of-service rule set.
#[derive(Debug, Clone)]
pub(crate) struct RuleSet {
    pub(crate) cycle: &'static str,
    pub(crate) restart: &'static str,
}

impl RuleSet {
    pub(crate) fn json(&self) -> Value {
        json!({
            "cycle": self.cycle,
            "shift": "US Interstate Property",
            "restart": self.restart,
            "break": "Property (off-duty/sleeper)",
            "jurisdiction": "",
        })
    }
}

/// Rules that hold for one driver instead of the carrier's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleOverride {
    pub(crate) cycle: &'static str,
    pub(crate) restart: &'static str,
    pub(crate) rest_break: &'static str,
    /// Empty when no state's rules are meant.
    pub(crate) state: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Driver {
    /// Position among the drivers; the key of everything that is drawn for the driver.
    pub(crate) index: u64,
    pub(crate) driver: Named,
    pub(crate) username: String,
    pub(crate) active: bool,
    pub(crate) phone: Option<String>,
    pub(crate) license_number: Option<String>,
    pub(crate) license_state: Option<&'static str>,
    pub(crate) time_zone: &'static str,
    pub(crate) locale: Option<&'static str>,
    pub(crate) notes: &'static str,
    pub(crate) image_url: Option<String>,
    pub(crate) card_code: Option<String>,
    pub(crate) tachograph_card: Option<String>,
    pub(crate) eld_exempt: bool,
    pub(crate) eld_exempt_reason: Option<&'static str>,
    pub(crate) eld_flags: [bool; 4],
    pub(crate) eld_day_start_hour: i64,
    pub(crate) waiting_time: Option<bool>,
    pub(crate) features_hidden: Option<bool>,
    pub(crate) unpinning: Option<bool>,
    pub(crate) carrier: Option<Carrier>,
    /// Absent, empty or filled rule sets.
    pub(crate) rule_sets: Option<Vec<RuleSet>>,
    pub(crate) rule_override: Option<RuleOverride>,
    pub(crate) vehicle: Option<Named>,
    pub(crate) peer_group: Option<TagRef>,
    pub(crate) vehicle_group: Option<TagRef>,
    pub(crate) trailer_group: Option<TagRef>,
    pub(crate) tags: Option<Vec<TagRef>>,
    pub(crate) attributes: Option<Vec<Attribute>>,
    pub(crate) external_ids: Option<ExternalIds>,
    pub(crate) created: Millis,
    /// Never set for some: the API then sends an empty text.
    pub(crate) updated: Option<Millis>,
}

/// The number of drivers of a fleet: active ones first, then deactivated ones.
pub(crate) fn counts(vehicles: u32) -> (u64, u64) {
    let vehicles = u64::from(vehicles);
    (vehicles + 3, vehicles / 2 + 2)
}

/// Id of the driver at a position.
pub(crate) fn id(index: u64) -> u64 {
    FIRST_DRIVER + index * 11
}

impl World {
    /// The driver of an id.
    pub(crate) fn driver(&self, id: u64) -> Option<&Driver> {
        let index = id.checked_sub(FIRST_DRIVER)? / 11;
        self.drivers.get(usize::try_from(index).ok()?)
    }
}

/// Id and name of the driver at a position.
pub(crate) fn identity(seed: u64, index: u64) -> Named {
    let mut draw = Draw::new(seed, "driver name", &[index]);
    let name = format!("{} {}", draw.word(GIVEN_NAMES), draw.word(FAMILY_NAMES));
    Named::new(id(index), &name)
}

impl Driver {
    pub(crate) fn build(
        seed: u64,
        index: u64,
        active: bool,
        vehicle: Option<Named>,
        tags: &[Tag],
        day: Millis,
    ) -> Self {
        let mut draw = Draw::new(seed, "driver", &[index]);
        let driver = identity(seed, index);
        let eld_exempt = draw.chance(0.2);
        let created = day - draw.between(1, 1_500) * DAY + draw.between(0, DAY - 1);
        Self {
            index,
            username: format!("driver.{index}"),
            active,
            phone: draw
                .chance(0.5)
                .then(|| format!("+33 5 {}", draw.code("0123456789", 8))),
            license_number: draw.chance(0.7).then(|| draw.code("0123456789ABCDEF", 10)),
            license_state: draw.chance(0.3).then(|| draw.word(&["IL", "CA", "TX"])),
            time_zone: draw.word(TIME_ZONES),
            locale: draw.chance(0.6).then(|| draw.word(LOCALES)),
            notes: if draw.chance(0.6) {
                ""
            } else {
                "Préfère la nuit, ADR ✔"
            },
            image_url: draw
                .chance(0.2)
                .then(|| format!("https://images.example.com/{}.png", driver.id)),
            card_code: draw.chance(0.3).then(|| draw.code("0123456789", 8)),
            tachograph_card: draw.chance(0.4).then(|| draw.code("0123456789ABCDEF", 16)),
            eld_exempt,
            eld_exempt_reason: eld_exempt.then_some("Courte distance"),
            eld_flags: [
                draw.chance(0.5),
                draw.chance(0.5),
                draw.chance(0.1),
                draw.chance(0.1),
            ],
            eld_day_start_hour: if draw.chance(0.8) { 0 } else { 12 },
            waiting_time: draw.chance(0.5).then(|| draw.chance(0.5)),
            features_hidden: draw.chance(0.5).then_some(false),
            unpinning: draw.chance(0.5).then_some(true),
            carrier: draw.chance(0.8).then(|| Carrier {
                name: "Transports Fictifs S.A.",
                dot_number: draw.chance(0.5).then(|| draw.between(100_000, 3_999_999)),
                home_terminal: draw.word(&["", "Lyon", "Łódź"]),
                home_terminal_address: draw.word(&["", "4 Allée des Peupliers, Vénissieux"]),
                main_office: "1 place Imaginaire, Lyon",
            }),
            rule_sets: draw.chance(0.7).then(|| {
                let restart = draw.word(&["34-hour Restart", "None"]);
                vec![
                    RuleSet {
                        cycle: "USA 70 hour / 8 day",
                        restart
                    };
                    draw.below(3) as usize
                ]
            }),
            rule_override: draw.chance(0.2).then(|| RuleOverride {
                cycle: "USA Property (8/70)",
                restart: "34-hour Restart",
                rest_break: "None",
                state: draw.word(&["", "TX"]),
            }),
            vehicle,
            peer_group: draw
                .chance(0.3)
                .then(|| draw.pick(tags).map(Tag::reference))
                .flatten(),
            vehicle_group: draw
                .chance(0.3)
                .then(|| draw.pick(tags).map(Tag::reference))
                .flatten(),
            trailer_group: draw
                .chance(0.2)
                .then(|| draw.pick(tags).map(Tag::reference))
                .flatten(),
            tags: draw.chance(0.8).then(|| Tag::some_of(tags, &mut draw)),
            attributes: draw.chance(0.4).then(|| Attribute::draw(&mut draw)),
            external_ids: draw.chance(0.5).then(|| {
                ExternalIds::from([("payrollId".to_owned(), format!("É{:05}", 40 + index))])
            }),
            created,
            updated: draw
                .chance(0.9)
                .then(|| created + draw.between(0, 300 * DAY)),
            driver,
        }
    }

    /// Its status as the API names it, in responses and in the parameter of the same name.
    pub(crate) fn activation_status(&self) -> &'static str {
        if self.active { "active" } else { "deactivated" }
    }
}
