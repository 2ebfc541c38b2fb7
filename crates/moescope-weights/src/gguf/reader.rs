//! Reading along the bytes of a header. Every length is checked against what is left before anything is taken.

/// Bytes with a place in them.
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    place: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes, place: 0 }
    }

    /// Bytes that have been read.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.place
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let Some(taken) = self.bytes[self.place..].get(..count) else {
            return Err(format!(
                "its header ends at byte {}, where {count} more were wanted",
                self.bytes.len()
            ));
        };
        self.place += count;
        Ok(taken)
    }

    /// The next bytes, as many as the type has.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(*self.take(N)?.first_chunk().expect("as many bytes were taken"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of things of which each takes at least so many bytes: more than are left cannot be there.
    pub(super) fn count(&mut self, least: usize, what: &str) -> Result<usize, String> {
        let claimed = self.u64()?;
        let possible = self.left() / least;
        match usize::try_from(claimed) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(format!("it claims {claimed} {what}, and there is room for {possible} at most")),
        }
    }

    /// A text with its length before it.
    pub(super) fn text(&mut self) -> Result<String, String> {
        let place = self.place;
        let length = self.count(1, "bytes of text")?;
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("the text at byte {place} is not UTF-8"))
    }
}
