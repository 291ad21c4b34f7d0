//! How many TCP connections a client connection costs: the article's "1 becomes 3".

use netns_lab::{Lab, LabError};
use std::fs;

/// State of an established connection in `/proc/net/tcp` (`TCP_ESTABLISHED`, include/net/tcp_states.h).
const ESTABLISHED: &str = "01";

/// Established connections inside the lab's pods. Every connection has both ends in some pod, so the
/// ends are counted and halved; the daemons' own connections outside of the pods do not count.
pub(super) fn established(lab: &Lab) -> Result<f64, LabError> {
    let mut ends = 0;
    for pod in lab.pods() {
        ends += pod.run(|| {
            ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
                .iter()
                .map(|table| established_ends(&fs::read_to_string(table).unwrap_or_default()))
                .sum::<usize>()
        })?;
    }
    Ok(ends as f64 / 2.0)
}

/// Lines in state ESTABLISHED; the state is the fourth column.
fn established_ends(table: &str) -> usize {
    table
        .lines()
        .skip(1)
        .filter(|line| line.split_whitespace().nth(3) == Some(ESTABLISHED))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_ends_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0A00F40A:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 0A00F40A:1F90 0B00F40A:C350 01 00000000:00000000\n\
             2: 0A00F40A:1F91 0B00F40A:C351 06 00000000:00000000\n";
        assert_eq!(established_ends(table), 1);
    }
}
