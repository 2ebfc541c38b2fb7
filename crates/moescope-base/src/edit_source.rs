//! Edits made of what was recorded.

use crate::{Axis, RouteEdit, Value, ValueEdit};

/// A recorded value that the wanted edit cannot be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditSourceError {
    /// A mean of no rows.
    #[error("no row was recorded, so there is no mean; record a text on which the expert is chosen")]
    NoRows,
    /// A mean or exchange of rows that differ in what their columns are.
    #[error(
        "the rows of an attention pattern see different keys, so one mean says nothing; patch it, or take the mean of this text"
    )]
    Pattern,
    /// A mean over heads.
    #[error(
        "each head writes something else, so one mean for all says nothing; patch them, or take the mean of this text, head by head"
    )]
    Heads,
    /// Integers where numbers are needed, or the other way round.
    #[error("the recorded value holds {found}, wanted {wanted}")]
    Kind {
        /// What it holds.
        found: &'static str,
        /// What it should.
        wanted: &'static str,
    },
}

/// The recorded numbers.
fn reals(value: &Value) -> Result<&[f32], EditSourceError> {
    value
        .real()
        .ok_or(EditSourceError::Kind { found: "expert indices", wanted: "real numbers; use a route edit" })
}

impl ValueEdit {
    /// The edit that puts a recorded value in place of what is there, token by token.
    ///
    /// The batch must have the shape of the recorded one. For single experts only tokens that the expert was recorded with can be
    /// replaced; see [`ValueEdit::PatchByToken`].
    ///
    /// Recorded choices of experts become the same choices, of the selected tokens; [`RouteEdit::replay_of`] gives those of all tokens to
    /// the router instead, so that scores that are edited as well do not choose.
    ///
    /// # Errors
    /// [`EditSourceError::Kind`] for recorded integers that are no choice of experts.
    pub fn patch_of(value: &Value) -> Result<ValueEdit, EditSourceError> {
        let rows = match value.integer() {
            // Numbers of experts are far below the whole numbers that `f32` holds exactly.
            Some(experts) => choices(experts)?.into_iter().map(|expert| expert as f32).collect(),
            None => reals(value)?.to_vec(),
        };
        Ok(ValueEdit::PatchByToken { of: row_tokens(value), rows })
    }

    /// The edit that replaces vectors by the mean over all recorded tokens, of whatever batch.
    ///
    /// # Errors
    /// [`EditSourceError::NoRows`], [`EditSourceError::Pattern`], [`EditSourceError::Heads`] or [`EditSourceError::Kind`].
    pub fn mean_of(value: &Value) -> Result<ValueEdit, EditSourceError> {
        let numbers = reals(value)?;
        match value.axes() {
            [_, Axis::Head, ..] => return Err(EditSourceError::Pattern),
            [_, _, Axis::Head, _] => return Err(EditSourceError::Heads),
            _ => {}
        }
        if numbers.is_empty() {
            return Err(EditSourceError::NoRows);
        }
        Ok(ValueEdit::Set { vector: mean_row(numbers, value.columns()) })
    }
}

impl RouteEdit {
    /// The edit that uses recorded routes again: a value of `hook_indices`.
    ///
    /// # Errors
    /// [`EditSourceError::Kind`] for anything but non-negative integers.
    pub fn replay_of(value: &Value) -> Result<RouteEdit, EditSourceError> {
        let wanted = "expert indices";
        let indices = value.integer().ok_or(EditSourceError::Kind { found: "real numbers", wanted })?;
        Ok(RouteEdit::Replay { choices: choices(indices)? })
    }
}

/// Recorded indices as numbers of experts.
fn choices(indices: &[i64]) -> Result<Vec<u32>, EditSourceError> {
    let refused = EditSourceError::Kind { found: "numbers that are no index", wanted: "expert indices" };
    let narrow = |expert: &i64| u32::try_from(*expert).ok();
    indices.iter().map(narrow).collect::<Option<_>>().ok_or(refused)
}

/// Token (`batch * positions + pos`) of each row of a value, a row being its last axis.
///
/// Rows of an expert name their own, those of an attention pattern are their query's, and the heads of a token follow each other.
pub fn row_tokens(value: &Value) -> Vec<u32> {
    match (value.rows(), value.axes(), value.shape()) {
        (Some(tokens), ..) => tokens.to_vec(),
        (None, [_, Axis::Head, ..], shape) => pattern_tokens(shape[0], shape[1], shape[2]).collect(),
        (None, [_, _, Axis::Head, _], shape) => head_tokens(shape[0] * shape[1], shape[2]).collect(),
        (None, _, shape) => (0..(shape[0] * shape[1]) as u32).collect(),
    }
}

/// The token of every row of what heads add, `[token, head, d_model]`, row-major.
pub fn head_tokens(tokens: usize, heads: usize) -> impl Iterator<Item = u32> {
    (0..tokens * heads).map(move |row| (row / heads) as u32)
}

/// The query's token of every row of an attention pattern `[batch, head, query, key]`, row-major.
pub fn pattern_tokens(batch: usize, heads: usize, queries: usize) -> impl Iterator<Item = u32> {
    (0..batch * heads * queries).map(move |row| (row / (heads * queries) * queries + row % queries) as u32)
}

/// Mean of the rows of `numbers[row, column]`, summed in f64 from the first row to the last.
pub fn mean_row(numbers: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f64; width];
    for row in numbers.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
    }
    let rows = (numbers.len() / width) as f64;
    sum.into_iter().map(|sum| (sum / rows) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HookPoint, Site, ValueData};

    fn residual(numbers: Vec<f32>) -> Value {
        Value::new(HookPoint::block(Site::ResidPost, 0), vec![1, 2, 2], ValueData::Real(numbers), None)
            .unwrap()
    }

    #[test]
    fn edits_of_recorded_values_by_hand() {
        let value = residual(vec![1.0, 2.0, 3.0, 6.0]);
        assert_eq!(ValueEdit::mean_of(&value), Ok(ValueEdit::Set { vector: vec![2.0, 4.0] }));
        let rows = vec![1.0, 2.0, 3.0, 6.0];
        assert_eq!(ValueEdit::patch_of(&value), Ok(ValueEdit::PatchByToken { of: vec![0, 1], rows }));
        let expert = HookPoint::expert(Site::ExpertOut, 0, 1);
        let one = Value::new(expert, vec![1, 2], ValueData::Real(vec![5.0, 7.0]), Some(vec![3])).unwrap();
        let patch = ValueEdit::PatchByToken { of: vec![3], rows: vec![5.0, 7.0] };
        assert_eq!(ValueEdit::patch_of(&one), Ok(patch));
        let chosen = HookPoint::block(Site::RouterIndices, 0);
        let routes = Value::new(chosen, vec![1, 2, 1], ValueData::Integer(vec![4, 0]), None).unwrap();
        assert_eq!(RouteEdit::replay_of(&routes), Ok(RouteEdit::Replay { choices: vec![4, 0] }));
    }

    #[test]
    fn the_rows_of_a_pattern_belong_to_their_queries() {
        let tokens: Vec<u32> = pattern_tokens(2, 2, 2).collect();
        assert_eq!(tokens, [0, 1, 0, 1, 2, 3, 2, 3]);
    }

    #[test]
    fn the_heads_of_a_token_follow_each_other() {
        let result = HookPoint::block(Site::AttnResult, 0);
        let value = Value::new(result, vec![1, 2, 3, 1], ValueData::Real(vec![0.0; 6]), None).unwrap();
        assert_eq!(row_tokens(&value), [0, 0, 0, 1, 1, 1]);
        assert_eq!(ValueEdit::mean_of(&value), Err(EditSourceError::Heads));
        let Ok(ValueEdit::PatchByToken { of, .. }) = ValueEdit::patch_of(&value) else { panic!("a patch") };
        assert_eq!(of, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn values_that_make_no_edit_are_refused() {
        let expert = HookPoint::expert(Site::ExpertOut, 0, 1);
        let none = Value::new(expert, vec![0, 2], ValueData::Real(vec![]), Some(vec![])).unwrap();
        assert_eq!(ValueEdit::mean_of(&none), Err(EditSourceError::NoRows));
        let pattern = HookPoint::block(Site::AttnPattern, 0);
        let pattern = Value::new(pattern, vec![1, 1, 1, 1], ValueData::Real(vec![1.0]), None).unwrap();
        assert_eq!(ValueEdit::mean_of(&pattern), Err(EditSourceError::Pattern));
        let chosen = HookPoint::block(Site::RouterIndices, 0);
        let negative = Value::new(chosen, vec![1, 1, 1], ValueData::Integer(vec![-1]), None).unwrap();
        assert!(RouteEdit::replay_of(&negative).is_err() && ValueEdit::patch_of(&negative).is_err());
        assert!(RouteEdit::replay_of(&residual(vec![0.0; 4])).is_err());
    }
}
