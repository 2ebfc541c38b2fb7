//! The header: what the model is, and where each tensor lies.

use std::ops::Range;

use super::MAGIC;
use super::metadata::Metadata;
use super::reader::Reader;
use crate::NumberFormat;

/// Most axes that a tensor of GGML has.
const AXES: u32 = 4;
/// Fewest bytes that a pair of the metadata takes: length of the key, kind, value.
const LEAST_PAIR: usize = 8 + 4 + 1;
/// Fewest bytes that a tensor takes in the header: length of the name, number of axes, type, offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

/// Everything but the numbers.
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Entry>,
    /// Bytes of the file that it takes.
    pub(super) length: usize,
}

/// One tensor; its bytes lie in the file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) format: NumberFormat,
    /// Slowest axis first: the reverse of what the file says.
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Range<usize>,
}

/// Reads the header of a file, or says what is wrong with it. Nothing is taken at its word: every count, length and offset is
/// checked against the bytes that there are, and no two tensors may share bytes.
pub(super) fn read(file: &[u8]) -> Result<Header, String> {
    read_beginning(file, file.len())
}

/// The same of a file of which only the beginning is at hand, and the length known.
pub(super) fn read_beginning(beginning: &[u8], file: usize) -> Result<Header, String> {
    let mut reader = Reader::new(beginning);
    if reader.take(4)? != MAGIC {
        return Err("it does not begin with `GGUF`".into());
    }
    match reader.u32()? {
        2 | 3 => {}
        1 => return Err("it is of version 1, wanted 2 or 3; convert it again".into()),
        version if (2..=3).contains(&version.swap_bytes()) => {
            return Err("its numbers are big-endian, wanted little-endian; convert it again".into());
        }
        version => return Err(format!("it is of version {version}, wanted 2 or 3")),
    }
    let tensors = reader.count(LEAST_TENSOR, "tensors")?;
    let pairs = reader.count(LEAST_PAIR, "metadata entries")?;
    let metadata = Metadata::read(&mut reader, pairs)?;
    let mut entries = (0..tensors).map(|_| entry(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    let alignment = alignment(&metadata)?;
    let start = reader.place().next_multiple_of(alignment);
    entries.iter_mut().try_for_each(|entry| place(entry, start, alignment, file))?;
    require_apart(&entries)?;
    Ok(Header { metadata, tensors: entries, length: reader.place() })
}

/// The multiple of bytes at which tensors begin.
fn alignment(metadata: &Metadata) -> Result<usize, String> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(32) };
    match metadata.unsigned("general.alignment") {
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => Ok(alignment as usize),
        _ => Err(format!("`general.alignment` is {value:?}, wanted a power of two")),
    }
}

/// What the header says about one tensor. Its bytes are not yet placed: they are those from the offset on.
fn entry(reader: &mut Reader<'_>) -> Result<Entry, String> {
    let name = reader.text()?;
    let axes = reader.u32()?;
    if axes > AXES {
        return Err(format!("the tensor `{name}` has {axes} axes, wanted {AXES} at most"));
    }
    let mut shape = Vec::new();
    for _ in 0..axes {
        let axis = reader.u64()?;
        shape.push(usize::try_from(axis).map_err(|_| format!("the tensor `{name}` has an axis of {axis}"))?);
    }
    let number = reader.u32()?;
    let format = NumberFormat::of_ggml(number).map_err(|reason| {
        format!("the tensor `{name}` is stored as GGML type {number}: {reason}; convert it to another quantisation")
    })?;
    let offset = reader.u64()?;
    let (numbers, bytes) = format.block();
    let count = shape.iter().try_fold(1_usize, |product, axis| product.checked_mul(*axis));
    let fastest = shape.first().copied().unwrap_or(1);
    let length = count.and_then(|count| (count / numbers).checked_mul(bytes));
    let end = length.and_then(|length| usize::try_from(offset).ok()?.checked_add(length));
    let (Some(end), 0) = (end, fastest % numbers) else {
        return Err(format!(
            "the tensor `{name}` of axes {shape:?} at {offset} is no whole number of {format} blocks"
        ));
    };
    shape.reverse();
    Ok(Entry { name, format, shape, bytes: offset as usize..end })
}

/// Moves a tensor behind the header and checks that it lies in the file.
fn place(entry: &mut Entry, start: usize, alignment: usize, file: usize) -> Result<(), String> {
    let (first, last) = (entry.bytes.start, entry.bytes.end);
    if first % alignment != 0 {
        return Err(format!(
            "the tensor `{}` begins at {first}, wanted a multiple of {alignment}",
            entry.name
        ));
    }
    match last.checked_add(start) {
        Some(end) if end <= file => {
            entry.bytes = first + start..end;
            Ok(())
        }
        _ => Err(format!(
            "the tensor `{}` claims the bytes {first}..{last} behind the header, and there are {}; fetch the file again",
            entry.name,
            file.saturating_sub(start)
        )),
    }
}

/// Refuses two tensors that share bytes.
fn require_apart(entries: &[Entry]) -> Result<(), String> {
    let mut places: Vec<&Entry> = entries.iter().filter(|entry| !entry.bytes.is_empty()).collect();
    places.sort_by_key(|entry| entry.bytes.start);
    match places.windows(2).find(|pair| pair[0].bytes.end > pair[1].bytes.start) {
        None => Ok(()),
        Some(pair) => Err(format!("the tensors `{}` and `{}` share bytes", pair[0].name, pair[1].name)),
    }
}
