//! The long-lived generator: commands in, results out, connections kept between blocks.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use crate::engine::{Block, Engine, EngineError};
use crate::plan::Plan;
use crate::protocol::{Command, Reply};
use crate::result::BlockResult;

/// Carries out one command per line of `input` until `quit` or the end of the input.
///
/// A command that fails is answered with an error and does not end the conversation.
///
/// # Errors
/// When `input` cannot be read or `output` cannot be written.
pub fn serve(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut engines = BTreeMap::new();
    for line in input.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(command) => execute(&mut engines, command),
            Err(error) => Reply::Error {
                message: format!("not a command: {error}"),
            },
        };
        let mut text = serde_json::to_string(&reply).map_err(io::Error::other)?;
        text.push('\n');
        output.write_all(text.as_bytes())?;
        output.flush()?;
        if reply == Reply::Bye {
            break;
        }
    }
    Ok(())
}

fn execute(engines: &mut BTreeMap<String, Engine>, command: Command) -> Reply {
    match command {
        Command::Prepare { name, plan } => match prepare(plan) {
            Ok((engine, opening)) => {
                let connections = engine.open_connections();
                engines.insert(name.clone(), engine);
                Reply::Prepared {
                    name,
                    connections,
                    opening: Box::new(opening),
                }
            }
            Err(error) => {
                // The old plan of that name must not be measured in place of the one that failed.
                engines.remove(&name);
                Reply::Error {
                    message: format!("cannot prepare \"{name}\": {error}"),
                }
            }
        },
        Command::Run {
            name,
            duration_ms,
            warmup_ms,
            rate,
        } => {
            let Some(engine) = engines.get_mut(&name) else {
                return unknown(&name);
            };
            let block = Block {
                duration: Some(Duration::from_millis(duration_ms)),
                warmup: Duration::from_millis(warmup_ms),
                requests: None,
                rate,
            };
            match engine.run(block, &mut |_| {}) {
                Ok(result) => Reply::Result {
                    name,
                    result: Box::new(result),
                },
                Err(error) => Reply::Error {
                    message: format!("cannot run \"{name}\": {error}"),
                },
            }
        }
        Command::Close { name } => match engines.remove(&name) {
            Some(_) => Reply::Closed { name },
            None => unknown(&name),
        },
        Command::Quit => Reply::Bye,
    }
}

fn prepare(plan: Plan) -> Result<(Engine, BlockResult), EngineError> {
    let mut engine = Engine::new(plan)?;
    let opening = engine.open()?;
    Ok((engine, opening))
}

fn unknown(name: &str) -> Reply {
    Reply::Error {
        message: format!("no plan \"{name}\" is prepared"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(input: &str) -> Vec<Reply> {
        let mut output = Vec::new();
        serve(input.as_bytes(), &mut output).unwrap();
        String::from_utf8(output)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_bad_command_is_answered_and_the_conversation_goes_on() {
        let replies = talk(
            "nonsense\n\n{\"cmd\":\"run\",\"name\":\"x\",\"duration_ms\":1}\n{\"cmd\":\"quit\"}\n{\"cmd\":\"quit\"}\n",
        );
        assert_eq!(replies.len(), 3);
        assert!(
            matches!(&replies[0], Reply::Error { message } if message.starts_with("not a command"))
        );
        assert_eq!(
            replies[1],
            Reply::Error {
                message: "no plan \"x\" is prepared".to_owned()
            }
        );
        assert_eq!(replies[2], Reply::Bye);
    }

    #[test]
    fn a_plan_that_cannot_be_opened_is_refused_with_the_reason() {
        // Port 9 of a loopback address that nothing listens on.
        let plan =
            r#"{"targets":["127.255.255.1:9"],"connections":2,"mix":[{"name":"a","host":"h"}]}"#;
        let replies = talk(&format!("{{\"cmd\":\"prepare\",\"plan\":{plan}}}\n"));
        assert!(
            matches!(&replies[0], Reply::Error { message } if message.contains("connect_refused")),
            "{replies:?}"
        );
    }
}
