//! Readiness of file descriptors with nanosecond timeouts; the loop of the origin and of the generator.
//!
//! Edge-triggered: a descriptor is reported when its readiness *changes*, so whoever is told must read
//! until the kernel has no more (or until a read came back short). That saves re-arming and keeps the
//! cost per request at one wait shared by many connections, one read and one write.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

/// A set of descriptors that is waited on.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    ready: usize,
}

/// What happened to one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token the descriptor was added with.
    pub token: u64,
    /// There may be something to read, or an error to be read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer has finished sending, or the connection broke.
    pub hangup: bool,
}

impl Poller {
    /// An empty set that reports at most `batch` descriptors per wait.
    ///
    /// # Errors
    /// When the kernel refuses another descriptor.
    pub fn new(batch: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); batch.max(1)],
            ready: 0,
        })
    }

    /// Reports changes of `fd` in both directions as `token`.
    ///
    /// # Errors
    /// When the kernel refuses (out of memory, or the descriptor is already in the set).
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        Ok(self.epoll.add(fd, EpollEvent::new(flags, token))?)
    }

    /// Reports `fd` as `token` for as long as it is readable: for listeners and signals.
    ///
    /// # Errors
    /// As [`Poller::add`].
    pub fn add_level(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(self
            .epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Waits until something is ready or `timeout` has passed (`None` waits for ever); returns how many
    /// descriptors [`Poller::ready`] can be asked about. An interrupted wait returns 0.
    ///
    /// # Errors
    /// When the kernel refuses to wait, which means a broken descriptor.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let spec = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
        });
        let spec_ptr = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `EpollEvent` is a transparent wrapper of `epoll_event`; the pointer and the length are
        // those of a live vector, `spec_ptr` is null or points to `spec`, which outlives the call, and a
        // null signal mask is allowed.
        let ready = unsafe {
            libc::epoll_pwait2(
                self.epoll.0.as_raw_fd(),
                self.events.as_mut_ptr().cast(),
                self.events.len() as libc::c_int,
                spec_ptr,
                std::ptr::null(),
            )
        };
        self.ready = 0;
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(0)
            } else {
                Err(error)
            };
        }
        self.ready = ready as usize;
        Ok(self.ready)
    }

    /// The `index`th descriptor of the last wait.
    pub fn ready(&self, index: usize) -> Ready {
        let event = self.events[..self.ready][index];
        let flags = event.events();
        let broken = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        Ready {
            token: event.data(),
            readable: broken || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP),
            writable: broken || flags.contains(EpollFlags::EPOLLOUT),
            hangup: broken || flags.contains(EpollFlags::EPOLLRDHUP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn edges_are_reported_once_and_levels_until_read() {
        let (mut left, mut right) = UnixStream::pair().unwrap();
        let (mut edge, mut level) = (Poller::new(4).unwrap(), Poller::new(4).unwrap());
        edge.add(&right, 7).unwrap();
        level.add_level(&right, 8).unwrap();
        left.write_all(b"x").unwrap();
        assert_eq!(edge.wait(None).unwrap(), 1);
        assert_eq!(
            edge.ready(0),
            Ready {
                token: 7,
                readable: true,
                writable: true,
                hangup: false
            }
        );
        assert_eq!(edge.wait(Some(Duration::ZERO)).unwrap(), 0);
        assert_eq!(level.wait(None).unwrap(), 1);
        assert_eq!(level.wait(Some(Duration::ZERO)).unwrap(), 1);
        right.read_exact(&mut [0]).unwrap();
        assert_eq!(level.wait(Some(Duration::ZERO)).unwrap(), 0);
        drop(left);
        edge.wait(None).unwrap();
        assert!(edge.ready(0).hangup);
    }

    #[test]
    fn a_wait_below_a_millisecond_is_not_rounded_to_nothing() {
        let mut poller = Poller::new(1).unwrap();
        let start = Instant::now();
        assert_eq!(poller.wait(Some(Duration::from_micros(300))).unwrap(), 0);
        assert!(start.elapsed() >= Duration::from_micros(300));
    }
}
