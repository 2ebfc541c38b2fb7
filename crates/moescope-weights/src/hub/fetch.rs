//! Speaking with the hub: which files a revision has, what they are, and their bytes, from where a download broke off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use moescope_host::HostError;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{HubSettings, ModelName};
use crate::WeightsError;

/// How often a download that breaks off is taken up again before it is given up.
const ATTEMPTS: usize = 5;
/// Most bytes of a listing of files.
const LONGEST_LISTING: u64 = 64 << 20;

/// One repository, and how to reach it.
pub(super) struct Fetch<'s> {
    agent: Agent,
    name: &'s ModelName,
    settings: &'s HubSettings,
}

/// What a revision holds.
pub(super) struct Listing {
    /// The commit that the revision is at.
    pub(super) commit: String,
    /// Names of all files.
    pub(super) files: Vec<String>,
}

impl Listing {
    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|found| found == file)
    }
}

/// One file of a commit.
pub(super) struct Remote {
    pub(super) url: String,
    /// What the server calls its content; a plain file name.
    pub(super) hash: String,
    /// Bytes, where the server says so.
    pub(super) size: Option<u64>,
}

impl<'s> Fetch<'s> {
    pub(super) fn new(name: &'s ModelName, settings: &'s HubSettings) -> Fetch<'s> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Those of the system, so that a mirror inside a company works; SSL_CERT_FILE names others.
        let authorities: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|authority| Certificate::from_der(authority).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .user_agent(concat!("moescope/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Fetch { agent, name, settings }
    }

    /// The files of the revision.
    pub(super) fn listing(&self) -> Result<Listing, WeightsError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(serde::Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = self.name.revision().replace('/', "%2F");
        let url =
            format!("{}/api/models/{}/revision/{revision}", self.settings.endpoint(), self.name.repository());
        let mut answer = self.require(self.get(&url, None)?, &url)?;
        let text = answer.body_mut().with_config().limit(LONGEST_LISTING).read_to_vec();
        let text = text.map_err(|error| self.failed(&url, &error))?;
        let answer: Answer = serde_json::from_slice(&text)
            .map_err(|error| self.refused(format!("{url} gave no listing of files: {error}")))?;
        if !plain(&answer.sha) {
            return Err(self.refused(format!("{url} names the commit `{}`, which is none", answer.sha)));
        }
        let files = answer.siblings.into_iter().map(|sibling| sibling.rfilename);
        // A name that leads out of the folder is no name of a file.
        let inside =
            |file: &String| !file.starts_with('/') && !file.split(['/', '\\']).any(|part| part == "..");
        Ok(Listing { commit: answer.sha, files: files.filter(inside).collect() })
    }

    /// What a file is, from its headers. Large files lie elsewhere, and the hub itself says what they are; only a redirection
    /// within the hub is followed, for that says nothing yet.
    pub(super) fn about(&self, commit: &str, file: &str) -> Result<Remote, WeightsError> {
        let url = format!("{}/{}/resolve/{commit}/{file}", self.settings.endpoint(), self.name.repository());
        let mut asked = url.clone();
        for _ in 0..5 {
            let mut request = self.agent.head(&asked).config().max_redirects(0).build();
            if let Some(token) = self.settings.token() {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = request.call().map_err(|error| self.failed(&asked, &error))?;
            let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let location = header("location").filter(|place| place.starts_with('/'));
            if let (true, Some(place), None) =
                (answer.status().is_redirection(), location, header("x-linked-etag"))
            {
                asked = format!("{}{place}", self.settings.endpoint());
                continue;
            }
            if !answer.status().is_redirection() && !answer.status().is_success() {
                self.require(answer, &url)?;
                break;
            }
            let linked = header("x-linked-etag").or_else(|| header("etag")).unwrap_or_default();
            let hash = linked.trim_start_matches("W/").trim_matches('"').to_owned();
            if !plain(&hash) {
                return Err(self.refused(format!("{url} has the etag `{hash}`, which cannot name a file")));
            }
            let own = header("content-length").filter(|_| answer.status().is_success());
            let size = header("x-linked-size").or(own).and_then(|size| size.parse().ok());
            return Ok(Remote { url, hash, size });
        }
        Err(self.refused(format!("{url} leads round in circles")))
    }

    /// Writes a file, going on behind what is already in it; `tell` hears how many bytes are there.
    pub(super) fn write_file(
        &self,
        remote: &Remote,
        path: &Path,
        tell: &mut dyn FnMut(u64),
    ) -> Result<(), WeightsError> {
        let mut attempts = 0;
        loop {
            let before = length(path);
            let outcome = self.piece(remote, path, tell);
            let done = length(path);
            match outcome {
                Ok(()) if remote.size.is_none_or(|size| size == done) => return Ok(()),
                Ok(()) if remote.size.is_some_and(|size| size < done) => {
                    // What was there is not the beginning of this file.
                    std::fs::remove_file(path).map_err(|source| HostError::file("remove", path, source))?;
                }
                Err(error) if !error.is_unreachable() => return Err(error),
                _ => {}
            }
            // As long as something comes, it may break off as often as it likes.
            attempts = if done > before { 1 } else { attempts + 1 };
            if attempts > ATTEMPTS {
                return Err(match self.piece(remote, path, tell) {
                    Err(error) => error,
                    Ok(()) if remote.size.is_none_or(|size| size == length(path)) => return Ok(()),
                    Ok(()) => self.refused(format!("{} ends early again and again", remote.url)),
                });
            }
        }
    }

    /// One attempt, from the end of what is there.
    fn piece(&self, remote: &Remote, path: &Path, tell: &mut dyn FnMut(u64)) -> Result<(), WeightsError> {
        let failed = |source| WeightsError::from(HostError::file("write", path, source));
        let mut done = length(path);
        if remote.size == Some(done) && done > 0 {
            return Ok(());
        }
        let range = (done > 0).then(|| format!("bytes={done}-"));
        let mut answer = self.require(self.get(&remote.url, range.as_deref())?, &remote.url)?;
        let resumed = answer.status() == StatusCode::PARTIAL_CONTENT;
        if !resumed {
            done = 0;
        }
        let mut file = match resumed {
            true => OpenOptions::new().append(true).open(path).map_err(failed)?,
            false => File::create(path).map_err(failed)?,
        };
        tell(done);
        let mut body = answer.body_mut().as_reader();
        let mut piece = vec![0; 1 << 18];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return file.sync_all().map_err(failed),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(&remote.url, &error)),
            };
            file.write_all(&piece[..read]).map_err(failed)?;
            done += read as u64;
            tell(done);
        }
    }

    /// Asks for an address, or a range of it, following wherever it leads. The token goes to the hub alone.
    pub(super) fn get(&self, url: &str, range: Option<&str>) -> Result<Response<Body>, WeightsError> {
        let mut request = self.agent.get(url);
        if let Some(token) = self.settings.token() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.call().map_err(|error| self.failed(url, &error))
    }

    /// Refuses an answer that is none.
    pub(super) fn require(&self, answer: Response<Body>, url: &str) -> Result<Response<Body>, WeightsError> {
        let status = answer.status();
        let why = match status.as_u16() {
            200..=299 => return Ok(answer),
            401 | 403 => {
                "it needs a token that may read it: set HF_TOKEN, and accept its conditions on its page"
            }
            404 => "there is no such model or revision, or it needs a token (HF_TOKEN)",
            429 => "too many requests; wait, or set HF_TOKEN",
            500.. => return Err(self.unreachable(format!("{url} answered {status}"))),
            _ => "an answer that is not understood",
        };
        Err(self.refused(format!("{url} answered {status}: {why}")))
    }

    /// A file that came whole and is another one.
    pub(super) fn damaged(&self, remote: &Remote, found: &str) -> WeightsError {
        let Remote { url, hash, .. } = remote;
        self.refused(format!(
            "{url} came with the hash {found}, wanted {hash}; it was removed, so fetch it again"
        ))
    }

    pub(super) fn refused(&self, reason: String) -> WeightsError {
        WeightsError::Hub { model: self.name.to_string(), reason }
    }

    fn unreachable(&self, reason: String) -> WeightsError {
        WeightsError::Unreachable { model: self.name.to_string(), reason }
    }

    pub(super) fn failed(&self, url: &str, error: &dyn std::error::Error) -> WeightsError {
        self.unreachable(format!("{url}: {error}"))
    }
}

/// Whether a text can be the name of a file as it is.
fn plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// Bytes of a file; 0 if it is not there.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}
