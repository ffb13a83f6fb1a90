//! "Did you mean …": the known name nearest to a misspelt one.

/// The candidate most similar to `name`, if one is similar at all. Case is ignored.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&wanted, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_typos_and_wrong_case_only() {
        let names = ["fleet_vehicles", "fleet_drivers", "endpoint"];
        assert_eq!(nearest("fleet_vehicels", names), Some("fleet_vehicles"));
        assert_eq!(nearest("ENDPOINT", names), Some("endpoint"));
        assert_eq!(nearest("zzz", names), None);
    }
}
