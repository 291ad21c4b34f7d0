//! Williams designs: orders in which every cell follows every other equally often.
//!
//! A cell leaves traces for the next one (warm caches, sleeping CPUs, draining queues). In a plain
//! random order these carry over unevenly; in a Williams design (E. J. Williams, 1949) each ordered
//! pair of neighbours occurs the same number of times, so the effect cancels in the median.

use crate::Rng;

/// The sequences for `n` cells, each a permutation of `0..n`: `n` of them when `n` is even, `2n`
/// when odd (a single square cannot be balanced then).
pub fn design(n: usize) -> Vec<Vec<usize>> {
    // First row 0, 1, n-1, 2, n-2, ...: neighbouring differences are all distinct modulo n.
    let first: Vec<usize> = (0..n)
        .map(|i| {
            if i % 2 == 1 {
                i.div_ceil(2)
            } else {
                (n - i / 2) % n
            }
        })
        .collect();
    let mut rows: Vec<Vec<usize>> = (0..n)
        .map(|shift| first.iter().map(|cell| (cell + shift) % n).collect())
        .collect();
    if n % 2 == 1 && n > 1 {
        let mirrored: Vec<Vec<usize>> = rows
            .iter()
            .map(|row| row.iter().rev().copied().collect())
            .collect();
        rows.extend(mirrored);
    }
    rows
}

/// `blocks` orders: whole designs, each shuffled anew by `seed`, the last one possibly cut.
/// A multiple of [`design`]'s length keeps the balance exact.
pub fn schedule(cells: usize, blocks: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = Rng::new(seed);
    let mut orders = Vec::with_capacity(blocks);
    while orders.len() < blocks && cells > 0 {
        let mut rows = design(cells);
        rng.shuffle(&mut rows);
        orders.extend(rows);
    }
    orders.truncate(blocks);
    orders
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `b` directly follows `a`, for all ordered pairs.
    fn followers(rows: &[Vec<usize>], n: usize) -> Vec<u32> {
        let mut counts = vec![0; n * n];
        for row in rows {
            for pair in row.windows(2) {
                counts[pair[0] * n + pair[1]] += 1;
            }
        }
        counts
    }

    #[test]
    fn every_cell_follows_every_other_equally_often() {
        for n in 2..=12 {
            let rows = design(n);
            let per_pair = if n % 2 == 0 { 1 } else { 2 };
            assert_eq!(rows.len(), n * per_pair as usize);
            let counts = followers(&rows, n);
            for a in 0..n {
                for b in 0..n {
                    let expected = if a == b { 0 } else { per_pair };
                    assert_eq!(counts[a * n + b], expected, "{n} cells, {b} after {a}");
                }
            }
        }
    }

    #[test]
    fn every_cell_takes_every_position_equally_often() {
        for n in 2..=9 {
            let rows = design(n);
            for position in 0..n {
                for cell in 0..n {
                    let times = rows.iter().filter(|row| row[position] == cell).count();
                    assert_eq!(times, rows.len() / n);
                }
            }
        }
    }

    #[test]
    fn schedule_repeats_whole_designs_in_a_stored_order() {
        let orders = schedule(6, 18, 3);
        assert_eq!(orders.len(), 18);
        assert!(
            followers(&orders, 6)
                .iter()
                .enumerate()
                .all(|(i, &c)| c == if i % 7 == 0 { 0 } else { 3 })
        );
        assert_eq!(orders, schedule(6, 18, 3));
        assert_ne!(orders, schedule(6, 18, 4));
        assert!(schedule(0, 5, 1).is_empty());
        assert_eq!(schedule(1, 2, 1), vec![vec![0], vec![0]]);
    }
}
