//! One tensor as the files hold it: where its bytes lie and how they become numbers.

use std::ops::Range;

use crate::NumberFormat;
use crate::decode::{decode, f8_e4m3, mxfp4_pairs};

/// Bytes of one of the files; they were checked to lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which file of the list.
    pub(crate) file: usize,
    /// First byte and the one after the last.
    pub(crate) bytes: Range<usize>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) format: NumberFormat,
    /// Lengths of the axes of the numbers, slowest first.
    pub(crate) shape: Vec<usize>,
    pub(crate) place: Place,
    pub(crate) scales: Option<Scales>,
}

/// Scales in a tensor of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// MXFP4: numbers lie as `[expert, output, group, 16 bytes]`, scales as `[expert, output, group]`; the tensor that they
    /// stand for is `[expert, input, output]`.
    Groups(Place),
    /// FP8: one scale for each block of the last two axes.
    Blocks {
        place: Place,
        format: NumberFormat,
        /// Rows and columns that share a scale.
        block: [usize; 2],
    },
}

impl Stored {
    /// Numbers of the tensor; its header was checked, so the product fits.
    pub(crate) fn len(&self) -> usize {
        product(&self.shape)
    }

    /// Numbers in one row, which is all but the slowest axis.
    pub(crate) fn row(&self) -> usize {
        product(self.shape.get(1..).unwrap_or_default())
    }

    /// Bytes in the files, scales included.
    pub(crate) fn bytes(&self) -> u64 {
        let scales = match &self.scales {
            None => 0,
            Some(Scales::Groups(place) | Scales::Blocks { place, .. }) => place.bytes.len(),
        };
        (self.place.bytes.len() + scales) as u64
    }

    /// Where the bytes of a row lie that is in memory when the row has been read, for plain and quantised formats alike. It
    /// may take in a little of its neighbours.
    pub(crate) fn bytes_of(&self, rows: &Range<usize>) -> Range<usize> {
        let all = self.place.bytes.len() as u128;
        let rows_in_all = self.shape.first().copied().unwrap_or(1).max(1) as u128;
        let at = |row: usize| self.place.bytes.start + (all * row as u128 / rows_in_all) as usize;
        at(rows.start)..at(rows.end)
    }

    /// Decodes rows into `out`, which is as long as they are. False for a format without a reading as numbers.
    ///
    /// `files` are the bytes of all files.
    pub(crate) fn read(&self, files: &[impl AsRef<[u8]>], rows: Range<usize>, out: &mut [f32]) -> bool {
        if out.is_empty() {
            return true;
        }
        let bytes = |place: &Place| &files[place.file].as_ref()[place.bytes.clone()];
        let numbers = bytes(&self.place);
        match &self.scales {
            None => decode_from(self.format, numbers, rows.start * self.row(), out),
            Some(Scales::Groups(scales)) => {
                let [inputs, outputs] = [self.shape[1], self.shape[2]];
                let groups = inputs / 32 * outputs;
                for (expert, out) in rows.zip(out.chunks_exact_mut((inputs * outputs).max(1))) {
                    let scales = &bytes(scales)[expert * groups..][..groups];
                    transpose(&numbers[expert * groups * 16..][..groups * 16], scales, outputs, out);
                }
                true
            }
            Some(Scales::Blocks { place, format, block }) => {
                self.read_blocks(numbers, bytes(place), *format, *block, rows.start * self.row(), out)
            }
        }
    }

    /// Decodes `out.len()` numbers from number `first` on, whole matrix rows, each times the scale of its block.
    fn read_blocks(
        &self,
        numbers: &[u8],
        scales: &[u8],
        format: NumberFormat,
        block: [usize; 2],
        first: usize,
        out: &mut [f32],
    ) -> bool {
        let [rows, columns] = *self.shape.last_chunk().expect("a tensor with scales of blocks is a matrix");
        let table: [f32; 256] = std::array::from_fn(|byte| f8_e4m3(byte as u8));
        let across = columns.div_ceil(block[1]);
        let mut of_row = vec![0.0; across]; // [block]
        for (place, out) in out.chunks_exact_mut(columns).enumerate() {
            let row = first / columns + place;
            // Matrices on leading axes have scales of their own, one after the other.
            let line = row / rows * rows.div_ceil(block[0]) + row % rows / block[0];
            if !decode_from(format, scales, line * across, &mut of_row) {
                return false;
            }
            let bytes = &numbers[row * columns..][..columns];
            for ((out, bytes), scale) in out.chunks_mut(block[1]).zip(bytes.chunks(block[1])).zip(&of_row) {
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = table[usize::from(*byte)] * scale;
                }
            }
        }
        true
    }
}

/// The product of axes. Only where one of the others is 0, and no number is there, can it fail to fit.
fn product(axes: &[usize]) -> usize {
    axes.iter().fold(1, |product, axis| product.saturating_mul(*axis))
}

/// Decodes `out.len()` numbers from number `first` on, which may lie within a block.
fn decode_from(format: NumberFormat, bytes: &[u8], first: usize, out: &mut [f32]) -> bool {
    let (numbers, length) = format.block();
    if matches!(format, NumberFormat::Other(_)) {
        return false;
    }
    if first.is_multiple_of(numbers) && out.len().is_multiple_of(numbers) {
        let start = first / numbers * length;
        return decode(format, &bytes[start..start + out.len() / numbers * length], out);
    }
    let last = (first + out.len()).next_multiple_of(numbers);
    let from = first / numbers;
    let mut whole = vec![0.0; last - from * numbers];
    let known = decode(format, &bytes[from * length..last / numbers * length], &mut whole);
    out.copy_from_slice(&whole[first - from * numbers..][..out.len()]);
    known
}

/// One expert of MXFP4: `packed[output, group, 16]` and `scales[output, group]` to `out[input, output]`.
fn transpose(packed: &[u8], scales: &[u8], outputs: usize, out: &mut [f32]) {
    /// Outputs that are written together: their rows of groups fit the cache, and each write is a whole line of it.
    const TOGETHER: usize = 16;
    let groups = scales.len().checked_div(outputs).unwrap_or(0);
    let mut tile = [[0.0; 32]; TOGETHER]; // [output, input]
    for first in (0..outputs).step_by(TOGETHER) {
        let together = TOGETHER.min(outputs - first);
        for group in 0..groups {
            for (place, numbers) in tile[..together].iter_mut().enumerate() {
                let at = (first + place) * groups + group;
                mxfp4_pairs(&packed[at * 16..][..16], scales[at], numbers);
            }
            for input in 0..32 {
                let line = &mut out[(group * 32 + input) * outputs + first..][..together];
                line.iter_mut().zip(&tile).for_each(|(out, numbers)| *out = numbers[input]);
            }
        }
    }
}
