//! Which kernels the datapath was tried on.

/// Series of kernels on which the project's tests ran with all programs as they are; `ci/kernels.sh` boots more.
const TESTED: [&str; 1] = ["6.18"];

/// What is known of the kernel with this `release` (`uname -r`): one line.
pub fn verdict(release: &str) -> String {
    let tested = TESTED.join(", ");
    if is_tested(release) {
        format!("kernel {release}: tested")
    } else {
        format!("kernel {release}: not tested (tested: {tested})")
    }
}

/// Whether the release belongs to a tested series: the same first two numbers.
fn is_tested(release: &str) -> bool {
    let series = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    series(release).is_some_and(|found| TESTED.iter().any(|known| series(known) == Some(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_belongs_to_its_series() {
        for release in ["6.18.44-fc-v669", "6.18.15+deb13-cloud-amd64", "6.18"] {
            assert!(is_tested(release), "{release}");
        }
        for release in ["6.1.0-56", "6.180.1", "6.2.0", "7.3.4", "61.8", "", "six"] {
            assert!(!is_tested(release), "{release}");
        }
        assert_eq!(verdict("6.2.0"), "kernel 6.2.0: not tested (tested: 6.18)");
        assert_eq!(verdict("6.18.1"), "kernel 6.18.1: tested");
    }

    #[test]
    fn what_is_tested_can_be_booted() {
        let versions = include_str!("../../../../ci/versions.env");
        let kernels = versions
            .split_once("KERNELS=(")
            .and_then(|(_, rest)| rest.split_once(')'))
            .map(|(list, _)| list)
            .unwrap();
        let booted: Vec<&str> = kernels
            .lines()
            .filter_map(|line| line.trim().strip_prefix('"')?.split(' ').next())
            .collect();
        for series in TESTED {
            assert!(booted.contains(&series), "{series} is not in {booted:?}");
        }
    }
}
