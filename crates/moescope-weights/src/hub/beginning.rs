//! The first bytes of a file of the hub, without the others.

use std::io::Read;

use ureq::http::StatusCode;
use ureq::{Body, BodyReader};

use super::fetch::{Fetch, Remote};
use crate::WeightsError;

/// How often a connection that brings nothing is tried anew.
const ATTEMPTS: usize = 5;

/// As much of the beginning of a file as was asked for so far.
///
/// Asked for by range; a server that sends the whole file instead is read up to there, and the connection is closed when this is
/// dropped.
pub(super) struct Beginning<'f, 's> {
    fetch: &'f Fetch<'s>,
    remote: &'f Remote,
    bytes: Vec<u8>,
    size: Option<u64>,
    /// What is left of an answer with the whole file.
    rest: Option<BodyReader<'static>>,
    ranged: bool,
}

impl<'f, 's> Beginning<'f, 's> {
    pub(super) fn new(fetch: &'f Fetch<'s>, remote: &'f Remote) -> Beginning<'f, 's> {
        Beginning { fetch, remote, bytes: Vec::new(), size: remote.size, rest: None, ranged: true }
    }

    /// The beginning, `count` bytes long or more; less only where the file ends before.
    ///
    /// # Errors
    /// When the server refuses, or brings nothing in some attempts one after the other.
    pub(super) fn reach(&mut self, count: usize) -> Result<&[u8], WeightsError> {
        let mut attempts = 0;
        while self.bytes.len() < count && self.size.is_none_or(|size| (self.bytes.len() as u64) < size) {
            let before = self.bytes.len();
            let outcome = self.more(count);
            let came = self.bytes.len() > before;
            match outcome {
                Ok(()) if came => attempts = 0,
                // An answer without a byte is the end where no size is known.
                Ok(()) if self.size.is_none() => break,
                Err(error) if !error.is_unreachable() => return Err(error),
                outcome => {
                    self.rest = None;
                    attempts += 1;
                    if attempts > ATTEMPTS {
                        let early =
                            || self.fetch.refused(format!("{} ends early again and again", self.remote.url));
                        return Err(outcome.err().unwrap_or_else(early));
                    }
                }
            }
        }
        Ok(&self.bytes)
    }

    /// Bytes of the whole file, where the server has said so.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Whether the server sends parts of a file; true until an answer has shown that it does not.
    pub(super) fn is_ranged(&self) -> bool {
        self.ranged
    }

    /// One answer, or what comes next of the one that is being read.
    fn more(&mut self, count: usize) -> Result<(), WeightsError> {
        if self.rest.is_none() {
            self.ask(count)?;
        }
        let Some(rest) = &mut self.rest else { return Ok(()) };
        let wanted = (count - self.bytes.len()) as u64;
        let read = rest.take(wanted).read_to_end(&mut self.bytes);
        if self.ranged {
            self.rest = None;
        }
        read.map(drop).map_err(|error| self.fetch.failed(&self.remote.url, &error))
    }

    /// Asks for the bytes that are missing.
    fn ask(&mut self, count: usize) -> Result<(), WeightsError> {
        let url = &self.remote.url;
        let range = format!("bytes={}-{}", self.bytes.len(), count - 1);
        let answer = self.fetch.require(self.fetch.get(url, Some(&range))?, url)?;
        self.ranged = answer.status() == StatusCode::PARTIAL_CONTENT;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let whole = match self.ranged {
            true => header("content-range").and_then(|range| range.rsplit_once('/')).map(|(_, size)| size),
            false => header("content-length"),
        };
        self.size = self.size.or(whole.and_then(|size| size.parse().ok()));
        if !self.ranged {
            self.bytes.clear();
        }
        let body: Body = answer.into_body();
        self.rest = Some(body.into_reader());
        Ok(())
    }
}
