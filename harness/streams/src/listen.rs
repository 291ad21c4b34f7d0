//! How a program listens in the place of a pod's application: on all of its addresses, and says so.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Context as _;

/// Serves on all addresses, a thread each, once `ready` is on stdout. Ends only by an error.
///
/// # Errors
/// If an address can't be listened on, nobody reads stdout, or `serve` fails.
pub fn serve(
    addresses: &[SocketAddr],
    serve: impl Fn(&TcpListener) -> io::Result<()> + Sync,
) -> anyhow::Result<()> {
    let listeners = addresses
        .iter()
        .map(|at| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut out = io::stdout();
    writeln!(out, "ready")
        .and_then(|()| out.flush())
        .context("stdout")?;
    thread::scope(|scope| {
        let serving: Vec<_> = listeners
            .iter()
            .map(|listener| scope.spawn(|| serve(listener)))
            .collect();
        for thread in serving {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
