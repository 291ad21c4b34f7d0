//! Load balancing: which endpoint of a cluster, which cluster of a weighted route.

use kmesh_api::cluster::{Cluster, LB_RANDOM};
use kmesh_api::limits::{ROUTE_WEIGHTS_MAX, WEIGHTS_MAX};
use kmesh_api::{Image, Reason};

use crate::repeat::{Body, repeat};

/// Where decisions get their chance and their turns from: per-CPU counters and the kernel's random numbers there, anything here.
pub trait Dice {
    /// A uniformly random number.
    fn random(&mut self) -> u32;
    /// The next turn of a round-robin counter; `counter` is a cluster's stable id.
    fn turn(&mut self, counter: u32) -> u32;
}

/// The endpoint for the next request to `cluster`, as an index into [`Image::endpoints`].
///
/// # Errors
/// [`Reason::NoEndpoint`] if the cluster has none.
#[inline(always)]
pub fn endpoint(cluster: &Cluster, dice: &mut impl Dice) -> Result<u32, Reason> {
    let count = cluster.endpoints_count;
    if count == 0 {
        return Err(Reason::NoEndpoint);
    }
    let number = if cluster.lb == LB_RANDOM {
        dice.random()
    } else {
        dice.turn(cluster.id)
    };
    Ok(cluster.endpoints_at.wrapping_add(number % count))
}

struct Draw<'a> {
    image: &'a Image,
    at: u32,
    drawn: u32,
    cluster: &'a mut u32,
}

impl Body for Draw<'_> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let weight = &self.image.weights[self.at.wrapping_add(index) as usize & (WEIGHTS_MAX - 1)];
        if weight.up_to > self.drawn {
            *self.cluster = weight.cluster;
            return false;
        }
        true
    }
}

/// The weighted choice for a drawn value below the sum of the weights: the cluster's index.
///
/// `count` is at most [`ROUTE_WEIGHTS_MAX`], which the configuration compiler checks.
#[inline(always)]
pub fn weighted(image: &Image, at: u32, count: u32, drawn: u32) -> Option<u32> {
    let mut cluster = u32::MAX;
    let count = if count > ROUTE_WEIGHTS_MAX {
        ROUTE_WEIGHTS_MAX
    } else {
        count
    };
    repeat(
        count,
        &mut Draw {
            image,
            at,
            drawn,
            cluster: &mut cluster,
        },
    );
    if cluster == u32::MAX {
        None
    } else {
        Some(cluster)
    }
}
