//! The TOML file that describes an arm.

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::is_loopback;

/// Why a description cannot be used; always with the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// The file cannot be read.
    #[error("arm description {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file's name can be no arm's.
    #[error("arm description {}: {name:?} can be no arm's name: use lower-case letters, digits and - for the file's", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Its name without `.toml`.
        name: String,
    },
    /// Not TOML, an unknown key, a wrong type or a senseless value.
    #[error("{path}:{line}:{column}: {key}: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The key, or the table it stands in.
        key: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    title: String,
    decides: bool,
    programs: Spanned<Vec<String>>,
    remedy: String,
    client: Option<Spanned<ProxyText>>,
    server: Option<Spanned<ProxyText>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProxyText {
    configure: Option<Spanned<Vec<String>>>,
    run: Spanned<Vec<String>>,
    ready: Spanned<String>,
    #[serde(default)]
    user: User,
    spare_mark: Option<u32>,
    redirect: Option<Spanned<u16>>,
    redirect_each: Option<Spanned<u16>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum User {
    #[default]
    Proxy,
    Root,
}

/// A description that has been checked.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) title: String,
    /// Whether it routes by the scenario's configuration, so that wrong servers are wrong decisions.
    pub(super) decides: bool,
    /// What must be on the machine.
    pub(super) programs: Vec<String>,
    /// What to do if it is not.
    pub(super) remedy: String,
    pub(super) client: Option<Proxy>,
    pub(super) server: Option<Proxy>,
}

/// One proxy beside a pod's application.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Reads the routes on its standard input, writes the proxy's configuration to its standard output.
    pub(super) configure: Option<Vec<String>>,
    /// The proxy; its configuration is its standard input.
    pub(super) run: Vec<String>,
    pub(super) ready: Ready,
    /// Whether it runs as root instead of as user 1337.
    pub(super) as_root: bool,
    /// Packets with this mark are the proxy's own and are left alone.
    pub(super) spare_mark: Option<u32>,
    pub(super) redirect: Redirect,
}

/// How a proxy says that it is ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// It accepts connections here.
    Tcp(SocketAddr),
    /// It answers 200 here.
    Http(SocketAddr, String),
}

/// How traffic gets to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Not by us.
    No,
    /// All TCP to this port; the proxy asks for the original destination (`SO_ORIGINAL_DST`).
    All(u16),
    /// Each service (client) or each of the pod's ports (server) to a port of its own, counted from this one.
    Each(u16),
}

impl Description {
    pub(super) fn read(path: &Path) -> Result<Self, DescriptionError> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(DescriptionError::Name {
                path: path.to_owned(),
                name: name.into_owned(),
            });
        }
        let text = std::fs::read_to_string(path).map_err(|source| DescriptionError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, DescriptionError> {
        let place = Places { path, text };
        let parsed: Text = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = error.message().trim().replace('\n', ", ");
            place.refusal(span.clone(), &place.key_at(span.start), message)
        })?;
        if parsed.programs.get_ref().is_empty() {
            let message = "at least the proxy itself must be named, so that its absence is noticed";
            return Err(place.refusal(parsed.programs.span(), "programs", message.to_owned()));
        }
        if parsed.client.is_none() && parsed.server.is_none() {
            let message = "missing: an arm needs a proxy in the client's or in the servers' pods";
            return Err(place.refusal(0..0, "client", message.to_owned()));
        }
        let checked = |table: &str, proxy: Option<Spanned<ProxyText>>| {
            proxy
                .map(|proxy| Proxy::checked(table, proxy.into_inner(), &place))
                .transpose()
        };
        Ok(Self {
            title: parsed.title,
            decides: parsed.decides,
            programs: parsed.programs.into_inner(),
            remedy: parsed.remedy,
            client: checked("client", parsed.client)?,
            server: checked("server", parsed.server)?,
        })
    }
}

impl Proxy {
    fn checked(table: &str, text: ProxyText, place: &Places<'_>) -> Result<Self, DescriptionError> {
        let refuse = |span, key: &str, message: &str| {
            Err(place.refusal(span, &format!("{table}.{key}"), message.to_owned()))
        };
        if text.run.get_ref().is_empty() {
            return refuse(text.run.span(), "run", "is empty: name the program to run");
        }
        if let Some(configure) = &text.configure
            && configure.get_ref().is_empty()
        {
            return refuse(
                configure.span(),
                "configure",
                "is empty: leave it out instead",
            );
        }
        let Some(ready) = parse_ready(text.ready.get_ref()) else {
            let message = "must be tcp://127.0.0.1:PORT or http://127.0.0.1:PORT/PATH";
            return refuse(text.ready.span(), "ready", message);
        };
        let redirect = match (&text.redirect, &text.redirect_each) {
            (Some(_), Some(each)) => {
                let message = "contradicts redirect: either all traffic goes to one port or each service to its own";
                return refuse(each.span(), "redirect_each", message);
            }
            (Some(port), None) => (Redirect::All(*port.get_ref()), port),
            (None, Some(port)) => (Redirect::Each(*port.get_ref()), port),
            (None, None) => return Ok(Self::built(text, ready, Redirect::No)),
        };
        if *redirect.1.get_ref() == 0 {
            return refuse(redirect.1.span(), "redirect", "port 0 is no port");
        }
        let redirect = redirect.0;
        Ok(Self::built(text, ready, redirect))
    }

    fn built(text: ProxyText, ready: Ready, redirect: Redirect) -> Self {
        Self {
            configure: text.configure.map(Spanned::into_inner),
            run: text.run.into_inner(),
            ready,
            as_root: matches!(text.user, User::Root),
            spare_mark: text.spare_mark,
            redirect,
        }
    }
}

fn parse_ready(text: &str) -> Option<Ready> {
    if let Some(address) = text.strip_prefix("tcp://") {
        let address = address.parse().ok().filter(is_loopback)?;
        return Some(Ready::Tcp(address));
    }
    let rest = text.strip_prefix("http://")?;
    let (address, path) = rest.split_once('/')?;
    let address = address.parse().ok().filter(is_loopback)?;
    Some(Ready::Http(address, format!("/{path}")))
}

struct Places<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Places<'_> {
    fn refusal(&self, span: Range<usize>, key: &str, message: String) -> DescriptionError {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        DescriptionError::Value {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            key: key.to_owned(),
            message,
        }
    }

    /// The key on the line of this offset, or the table header that is there, or the file as a whole.
    fn key_at(&self, offset: usize) -> String {
        let offset = self.text.floor_char_boundary(offset);
        let start = self.text[..offset]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let key = line.split('=').next().unwrap_or_default();
        let key = key.trim().trim_matches(['[', ']', '"']);
        if key.is_empty() {
            "the file".to_owned()
        } else {
            key.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title = 'x'\ndecides = true\nprograms = ['p']\nremedy = 'get p'\n\
        [client]\nrun = ['p', '-f']\nready = 'tcp://127.0.0.1:15021'\nredirect = 15001\n";

    fn parse(text: &str) -> Result<Description, DescriptionError> {
        Description::parse(Path::new("arms/p.toml"), text)
    }

    #[test]
    fn a_description_is_read() {
        let client = parse(GOOD).unwrap().client.unwrap();
        assert_eq!(client.redirect, Redirect::All(15001));
        assert_eq!(client.ready, Ready::Tcp("127.0.0.1:15021".parse().unwrap()));
        assert!(!client.as_root && client.configure.is_none());
        let http = parse_ready("http://127.0.0.1:1/a/b").unwrap();
        assert_eq!(
            http,
            Ready::Http("127.0.0.1:1".parse().unwrap(), "/a/b".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_key() {
        let cases = [
            (
                "redirect = 15001",
                "redirect = 'x'",
                "p.toml:8:12: redirect: ",
            ),
            ("redirect = 15001", "redirekt = 1", "p.toml:8:1: redirekt: "),
            (
                "redirect = 15001",
                "redirect = 0",
                "p.toml:8:12: client.redirect: port 0",
            ),
            (
                "redirect = 15001",
                "redirect = 1\nredirect_each = 2",
                "p.toml:9:17: client.redirect_each: contradicts",
            ),
            (
                "tcp://127.0.0.1:15021",
                "tcp://10.0.0.1:1",
                "p.toml:7:9: client.ready: must be",
            ),
            (
                "run = ['p', '-f']",
                "run = []",
                "p.toml:6:7: client.run: is empty",
            ),
            (
                "programs = ['p']",
                "programs = []",
                "p.toml:3:12: programs: at least",
            ),
            ("title = 'x'", "title = ", "p.toml:1:"),
            ("[client]", "[klient]", "p.toml:5:"),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from));
            let message = parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }
}
