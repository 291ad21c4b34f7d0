//! Candidate lists: for each place in a path automaton, the routes worth trying, in order.

use std::collections::HashMap;

use kmesh_api::Image;
use kmesh_api::limits::{CANDIDATE_LIST_MAX, CANDIDATES_MAX};
use kmesh_api::route::CANDIDATE_LAST;

use crate::error::{ConfigError, Place};

/// The candidate lists of an image; equal lists are stored once.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    entries: Vec<u32>,
    known: HashMap<Vec<u32>, u32>,
}

impl Candidates {
    /// The list's number in the image: its index plus one, or 0 for a list of nothing.
    pub(crate) fn list(&mut self, routes: &[u32], place: &Place) -> Result<u32, ConfigError> {
        let Some((last, others)) = routes.split_last() else {
            return Ok(0);
        };
        if let Some(number) = self.known.get(routes) {
            return Ok(*number);
        }
        let what = "routes to try for one path";
        let most = CANDIDATE_LIST_MAX as usize;
        place.within(routes.len(), what, "CANDIDATE_LIST_MAX", most)?;
        let number = self.entries.len() as u32 + 1;
        self.entries.extend_from_slice(others);
        self.entries.push(last | CANDIDATE_LAST);
        let what = "entries in candidate lists, all together";
        place.within(self.entries.len(), what, "CANDIDATES_MAX", CANDIDATES_MAX)?;
        self.known.insert(routes.to_vec(), number);
        Ok(number)
    }

    /// Writes the lists into the image.
    pub(crate) fn store(self, image: &mut Image) {
        image.candidates[..self.entries.len()].copy_from_slice(&self.entries);
    }
}

/// Merges two ordered lists of routes and drops what stands behind the first route that always holds.
pub(crate) fn merge(one: &[u32], other: &[u32], always: impl Fn(u32) -> bool) -> Vec<u32> {
    let mut merged = [one, other].concat();
    merged.sort_unstable();
    if let Some(at) = merged.iter().position(|route| always(*route)) {
        merged.truncate(at + 1);
    }
    merged
}
