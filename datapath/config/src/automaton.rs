//! Builds the row-displaced automata of an image.
//!
//! All automata share one array of nodes and one of cells. A node's row of transitions is laid over the cells wherever its
//! bytes hit vacant ones (first fit, Tarjan and Yao, "Storing a sparse table", 1979); the cell says whose it is. Every node but
//! a root has one transition into it, so a full node table fills half of the cells and a place is found quickly.

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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meaning {
    /// For [`Node::end`].
    pub(crate) end: u32,
    /// For [`Node::pass`].
    pub(crate) pass: u32,
}

/// The automata of an image under construction.
#[derive(Debug)]
pub(crate) struct Automata {
    /// By node number; 0 is the dead node.
    nodes: Vec<Meaning>,
    /// From, byte, to.
    transitions: Vec<(u32, u8, u32)>,
}

impl Automata {
    /// No automaton yet.
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Meaning::default()],
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
            self.nodes.push(meaning);
            for &(byte, child) in node.children.iter().rev() {
                open.push((child, Some((number, byte)), below.clone()));
            }
        }
        Ok(root)
    }

    /// Lays all automata into the image.
    pub(crate) fn pack(mut self, image: &mut Image, place: &Place) -> Result<(), ConfigError> {
        for (node, meaning) in image.nodes.iter_mut().zip(&self.nodes) {
            *node = Node {
                base: 0,
                end: meaning.end,
                pass: meaning.pass,
                reserved: 0,
            };
        }
        self.transitions.sort_unstable();
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
