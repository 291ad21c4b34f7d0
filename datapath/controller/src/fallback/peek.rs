//! What a connection's first bytes decide, looked at until they do: nothing is read, and nothing is polled.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What `judge` makes of the first bytes, of which it sees more each time until it says something, as many as `bytes` has room for; `None` if the
/// connection ends or fails before.
pub(super) async fn peek<T>(
    socket: &TcpStream,
    bytes: &mut [u8],
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    loop {
        let ready = socket.ready(Interest::READABLE).await.ok()?;
        let looked = socket.try_io(Interest::READABLE, || {
            let count = recv(socket.as_raw_fd(), bytes, MsgFlags::MSG_PEEK)?;
            if count == 0 {
                return Ok(None);
            }
            // What was looked at is no event: the socket is ready again when there is more.
            let judged = judge(&bytes[..count]).ok_or(io::ErrorKind::WouldBlock)?;
            Ok(Some(judged))
        });
        match looked {
            // All that will ever come was there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !ready.is_read_closed() => {}
            other => return other.ok().flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What becomes of a connection on which these pieces come, each after the one before was looked at, and then its end.
    async fn looked(pieces: &[&[u8]]) -> (Option<usize>, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
        let (told, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let send = async {
            for (number, piece) in pieces.iter().enumerate() {
                client.write_all(piece).await.unwrap();
                let sent: usize = pieces[..=number].iter().map(|piece| piece.len()).sum();
                while looks.recv().await.unwrap() < sent {}
                // Time in which somebody who polls would look again.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            client.shutdown().await.unwrap();
        };
        let mut times = 0;
        let mut bytes = [0; 64];
        let look = peek(&server, &mut bytes, |bytes| {
            times += 1;
            told.send(bytes.len()).unwrap();
            bytes.ends_with(b"!").then_some(bytes.len())
        });
        let ((), judged) = tokio::join!(send, look);
        (judged, times)
    }

    #[tokio::test]
    async fn bytes_are_looked_at_as_they_come_and_not_in_between() {
        // Once for each event, of which bytes that are looked at while more come make two.
        let (judged, times) = looked(&[b"GET", b" /", b" now!"]).await;
        assert!(judged == Some(10) && times <= 6, "{judged:?} {times}");
        let (judged, times) = looked(&[b"GET"]).await;
        assert!(judged.is_none() && times <= 3, "{judged:?} {times}");
        assert_eq!(looked(&[]).await, (None, 0));
    }
}
