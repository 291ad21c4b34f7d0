//! The language of `kmesh-load serve`: one JSON object per line, one reply per command.
//!
//! ```text
//! > {"cmd":"prepare","name":"kmesh","plan":{...}}
//! < {"prepared":{"name":"kmesh","connections":60,"opening":{...}}}
//! > {"cmd":"run","name":"kmesh","duration_ms":1500,"warmup_ms":200,"rate":1000}
//! < {"result":{"name":"kmesh","result":{...}}}
//! > {"cmd":"quit"}
//! < "bye"
//! ```
//!
//! One process can hold several prepared plans under different names; their connections stay open
//! while others run, which is what interleaving the arms of an experiment needs.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::result::BlockResult;

/// What the generator is told to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Open the connections of a plan and send one request on each; replaces a plan of the same name.
    Prepare {
        /// Name for later commands.
        #[serde(default)]
        name: String,
        /// The workload.
        plan: Plan,
    },
    /// Run one block on a prepared plan.
    Run {
        /// Name given to `prepare`.
        #[serde(default)]
        name: String,
        /// Length of the measured part in milliseconds.
        duration_ms: u64,
        /// Load before the measured part, not in the result, in milliseconds.
        #[serde(default)]
        warmup_ms: u64,
        /// Overrides the plan's pace for this block: null leaves it, 0 is a closed loop, anything else
        /// an open loop at that many requests per second with the plan's arrivals.
        #[serde(default)]
        rate: Option<f64>,
    },
    /// Close the connections of a prepared plan and forget it.
    Close {
        /// Name given to `prepare`.
        #[serde(default)]
        name: String,
    },
    /// End the process; end of input does the same.
    Quit,
}

/// What the generator answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The plan is ready: one request was sent on every connection and each got a complete answer.
    Prepared {
        /// Name of the plan.
        name: String,
        /// Connections open now (0 for short connections).
        connections: u32,
        /// The answers to those first requests; wrong ones are counted here and are no error.
        opening: Box<BlockResult>,
    },
    /// One block is done.
    Result {
        /// Name of the plan.
        name: String,
        /// What it showed.
        result: Box<BlockResult>,
    },
    /// The plan is gone.
    Closed {
        /// Name of the plan.
        name: String,
    },
    /// The command was not understood or could not be carried out; the process goes on.
    Error {
        /// The reason, one line.
        message: String,
    },
    /// Answer to `quit`.
    Bye,
}

/// Writes one command and reads its reply: the harness's side of the conversation.
///
/// # Errors
/// When the generator is gone, or when what it says is not a reply.
pub fn ask(
    input: &mut impl Write,
    output: &mut impl BufRead,
    command: &Command,
) -> Result<Reply, ProtocolError> {
    let mut line = serde_json::to_string(command).map_err(ProtocolError::Json)?;
    line.push('\n');
    input
        .write_all(line.as_bytes())
        .and_then(|()| input.flush())
        .map_err(ProtocolError::Gone)?;
    line.clear();
    let read = output.read_line(&mut line).map_err(ProtocolError::Gone)?;
    if read == 0 {
        return Err(ProtocolError::Gone(
            std::io::ErrorKind::UnexpectedEof.into(),
        ));
    }
    serde_json::from_str(&line).map_err(ProtocolError::Json)
}

/// Why a conversation with a generator failed.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The pipe is closed.
    #[error("generator does not answer, did it exit?")]
    Gone(#[source] std::io::Error),
    /// A line is not what this version speaks.
    #[error(
        "line from or to the generator is not the serve protocol, are both sides of one version?"
    )]
    Json(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Recorder;
    use crate::result::{ErrorKind, Latency};
    use std::collections::BTreeMap;

    #[test]
    fn the_commands_of_the_docs_parse() {
        let run: Command =
            serde_json::from_str(r#"{"cmd":"run","duration_ms":1500,"warmup_ms":200,"rate":null}"#)
                .unwrap();
        assert_eq!(
            run,
            Command::Run {
                name: String::new(),
                duration_ms: 1500,
                warmup_ms: 200,
                rate: None
            }
        );
        let prepare =
            r#"{"cmd":"prepare","plan":{"targets":["[::1]:80"],"connections":1,"mix":[]}}"#;
        assert!(matches!(
            serde_json::from_str(prepare).unwrap(),
            Command::Prepare { .. }
        ));
        assert_eq!(
            serde_json::from_str::<Command>(r#"{"cmd":"quit"}"#).unwrap(),
            Command::Quit
        );
        assert!(
            serde_json::from_str::<Command>(r#"{"cmd":"run","duration_ms":1,"rat":1}"#).is_err()
        );
    }

    #[test]
    fn a_result_survives_the_line() {
        let empty = || Recorder::new().distribution();
        let reply = Reply::Result {
            name: "a".to_owned(),
            result: Box::new(BlockResult {
                started_unix_ns: 1,
                duration_s: 1.5,
                offered_rps: Some(1000.0),
                achieved_rps: 999.0,
                spun_us: 250,
                sent: 3,
                ok: 1,
                dropped: 0,
                wrong_decisions: 1,
                wrong_status: 0,
                wrong_seq: 0,
                wrong_body: 0,
                stray_bytes: 0,
                errors: BTreeMap::from([(ErrorKind::Timeout, 1)]),
                statuses: BTreeMap::from([(200, 2)]),
                served_by: BTreeMap::from([(
                    "c".to_owned(),
                    BTreeMap::from([("v1".to_owned(), 2)]),
                )]),
                connects: 0,
                bytes_out: 10,
                bytes_in: 20,
                latency: Latency {
                    service: empty(),
                    intended: empty(),
                    connect: empty(),
                    first_byte: empty(),
                    lag: empty(),
                },
                examples: vec![],
            }),
        };
        let line = serde_json::to_string(&reply).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(reply, serde_json::from_str(&line).unwrap());
    }
}
