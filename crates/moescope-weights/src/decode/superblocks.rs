//! GGML's blocks of 256 numbers: two scales in binary16, and small whole numbers that scale them for 16 or 32 numbers each.

use super::blocks::half_at;

/// 16 scales with minima of four bits each, packed numbers, scale, scale of the minima.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 80), half_at(block, 82));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let step = scale * f32::from(block[group] & 15);
        let minimum = least * f32::from(block[group] >> 4);
        let (packed, shift) = quarter(&block[16..80], group);
        for (out, byte) in out.iter_mut().zip(packed) {
            *out = step * f32::from(byte >> shift & 3) - minimum;
        }
    }
}

/// The third bits, packed lower bits, 16 scales of six bits, scale.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (third, scales, scale) = (&block[..32], &block[96..108], half_at(block, 108));
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let low = if group < 8 { scales[group] & 15 } else { scales[group - 8] >> 4 };
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let step = scale * (f32::from(low | high << 4) - 32.0);
        let (packed, shift) = quarter(&block[32..96], group);
        let third = &third[16 * (group % 2)..];
        for ((out, byte), third) in out.iter_mut().zip(packed).zip(third) {
            let above = f32::from(third >> (group / 2) & 1) * 4.0;
            *out = step * (f32::from(byte >> shift & 3) + above - 4.0);
        }
    }
}

/// Where two-bit numbers of a group of 16 lie: each half of the block has 32 bytes, whose pairs of bits hold 32 numbers each.
fn quarter(packed: &[u8], group: usize) -> (&[u8], usize) {
    let start = 32 * (group / 8) + 16 * (group % 2);
    (&packed[start..start + 16], 2 * (group % 8 / 2))
}

/// Scale and minimum of a group of 32, six bits each out of 12 bytes.
fn six_bits(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, least) = match group {
        0..4 => (packed[group] & 63, packed[group + 4] & 63),
        _ => (
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ),
    };
    (f32::from(scale), f32::from(least))
}

/// Scale, scale of the minima, eight scales and minima of six bits, packed numbers.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (of_scale, of_least) = six_bits(&block[4..16], group);
        let (step, minimum) = (scale * of_scale, least * of_least);
        let packed = &block[16 + 32 * (group / 2)..];
        for (out, byte) in out.iter_mut().zip(packed) {
            *out = step * f32::from(byte >> (4 * (group % 2)) & 15) - minimum;
        }
    }
}

/// As Q4_K, with the fifth bits before the packed numbers.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (of_scale, of_least) = six_bits(&block[4..16], group);
        let (step, minimum) = (scale * of_scale, least * of_least);
        let packed = &block[48 + 32 * (group / 2)..];
        for ((out, byte), fifth) in out.iter_mut().zip(packed).zip(&block[16..48]) {
            let bits = byte >> (4 * (group % 2)) & 15 | (fifth >> group & 1) << 4;
            *out = step * f32::from(bits) - minimum;
        }
    }
}

/// Packed lower four bits, packed upper two, 16 scales with sign, scale.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let scale = half_at(block, 208);
    for (group, out) in out.chunks_exact_mut(16).enumerate() {
        let step = scale * f32::from(block[192 + group] as i8);
        // Within a half of 128 numbers the quarters take: lower bits of bytes 0–31 and 32–63, then the upper bits of both.
        let (half, quarter, within) = (group / 8, group % 8 / 2, 16 * (group % 2));
        let low = &block[64 * half + 32 * (quarter % 2) + within..];
        let high = &block[128 + 32 * half + within..];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let bits = low >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
            *out = step * (f32::from(bits) - 32.0);
        }
    }
}
