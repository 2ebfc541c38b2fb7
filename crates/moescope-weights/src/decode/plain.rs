//! Numbers that stand alone.

/// Decodes one number after the other.
pub(super) fn each<const BYTES: usize>(bytes: &[u8], out: &mut [f32], one: impl Fn([u8; BYTES]) -> f32) {
    let (numbers, _) = bytes.as_chunks::<BYTES>();
    for (out, bytes) in out.iter_mut().zip(numbers) {
        *out = one(*bytes);
    }
}

/// The value of an IEEE 754 binary16, exactly.
pub(super) fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    if magnitude >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13);
    }
    // The exponent of a binary32 is biased by 112 more; multiplying sets that right, also below the normal numbers.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(scaled.to_bits() | sign)
}

/// `2^(byte - 127)`; 255 stands for no number.
pub(super) fn power_of_two(byte: u8) -> f32 {
    match byte {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// The value of an F8_E4M3, the variant without infinities: 448 is the largest.
pub(crate) fn f8_e4m3(byte: u8) -> f32 {
    let sign = if byte < 128 { 1.0 } else { -1.0 };
    let fraction = f32::from(byte & 7);
    sign * match byte >> 3 & 15 {
        15 if byte & 7 == 7 => f32::NAN,
        0 => fraction / 512.0,
        exponent => (1.0 + fraction / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    }
}
