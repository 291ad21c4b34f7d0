//! Tracepoints by name: their numbers stand in tracefs, which many machines do not mount.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use perf_event::events::Tracepoint;

/// Where tracefs is, or is mounted for a moment.
const TRACEFS: &str = "/sys/kernel/tracing";

/// The tracepoints with these names, as `raw_syscalls/sys_enter`.
///
/// # Errors
/// One is not there, or tracefs is not and cannot be mounted (root is needed, and a kernel with `CONFIG_FTRACE_SYSCALLS`).
pub(super) fn tracepoints(names: &[String]) -> io::Result<Vec<Tracepoint>> {
    if Path::new(TRACEFS).join("events").is_dir() {
        return numbers(names);
    }
    // A mount namespace belongs to a thread: nobody else sees the mount, and it goes with the thread.
    thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            mount_tracefs()?;
            numbers(names)
        });
        mounted
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that mounts tracefs panicked")))
    })
}

/// Mounts tracefs in a mount namespace of the calling thread's own.
fn mount_tracefs() -> io::Result<()> {
    let failed = |what: &'static str| {
        move |errno: nix::Error| {
            let source = io::Error::from(errno);
            io::Error::new(source.kind(), format!("tracefs: {what}: {source}"))
        }
    };
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("a mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(failed("a private mount namespace"))?;
    mount(
        Some("tracefs"),
        TRACEFS,
        Some("tracefs"),
        MsFlags::empty(),
        none,
    )
    .map_err(failed("mounting it at /sys/kernel/tracing"))
}

fn numbers(names: &[String]) -> io::Result<Vec<Tracepoint>> {
    let number = |name: &String| {
        let path = Path::new(TRACEFS).join("events").join(name).join("id");
        let failed = |source: io::Error| {
            io::Error::new(source.kind(), format!("{}: {source}", path.display()))
        };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let id: u64 = text
            .trim()
            .parse()
            .map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(Tracepoint::with_id(id))
    };
    names.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// In a mount namespace from which tracefs was taken away, as on a machine that never mounted it.
    #[test]
    fn tracefs_need_not_be_mounted() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "CI forbids to skip this");
            eprintln!("SKIP tracefs_need_not_be_mounted: needs root");
            return;
        }
        let alone = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            while nix::mount::umount(TRACEFS).is_ok() {}
            let bare = Path::new(TRACEFS).join("events").is_dir();
            let found = tracepoints(&names(&["raw_syscalls/sys_enter"])).map(|found| found.len());
            let wrong = tracepoints(&names(&["no/such_event"])).err();
            let after = Path::new(TRACEFS).join("events").is_dir();
            (bare, found.unwrap(), wrong, after)
        });
        let (bare, found, wrong, after) = alone.join().unwrap();
        assert!(!bare, "tracefs was there all the same");
        assert_eq!(found, 1);
        assert!(wrong.unwrap().to_string().contains("no/such_event/id"));
        assert!(!after, "the mount was seen outside");
    }
}
