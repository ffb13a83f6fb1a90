//! Types, units and descriptions in words.

use arrow::datatypes::DataType;

use crate::transform::Function;

/// A type, as `sources.toml` names it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".into(),
        DataType::Date32 => "DATE".into(),
        DataType::List(item) => format!("ARRAY<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let field = |field: &arrow::datatypes::FieldRef| {
                format!("{} {}", field.name(), type_name(field.data_type()))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Map(_, _) => "MAP(VARCHAR, VARCHAR)".into(),
        other => other.to_string(),
    }
}

/// Endings of names, and the units for which the API and the models use them; the longer ones first.
const UNITS: &[(&str, &str)] = &[
    ("kilometersperhour", "kilometres per hour"),
    ("milesperhour", "miles per hour"),
    ("millipercent", "thousandths of a percent"),
    ("milliliters", "millilitres"),
    ("millivolts", "millivolts"),
    ("kilometers", "kilometres"),
    ("milliseconds", "milliseconds"),
    ("microwh", "millionths of a watt-hour"),
    ("celsius", "degrees Celsius"),
    ("degrees", "degrees"),
    ("percent", "percent"),
    ("seconds", "seconds"),
    ("minutes", "minutes"),
    ("meters", "metres"),
    ("metres", "metres"),
    ("liters", "litres"),
    ("litres", "litres"),
    ("gallons", "US gallons"),
    ("millic", "thousandths of a degree Celsius"),
    ("hours", "hours"),
    ("miles", "miles"),
    ("kwh", "kilowatt-hours"),
    ("mph", "miles per hour"),
    ("rpm", "revolutions per minute"),
    ("kpa", "kilopascals"),
    ("kmh", "kilometres per hour"),
    ("km", "kilometres"),
    ("ml", "millilitres"),
    ("ms", "milliseconds"),
];

/// The unit that a name tells: that of its last words, `distanceMeters` or `speed_kmh`.
pub(super) fn unit(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let begins_word = |ending: &str| {
        let at = name.len().checked_sub(ending.len())?;
        let first = name.get(at..)?.chars().next()?;
        let is_first = at == 0 || name[..at].ends_with('_') || first.is_ascii_uppercase();
        is_first.then_some(())
    };
    let is_it =
        |(ending, _): &&(&str, &str)| lower.ends_with(ending) && begins_word(ending).is_some();
    UNITS.iter().find(is_it).map(|(_, unit)| *unit)
}

/// Text of the catalog inside Markdown, so that nothing of it is markup.
pub(super) fn in_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '|' | '~'
        ) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Signature, meaning and example of a function.
pub(super) fn of_function(function: &Function) -> String {
    let mut text = format!(
        "```sql\n{}\n```\n{}",
        function.signature, function.description
    );
    if let Some(example) = &function.example {
        // DataFusion's examples bring their own fences.
        match example.contains("```") {
            true => text.push_str(&format!("\n\n{}", example.trim())),
            false => text.push_str(&format!("\n\n```sql\n{example}\n```")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_units() {
        for (name, expected) in [
            ("distanceMeters", Some("metres")),
            ("fuelConsumedMl", Some("millilitres")),
            ("speed_kmh", Some("kilometres per hour")),
            ("maxSpeedKilometersPerHour", Some("kilometres per hour")),
            ("startMs", Some("milliseconds")),
            ("ms", Some("milliseconds")),
            ("items", None),
            ("html", None),
            ("parameters", None),
            ("ü", None),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
        assert_eq!(in_markdown("a_b <x>"), "a\\_b \\<x\\>");
    }
}
