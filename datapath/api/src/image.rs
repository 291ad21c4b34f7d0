//! A whole configuration as one flat value.
//!
//! A generation is one `Image`. The kernel holds two and an index that says which is active; the controller writes the
//! other one and flips the index. `generation` is set to 0 while an image is being rewritten, and a reader that finds it
//! changed after its decision discards the decision, so a request sees one configuration or none, never a mixture.
//! Because the image is plain memory, the decision code is a pure function of it: the same in the kernel and in tests.

use crate::automaton::{Cell, Node};
use crate::cluster::{Cluster, Endpoint, Weight};
use crate::limits::{
    CANDIDATES_MAX, CELLS_MAX, CLUSTERS_MAX, ENDPOINTS_MAX, LISTENER_SLOTS, LISTENERS_MAX,
    NAMES_MAX, NODES_MAX, PREDICATES_MAX, ROUTE_CONFIGS_MAX, ROUTES_MAX, VIRTUAL_HOSTS_MAX,
    WEIGHTS_MAX,
};
use crate::listener::Listener;
use crate::route::{Name, Predicate, Route, RouteConfig, VirtualHost};

/// A compiled configuration.
#[repr(C)]
pub struct Image {
    /// Number of this configuration, from 1; 0 = being written.
    pub generation: u64,
    /// Root of the automaton over header names; `end` = the name's id.
    pub names_root: u32,
    /// Root of the automaton over names of query parameters; `end` = the name's id. 0 = no route asks about one.
    pub queries_root: u32,
    /// 1: connections to addresses that no listener governs are refused; 0: they are left alone.
    pub strangers_refused: u32,
    /// Keeps the layout free of padding.
    pub reserved: u32,
    /// Open-addressing hash of listeners by address: listener index + 1, 0 = vacant.
    pub listener_slots: [u32; LISTENER_SLOTS],
    /// The listeners.
    pub listeners: [Listener; LISTENERS_MAX],
    /// The route configurations.
    pub route_configs: [RouteConfig; ROUTE_CONFIGS_MAX],
    /// The virtual hosts.
    pub virtual_hosts: [VirtualHost; VIRTUAL_HOSTS_MAX],
    /// The routes, in configuration order within a virtual host.
    pub routes: [Route; ROUTES_MAX],
    /// The predicates, those of one route together.
    pub predicates: [Predicate; PREDICATES_MAX],
    /// The candidate lists: route indices in order, the last marked.
    pub candidates: [u32; CANDIDATES_MAX],
    /// The header names.
    pub names: [Name; NAMES_MAX],
    /// The weighted choices.
    pub weights: [Weight; WEIGHTS_MAX],
    /// The clusters.
    pub clusters: [Cluster; CLUSTERS_MAX],
    /// The endpoints, those of one cluster together.
    pub endpoints: [Endpoint; ENDPOINTS_MAX],
    /// The automata's nodes; node 0 is dead.
    pub nodes: [Node; NODES_MAX],
    /// The automata's transitions.
    pub cells: [Cell; CELLS_MAX],
}
