//! The arms, one file each.

mod direct;
mod dnat;
mod envoy_both;
mod envoy_both_sockmap;
mod envoy_client;
mod kmesh;
mod kmesh_l4;
mod kmesh_remote;
mod kmesh_splice;

use crate::arm::Arm;

/// The names of the arms, in the order of a report.
pub const NAMES: [&str; 10] = [
    "direct",
    "direct-aa",
    "dnat",
    "envoy-client",
    "envoy-both",
    "envoy-both-sockmap",
    "kmesh",
    "kmesh-remote",
    "kmesh-splice",
    "kmesh-l4",
];

/// The arm of this name, if there is one.
pub fn arm(name: &str) -> Option<Box<dyn Arm>> {
    let arm: Box<dyn Arm> = match name {
        "direct" => Box::new(direct::Direct { name: "direct" }),
        "direct-aa" => Box::new(direct::Direct { name: "direct-aa" }),
        "dnat" => Box::new(dnat::Dnat),
        "envoy-client" => Box::new(envoy_client::EnvoyClient),
        "envoy-both" => Box::new(envoy_both::EnvoyBoth),
        "envoy-both-sockmap" => Box::new(envoy_both_sockmap::EnvoyBothSockmap),
        "kmesh" => Box::new(kmesh::Kmesh),
        "kmesh-remote" => Box::new(kmesh_remote::KmeshRemote),
        "kmesh-splice" => Box::new(kmesh_splice::KmeshSplice),
        "kmesh-l4" => Box::new(kmesh_l4::KmeshL4),
        _ => return None,
    };
    Some(arm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_arm_and_no_other() {
        for name in NAMES {
            let arm = arm(name).unwrap();
            assert_eq!(arm.name(), name);
        }
        assert!(arm("envoy").is_none());
    }
}
