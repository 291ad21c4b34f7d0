//! Whatever happens on the way, the end is what a client gets that connects then.

use kmesh_ads::{Link, World, synthetic};
use kmesh_xds::{Kind, Protocol};
use proptest::prelude::*;

/// Something that happens to mesh or stream.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u32, u32),
    Remove(u32),
    Move(u32, u32),
    Recluster(u32, i64),
    Reroute(u32, u32),
    Relist(u32, u32),
    Push,
    Outage,
    Reconnect,
    Forgetful,
    ListenersFirst(bool),
    Pass(u64),
    Refuse(u32),
    RefuseRoutes(u32),
    RefuseNone,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let service = 0_u32..6;
    let step = prop_oneof![
        3 => (service.clone(), 0_u32..3).prop_map(|(index, replicas)| Step::Add(index, replicas)),
        2 => service.clone().prop_map(Step::Remove),
        3 => (service.clone(), 0_u32..5).prop_map(|(index, shift)| Step::Move(index, shift)),
        2 => (service.clone(), 1_i64..4).prop_map(|(index, timeout)| Step::Recluster(index, timeout)),
        2 => (service.clone(), service.clone()).prop_map(|(index, to)| Step::Reroute(index, to)),
        2 => (service.clone(), service.clone()).prop_map(|(index, to)| Step::Relist(index, to)),
        6 => Just(Step::Push),
        1 => Just(Step::Outage),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Forgetful),
        1 => any::<bool>().prop_map(Step::ListenersFirst),
        1 => (0_u64..20).prop_map(Step::Pass),
        1 => service.clone().prop_map(Step::Refuse),
        1 => service.prop_map(Step::RefuseRoutes),
        1 => Just(Step::RefuseNone),
    ];
    proptest::collection::vec(step, 1..60)
}

fn there(world: &World, index: u32) -> bool {
    world
        .resource(Kind::Cluster, &format!("s{index}"))
        .is_some()
}

fn take(link: &mut Link, step: Step) {
    let world = &mut link.world;
    match step {
        Step::Add(index, replicas) => synthetic::add_service(world, index, replicas),
        Step::Remove(index) => synthetic::remove_service(world, index),
        Step::Move(index, shift) if there(world, index) => {
            synthetic::put_endpoints(world, index, 2, shift);
        }
        Step::Recluster(index, timeout) if there(world, index) => {
            let name = format!("s{index}");
            world.put(Kind::Cluster, &name, synthetic::cluster(&name, timeout));
        }
        Step::Reroute(index, to) if there(world, index) => {
            let name = format!("r{index}");
            world.put(
                Kind::Routes,
                &name,
                synthetic::routes(&name, [("/", format!("s{to}").as_str())]),
            );
        }
        // A listener takes another one's routes, if they are there.
        Step::Relist(index, to) if there(world, index) && there(world, to) => {
            let name = format!("l{index}");
            let ip = format!("10.96.1.{index}");
            world.put(
                Kind::Listener,
                &name,
                synthetic::listener(&name, &ip, 80, &format!("r{to}")),
            );
        }
        Step::Push => link.push(),
        Step::Outage => link.disconnect("gone"),
        Step::Reconnect => {
            link.disconnect("reset");
            link.connect();
        }
        Step::Forgetful => link.quirks.ignores_versions ^= true,
        Step::ListenersFirst(first) => link.quirks.listeners_first = first,
        Step::Pass(seconds) => link.pass(std::time::Duration::from_secs(seconds)),
        Step::Refuse(index) => link.refuses.push((Kind::Cluster, format!("s{index}"))),
        Step::RefuseRoutes(index) => link.refuses.push((Kind::Routes, format!("r{index}"))),
        Step::RefuseNone => link.refuses.clear(),
        Step::Move(..) | Step::Recluster(..) | Step::Reroute(..) | Step::Relist(..) => {}
    }
}

/// Routes of services that are gone are gone as well: a listener must not wait for them.
fn mend(world: &mut World) {
    for index in 0..6 {
        if there(world, index) {
            let (name, ip) = (format!("l{index}"), format!("10.96.2.{index}"));
            world.put(
                Kind::Listener,
                &name,
                synthetic::listener(&name, &ip, 80, &format!("r{index}")),
            );
        }
    }
}

fn converges(protocol: Protocol, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut link = Link::new(protocol, synthetic::mesh(2, 1));
    link.connect();
    for step in steps {
        take(&mut link, step);
    }
    // The end: nothing is refused any more, what was refused is served once more, and a stream is open.
    link.refuses.clear();
    link.quirks.ignores_versions = true;
    mend(&mut link.world);
    link.disconnect("reset");
    link.connect();
    link.push();
    link.pass(std::time::Duration::from_secs(1));

    let mut fresh = Link::new(protocol, link.world.clone());
    fresh.connect();
    let (end, once) = (link.last(), fresh.last());
    prop_assert_eq!(&end, &once);
    prop_assert_eq!(end.document(), once.document());
    prop_assert!(end.refused().is_empty());
    for kind in Kind::ALL {
        let held: Vec<_> = link
            .session
            .store()
            .entries(kind)
            .map(|(name, _)| name.to_owned())
            .collect();
        let anew: Vec<_> = fresh
            .session
            .store()
            .entries(kind)
            .map(|(name, _)| name.to_owned())
            .collect();
        prop_assert_eq!(held, anew, "{} left behind", kind.service());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sotw_converges(steps in steps()) {
        converges(Protocol::Sotw, steps)?;
    }

    #[test]
    fn delta_converges(steps in steps()) {
        converges(Protocol::Delta, steps)?;
    }
}
