//! Builds the row-displaced automata of an image.
//!
//! All automata share one array of nodes and one of cells. A node's row of transitions is laid over the cells wherever its
//! bytes hit vacant ones (first fit, Tarjan and Yao, "Storing a sparse table", 1979); the cell says whose it is. In a tree
//! every node but a root has one transition into it, so a full node table fills half of the cells and a place is found
//! quickly; the automata of patterns have rows of a few exceptions to [`Node::other`].

use std::collections::HashMap;

use kmesh_api::Image;
use kmesh_api::automaton::{Cell, Node};
use kmesh_api::limits::{CELLS_MAX, NODES_MAX};

use crate::error::{ConfigError, Place};
use crate::trie::Trie;

/// Cells are used from here on, so that a base, which is a cell minus a byte, is never negative.
const FIRST_CELL: usize = 256;
/// And up to here, so that a row's last byte stays within the cells.
const LAST_CELL: usize = CELLS_MAX - 256;
/// Vacant cells tried for one row before the search moves its starting point past them. What it leaves behind is
/// filled by rows of one transition, which fit anywhere.
const TRIES: usize = 64;

/// What ends at a node and what passes through it: see [`Node`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Meaning {
    /// For [`Node::end`].
    pub(crate) end: u32,
    /// For [`Node::pass`].
    pub(crate) pass: u32,
}

/// A state of an automaton that is not a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    /// What it means.
    pub(crate) meaning: Meaning,
    /// Where bytes lead that are not among the exceptions; `None` = nowhere.
    pub(crate) other: Option<usize>,
    /// Where other bytes lead.
    pub(crate) exceptions: Vec<(u8, Option<usize>)>,
}

/// The automata of an image under construction.
#[derive(Debug)]
pub(crate) struct Automata {
    /// By node number, with [`Node::other`]; 0 is the dead node.
    nodes: Vec<(Meaning, u32)>,
    /// From, byte, to.
    transitions: Vec<(u32, u8, u32)>,
}

impl Automata {
    /// No automaton yet.
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![(Meaning::default(), 0)],
            transitions: Vec::new(),
        }
    }

    /// Adds an automaton and returns its root; `place` is what it is for.
    ///
    /// `lower` turns what a tree's node holds, and what came down from its parent, into the node's meaning and what
    /// its children get. Nodes are numbered depth first, so that a walk stays in neighbouring memory.
    pub(crate) fn add<T: Default, I: Clone>(
        &mut self,
        trie: &Trie<T>,
        place: &Place,
        above: I,
        mut lower: impl FnMut(&T, &I) -> Result<(Meaning, I), ConfigError>,
    ) -> Result<u32, ConfigError> {
        let needed = self.nodes.len() + trie.len();
        place.within(
            needed,
            "automaton nodes, all automata together",
            "NODES_MAX",
            NODES_MAX,
        )?;
        let root = self.nodes.len() as u32;
        let mut open = vec![(0, None, above)];
        while let Some((at, from, above)) = open.pop() {
            let number = self.nodes.len() as u32;
            if let Some((parent, byte)) = from {
                self.transitions.push((parent, byte, number));
            }
            let node = trie.node(at);
            let (meaning, below) = lower(&node.own, &above)?;
            self.nodes.push((meaning, 0));
            for &(byte, child) in node.children.iter().rev() {
                open.push((child, Some((number, byte)), below.clone()));
            }
        }
        Ok(root)
    }

    /// Adds an automaton of numbered states, 0 its root.
    pub(crate) fn add_rows(&mut self, rows: &[Row], place: &Place) -> Result<u32, ConfigError> {
        let needed = self.nodes.len() + rows.len();
        let what = "automaton nodes, all automata together";
        place.within(needed, what, "NODES_MAX", NODES_MAX)?;
        let root = self.nodes.len() as u32;
        let node = |next: Option<usize>| next.map_or(0, |next| root + next as u32);
        for (number, row) in (root..).zip(rows) {
            self.nodes.push((row.meaning, node(row.other)));
            for &(byte, next) in &row.exceptions {
                self.transitions.push((number, byte, node(next)));
            }
        }
        Ok(root)
    }

    /// Lays all automata into the image.
    pub(crate) fn pack(mut self, image: &mut Image, place: &Place) -> Result<(), ConfigError> {
        for (node, (meaning, other)) in image.nodes.iter_mut().zip(&self.nodes) {
            *node = Node {
                base: 0,
                end: meaning.end,
                pass: meaning.pass,
                other: *other,
                ..Node::default()
            };
        }
        self.transitions.sort_unstable();
        look_ahead(&self.transitions, image);
        let mut rows: Vec<_> = self.transitions.chunk_by(|a, b| a.0 == b.0).collect();
        // Wide rows first, while there is room for them; rows of the same width in the order of their nodes.
        rows.sort_by_key(|row| std::cmp::Reverse(row.len()));
        let mut start = FIRST_CELL;
        let mut narrow = false;
        for row in rows {
            if row.len() == 1 && !narrow {
                narrow = true;
                start = FIRST_CELL;
            }
            let base = fit(image, row, &mut start)
                .or_else(|| fit(image, row, &mut { FIRST_CELL }))
                .ok_or_else(|| ConfigError::Limit {
                    place: place.clone(),
                    needed: format!("{} automaton transitions", self.transitions.len()),
                    limit: "CELLS_MAX",
                    most: CELLS_MAX,
                })?;
            image.nodes[row[0].0 as usize].base = base as u32;
            for &(owner, byte, next) in row {
                image.cells[base + byte as usize] = Cell { owner, next };
            }
        }
        Ok(())
    }
}

/// Gives each node that begins a stretch of eight single ways its [`Node::ahead`].
fn look_ahead(transitions: &[(u32, u8, u32)], image: &mut Image) {
    let mut single = HashMap::new();
    for row in transitions.chunk_by(|a, b| a.0 == b.0) {
        if let &[(from, byte, to)] = row
            && image.nodes[from as usize].other == 0
        {
            single.insert(from, (byte, to));
        }
    }
    for &start in single.keys() {
        let (mut at, mut word) = (start, [0; 8]);
        let pass = image.nodes[start as usize].pass;
        // A node in between that means something of its own would be missed.
        let whole = word.iter_mut().all(|byte| {
            let Some(&(way, to)) = single.get(&at) else {
                return false;
            };
            let met = image.nodes[at as usize].pass == pass;
            (*byte, at) = (way, to);
            met
        });
        if whole {
            let node = &mut image.nodes[start as usize];
            (node.ahead, node.ahead_to) = (u64::from_le_bytes(word), at);
        }
    }
}

/// The lowest base from `start` on where the row's cells are vacant.
fn fit(image: &Image, row: &[(u32, u8, u32)], start: &mut usize) -> Option<usize> {
    let vacant = |cell: usize| image.cells[cell].owner == 0;
    let first = row[0].1 as usize;
    while *start < LAST_CELL && !vacant(*start) {
        *start += 1;
    }
    let mut tries = 0;
    for cell in *start..LAST_CELL {
        if !vacant(cell) {
            continue;
        }
        let base = cell - first;
        if row.iter().all(|&(_, byte, _)| vacant(base + byte as usize)) {
            if tries > TRIES {
                *start = cell;
            }
            return Some(base);
        }
        tries += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::compile::vacant;

    type Patterns = BTreeMap<Vec<u8>, u32>;

    fn packed(sets: &[Patterns]) -> Result<(Box<Image>, Vec<u32>), ConfigError> {
        let place = Place::document("test");
        let mut automata = Automata::new();
        let mut roots = Vec::new();
        for patterns in sets {
            let mut trie = Trie::new();
            for (pattern, id) in patterns {
                *trie.at(pattern.iter().copied()) = *id;
            }
            let lower = |id: &u32, (): &()| Ok((Meaning { end: *id, pass: 0 }, ()));
            roots.push(automata.add(&trie, &place, (), lower)?);
        }
        let mut image = vacant();
        automata.pack(&mut image, &place)?;
        Ok((image, roots))
    }

    /// What the kernel does, in its simplest form.
    fn lookup(image: &Image, root: u32, text: &[u8]) -> u32 {
        image.nodes[end_of(image, root, text) as usize].end
    }

    /// The node that `text` leads to.
    fn end_of(image: &Image, root: u32, text: &[u8]) -> u32 {
        let mut at = root;
        for byte in text {
            let base = image.nodes[at as usize].base;
            let cell = &image.cells[(base as usize + usize::from(*byte)) & (CELLS_MAX - 1)];
            at = if cell.owner == at { cell.next } else { 0 };
        }
        at
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Each automaton knows its own patterns and no other's, whatever lies between them in the cells.
        #[test]
        fn automata_do_not_mix(
            sets in vec(btree_map(vec(prop_oneof![3 => b'a'..=b'c', 1 => any::<u8>()], 0..6), 1_u32.., 0..40), 1..5),
        ) {
            let (image, roots) = packed(&sets).unwrap();
            for (root, own) in roots.iter().zip(&sets) {
                for text in sets.iter().flat_map(BTreeMap::keys) {
                    let expected = own.get(text).copied().unwrap_or_default();
                    prop_assert_eq!(lookup(&image, *root, text), expected, "{:?}", text);
                }
            }
        }

        /// Eight bytes in one step come to what eight steps come to, and pass nothing that means something.
        #[test]
        fn a_leap_is_eight_steps(
            patterns in btree_map(vec(prop_oneof![9 => Just(b'a'), 1 => Just(b'b')], 0..40), 1_u32.., 1..8),
        ) {
            let (image, _) = packed(std::slice::from_ref(&patterns)).unwrap();
            let longest = patterns.keys().map(Vec::len).max().unwrap();
            let mut leaps = 0;
            for (number, node) in (0..).zip(&image.nodes) {
                if node.ahead_to != 0 {
                    prop_assert_eq!(end_of(&image, number, &node.ahead.to_le_bytes()), node.ahead_to);
                    leaps += 1;
                }
            }
            // One pattern alone is one way: a leap begins at each byte that eight more follow.
            if patterns.len() == 1 {
                prop_assert_eq!(leaps, (longest + 1).saturating_sub(8));
            }
        }
    }

    /// Rows of all widths, up to the last node: every row finds its place, within the cells.
    #[test]
    fn a_full_table_is_packed() {
        let mut patterns = Patterns::new();
        let mut seed = 1_u32;
        let mut number = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize
        };
        // 300 nodes with a child for every byte, then pairs and chains of random bytes below them.
        for i in 0..300_u32 {
            for byte in 0..=255 {
                patterns.insert(
                    vec![(i >> 8) as u8, i as u8, byte],
                    1 + i * 256 + u32::from(byte),
                );
            }
        }
        for id in 100_000..113_000 {
            let i = number() % 300;
            let mut pattern = vec![(i >> 8) as u8, i as u8];
            pattern.extend((0..5).map(|_| number() as u8));
            patterns.insert(pattern, id);
        }
        let (image, roots) = packed(std::slice::from_ref(&patterns)).unwrap();
        let nodes = image.cells.iter().filter(|cell| cell.owner != 0).count();
        assert!(nodes > NODES_MAX * 9 / 10, "only {nodes} nodes");
        for (pattern, id) in &patterns {
            assert_eq!(lookup(&image, roots[0], pattern), *id, "{pattern:?}");
        }
        for node in &image.nodes {
            assert!(
                node.base as usize + 255 < CELLS_MAX,
                "a row reaches past the cells"
            );
        }
    }
}
