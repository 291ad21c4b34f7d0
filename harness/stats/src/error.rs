//! What can be wrong with the numbers handed in.

/// Why a statistic could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No value at all.
    #[error("no values to work on: every block was empty or left out")]
    Empty,
    /// Paired samples of different lengths.
    #[error("paired samples differ in length: {left} and {right}, so blocks would be mixed up")]
    Unpaired {
        /// Length of the first sample.
        left: usize,
        /// Length of the second sample.
        right: usize,
    },
    /// A ratio needs values above zero.
    #[error("value {value} of block {block} is not above zero, so it has no log-ratio")]
    NotPositive {
        /// The value.
        value: f64,
        /// Position in the sample, from 0.
        block: usize,
    },
    /// A stored histogram is not in HDR's V2 form, or cut short.
    #[error("histogram cannot be read: {0}")]
    Histogram(String),
    /// A predicate such as `> 1.5` does not parse.
    #[error("predicate {text:?} is not an operator (<, <=, ==, >=, >) and a number")]
    Predicate {
        /// The text as given.
        text: String,
    },
}
