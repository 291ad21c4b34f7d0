//! Defences of pods against each other that a test can have off: whoever shows that an attack fails shows as well that it would succeed.

use std::fmt;

/// What keeps one pod from harming another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Defence {
    /// An announced connection is recognised in the namespace of the pod that has the server's address, and nowhere else.
    Namespace,
    /// An accepted socket is an upstream's far end only if both count the same bytes.
    Sequences,
    /// A packet of the splice path has to have numbers that its sender can have.
    Numbers,
    /// A pod gets its share of what all pods need.
    Shares,
}

/// Those that are off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without(Vec<Defence>);

impl Without {
    /// All of `defences` are off.
    pub fn new(defences: Vec<Defence>) -> Self {
        Self(defences)
    }

    /// Whether this one is.
    pub fn is_off(&self, defence: Defence) -> bool {
        self.0.contains(&defence)
    }

    /// Whether all are on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `most`, or no limit if there are no shares.
    pub fn limit(&self, most: u32) -> u32 {
        if self.is_off(Defence::Shares) {
            u32::MAX
        } else {
            most
        }
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, defence) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{defence:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defence_is_on_unless_it_is_named() {
        let without = Without::new(vec![Defence::Shares]);
        assert!(without.is_off(Defence::Shares) && !without.is_off(Defence::Namespace));
        assert_eq!(
            (without.limit(7), Without::default().limit(7)),
            (u32::MAX, 7)
        );
        assert_eq!(without.to_string(), "Shares");
    }
}
