//! One thread that forks for the whole process.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, not the process: a child started from a tokio
//! worker or a test thread would be killed when that thread goes. Children started here die with the process only.

use std::{
    io,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

use crate::placement::OUTLIVES_ITS_CHILDREN;

struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// Starts a command from the long-lived spawner thread.
///
/// # Errors
/// What [`Command::spawn`] returns; an error of the thread itself if it could not be started.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static ORDERS: OnceLock<io::Result<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the spawner thread has ended");
    let orders = match ORDERS.get_or_init(start) {
        Ok(orders) => orders,
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
    };
    let (reply, answer) = mpsc::channel();
    orders.send(Order { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start() -> io::Result<mpsc::Sender<Order>> {
    let (orders, received) = mpsc::channel::<Order>();
    let work = move || {
        OUTLIVES_ITS_CHILDREN.set(true);
        for Order { mut command, reply } in received {
            // The one who ordered may have gone; the child then dies with its lab.
            let _ = reply.send(command.spawn());
        }
    };
    thread::Builder::new()
        .name("netns-lab-spawn".to_owned())
        .spawn(work)?;
    Ok(orders)
}
