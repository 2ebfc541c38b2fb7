use std::fmt;

use safetensors::Dtype;

/// How the numbers of a tensor are stored.
///
/// Formats with blocks store so many neighbours along the fastest axis together, with one or more scales for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberFormat {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Four bits of exponent, three of fraction, no infinities.
    F8E4m3,
    /// The upper half of a binary16.
    F8E5m2,
    /// A power of two without sign, `2^(byte - 127)`.
    F8E8m0,
    /// Whole numbers with sign.
    I8,
    /// Bytes; quantised tensors keep packed numbers in them.
    U8,
    /// Whole numbers with sign, 16 bits.
    I16,
    /// Whole numbers with sign, 32 bits.
    I32,
    /// Whole numbers with sign, 64 bits.
    I64,
    /// GGML: 32 numbers of 4 bits, one scale.
    Q4_0,
    /// GGML: 32 numbers of 4 bits, scale and minimum.
    Q4_1,
    /// GGML: 32 numbers of 5 bits, one scale.
    Q5_0,
    /// GGML: 32 numbers of 5 bits, scale and minimum.
    Q5_1,
    /// GGML: 32 numbers of 8 bits, one scale.
    Q8_0,
    /// GGML: 256 numbers of 2 bits, scales of scales.
    Q2K,
    /// GGML: 256 numbers of 3 bits, scales of scales.
    Q3K,
    /// GGML: 256 numbers of 4 bits, scales of scales.
    Q4K,
    /// GGML: 256 numbers of 5 bits, scales of scales.
    Q5K,
    /// GGML: 256 numbers of 6 bits, scales of scales.
    Q6K,
    /// GGML: 32 numbers of 4 bits out of an uneven table, one scale.
    Iq4Nl,
    /// 32 numbers of 4 bits (E2M1), one power of two as scale. In safetensors, numbers and scales are tensors of their own.
    Mxfp4,
    /// [`F8E4m3`](NumberFormat::F8E4m3) with one scale for each block of a matrix, in a tensor of its own.
    F8E4m3Blocks,
    /// A format of safetensors that is listed and not read.
    Other(Dtype),
}

impl NumberFormat {
    /// Numbers of one block, and its bytes. Of [`Mxfp4`](NumberFormat::Mxfp4) the scale is counted, of
    /// [`F8E4m3Blocks`](NumberFormat::F8E4m3Blocks) it is not.
    pub fn block(self) -> (usize, usize) {
        match self {
            NumberFormat::F64 | NumberFormat::I64 => (1, 8),
            NumberFormat::F32 | NumberFormat::I32 => (1, 4),
            NumberFormat::F16 | NumberFormat::Bf16 | NumberFormat::I16 => (1, 2),
            NumberFormat::F8E4m3 | NumberFormat::F8E5m2 | NumberFormat::F8E8m0 => (1, 1),
            NumberFormat::F8E4m3Blocks | NumberFormat::I8 | NumberFormat::U8 => (1, 1),
            NumberFormat::Mxfp4 => (32, 17),
            NumberFormat::Q4_0 | NumberFormat::Iq4Nl => (32, 18),
            NumberFormat::Q4_1 => (32, 20),
            NumberFormat::Q5_0 => (32, 22),
            NumberFormat::Q5_1 => (32, 24),
            NumberFormat::Q8_0 => (32, 34),
            NumberFormat::Q2K => (256, 84),
            NumberFormat::Q3K => (256, 110),
            NumberFormat::Q4K => (256, 144),
            NumberFormat::Q5K => (256, 176),
            NumberFormat::Q6K => (256, 210),
            NumberFormat::Other(kind) => (8, kind.bitsize()),
        }
    }

    /// The format of a type number of GGML, or the reason why there is none.
    pub(crate) fn of_ggml(number: u32) -> Result<NumberFormat, &'static str> {
        Ok(match number {
            0 => NumberFormat::F32,
            1 => NumberFormat::F16,
            2 => NumberFormat::Q4_0,
            3 => NumberFormat::Q4_1,
            6 => NumberFormat::Q5_0,
            7 => NumberFormat::Q5_1,
            8 => NumberFormat::Q8_0,
            10 => NumberFormat::Q2K,
            11 => NumberFormat::Q3K,
            12 => NumberFormat::Q4K,
            13 => NumberFormat::Q5K,
            14 => NumberFormat::Q6K,
            20 => NumberFormat::Iq4Nl,
            24 => NumberFormat::I8,
            25 => NumberFormat::I16,
            26 => NumberFormat::I32,
            27 => NumberFormat::I64,
            28 => NumberFormat::F64,
            30 => NumberFormat::Bf16,
            39 => NumberFormat::Mxfp4,
            9 | 15 => return Err("a format of activations"),
            16..=19 | 21..=23 | 29 => return Err("an IQ format, which is not read"),
            34 | 35 => return Err("a ternary format, which is not read"),
            _ => return Err("unknown"),
        })
    }
}

impl From<Dtype> for NumberFormat {
    fn from(kind: Dtype) -> NumberFormat {
        match kind {
            Dtype::F64 => NumberFormat::F64,
            Dtype::F32 => NumberFormat::F32,
            Dtype::F16 => NumberFormat::F16,
            Dtype::BF16 => NumberFormat::Bf16,
            Dtype::F8_E4M3 => NumberFormat::F8E4m3,
            Dtype::F8_E5M2 => NumberFormat::F8E5m2,
            Dtype::F8_E8M0 => NumberFormat::F8E8m0,
            Dtype::I8 => NumberFormat::I8,
            Dtype::U8 => NumberFormat::U8,
            Dtype::I16 => NumberFormat::I16,
            Dtype::I32 => NumberFormat::I32,
            Dtype::I64 => NumberFormat::I64,
            other => NumberFormat::Other(other),
        }
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            NumberFormat::Bf16 => "BF16",
            NumberFormat::F8E4m3 => "F8_E4M3",
            NumberFormat::F8E5m2 => "F8_E5M2",
            NumberFormat::F8E8m0 => "F8_E8M0",
            NumberFormat::F8E4m3Blocks => "F8_E4M3 with block scales",
            NumberFormat::Q2K => "Q2_K",
            NumberFormat::Q3K => "Q3_K",
            NumberFormat::Q4K => "Q4_K",
            NumberFormat::Q5K => "Q5_K",
            NumberFormat::Q6K => "Q6_K",
            NumberFormat::Iq4Nl => "IQ4_NL",
            NumberFormat::Mxfp4 => "MXFP4",
            NumberFormat::Other(kind) => return write!(formatter, "{kind:?}"),
            plain => return write!(formatter, "{plain:?}"),
        };
        formatter.write_str(name)
    }
}
