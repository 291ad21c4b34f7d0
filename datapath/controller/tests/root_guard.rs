//! What becomes of new connections when the daemon is killed: as declared.

use crate::lab;

use std::io::{ErrorKind, Read as _};

use lab::{LOCAL, Mesh, TCP, WEB, root};
use nix::sys::signal::Signal;

const CLOSED: [&str; 2] = ["--when-gone", "closed"];

#[test]
fn a_killed_daemon_leaves_closed_what_was_declared_closed() {
    if !root("a_killed_daemon_leaves_closed_what_was_declared_closed") {
        return;
    }
    let mut mesh = Mesh::bare("guard");
    mesh.configure(&mesh.standard());
    mesh.enrol(&LOCAL);
    mesh.start_with(&CLOSED);
    for server in lab::SERVERS {
        mesh.serve(server);
    }
    let mut client = mesh.connect();
    assert_eq!(client.get("/one", "").server(), "s1");
    mesh.stop(Signal::SIGKILL);
    assert!(
        client.ended(),
        "an anchored connection ends with its anchor"
    );
    // The anchors are taken away at once, but after the daemon.
    lab::eventually("the service is closed", || {
        match mesh.client.connect(mesh.vip(WEB)) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let mut banner = [0; 3];
    let mut opaque = mesh.client.connect(mesh.vip(TCP)).unwrap();
    opaque.read_exact(&mut banner).unwrap();
    assert_eq!(
        &banner, b"s2\n",
        "an opaque service does not need the daemon"
    );
    mesh.start_with(&CLOSED);
    assert_eq!(mesh.connect().get("/one", "").server(), "s1", "restarted");
    mesh.stop(Signal::SIGTERM);
    let open = mesh.client.connect(mesh.vip(WEB)).unwrap_err();
    assert_ne!(
        open.kind(),
        ErrorKind::PermissionDenied,
        "an orderly end opens"
    );
}
