//! The loopback device of a namespace of one's own.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Socket, Type};

/// `struct ifreq` with the part that is used here.
#[repr(C)]
struct Interface {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

fn interface(name: &str) -> Interface {
    let mut request = Interface {
        name: [0; libc::IFNAMSIZ],
        value: [0; 24],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    request
}

fn order(request: &mut Interface, order: libc::Ioctl) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: the order reads a `struct ifreq`, which `request` is laid out as.
    let failed = unsafe { libc::ioctl(socket.as_raw_fd(), order, &raw mut *request) };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Brings it up.
pub(super) fn up() -> io::Result<()> {
    let mut request = interface("lo");
    let flags = (libc::IFF_UP | libc::IFF_RUNNING) as u16;
    request.value[..2].copy_from_slice(&flags.to_ne_bytes());
    order(&mut request, libc::SIOCSIFFLAGS as libc::Ioctl)
}

/// Gives it one more address.
pub(super) fn assign(label: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut request = interface(label);
    let family = libc::AF_INET as u16;
    request.value[..2].copy_from_slice(&family.to_ne_bytes());
    request.value[4..8].copy_from_slice(&address.octets());
    order(&mut request, libc::SIOCSIFADDR as libc::Ioctl)
}
