//! What only programs may do or see, and user space asks them for: they run on a packet that says what is asked (`BPF_PROG_TEST_RUN`).

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use kmesh_api::pool::PoolKey;

use super::{Datapath, LoadError, program};

/// Bytes of the header that a packet of a test-run begins with.
const ETHERNET: usize = 14;

/// A `Donation` as a program reads it.
fn bytes(words: [u32; 3]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Datapath {
    /// Asks the kernel to put a slot into its pool; `false` if it is refused.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn donate(&mut self, slot: u32) -> Result<bool, LoadError> {
        Ok(self.ask("pool_donate", &bytes([slot, 0, 0]))? == 0)
    }

    /// Asks the kernel to take a slot out of a pool, and to retire it if it is that pool's own; `false` if it does not lie there, because it
    /// is leased or retired.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn withdraw(&mut self, slot: u32, pool: PoolKey) -> Result<bool, LoadError> {
        let asked = bytes([slot, pool.pod, pool.endpoint]);
        Ok(self.ask("pool_withdraw", &asked)? == 0)
    }

    /// Asks the kernel what a client, named by its cookie, has yet to get or to read of what was redirected to it: [`QUEUEING`], [`UNREAD`], both,
    /// or 0, also if it has gone.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    ///
    /// [`QUEUEING`]: kmesh_api::exchange::QUEUEING
    /// [`UNREAD`]: kmesh_api::exchange::UNREAD
    pub fn backlog(&mut self, client: u64) -> Result<i32, LoadError> {
        Ok(self
            .ask("client_backlog", &client.to_ne_bytes())?
            .cast_signed())
    }

    /// The same of the server that the upstream of a slot ends in.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn server_backlog(&mut self, slot: u32) -> Result<i32, LoadError> {
        Ok(self
            .ask("server_backlog", &slot.to_ne_bytes())?
            .cast_signed())
    }

    /// Asks the kernel how often a client, named by its cookie, has sent, for comparison with a later answer.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn activity(&mut self, client: u64) -> Result<u32, LoadError> {
        self.ask("client_activity", &client.to_ne_bytes())
    }

    /// Asks the kernel to count one connection less of a pod.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn give_share(&mut self, pod: u32) -> Result<(), LoadError> {
        self.ask("share_give", &pod.to_ne_bytes()).map(drop)
    }

    /// Asks the kernel to give a released pod nothing more, and to count what it had as free.
    ///
    /// # Errors
    /// [`LoadError::Program`] if the program could not run.
    pub fn release_share(&mut self, pod: u32) -> Result<(), LoadError> {
        self.ask("share_release", &pod.to_ne_bytes()).map(drop)
    }

    /// Runs a program on what it is asked, behind an Ethernet header, for its return value.
    fn ask(&mut self, name: &'static str, asked: &[u8]) -> Result<u32, LoadError> {
        let program: &mut SchedClassifier = program(&mut self.ebpf, name)?;
        let packet = [&[0; ETHERNET][..], asked].concat();
        let options = TestRunOptions {
            data_in: Some(&packet),
            ..TestRunOptions::new()
        };
        let result = program
            .test_run(options)
            .map_err(|source| LoadError::Program {
                program: name,
                source,
            })?;
        Ok(result.return_value)
    }
}
