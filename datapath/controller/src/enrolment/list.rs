//! The pods file: each entry is read by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::pods::PodSpec;

/// What a pods file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The pods that can be tried, by name.
    pub pods: BTreeMap<String, PodSpec>,
    /// Names of entries that cannot, with the reason: what is enrolled under such a name stays.
    pub refused: BTreeMap<String, String>,
    /// Why an entry without a name was refused. Nobody knows which pod it stands for, so no pod is released by this file.
    pub nameless: Vec<String>,
}

impl List {
    /// Reads the text of a pods file: a JSON list of [`PodSpec`].
    ///
    /// # Errors
    /// If it is no JSON list.
    pub fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let mut list = Self::default();
        for (position, entry) in serde_json::from_slice::<Vec<Value>>(text)?
            .into_iter()
            .enumerate()
        {
            let name = entry["name"].as_str().map(str::to_owned);
            let spec = serde_json::from_value::<PodSpec>(entry);
            match (spec, name) {
                (Ok(spec), _) if list.knows(&spec.name) => {
                    list.pods.remove(&spec.name);
                    let why = format!("entry {position}: this name is there twice");
                    list.refused.insert(spec.name, why);
                }
                (Ok(spec), _) => {
                    list.pods.insert(spec.name.clone(), spec);
                }
                (Err(error), Some(name)) => {
                    list.pods.remove(&name);
                    list.refused
                        .insert(name, format!("entry {position}: {error}"));
                }
                (Err(error), None) => list.nameless.push(format!("entry {position}: {error}")),
            }
        }
        Ok(list)
    }

    fn knows(&self, name: &str) -> bool {
        self.pods.contains_key(name) || self.refused.contains_key(name)
    }

    /// Of these names, those that the file asks to release.
    pub fn departed<'n>(&self, names: impl Iterator<Item = &'n String>) -> BTreeSet<String> {
        if !self.nameless.is_empty() {
            return BTreeSet::new();
        }
        names.filter(|name| !self.knows(name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str) -> Value {
        json!({ "name": name, "netns": "/n", "cgroup": "/c" })
    }

    fn list(entries: &[Value]) -> List {
        List::parse(Value::from(entries).to_string().as_bytes()).unwrap()
    }

    fn departed(list: &List) -> Vec<String> {
        let names = ["a", "b"].map(str::to_owned);
        list.departed(names.iter()).into_iter().collect()
    }

    #[test]
    fn a_bad_entry_is_refused_alone() {
        let list = list(&[json!({ "name": "a", "netns": 1 }), entry("b")]);
        assert_eq!(list.pods.keys().collect::<Vec<_>>(), ["b"]);
        assert!(list.refused["a"].starts_with("entry 0: "), "{list:?}");
        assert!(departed(&list).is_empty());
    }

    #[test]
    fn an_unknown_field_is_no_field() {
        let mut odd = entry("a");
        odd["cgruop"] = json!("/c");
        assert!(list(&[odd]).refused["a"].contains("cgruop"));
    }

    #[test]
    fn a_name_that_is_there_twice_means_neither() {
        for entries in [
            [entry("a"), entry("a")],
            [entry("a"), json!({ "name": "a" })],
            [json!({ "name": "a" }), entry("a")],
        ] {
            let list = list(&entries);
            assert!(list.pods.is_empty() && list.refused.contains_key("a"));
        }
    }

    #[test]
    fn who_is_not_in_the_file_departs_unless_somebody_has_no_name() {
        assert_eq!(departed(&list(&[entry("b")])), ["a"]);
        let nameless = list(&[entry("b"), json!({ "name": 1 })]);
        assert_eq!(nameless.nameless.len(), 1);
        assert!(departed(&nameless).is_empty());
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in ["", "{}", "[", "null"] {
            assert!(List::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
