//! GGML's blocks of 32 numbers. The lower four bits of 16 bytes are the first half, the upper four the second.

use super::plain::{half, power_of_two};

/// The values of a four-bit float with two bits of exponent and one of fraction.
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The uneven table of IQ4_NL.
const UNEVEN: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// Decodes one block after the other.
pub(super) fn each<const BYTES: usize, const NUMBERS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    one: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<NUMBERS>();
    for (out, block) in outs.iter_mut().zip(blocks) {
        one(block, out);
    }
}

/// The binary16 at a place of a block.
pub(super) fn half_at(block: &[u8], place: usize) -> f32 {
    half(u16::from_le_bytes([block[place], block[place + 1]]))
}

/// The two halves of a block from its packed bytes; `number` makes a value of four bits and its place.
fn nibbles(packed: &[u8], out: &mut [f32; 32], number: impl Fn(u8, usize) -> f32) {
    for (place, byte) in packed.iter().enumerate() {
        out[place] = number(byte & 15, place);
        out[place + 16] = number(byte >> 4, place + 16);
    }
}

/// Scale, then packed numbers around 8.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], out, |bits, _| scale * (f32::from(bits) - 8.0));
}

/// Scale, minimum, then packed numbers.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], out, |bits, _| scale * f32::from(bits) + least);
}

/// Scale, the fifth bits, then packed numbers around 16.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    nibbles(&block[6..], out, |bits, place| scale * (five(bits, fifth, place) - 16.0));
}

/// Scale, minimum, the fifth bits, then packed numbers.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    nibbles(&block[8..], out, |bits, place| scale * five(bits, fifth, place) + least);
}

fn five(bits: u8, fifth: u32, place: usize) -> f32 {
    f32::from(bits | ((fifth >> place & 1) as u8) << 4)
}

/// Scale, then numbers with sign.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = scale * f32::from(*byte as i8);
    }
}

/// Scale, then places in an uneven table.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    nibbles(&block[2..], out, |bits, _| scale * UNEVEN[usize::from(bits)]);
}

/// A power of two, then four-bit floats.
pub(super) fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let scale = power_of_two(block[0]);
    // The reference has whole numbers in its table, and so no negative zero.
    nibbles(&block[1..], out, |bits, _| scale * E2M1[usize::from(bits)] + 0.0);
}
