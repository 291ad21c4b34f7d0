//! What the verifier's refusal of a program comes to: its last lines, how far it came, and what to do.

use std::io;

/// Lines of the verifier's that say why; those before them are of how it came there.
const LAST: usize = 4;

/// A refusal in a few lines, the first of which is the system call's error; `log` is all that the verifier said.
pub(super) fn refusal(error: &io::Error, log: &str) -> String {
    let (figures, said): (Vec<&str>, Vec<&str>) = log
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .partition(|line| is_figure(line));
    let mut text = error.to_string();
    for line in &said[said.len().saturating_sub(LAST)..] {
        text += "\n  verifier: ";
        text += line;
    }
    for line in figures.iter().filter(|line| line.starts_with("processed ")) {
        text += "\n  ";
        text += line;
    }
    text += "\n  hint: ";
    text += hint(error, log);
    text
}

/// Whether the line is one of the figures that the verifier ends with (`print_verification_stats`).
fn is_figure(line: &str) -> bool {
    ["processed ", "verification time ", "stack depth "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// What to do, by what was said.
fn hint(error: &io::Error, log: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| log.contains(word));
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            "run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; a kernel in lockdown refuses those as well"
        }
        Some(libc::E2BIG) | None => {
            "this kernel's verifier follows more paths than those of the tested kernels do: use one of them, and report these lines"
        }
        Some(libc::ENOMEM) => {
            "the kernel has no memory for it: free some, or raise the memory limit of the cgroup"
        }
        _ if says(&["invalid func", "unknown func"]) => {
            "this kernel lacks a helper that the program calls: it needs Linux 6.1 or newer"
        }
        _ if log.trim().is_empty() => {
            "the kernel does not know this kind of program: it needs CONFIG_CGROUP_BPF, CONFIG_BPF_STREAM_PARSER, CONFIG_NET_CLS_BPF and CONFIG_INET"
        }
        _ => {
            "this kernel's verifier does not see a bound that those of the tested kernels see: use one of them, and report these lines"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.1.192 said of `skb_upstream_response` at 139d786.
    const UNBOUNDED: &str = "invalid access to map value, value_size=1880 off=120 size=0\n\
         R3 min value is outside of the allowed memory range\n\
         verification time 82779 usec\n\
         stack depth 64+0+0+0+0+0+0\n\
         processed 453 insns (limit 1000000) max_states_per_insn 0 total_states 42 peak_states 42 mark_read 38\n";

    fn of(number: i32, log: &str) -> String {
        refusal(&io::Error::from_raw_os_error(number), log)
    }

    #[test]
    fn a_refusal_is_its_last_lines_and_a_hint() {
        let text = of(libc::EACCES, UNBOUNDED);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].contains("Permission denied"), "{text}");
        assert_eq!(
            lines[2],
            "  verifier: R3 min value is outside of the allowed memory range"
        );
        assert!(lines[3].starts_with("  processed 453 insns"), "{text}");
        assert!(
            lines[4].starts_with("  hint: this kernel's verifier"),
            "{text}"
        );
    }

    #[test]
    fn a_hundred_thousand_lines_become_a_few() {
        let mut log = "12: (bf) r1 = r2\n".repeat(116_000);
        log += "The sequence of 8193 jumps is too complex.\n";
        log += "processed 352830 insns (limit 1000000) max_states_per_insn 1\n";
        let text = of(libc::E2BIG, &log);
        assert!(text.lines().count() <= 8, "{text}");
        assert!(text.contains("8193 jumps"), "{text}");
        assert!(text.contains("processed 352830"), "{text}");
        assert!(text.contains("follows more paths"), "{text}");
    }

    #[test]
    fn hints_tell_causes_apart() {
        let hints = [
            of(libc::EPERM, ""),
            of(libc::EINVAL, "invalid func unknown#181\n"),
            of(libc::EINVAL, ""),
            of(libc::ENOMEM, ""),
            of(libc::E2BIG, ""),
            of(libc::EACCES, UNBOUNDED),
        ];
        for (number, one) in hints.iter().enumerate() {
            let hint = |text: &str| text.lines().last().unwrap().to_owned();
            assert!(hint(one).starts_with("  hint: "), "{one}");
            for other in &hints[number + 1..] {
                assert_ne!(hint(one), hint(other));
            }
        }
    }
}
