//! `cargo run -p kmesh-oracle --example fuzz_seeds DIR`: writes what the fuzz corpora begin with to `DIR/TARGET/`.

use std::path::PathBuf;
use std::{env, fs, io};

use kmesh_oracle::fuzz::{TARGETS, seeds};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("which folder?"))?;
    for (target, _) in TARGETS {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds(target) {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}
