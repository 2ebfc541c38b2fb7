use std::collections::BTreeMap;

use super::reader::Reader;

/// What a GGUF file says about its model, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, MetadataValue>,
}

/// One value. Whole numbers and reals are widened; the file's own width decides nothing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// A whole number from 0 on.
    Unsigned(u64),
    /// A whole number with sign.
    Signed(i64),
    /// A real number.
    Real(f64),
    /// True or false.
    Flag(bool),
    /// A text.
    Text(String),
    /// A list of whole numbers or flags (0 and 1).
    Integers(Vec<i64>),
    /// A list of real numbers.
    Reals(Vec<f32>),
    /// A list of texts.
    Texts(Vec<String>),
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }

    /// All keys with their values, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A whole number from 0 on; `None` also for another kind of value.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            MetadataValue::Unsigned(number) => Some(*number),
            MetadataValue::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A number, whole or not; `None` also for another kind of value.
    pub fn real(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            MetadataValue::Real(number) => Some(*number),
            MetadataValue::Unsigned(number) => Some(*number as f64),
            MetadataValue::Signed(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// True or false; `None` also for another kind of value.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            MetadataValue::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A text; `None` also for another kind of value.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetadataValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts; `None` also for another kind of value.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            MetadataValue::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// A list of whole numbers; `None` also for another kind of value.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.get(key)? {
            MetadataValue::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// A list of reals; `None` also for another kind of value.
    pub fn reals(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            MetadataValue::Reals(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// Reads so many pairs.
    pub(super) fn read(reader: &mut Reader<'_>, count: usize) -> Result<Metadata, String> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = reader.text()?;
            let kind = reader.u32()?;
            let value = value(reader, kind).map_err(|reason| format!("at the key `{key}`: {reason}"))?;
            if let Some(key) = values.insert(key.clone(), value).map(|_| key) {
                return Err(format!("the key `{key}` stands twice"));
            }
        }
        Ok(Metadata { values })
    }
}

/// A value of the kind with this number.
fn value(reader: &mut Reader<'_>, kind: u32) -> Result<MetadataValue, String> {
    Ok(match kind {
        6 => MetadataValue::Real(f32::from_le_bytes(reader.array()?).into()),
        12 => MetadataValue::Real(f64::from_le_bytes(reader.array()?)),
        7 => MetadataValue::Flag(flag(reader)?),
        8 => MetadataValue::Text(reader.text()?),
        9 => list(reader)?,
        10 => MetadataValue::Unsigned(reader.u64()?),
        0 | 2 | 4 => MetadataValue::Unsigned(integer(reader, kind)? as u64),
        _ => MetadataValue::Signed(integer(reader, kind)?),
    })
}

/// A list; lists of lists are not read.
fn list(reader: &mut Reader<'_>) -> Result<MetadataValue, String> {
    let kind = reader.u32()?;
    let least = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => return Err("a list of lists is not read".into()),
        _ => return Err(format!("a list of unknown kind {kind}")),
    };
    let count = reader.count(least, "entries of a list")?;
    Ok(match kind {
        6 => MetadataValue::Reals(
            (0..count).map(|_| reader.array().map(f32::from_le_bytes)).collect::<Result<_, String>>()?,
        ),
        12 => {
            let number =
                |reader: &mut Reader<'_>| reader.array().map(|bytes| f64::from_le_bytes(bytes) as f32);
            MetadataValue::Reals((0..count).map(|_| number(reader)).collect::<Result<_, String>>()?)
        }
        8 => MetadataValue::Texts((0..count).map(|_| reader.text()).collect::<Result<_, String>>()?),
        7 => MetadataValue::Integers(
            (0..count).map(|_| flag(reader).map(i64::from)).collect::<Result<_, String>>()?,
        ),
        _ => {
            MetadataValue::Integers((0..count).map(|_| integer(reader, kind)).collect::<Result<_, String>>()?)
        }
    })
}

/// A whole number of the kind with this number.
fn integer(reader: &mut Reader<'_>, kind: u32) -> Result<i64, String> {
    Ok(match kind {
        0 => u8::from_le_bytes(reader.array()?).into(),
        1 => i8::from_le_bytes(reader.array()?).into(),
        2 => u16::from_le_bytes(reader.array()?).into(),
        3 => i16::from_le_bytes(reader.array()?).into(),
        4 => reader.u32()?.into(),
        5 => i32::from_le_bytes(reader.array()?).into(),
        10 => i64::try_from(reader.u64()?).map_err(|_| "a whole number is above 2^63".to_owned())?,
        11 => i64::from_le_bytes(reader.array()?),
        _ => return Err(format!("a value of unknown kind {kind}")),
    })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, String> {
    match reader.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(format!("{other} is neither false (0) nor true (1)")),
    }
}
