//! Exchanges that are left at every moment of them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Deeds;

/// How a connection is left in the middle of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Closed with a reset.
    Reset,
    /// Disconnected (`connect` to `AF_UNSPEC`), then closed.
    Unspecified,
    /// Connected to another service at once, by the same socket.
    Again(SocketAddr),
}

/// Longest an exchange goes on before it is left, nanoseconds: a few times what an answer takes.
const LATEST: u64 = 200_000;

/// Leaves exchanges at every moment of them, again and again; the moments follow from `seed`.
pub fn leave(target: SocketAddr, how: Leave, seed: u64, length: Duration) -> Deeds {
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let request = b"GET /one HTTP/1.1\r\nhost: svc.test\r\n\r\n";
    let mut moment = seed % LATEST;
    let mut bytes = [0; 4096];
    while Instant::now() < end {
        let Ok(mut stream) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
            deeds.refused += 1;
            continue;
        };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = stream.set_nodelay(true);
        // Twice in peace, so that the kernel has the third.
        let warm = (0..2).all(|_| {
            stream.write_all(request).is_ok()
                && stream.read(&mut bytes).is_ok_and(|count| count > 0)
        });
        if !warm || stream.write_all(request).is_err() {
            deeds.refused += 1;
            continue;
        }
        deeds.made += 1;
        moment = (moment + 977) % LATEST;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_nanos(moment) {
            std::hint::spin_loop();
        }
        depart(&mut stream, how);
    }
    deeds
}

fn depart(stream: &mut TcpStream, how: Leave) {
    let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
    if how == Leave::Reset {
        return;
    }
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // SAFETY: a live descriptor and a live address, of the size said.
    unsafe {
        libc::connect(
            stream.as_raw_fd(),
            &raw const nowhere,
            size_of_val(&nowhere) as libc::socklen_t,
        )
    };
    if let Leave::Again(other) = how {
        let _ = SockRef::from(&*stream).connect(&other.into());
        let _ = stream.write_all(b"GET /one HTTP/1.1\r\nhost: svc.test\r\n\r\n");
    }
}
