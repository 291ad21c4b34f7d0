//! Calls over a control socket, several on one connection.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::socket::trusted;

/// How long the other process may take for its part.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to another process's control socket.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with the connection.
    connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    /// Connects; `None` if nobody listens there.
    ///
    /// # Errors
    /// If the socket cannot be tried, or who listens is somebody else's process.
    pub async fn connect(path: &Path) -> Result<Option<Self>> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            // The second is of one who was killed.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        trusted(&stream).with_context(|| path.display().to_string())?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Some(Self {
            sender,
            connection: tokio::spawn(connection),
        }))
    }

    /// Calls and waits for the answer, which must be 200.
    ///
    /// # Errors
    /// If the other process refuses, is gone, or takes longer than [`PATIENCE`].
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes> {
        let call = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "kmeshd")
            .body(Full::new(body.into()))?;
        let answer = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
        };
        let (status, body) = timeout(PATIENCE, answer)
            .await
            .with_context(|| format!("{call}: no answer in {} s", PATIENCE.as_secs()))?
            .with_context(|| call.clone())?;
        if status != StatusCode::OK {
            bail!("{call}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Waits until the other process has closed the connection.
    pub async fn closed(&mut self) {
        // However it ended, it has ended.
        let _ = (&mut self.connection).await;
    }
}
