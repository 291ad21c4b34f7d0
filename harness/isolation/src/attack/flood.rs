//! More of everything than there is.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Deeds;

/// How long a connection may take: what is over its share may never be answered.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks at the connections that there are.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of an answer that nobody reads.
const UNREAD: usize = 4 << 20;

/// What the connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Nothing.
    Idle,
    /// A head that never ends.
    Head,
    /// A large answer that is not read.
    Unread,
    /// Many requests at once, none of whose answers is read.
    Pipelined,
    /// A request that is answered after the attack.
    Open,
}

impl Flood {
    /// What a connection begins with.
    fn first(self) -> Vec<u8> {
        let request = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: svc.test\r\n\r\n");
        match self {
            Self::Idle => Vec::new(),
            Self::Head => b"GET / HTTP/1.1\r\nhost: svc.test\r\nx: ".to_vec(),
            Self::Unread => request(&format!("/?size={UNREAD}")).into_bytes(),
            Self::Pipelined => request("/?delay=10ms").repeat(64).into_bytes(),
            Self::Open => request("/?delay=1h").into_bytes(),
        }
    }

    /// What it goes on with.
    fn more(self) -> &'static [u8] {
        match self {
            Self::Head => b"a",
            _ => b"",
        }
    }
}

/// Keeps as many such connections as it gets, up to `most`, and makes another for each that it loses.
pub fn flood(target: SocketAddr, flood: Flood, most: usize, length: Duration) -> Deeds {
    let end = Instant::now() + length;
    let mut deeds = Deeds::default();
    let mut held = Vec::new();
    let mut look = Instant::now();
    while Instant::now() < end {
        if held.len() < most {
            match begin(target, flood) {
                Ok(stream) => {
                    deeds.made += 1;
                    held.push(stream);
                }
                Err(_) => deeds.refused += 1,
            }
        }
        if held.len() == most || look.elapsed() > PAUSE {
            let before = held.len();
            held.retain_mut(|stream| goes_on(stream, flood));
            deeds.refused += (before - held.len()) as u64;
            look = Instant::now();
        }
        if held.len() == most {
            std::thread::park_timeout(PAUSE);
        }
    }
    deeds
}

fn begin(target: SocketAddr, flood: Flood) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&flood.first())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Whether the connection is still there.
fn goes_on(stream: &mut TcpStream, flood: Flood) -> bool {
    let full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let wrote = stream.write(flood.more());
    if wrote.is_err_and(|error| !full(&error)) {
        return false;
    }
    // Unread answers stay unread.
    if matches!(flood, Flood::Unread | Flood::Pipelined) {
        return true;
    }
    match stream.read(&mut [0; 64]) {
        Ok(count) => count > 0,
        Err(error) => full(&error),
    }
}
