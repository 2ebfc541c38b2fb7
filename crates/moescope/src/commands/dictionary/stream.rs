//! Activations of a model as they stream.
//!
//! A pass gives the rows of some windows, which the training mixes with those of others. Which windows go through the model together
//! depends on memory, and decides nothing: rows come in the order of the windows.

use moescope_base::{HookPoint, Observation, Request, Seed, Subject, Tokens, Value, row_tokens};
use moescope_dictionary::{ActivationStream, Rows, SourceError};
use moescope_engine::Tensor;
use moescope_trace::CorpusWindow;

use super::sites::Sites;

/// Rows of one pass, and the token (`batch * positions + pos`) of each, ascending. Where a site has no row for some token, as that of
/// an expert, the token is left out, and so are the first of each window, `positions` long, that the sites say.
///
/// - **Shape:** `input[row, input]` and, of a transcoder, `target[row, target]`; row `i` of both is of the token `tokens[i]`.
/// - **Unit:** that of the sites.
///
/// # Errors
/// If the pass did not report the sites, which it always does when asked.
pub(super) fn rows_of(
    seen: &Observation,
    sites: &Sites,
    positions: usize,
) -> Result<(Rows, Vec<u32>), SourceError> {
    let value = |point: HookPoint| seen.values.get(&point).ok_or_else(|| format!("{point} was not reported"));
    let input = value(sites.input)?;
    let counts = |token: &u32| *token as usize % positions >= sites.skip;
    let Some(target) = sites.target else {
        let tokens: Vec<u32> = row_tokens(input).into_iter().filter(counts).collect();
        return Ok((Rows::of(taken(input, &tokens)?), tokens));
    };
    let target = value(target)?;
    let others = row_tokens(target);
    let both =
        row_tokens(input).into_iter().filter(counts).filter(|token| others.binary_search(token).is_ok());
    let tokens: Vec<u32> = both.collect();
    Ok((Rows { input: taken(input, &tokens)?, target: Some(taken(target, &tokens)?) }, tokens))
}

/// The rows of these tokens.
fn taken(value: &Value, tokens: &[u32]) -> Result<Tensor, SourceError> {
    let numbers = value.real().ok_or("the site holds no real numbers")?;
    let (there, width) = (row_tokens(value), value.columns());
    let row = |token: &u32| there.binary_search(token).map(|row| &numbers[row * width..][..width]);
    let mut data = Vec::with_capacity(tokens.len() * width);
    for token in tokens {
        data.extend_from_slice(row(token).map_err(|_| format!("token {token} has no row"))?);
    }
    Ok(Tensor::new([tokens.len(), width], data)?)
}

/// The tokens of some windows.
///
/// # Errors
/// If ids and sizes do not fit, which windows never give cause for.
pub(super) fn tokens_of(windows: &[&CorpusWindow]) -> Result<Tokens, SourceError> {
    let positions = windows.first().map_or(0, |window| window.ids.len());
    let ids = windows.iter().flat_map(|window| &window.ids).copied().collect();
    Ok(Tokens::new(ids, windows.len(), positions)?)
}

/// Rows of a text that is gone through again and again, its windows in another order each time.
///
/// The order follows from the seed and the number of the round alone. A text without a single row, as of an expert that nobody chooses,
/// ends after one round, so that a training does not wait for rows that never come.
pub(super) struct ModelRows<'m> {
    subject: &'m mut (dyn Subject + Send),
    sites: &'m Sites,
    windows: &'m [CorpusWindow],
    /// Windows of a pass. They decide nothing.
    sequences: usize,
    seed: Seed,
    order: Vec<usize>,
    next: usize,
    /// Times that the text was begun.
    pub(super) rounds: u64,
    /// Rows that came since it was last begun.
    came: usize,
}

impl<'m> ModelRows<'m> {
    /// Rows at these sites; nothing is run before the first are asked for.
    pub(super) fn new(
        subject: &'m mut (dyn Subject + Send),
        sites: &'m Sites,
        windows: &'m [CorpusWindow],
        sequences: usize,
        seed: Seed,
    ) -> ModelRows<'m> {
        let (order, next, rounds, came) = (Vec::new(), 0, 0, 0);
        ModelRows { subject, sites, windows, sequences, seed, order, next, rounds, came }
    }

    /// Begins the text anew, unless the last round had no row.
    fn begin(&mut self) -> bool {
        if self.rounds > 0 && self.came == 0 {
            return false;
        }
        let seed = self.seed.index(self.rounds);
        self.order = (0..self.windows.len()).collect();
        self.order.sort_by_key(|window| seed.index(*window as u64).0);
        (self.next, self.came) = (0, 0);
        self.rounds += 1;
        true
    }
}

impl ActivationStream for ModelRows<'_> {
    fn next_rows(&mut self) -> Result<Option<Rows>, SourceError> {
        if self.next >= self.order.len() && !self.begin() {
            return Ok(None);
        }
        let until = (self.next + self.sequences).min(self.order.len());
        let windows: Vec<&CorpusWindow> =
            self.order[self.next..until].iter().map(|window| &self.windows[*window]).collect();
        self.next = until;
        let tokens = tokens_of(&windows)?;
        let record = self.sites.points();
        let seen = self.subject.run(&Request::recording(&tokens, &record))?;
        let (rows, _) = rows_of(&seen, self.sites, tokens.positions())?;
        self.came += rows.len();
        Ok(Some(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use moescope_base::{Site, ValueData};

    fn value(point: HookPoint, shape: &[usize], numbers: &[f32], rows: Option<Vec<u32>>) -> Value {
        Value::new(point, shape.to_vec(), ValueData::Real(numbers.to_vec()), rows).unwrap()
    }

    #[test]
    fn an_experts_rows_meet_those_of_their_tokens() {
        let input = HookPoint::block(Site::MlpIn, 0);
        let target = HookPoint::expert(Site::ExpertOut, 0, 1);
        let mut seen = Observation::default();
        seen.values.insert(input, value(input, &[1, 3, 1], &[10.0, 11.0, 12.0], None));
        seen.values.insert(target, value(target, &[2, 2], &[1.0, 2.0, 3.0, 4.0], Some(vec![0, 2])));
        let sites = Sites { input, target: Some(target), skip: 0 };
        let (rows, tokens) = rows_of(&seen, &sites, 3).unwrap();
        assert_eq!((rows.input.data(), tokens), ([10.0, 12.0].as_slice(), vec![0, 2]));
        assert_eq!(rows.wanted().data(), [1.0, 2.0, 3.0, 4.0]);
        let alone = Sites { input: target, target: None, skip: 0 };
        assert_eq!(rows_of(&seen, &alone, 3).unwrap().0.input.shape(), [2, 2]);
        let late = Sites { skip: 1, ..sites };
        assert_eq!(rows_of(&seen, &late, 3).unwrap().1, [2]);
        let missing = Sites { input: HookPoint::block(Site::ResidPost, 0), target: None, skip: 0 };
        assert!(rows_of(&seen, &missing, 3).unwrap_err().to_string().contains("hook_resid_post"));
    }
}
