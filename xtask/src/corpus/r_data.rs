//! Character vectors out of an R lazy-load database (`.rdb`).

use anyhow::{Context, Result, ensure};
use flate2::{Decompress, FlushDecompress};

/// R's type number of a character vector, and of one string in it.
const STRINGS: u32 = 16;
const STRING: u32 = 9;
/// Bit of a string's flags that says Latin-1.
const LATIN1: u32 = 0x4000;

/// The character vectors of a database, in its order; objects of other types are passed over.
///
/// The file is a row of objects, each a big-endian `u32` (its size when unpacked) and a zlib stream.
pub(super) fn character_vectors(database: &[u8]) -> Result<Vec<Vec<String>>> {
    let mut vectors = Vec::new();
    let mut rest = database;
    while rest.len() > 4 {
        let (size, packed) = rest.split_at(4);
        let size = u32::from_be_bytes(size.try_into()?) as usize;
        let mut object = Vec::with_capacity(size);
        let mut decoder = Decompress::new(true);
        decoder.decompress_vec(packed, &mut object, FlushDecompress::Finish).context("broken R database")?;
        ensure!(object.len() == size, "an R object has {} bytes; wanted {size}", object.len());
        rest = &packed[decoder.total_in() as usize..];
        vectors.extend(character_vector(&object)?);
    }
    Ok(vectors)
}

/// The strings of one serialised object (XDR, versions 2 and 3), or nothing for another type.
fn character_vector(object: &[u8]) -> Result<Option<Vec<String>>> {
    let mut reader = Reader { rest: object };
    ensure!(reader.bytes(2)? == b"X\n", "an R object is not in XDR form");
    let version = reader.number()?;
    reader.bytes(8)?; // the versions of R that wrote it and that can read it
    if version == 3 {
        let length = reader.number()? as usize;
        reader.bytes(length)?; // the native encoding's name
    }
    if reader.number()? & 0xff != STRINGS {
        return Ok(None);
    }
    let count = reader.number()?;
    (0..count).map(|_| reader.string()).collect::<Result<Vec<String>>>().map(Some)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count).context("an R object ends too early")?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    fn string(&mut self) -> Result<String> {
        let flags = self.number()?;
        ensure!(flags & 0xff == STRING, "a string was wanted in an R character vector");
        let length = self.number()?;
        if length == u32::MAX {
            return Ok(String::new()); // NA
        }
        let bytes = self.bytes(length as usize)?;
        if flags & LATIN1 != 0 {
            return Ok(bytes.iter().map(|&byte| char::from(byte)).collect());
        }
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn database(kind: u32) -> Vec<u8> {
        let mut object = b"X\n\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        for number in [kind, 2, 0x40009, 3] {
            object.extend(number.to_be_bytes());
        }
        object.extend(b"one");
        object.extend(0x4009u32.to_be_bytes());
        object.extend(1u32.to_be_bytes());
        object.push(0xe9);
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&object).unwrap();
        [(object.len() as u32).to_be_bytes().to_vec(), encoder.finish().unwrap()].concat()
    }

    #[test]
    fn strings_come_out_and_other_types_do_not() {
        let both = [database(16), database(13), database(16)].concat();
        assert_eq!(character_vectors(&both).unwrap(), [["one", "é"], ["one", "é"]]);
    }

    #[test]
    fn a_cut_database_is_an_error() {
        let whole = database(16);
        assert!(character_vectors(&whole[..whole.len() - 6]).is_err());
    }
}
