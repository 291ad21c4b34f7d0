//! The acceptance list, one test for each report.

use kmesh_ads::cases::{self, CASES};

/// Runs the case with this id.
fn holds(id: &str) {
    let case = CASES
        .iter()
        .find(|case| case.id == id)
        .expect("the case is in the list");
    if let Err(error) = cases::check(case) {
        panic!("{error:#}");
    }
}

macro_rules! tests {
    ($($name:ident: $id:literal,)*) => {
        $(#[test] fn $name() { holds($id); })*

        #[test]
        fn every_case_is_a_test() {
            let here = [$($id),*];
            assert_eq!(CASES.map(|case| case.id).to_vec(), here.to_vec());
        }
    };
}

tests! {
    kmesh_453: "kmesh#453",
    kmesh_964: "kmesh#964",
    kmesh_553: "kmesh#553",
    envoy_34334: "envoy#34334",
    kmesh_440: "kmesh#440",
    kmesh_1770: "kmesh#1770",
    kmesh_415: "kmesh#415",
    kmesh_789: "kmesh#789",
    subset_removed_while_routed_to: "a subset removed while routed to",
    kmesh_954: "kmesh#954",
    kmesh_1042: "kmesh#1042",
    cilium_pr_41552: "cilium PR 41552",
    cilium_pr_3405: "cilium PR 3405",
    cilium_pr_48897: "cilium PR 48897",
    identical_responses: "identical responses without end",
    ztunnel_pr_1368: "ztunnel PR 1368",
    ztunnel_752: "ztunnel#752",
    ztunnel_1966: "ztunnel#1966",
    istio_20295: "istio#20295",
    empty_mesh: "empty mesh with version \"\"",
}
