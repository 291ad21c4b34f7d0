//! What a relay in user space can reach at best: one that knows no HTTP and has large buffers.
//!
//! A message that the kernel does not carry is copied twice more and crosses TCP once more. On this machine that costs what is measured
//! here, whatever the program between the connections is.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use kmesh_stats::{Bootstrap, paired};
use socket2::SockRef;

use crate::lab::CheckError;
use crate::throughput::{Throughput, median};

/// Transfers of one cell.
const CELL: usize = 8;
/// Bytes that the relay and the client move at once, and the relay's send buffer.
const PORTION: usize = 512 << 10;

/// Measures a relay against the connection without it, on the loopback device, in `rounds` rounds of one cell each.
///
/// # Errors
/// [`CheckError`] if a connection breaks; [`CheckError::Statistics`] if there are too few rounds for an interval.
pub fn ceiling(length: u64, rounds: usize) -> Result<Throughput, CheckError> {
    let [direct, copied] = seconds(length, rounds).map_err(|source| CheckError::Io {
        what: "a relay on the loopback device",
        source,
    })?;
    let rate = |seconds: &[f64]| length as f64 / 1e6 / median(seconds.to_vec());
    Ok(Throughput {
        arm: "copy".to_owned(),
        reference: "loopback".to_owned(),
        direction: "download",
        length,
        ratio: paired::ratio(&direct, &copied, &Bootstrap::default())?,
        megabytes_per_second: [rate(&copied), rate(&direct)],
    })
}

/// Median seconds of each round's transfers, without the relay and with it. The threads between end with the client's connections.
fn seconds(length: u64, rounds: usize) -> io::Result<[Vec<f64>; 2]> {
    let server = listen(move |client| serve(client, length))?;
    // One connection each: the client's own and the relay's.
    let behind = listen(move |client| serve(client, length))?;
    let relayed = listen(move |client| relay(client, behind))?;
    let mut clients = [TcpStream::connect(server)?, TcpStream::connect(relayed)?];
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let times = (0..CELL).map(|_| transfer(&mut clients[which], length));
            seconds[which].push(median(times.collect::<io::Result<_>>()?));
        }
    }
    Ok(seconds)
}

/// Accepts one connection for `handler`, on a thread of its own.
fn listen(
    handler: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || listener.accept().and_then(|(client, _)| handler(client)));
    Ok(address)
}

/// Sends `length` bytes for each byte that comes, until the client leaves.
fn serve(mut client: TcpStream, length: u64) -> io::Result<()> {
    let body = vec![b'x'; length as usize];
    while client.read(&mut [0])? == 1 {
        client.write_all(&body)?;
    }
    Ok(())
}

/// Copies what the server sends.
fn relay(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    SockRef::from(&client).set_send_buffer_size(PORTION)?;
    let mut upstream = TcpStream::connect(server)?;
    let (mut asking, mut asked) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut asking, &mut asked);
        // The server sees that the client is gone.
        let _ = asked.shutdown(std::net::Shutdown::Write);
    });
    let mut bytes = vec![0; PORTION];
    loop {
        match upstream.read(&mut bytes)? {
            0 => return Ok(()),
            count => client.write_all(&bytes[..count])?,
        }
    }
}

/// Asks for one body and reads it; seconds.
fn transfer(server: &mut TcpStream, length: u64) -> io::Result<f64> {
    let mut bytes = vec![0; PORTION];
    let begun = Instant::now();
    server.write_all(b"?")?;
    let mut left = length;
    while left > 0 {
        match server.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left -= count as u64,
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_more_costs_something_and_loses_nothing() {
        let found = ceiling(4 << 20, 6).unwrap();
        assert!(found.ratio.point < 1.2, "{found:?}");
        assert!(found.megabytes_per_second[0] > 1.0, "{found:?}");
    }
}
