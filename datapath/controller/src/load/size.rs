//! Maps smaller than they are: what happens when one is full can be tried without filling it.

use std::str::FromStr;

/// Maps whose size nothing else depends on: the other arrays are indexed, or mapped into memory whole.
const SIZED: [&str; 10] = [
    "ANCHORED",
    "ANSWERED",
    "CLIENTS",
    "EXPECTED",
    "POOLS",
    "SERVERS",
    "SLOTS",
    "SPILLED",
    "UPSTREAM_SOCKETS",
    "WAITING",
];

/// A map and how many entries it is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSize {
    map: &'static str,
    entries: u32,
}

impl MapSize {
    /// The map's name.
    pub fn map(&self) -> &'static str {
        self.map
    }

    /// Its entries, at least one.
    pub fn entries(&self) -> u32 {
        self.entries
    }
}

/// Why a text names no size of a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not MAP=ENTRIES with one of the maps {} and at least one entry", SIZED.join(", "))]
pub struct NotASize {
    text: String,
}

impl FromStr for MapSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let parsed = text.split_once('=').and_then(|(name, entries)| {
            let map = SIZED.into_iter().find(|map| *map == name)?;
            let entries = entries.parse().ok().filter(|entries| *entries > 0)?;
            Some(Self { map, entries })
        });
        parsed.ok_or_else(|| NotASize {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_known_map_and_a_number() {
        let size: MapSize = "CLIENTS=4".parse().unwrap();
        assert_eq!((size.map(), size.entries()), ("CLIENTS", 4));
        for text in ["CLIENTS", "CLIENTS=0", "CLIENTS=x", "IMAGES=1", "=1", ""] {
            assert!(text.parse::<MapSize>().is_err(), "{text}");
        }
    }
}
