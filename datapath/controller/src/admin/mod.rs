//! Control sockets: who runs the node asks the daemon, a successor its predecessor, the daemon its guard. HTTP over Unix sockets.
//!
//! | socket | served by | calls |
//! |---|---|---|
//! | `RUN_DIR/NAME/admin.sock` | the daemon | `GET /status`, `POST /replace`, `POST /attached` |
//! | `RUN_DIR/NAME/guard.sock` | its guard | `PUT /pods/COOKIE`, `DELETE /pods/COOKIE`, `DELETE /` |

mod calls;
mod client;
mod server;
mod socket;

pub use self::calls::Calls;
pub use self::client::{Client, PATIENCE};
pub use self::server::{Answer, Call, Service, serve};
pub use self::socket::Socket;

/// What the daemon is on its control sockets.
pub const DAEMON: &str = "admin";
/// What the guard is.
pub const GUARD: &str = "guard";
