//! What systemd is told, if it started the daemon: `Type=notify` and `WatchdogSec=` (`sd_notify(3)`).

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::sleep;
use tracing::warn;

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Every pod was tried.
    Ready,
    /// The daemon leaves in order.
    Stopping,
}

/// Tells it; nobody hears it where systemd did not start the daemon.
pub fn tell(state: State) {
    let state = match state {
        State::Ready => NotifyState::Ready,
        State::Stopping => NotifyState::Stopping,
    };
    if let Err(error) = notify(false, &[state]) {
        warn!(%error, "systemd does not hear");
    }
}

/// How often systemd wants to hear that the daemon lives: half of its patience; `None` if it does not want to.
pub fn watchdog() -> Option<Duration> {
    let mut micros = 0;
    let wanted = watchdog_enabled(false, &mut micros);
    wanted.then(|| Duration::from_micros(micros / 2))
}

/// Says that the daemon lives, for as long as its thread gets round to it.
pub async fn feed(pause: Duration) {
    while notify(false, &[NotifyState::Watchdog]).is_ok() {
        sleep(pause).await;
    }
}
