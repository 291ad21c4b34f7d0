//! Where a key stands in a scenario's files: turns a byte offset or a path of keys into
//! `file:line:column`, so that every complaint can be clicked on.

use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// One file of a scenario's `extends` chain.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A place in a file, line and column counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl Source {
    /// The place of a byte offset.
    pub fn place(&self, offset: usize) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// Byte offset of the key at the end of `keys` (numbers index arrays), if this file has it.
    fn offset_of(&self, keys: &[&str]) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        let (last, parents) = keys.split_last()?;
        let mut table = table.into_inner();
        let mut parents = parents.iter();
        while let Some(key) = parents.next() {
            let child = table.remove(*key)?.into_inner();
            table = match child {
                DeValue::Table(child) => child,
                DeValue::Array(items) => {
                    let index: usize = parents.next()?.parse().ok()?;
                    match items.into_iter().nth(index)?.into_inner() {
                        DeValue::Table(item) => item,
                        _ => return None,
                    }
                }
                _ => return None,
            };
        }
        table
            .iter()
            .find(|(key, _)| key.get_ref() == last)
            .map(|(key, _)| key.span().start)
    }
}

/// The place of a key, looked for from the most derived file to the base; the longest known prefix
/// of `keys` stands in for a key that is missing, the top of the first file for no prefix at all.
pub(super) fn locate(chain: &[Source], keys: &[&str]) -> Place {
    for length in (1..=keys.len()).rev() {
        for source in chain {
            if let Some(offset) = source.offset_of(&keys[..length]) {
                return source.place(offset);
            }
        }
    }
    chain.first().map_or_else(
        || Place {
            path: Path::new("?").to_owned(),
            line: 1,
            column: 1,
        },
        |source| source.place(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "s.toml".into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn finds_keys_in_tables_and_arrays_of_tables() {
        let chain = [source(
            "name = 'x'\n[[traffic]]\nweight = 1\n[[traffic]]\n  weight = 0\n[load]\nrate = 3\n",
        )];
        assert_eq!(
            locate(&chain, &["traffic", "1", "weight"]).to_string(),
            "s.toml:5:3"
        );
        assert_eq!(locate(&chain, &["load", "rate"]).to_string(), "s.toml:7:1");
        // A missing key: the nearest parent there is.
        assert_eq!(locate(&chain, &["load", "loop"]).to_string(), "s.toml:6:2");
        assert_eq!(locate(&chain, &["expect"]).to_string(), "s.toml:1:1");
    }

    #[test]
    fn the_most_derived_file_wins() {
        let chain = [
            source("[load]\nrate = 1\n"),
            Source {
                path: "base.toml".into(),
                text: "\n\n[load]\nloop = 'x'\nrate = 2\n".into(),
            },
        ];
        assert_eq!(locate(&chain, &["load", "rate"]).path, Path::new("s.toml"));
        assert_eq!(
            locate(&chain, &["load", "loop"]).to_string(),
            "base.toml:4:1"
        );
    }
}
