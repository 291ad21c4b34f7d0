//! The heads and tables that both decision benches run.

use kmesh_config::model::{HeaderMatch, ListenerKind};
use kmesh_config::{Classes, Compiled, Config, Identities, compile};
use kmesh_oracle::many;

fn tables(config: &Config) -> Compiled {
    compile(config, &mut Identities::default(), Classes::default()).expect("it fits the tables")
}

/// A route with `count` conditions on headers, all of which the request meets.
fn conditions(count: usize) -> (Compiled, Vec<u8>) {
    let mut config = many::config(1, 10);
    let mut request = many::request(1, 10, 250);
    if let ListenerKind::Http(routes) = &mut config.listeners[0].kind {
        let route = &mut routes.virtual_hosts[0].routes[9];
        for i in 0..count {
            let name = format!("x-{i}");
            route.headers.push(HeaderMatch::exact(&name, "yes"));
            request = request.with(&name, "yes");
        }
    }
    (tables(&config), request.to_bytes())
}

/// The cases: name, parameter, tables, head.
pub(crate) fn cases() -> Vec<(&'static str, usize, Compiled, Vec<u8>)> {
    let mut cases = Vec::new();
    for size in [128, 250, 512, 1024, 3072] {
        let head = many::request(1, 10, size).to_bytes();
        cases.push(("head_bytes", size, tables(&many::config(1, 10)), head));
    }
    for routes in [10, 100, 1_000, 10_000] {
        let config = many::config(1, routes);
        let head = many::request(1, routes, 250).to_bytes();
        cases.push(("routes", routes, tables(&config), head));
        let head = many::request_by_expression(1, routes, 250).to_bytes();
        cases.push(("routes_by_expression", routes, tables(&config), head));
    }
    for hosts in [1, 100, 2_000] {
        let head = many::request(hosts, 10, 250).to_bytes();
        cases.push(("hosts", hosts, tables(&many::config(hosts, 10)), head));
    }
    for count in [0, 1, 4, 16] {
        let (tables, head) = conditions(count);
        cases.push(("header_conditions", count, tables, head));
    }
    cases
}
