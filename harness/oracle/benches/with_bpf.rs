//! The benches that need the BPF toolchain to build: the decision in the kernel, and the lab scenarios. Their
//! packages are no default members, so this hands `cargo bench` on to them, with all its options.

use std::process::{Command, exit};

fn main() {
    // cargo itself says `--bench`, to tell a bench from a test.
    let options: Vec<String> = std::env::args()
        .skip(1)
        .filter(|option| option != "--bench")
        .collect();
    let benched = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .args(["bench", "--locked"])
        .args(["-p", "kmesh-bench", "-p", "kmesh-oracle"])
        .args(["--features", "kmesh-oracle/kernel"])
        .args([
            "--bench",
            "decision_kernel",
            "--bench",
            "figures",
            "--bench",
            "lab",
        ])
        .arg("--")
        .args(options)
        .status();
    match benched {
        Ok(status) if status.success() => {}
        Ok(status) => {
            eprintln!(
                "with_bpf: the benches that need the BPF toolchain ended with {status}; ci/setup.sh installs it"
            );
            exit(1);
        }
        Err(error) => {
            eprintln!("with_bpf: {}: {error}", env!("CARGO"));
            exit(1);
        }
    }
}
