//! Patterns by their bytes, before they become automaton nodes.

/// A tree of byte strings with something at each of them.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    nodes: Vec<TrieNode<T>>,
}

/// A node of a [`Trie`]; the root is number 0.
#[derive(Debug)]
pub(crate) struct TrieNode<T> {
    /// What was put here.
    pub(crate) own: T,
    /// Where bytes lead, by byte.
    pub(crate) children: Vec<(u8, usize)>,
}

impl<T: Default> Trie<T> {
    /// A tree with nothing but its root.
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![TrieNode {
                own: T::default(),
                children: Vec::new(),
            }],
        }
    }

    /// What stands at `pattern`.
    pub(crate) fn at(&mut self, pattern: impl IntoIterator<Item = u8>) -> &mut T {
        let mut node = 0;
        for byte in pattern {
            let found = self.nodes[node]
                .children
                .binary_search_by_key(&byte, |(byte, _)| *byte);
            node = match found {
                Ok(at) => self.nodes[node].children[at].1,
                Err(at) => {
                    let new = self.nodes.len();
                    self.nodes[node].children.insert(at, (byte, new));
                    self.nodes.push(TrieNode {
                        own: T::default(),
                        children: Vec::new(),
                    });
                    new
                }
            };
        }
        &mut self.nodes[node].own
    }

    /// The node with that number.
    pub(crate) fn node(&self, number: usize) -> &TrieNode<T> {
        &self.nodes[number]
    }

    /// Number of nodes.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing but the root is there.
    pub(crate) fn is_bare(&self) -> bool {
        self.nodes.len() == 1
    }
}
