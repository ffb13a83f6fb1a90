//! The derived tables of one partition.

use std::fmt;
use std::sync::Arc;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ModelState;
use super::interned::interned;
use super::strict::{Text, appears_twice};

/// The states of a partition's tables, by table. Most partitions have one or two, for which a map would reserve room for
/// eleven; and the state of some years has a hundred thousand partitions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelStates(Vec<(Arc<str>, Arc<ModelState>)>);

impl ModelStates {
    fn place(&self, table: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(table))
    }

    /// The state of a table.
    pub fn get(&self, table: &str) -> Option<&Arc<ModelState>> {
        let (_, state) = self.0.get(self.place(table).ok()?)?;
        Some(state)
    }

    /// The state of a table, to be changed.
    pub fn get_mut(&mut self, table: &str) -> Option<&mut Arc<ModelState>> {
        let place = self.place(table).ok()?;
        self.0.get_mut(place).map(|(_, state)| state)
    }

    /// Sets the state of a table.
    pub fn insert(&mut self, table: &str, state: Arc<ModelState>) {
        match self.get_mut(table) {
            Some(known) => *known = state,
            None => {
                let (Ok(place) | Err(place)) = self.place(table);
                self.0.insert(place, (interned(table), state));
            }
        }
    }

    /// Removes the state of a table, and returns it.
    pub fn remove(&mut self, table: &str) -> Option<Arc<ModelState>> {
        let place = self.place(table).ok()?;
        Some(self.0.remove(place).1)
    }

    /// All tables with their states, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<ModelState>)> {
        self.0.iter().map(|(table, state)| (&**table, state))
    }

    /// The states of all tables.
    pub fn values(&self) -> impl Iterator<Item = &Arc<ModelState>> {
        self.0.iter().map(|(_, state)| state)
    }

    /// Whether nothing is derived.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for ModelStates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(table, state)| (table, &**state)))
    }
}

impl<'de> Deserialize<'de> for ModelStates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByTable)
    }
}

struct ByTable;

impl<'de> Visitor<'de> for ByTable {
    type Value = ModelStates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut states: Vec<(Arc<str>, Arc<ModelState>)> = Vec::new();
        while let Some(Text(table)) = members.next_key()? {
            if states.is_empty() {
                // Without the room for more of them that a vector begins with.
                states.reserve_exact(1);
            }
            states.push((interned(&table), Arc::new(members.next_value()?)));
        }
        states.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut pairs = states.windows(2);
        match pairs.find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(A::Error::custom(appears_twice(&pair[0].0))),
            None => Ok(ModelStates(states)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Sha256Digest;

    fn state(attempts: u32) -> Arc<ModelState> {
        Arc::new(ModelState {
            fingerprint: Sha256Digest::NONE,
            objects: Vec::new(),
            load: None,
            started: None,
            attempts,
        })
    }

    #[test]
    fn tables_are_found_by_name_and_kept_in_order() {
        let mut states = ModelStates::default();
        assert!(states.is_empty() && states.get("a").is_none());
        for (attempts, table) in ["b", "d", "a", "c", "b"].into_iter().enumerate() {
            states.insert(table, state(attempts as u32));
        }
        let all = |states: &ModelStates| -> Vec<(String, u32)> {
            let all = states.iter();
            all.map(|(table, state)| (table.to_string(), state.attempts))
                .collect()
        };
        let expected = [("a", 2), ("b", 4), ("c", 3), ("d", 1)].map(|(table, n)| (table.into(), n));
        assert_eq!(all(&states), expected);
        assert_eq!(states.values().count(), 4);
        let text = serde_json::to_string(&states).unwrap();
        assert_eq!(serde_json::from_str::<ModelStates>(&text).unwrap(), states);
        Arc::make_mut(states.get_mut("d").unwrap()).attempts = 7;
        assert_eq!(states.remove("d").unwrap().attempts, 7);
        assert!(states.remove("d").is_none() && states.get_mut("d").is_none());
        assert_eq!(all(&states), expected[..3]);
    }

    #[test]
    fn a_table_that_appears_twice_is_refused() {
        let one = serde_json::to_string(&state(0)).unwrap();
        for twice in [r#""a":0,"a":0"#, r#""a":0,"b":0,"\u0061":0"#] {
            let text = format!("{{{twice}}}").replace(":0", &format!(":{one}"));
            let error = serde_json::from_str::<ModelStates>(&text).unwrap_err();
            assert!(error.to_string().contains("`a` appears twice"), "{error}");
        }
    }
}
