//! Several histograms in one file: HdrHistogram's own interval log, which its viewers read.
//!
//! The intervals are not intervals of time here: each line is one histogram of a whole run, told apart by its tag.

use crate::{Error, Latency};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use std::time::Duration;

/// Nanoseconds in the milliseconds that the log shows as each histogram's highest value.
const NS_PER_MS: f64 = 1e6;

/// Writes `tagged` in the order given.
///
/// # Errors
/// [`Error::Histogram`] when a tag has a comma, white space or a line's end in it, or counts do not fit the format.
pub fn write<'a>(
    tagged: impl IntoIterator<Item = (&'a str, &'a Latency)>,
) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::Histogram(why);
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(
            "HdrHistogram interval log; values in nanoseconds, the highest shown in milliseconds",
        )
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(&mut text, &mut serializer)
        .map_err(|error| failed(error.to_string()))?;
    for (name, latency) in tagged {
        let tag = Tag::new(name).ok_or_else(|| failed(format!("{name:?} can be no tag")))?;
        log.write_histogram(latency.inner(), Duration::ZERO, Duration::ZERO, Some(tag))
            .map_err(|error| failed(format!("{name}: {error}")))?;
    }
    Ok(text)
}

/// Reads what [`write`] wrote, in the file's order. Lines without a tag have an empty one.
///
/// # Errors
/// [`Error::Histogram`] when the text is no such log.
pub fn read(text: &[u8]) -> Result<Vec<(String, Latency)>, Error> {
    let mut found = Vec::new();
    for entry in IntervalLogIterator::new(text) {
        let entry =
            entry.map_err(|error| Error::Histogram(format!("no interval log: {error:?}")))?;
        let LogEntry::Interval(interval) = entry else {
            continue;
        };
        let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
        let bytes = STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| Error::Histogram(format!("{tag}: {error}")))?;
        found.push((tag, Latency::from_v2(&bytes)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Latency {
        let mut latency = Latency::new();
        for &value in values {
            latency.record(value);
        }
        latency
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let (a, b) = (of(&[66_000, 73_000]), of(&[5, 60_000_000_000]));
        let text = write([("kmesh.service", &a), ("direct.intended", &b)]).unwrap();
        let back = read(&text).unwrap();
        assert_eq!(
            back,
            [
                ("kmesh.service".to_owned(), a),
                ("direct.intended".to_owned(), b)
            ]
        );
    }

    #[test]
    fn a_damaged_line_is_refused() {
        let text = String::from_utf8(write([("a", &of(&[1]))]).unwrap()).unwrap();
        for damaged in [text.replace("Tag=a", "Tag"), text.replace("HIST", "HISX")] {
            assert_ne!(damaged, text);
            assert!(
                matches!(read(damaged.as_bytes()), Err(Error::Histogram(_))),
                "{damaged}"
            );
        }
    }

    #[test]
    fn a_tag_that_would_break_the_line_is_refused() {
        assert!(matches!(
            write([("a,b", &of(&[1]))]),
            Err(Error::Histogram(_))
        ));
    }
}
