//! Which types may cross the map interface as plain bytes.

use crate::Address;
use crate::exchange::{Answered, Spilled, Waiting};
use crate::pod::{Anchored, AnchoredKey, Pod};
use crate::pool::{Arrivals, Connection, Expected, Pool, PoolKey};
use crate::share::PodUse;
use crate::splice::{Flow, FlowKey, Peer};

macro_rules! plain {
    ($($type:ty),* $(,)?) => {$(
        // SAFETY: `repr(C)`, made of unsigned integers without implicit padding or invalid bit patterns.
        unsafe impl aya::Pod for $type {}
    )*};
}

plain!(
    Address,
    Answered,
    Arrivals,
    Spilled,
    Waiting,
    Anchored,
    AnchoredKey,
    Pod,
    Connection,
    Flow,
    FlowKey,
    Peer,
    Expected,
    Pool,
    PoolKey,
    PodUse
);
