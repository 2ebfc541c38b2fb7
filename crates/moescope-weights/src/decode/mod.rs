//! Stored bytes to `f32`, exactly: every format is decoded as its reference does it, in the same order of rounding.

mod blocks;
mod plain;
mod superblocks;

use crate::NumberFormat;
pub(crate) use plain::f8_e4m3;

/// Decodes whole blocks: `out` has as many numbers as `bytes` hold. False if the format has no reading as numbers.
///
/// Both lengths come from a checked header, so a mismatch is an error of the program.
pub(crate) fn decode(format: NumberFormat, bytes: &[u8], out: &mut [f32]) -> bool {
    let (numbers, length) = format.block();
    debug_assert_eq!(out.len() / numbers, bytes.len() / length, "{format} {} {}", out.len(), bytes.len());
    match format {
        NumberFormat::F64 => plain::each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        NumberFormat::F32 => plain::each(bytes, out, f32::from_le_bytes),
        NumberFormat::F16 => plain::each(bytes, out, |b| plain::half(u16::from_le_bytes(b))),
        NumberFormat::Bf16 => {
            plain::each(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16));
        }
        NumberFormat::F8E4m3 => {
            let table: [f32; 256] = std::array::from_fn(|byte| f8_e4m3(byte as u8));
            plain::each(bytes, out, |[b]| table[usize::from(b)]);
        }
        NumberFormat::F8E5m2 => plain::each(bytes, out, |[b]| plain::half(u16::from(b) << 8)),
        NumberFormat::F8E8m0 => plain::each(bytes, out, |[b]| plain::power_of_two(b)),
        NumberFormat::I8 => plain::each(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
        NumberFormat::U8 => plain::each(bytes, out, |[b]| f32::from(b)),
        NumberFormat::I16 => plain::each(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
        NumberFormat::I32 => plain::each(bytes, out, |b| i32::from_le_bytes(b) as f32),
        NumberFormat::I64 => plain::each(bytes, out, |b| i64::from_le_bytes(b) as f32),
        NumberFormat::Q4_0 => blocks::each(bytes, out, blocks::q4_0),
        NumberFormat::Q4_1 => blocks::each(bytes, out, blocks::q4_1),
        NumberFormat::Q5_0 => blocks::each(bytes, out, blocks::q5_0),
        NumberFormat::Q5_1 => blocks::each(bytes, out, blocks::q5_1),
        NumberFormat::Q8_0 => blocks::each(bytes, out, blocks::q8_0),
        NumberFormat::Iq4Nl => blocks::each(bytes, out, blocks::iq4_nl),
        NumberFormat::Mxfp4 => blocks::each(bytes, out, blocks::mxfp4),
        NumberFormat::Q2K => blocks::each(bytes, out, superblocks::q2_k),
        NumberFormat::Q3K => blocks::each(bytes, out, superblocks::q3_k),
        NumberFormat::Q4K => blocks::each(bytes, out, superblocks::q4_k),
        NumberFormat::Q5K => blocks::each(bytes, out, superblocks::q5_k),
        NumberFormat::Q6K => blocks::each(bytes, out, superblocks::q6_k),
        NumberFormat::F8E4m3Blocks | NumberFormat::Other(_) => return false,
    }
    true
}

/// Decodes 32 numbers as safetensors hold MXFP4: 16 bytes, of each the lower four bits first.
pub(crate) fn mxfp4_pairs(packed: &[u8], scale: u8, out: &mut [f32]) {
    let scale = plain::power_of_two(scale);
    for (pair, byte) in out.chunks_exact_mut(2).zip(packed) {
        pair[0] = blocks::E2M1[usize::from(byte & 15)] * scale;
        pair[1] = blocks::E2M1[usize::from(byte >> 4)] * scale;
    }
}
