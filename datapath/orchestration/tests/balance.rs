//! Load balancing and listener lookup on tables made by hand.

use std::collections::HashMap;

use kmesh_api::cluster::{Cluster, LB_RANDOM, LB_ROUND_ROBIN, Weight};
use kmesh_api::limits::{LISTENER_PROBES, LISTENER_SLOTS, ROUTE_WEIGHTS_MAX};
use kmesh_api::{Address, Image, Reason};
use kmesh_orchestration::{Dice, balance, listener};

fn vacant() -> Box<Image> {
    // SAFETY: an image consists of integers, and all bytes zero is a value of each.
    unsafe { Box::<Image>::new_zeroed().assume_init() }
}

/// Counts turns by counter; random numbers are always 7.
#[derive(Default)]
struct Turns(HashMap<u32, u32>);

impl Dice for Turns {
    fn random(&mut self) -> u32 {
        7
    }

    fn turn(&mut self, counter: u32) -> u32 {
        let turn = self.0.entry(counter).or_insert(u32::MAX - 3);
        *turn = turn.wrapping_add(1);
        *turn
    }
}

#[test]
fn round_robin_visits_every_endpoint_in_turn() {
    let cluster = Cluster {
        endpoints_at: 10,
        endpoints_count: 4,
        lb: LB_ROUND_ROBIN,
        id: 5,
    };
    let mut dice = Turns::default();
    let visited: Vec<u32> = (0..8)
        .map(|_| balance::endpoint(&cluster, &mut dice).unwrap())
        .collect();
    assert_eq!(
        visited,
        [11, 12, 13, 10, 11, 12, 13, 10],
        "also where the counter wraps"
    );
    assert_eq!(
        dice.0.keys().copied().collect::<Vec<_>>(),
        [5],
        "the cluster's own counter"
    );
}

#[test]
fn random_takes_the_number_it_is_given() {
    let cluster = Cluster {
        endpoints_at: 10,
        endpoints_count: 4,
        lb: LB_RANDOM,
        id: 5,
    };
    assert_eq!(balance::endpoint(&cluster, &mut Turns::default()), Ok(13));
}

#[test]
fn a_cluster_without_endpoints_has_none_to_give() {
    for lb in [LB_ROUND_ROBIN, LB_RANDOM] {
        let cluster = Cluster {
            endpoints_at: 10,
            endpoints_count: 0,
            lb,
            id: 5,
        };
        let endpoint = balance::endpoint(&cluster, &mut Turns::default());
        assert_eq!(endpoint, Err(Reason::NoEndpoint));
    }
}

#[test]
fn every_drawn_value_has_the_cluster_its_weight_pays_for() {
    let mut image = vacant();
    let weights = [0, 3, 0, 1, 6, 0];
    let mut up_to = 0;
    for (i, weight) in weights.into_iter().enumerate() {
        up_to += weight;
        image.weights[100 + i] = Weight {
            cluster: i as u32,
            up_to,
        };
    }
    let mut drawn = [0; 6];
    for value in 0..up_to {
        let cluster = balance::weighted(&image, 100, weights.len() as u32, value).unwrap();
        drawn[cluster as usize] += 1;
    }
    assert_eq!(drawn, weights);
    assert_eq!(
        balance::weighted(&image, 100, weights.len() as u32, up_to),
        None
    );
    assert_eq!(
        balance::weighted(&image, 0, u32::MAX, 0),
        None,
        "the count is bounded"
    );
    let last = 100 + ROUTE_WEIGHTS_MAX;
    image.weights[last as usize].up_to = u32::MAX;
    assert_eq!(
        balance::weighted(&image, 100, u32::MAX, up_to),
        None,
        "{ROUTE_WEIGHTS_MAX} at most"
    );
}

#[test]
fn listeners_are_found_along_their_probe_sequence() {
    let mut image = vacant();
    let address = |port| Address::from(std::net::SocketAddr::from(([10, 96, 0, 1], port)));
    let wanted = address(80);
    assert_eq!(listener::find(&image, &wanted), None);
    let slot = |probe: u32| wanted.hash().wrapping_add(probe) as usize & (LISTENER_SLOTS - 1);
    image.listeners[0].address = address(81);
    image.listeners[9].address = wanted;
    for probe in 0..LISTENER_PROBES - 1 {
        image.listener_slots[slot(probe)] = 1;
        image.listener_slots[slot(probe + 1)] = 10;
        assert_eq!(
            listener::find(&image, &wanted),
            Some(9),
            "{} occupied slots",
            probe + 1
        );
    }
    image.listener_slots[slot(3)] = 0;
    assert_eq!(
        listener::find(&image, &wanted),
        None,
        "a vacant slot ends the sequence"
    );
}
