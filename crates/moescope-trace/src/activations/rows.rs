//! Rows of a value: what it has for one token, or for one token of an expert.

use moescope_base::{Axis, Value, ValueData};

/// Rows one after the other; the shape of a row is the same for all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) shape: Vec<usize>,
    pub(super) data: ValueData,
}

impl Rows {
    /// No row yet of a value of this kind.
    pub(super) fn none_of(value: &Value) -> Rows {
        let data = match value.data() {
            ValueData::Real(_) => ValueData::Real(Vec::new()),
            ValueData::Integer(_) => ValueData::Integer(Vec::new()),
        };
        Rows { shape: row_shape(value.axes(), value.shape()), data }
    }

    /// Numbers of one row.
    pub(super) fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// Appends the row of a token (`batch * positions + pos`) of a value outside single experts.
    pub(super) fn push_token(&mut self, value: &Value, token: usize) {
        for range in token_ranges(value, token) {
            push(&mut self.data, value.data(), range);
        }
    }
}

/// Appends some numbers of `from`.
pub(super) fn push(into: &mut ValueData, from: &ValueData, range: std::ops::Range<usize>) {
    match (into, from) {
        (ValueData::Real(into), ValueData::Real(from)) => into.extend_from_slice(&from[range]),
        (ValueData::Integer(into), ValueData::Integer(from)) => into.extend_from_slice(&from[range]),
        _ => unreachable!("a site has numbers of one kind"),
    }
}

/// Lengths of the axes that are left when a token is named.
pub(super) fn row_shape(axes: &[Axis], shape: &[usize]) -> Vec<usize> {
    match axes {
        [Axis::Row, ..] => shape[1..].to_vec(),
        [Axis::Batch, Axis::Head, ..] => vec![shape[1], shape[3]],
        _ => shape[2..].to_vec(),
    }
}

/// Where the numbers of a token stand: of a pattern in one place for each head, else in one.
fn token_ranges(value: &Value, token: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let shape = value.shape();
    // Heads, numbers of a head here, and rows between one head and the next.
    let (heads, width, apart) = match value.axes() {
        [Axis::Batch, Axis::Head, ..] => (shape[1], shape[3], shape[2]),
        _ => (1, shape[2..].iter().product(), 1),
    };
    let first = token / apart * heads * apart + token % apart;
    (0..heads).map(move |head| (first + head * apart) * width..(first + head * apart + 1) * width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{HookPoint, Site};

    #[test]
    fn rows_by_hand() {
        let numbers = |n: usize| ValueData::Real((0..n).map(|x| x as f32).collect());
        let residual = HookPoint::block(Site::ResidPost, 0);
        let value = Value::new(residual, vec![2, 2, 3], numbers(12), None).unwrap();
        let mut rows = Rows::none_of(&value);
        rows.push_token(&value, 3);
        assert_eq!((rows.shape, rows.data), (vec![3], ValueData::Real(vec![9.0, 10.0, 11.0])));
        // Two sequences, two heads, two queries, two keys: the second query of the second sequence.
        let pattern = HookPoint::block(Site::AttnPattern, 0);
        let value = Value::new(pattern, vec![2, 2, 2, 2], numbers(16), None).unwrap();
        let mut rows = Rows::none_of(&value);
        rows.push_token(&value, 3);
        assert_eq!((rows.shape, rows.data), (vec![2, 2], ValueData::Real(vec![10.0, 11.0, 14.0, 15.0])));
    }
}
