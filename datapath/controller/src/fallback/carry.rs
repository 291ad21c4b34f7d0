//! Large responses of known length, byte by byte as the server wrote them.
//!
//! The kernel has read the head and found nothing in it that user space would have to change: only the length keeps the
//! response from its path, because nothing but TCP stops a server whose client does not read. So this needs no HTTP, and
//! a copy is all that it costs.

use std::io;

use anyhow::bail;
use tokio::net::TcpStream;

use super::relay::Leaseholder;
use crate::buffers::Buffers;

/// Bytes read at once, for a reader with large buffers and for any other.
const LARGE: usize = 256 << 10;
const SMALL: usize = 32 << 10;

/// Sends the `left` bytes that the response still has from `upstream` to the leaseholder.
///
/// # Errors
/// If either side breaks off.
pub(super) async fn carry(
    client: &Leaseholder<'_>,
    mut left: u64,
    upstream: &TcpStream,
) -> anyhow::Result<()> {
    let anchor = client.anchor;
    let permit = client.node.large.try_acquire();
    let portion = if permit.is_ok() { LARGE } else { SMALL };
    // Dropped before the permit: the buffer is small again when somebody else's may be large.
    let _wide = permit.is_ok().then(|| Widened::new(anchor.socket()));
    let mut bytes = vec![0; portion.min(left as usize)];
    while left > 0 {
        // Not before there is room: what waits here would wait in the server otherwise.
        anchor.socket().writable().await?;
        upstream.readable().await?;
        let most = bytes.len().min(left as usize);
        let count = match upstream.try_read(&mut bytes[..most]) {
            Ok(0) => bail!("the server hung up {left} bytes before the end of its response"),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        left -= count as u64;
        if left == 0 {
            client.finish(&bytes[..count]).await?;
        } else {
            anchor.send(&bytes[..count]).await?;
        }
    }
    Ok(())
}

/// An anchor's connection with a large send buffer, for as long as this lives.
struct Widened<'a>(&'a TcpStream);

impl<'a> Widened<'a> {
    fn new(socket: &'a TcpStream) -> Self {
        // A buffer that stays small is slower, not wrong.
        let _ = Buffers::ANCHOR_LARGE.fix(socket);
        Self(socket)
    }
}

impl Drop for Widened<'_> {
    fn drop(&mut self) {
        let _ = Buffers::ANCHOR.fix(self.0);
    }
}
