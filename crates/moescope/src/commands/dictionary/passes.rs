//! The passes behind the measures of a dictionary.
//!
//! Sums go over the text in its order and in `f64`, so that the number of windows in a pass, which depends on memory, changes them by
//! rounding alone. Random directions are drawn after the first round: they are as sparse as the dictionary is on the whole text, and their
//! length suits rows that are spread over it.

use moescope_base::{Edit, Request, Seed, Subject, TokenSelection, Tokens, ValueEdit};
use moescope_dictionary::{Dictionary, Evaluation, Rows, Rule, random_like};
use moescope_engine::Tensor;
use moescope_trace::CorpusWindow;

use super::sites::Sites;
use super::stream::{rows_of, tokens_of};
use crate::failure::Failure;

/// Rows that are kept for the Gaussian null and for absorption, at most.
const SAMPLE: usize = 4096;

/// What a pass was run with: its place in [`Losses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arm {
    /// Nothing changed.
    Clean,
    /// What the dictionary wrote.
    Written,
    /// What random directions wrote.
    Random,
    /// The mean of the site over the whole text.
    Mean,
    /// Zero.
    Zero,
}

/// Next-token losses in nats, summed for each unit, by [`Arm`].
///
/// - **Shape:** `[unit, arm]`, with the number of predicted tokens of each unit.
/// - **Does not show:** an arm that was not run; its sum is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Losses {
    /// By unit: sums of the five arms, and the number of predicted tokens.
    pub(super) units: Vec<([f64; 5], u64)>,
}

impl Losses {
    /// Adds the losses of a pass, `[window, position - 1]`, to the units of its windows.
    fn add(&mut self, arm: Arm, losses: &[f32], units: &[u32]) {
        let each = losses.len() / units.len().max(1);
        for (losses, unit) in losses.chunks(each.max(1)).zip(units) {
            let unit = *unit as usize;
            if self.units.len() <= unit {
                self.units.resize(unit + 1, Default::default());
            }
            let (sums, tokens) = &mut self.units[unit];
            sums[arm as usize] += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            *tokens += if arm == Arm::Clean { losses.len() as u64 } else { 0 };
        }
    }

    /// Units with tokens.
    pub(super) fn present(&self) -> Vec<usize> {
        (0..self.units.len()).filter(|unit| self.units[*unit].1 > 0).collect()
    }

    /// Sum of an arm over units.
    pub(super) fn sum(&self, arm: Arm, units: &[usize]) -> f64 {
        units.iter().map(|unit| self.units[*unit].0[arm as usize]).sum()
    }

    /// Predicted tokens of units.
    pub(super) fn tokens(&self, units: &[usize]) -> f64 {
        units.iter().map(|unit| self.units[*unit].1).sum::<u64>() as f64
    }
}

/// What the passes gave, as sums from which every measure is worked out.
///
/// - **Does not show:** what single features do; for that the rows are kept no longer than a pass.
pub(super) struct Passed {
    /// What the dictionary explains and how sparse it is, by unit.
    pub(super) evaluation: Evaluation,
    /// A random dictionary's; `None` for a transcoder.
    pub(super) random: Option<Evaluation>,
    /// `None` where the written site cannot be edited.
    pub(super) losses: Option<Losses>,
    /// Some of the rows, evenly spread, and the id of the token of each.
    pub(super) sample: Rows,
    /// Ids of their tokens.
    pub(super) sample_ids: Vec<u32>,
}

/// A text in passes: windows with the unit of each.
pub(super) struct Text<'t> {
    /// In the order of the text, all of one length.
    pub(super) windows: &'t [CorpusWindow],
    /// The unit of each window.
    pub(super) units: &'t [u32],
    /// Windows of a pass.
    pub(super) sequences: usize,
}

impl Text<'_> {
    /// Batches of windows.
    fn passes(&self) -> usize {
        self.windows.len().div_ceil(self.sequences)
    }

    /// The tokens of a batch, and the unit of each of its windows.
    fn pass(&self, number: usize) -> Result<(Tokens, &[u32]), Failure> {
        let range = number * self.sequences..self.windows.len().min((number + 1) * self.sequences);
        let windows: Vec<&CorpusWindow> = self.windows[range.clone()].iter().collect();
        Ok((tokens_of(&windows).map_err(told)?, &self.units[range]))
    }
}

fn told(error: moescope_dictionary::SourceError) -> Failure {
    Failure::input(error.to_string())
}

/// Passes of a whole measurement for each batch of windows, for a plan: with an editable site those with what is written, the mean and zero; of an
/// autoencoder those of random directions.
pub(super) fn number_of_passes(editable: bool, transcoder: bool) -> usize {
    match (editable, transcoder) {
        (false, true) => 1,
        (false, false) => 2,
        (true, true) => 4,
        (true, false) => 6,
    }
}

/// Runs them on a text, with the dictionary at its sites.
///
/// # Errors
/// If the model cannot answer, widths do not fit, or no token of the text has a row at the sites.
///
/// `tell` is told of every pass that is done, and of how many there are.
pub(super) fn run(
    subject: &mut dyn Subject,
    dictionary: &Dictionary,
    sites: &Sites,
    text: &Text<'_>,
    seed: Seed,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Passed, Failure> {
    let editable = sites.written().site().editable();
    let each = number_of_passes(editable, sites.target.is_some());
    let mut run = Run {
        subject,
        dictionary,
        sites,
        evaluation: Evaluation::new(dictionary),
        losses: Losses::default(),
        editable,
        mean: Mean::default(),
        seen: Vec::new(),
        sample: Sample::new(text),
        done: 0,
        all: each * text.passes(),
        tell,
    };
    for number in 0..text.passes() {
        let (tokens, units) = text.pass(number)?;
        run.first(&tokens, units)?;
    }
    if run.evaluation.rows() == 0 {
        return Err(Failure::input(format!(
            "no token of the text has a row at {}; add text",
            sites.written()
        )));
    }
    let (sample, sample_ids) = std::mem::replace(&mut run.sample, Sample::new(text)).finish()?;
    let random = match sites.target {
        None => Some(run.by_random(text, &sample, seed)?),
        Some(_) => None,
    };
    if editable {
        for number in 0..text.passes() {
            let (tokens, units) = text.pass(number)?;
            run.ablated(number, &tokens, units)?;
        }
    }
    let losses = editable.then_some(run.losses);
    Ok(Passed { evaluation: run.evaluation, random, losses, sample, sample_ids })
}

/// A measurement on its way.
struct Run<'r> {
    subject: &'r mut dyn Subject,
    dictionary: &'r Dictionary,
    sites: &'r Sites,
    evaluation: Evaluation,
    losses: Losses,
    editable: bool,
    mean: Mean,
    /// By pass: the tokens that have a row.
    seen: Vec<Vec<u32>>,
    sample: Sample,
    done: usize,
    all: usize,
    tell: &'r mut dyn FnMut(usize, usize),
}

impl Run<'_> {
    /// The model as it is, and with what the dictionary writes.
    fn first(&mut self, tokens: &Tokens, units: &[u32]) -> Result<(), Failure> {
        let (rows, of) = self.rows(tokens, Some(units))?;
        let (features, written) = self.dictionary.reconstruct(&rows)?;
        let row_units = units_of(&of, tokens, units);
        self.evaluation.add_written(self.dictionary, &rows, &features, &written, &row_units)?;
        self.mean.add(rows.wanted());
        self.sample.add(&rows, &of, tokens.ids());
        if self.editable {
            self.edited(Arm::Written, tokens, units, &of, ValueEdit::Patch { rows: written.into_data() })?;
        }
        self.seen.push(of);
        Ok(())
    }

    /// The rows of a pass without edits and their tokens; with units given, its losses count as those of the model.
    fn rows(&mut self, tokens: &Tokens, units: Option<&[u32]>) -> Result<(Rows, Vec<u32>), Failure> {
        let record = self.sites.points();
        let seen = self.subject.run(&Request { record: &record, ..Request::of(tokens) })?;
        self.step();
        if let Some(units) = units {
            self.losses.add(Arm::Clean, &seen.loss, units);
        }
        rows_of(&seen, self.sites, tokens.positions()).map_err(told)
    }

    /// The same with random directions that suit the sample, as sparse as the dictionary is on the whole text.
    fn by_random(&mut self, text: &Text<'_>, sample: &Rows, seed: Seed) -> Result<Evaluation, Failure> {
        let active = match self.dictionary.rule() {
            Rule::TopK { k } => *k,
            _ => self.evaluation.active(&self.evaluation.units()).round() as usize,
        };
        let active = active.clamp(1, self.dictionary.features());
        let random = random_like(self.dictionary, sample, active, seed.child("random directions"))?;
        let mut evaluation = Evaluation::new(&random);
        for number in 0..text.passes() {
            let (tokens, units) = text.pass(number)?;
            let (rows, of) = self.rows(&tokens, None)?;
            let (features, written) = random.reconstruct(&rows)?;
            let row_units = units_of(&of, &tokens, units);
            evaluation.add_written(&random, &rows, &features, &written, &row_units)?;
            if self.editable {
                let change = ValueEdit::Patch { rows: written.into_data() };
                self.edited(Arm::Random, &tokens, units, &of, change)?;
            }
        }
        Ok(evaluation)
    }

    /// With the mean of all rows and with zero in place of the site, for the tokens that have a row.
    fn ablated(&mut self, number: usize, tokens: &Tokens, units: &[u32]) -> Result<(), Failure> {
        let of = self.seen[number].clone();
        let vector = self.mean.vector();
        self.edited(Arm::Mean, tokens, units, &of, ValueEdit::Set { vector })?;
        self.edited(Arm::Zero, tokens, units, &of, ValueEdit::Zero)
    }

    /// A pass with an edit of the tokens that have a row; without such a token it is the clean pass.
    fn edited(
        &mut self,
        arm: Arm,
        tokens: &Tokens,
        units: &[u32],
        of: &[u32],
        change: ValueEdit,
    ) -> Result<(), Failure> {
        // Rows of single experts name their tokens themselves.
        let change = match change {
            ValueEdit::Patch { rows } => ValueEdit::PatchByToken { of: of.to_vec(), rows },
            other => other,
        };
        let edit =
            Edit::Value { at: self.sites.written(), tokens: TokenSelection::Rows(of.to_vec()), change };
        let edits = if of.is_empty() { Vec::new() } else { vec![edit] };
        let seen = self.subject.run(&Request { edits: &edits, ..Request::of(tokens) })?;
        self.losses.add(arm, &seen.loss, units);
        self.step();
        Ok(())
    }

    /// One pass is done.
    fn step(&mut self) {
        self.done += 1;
        (self.tell)(self.done, self.all);
    }
}

/// The unit of each token's window.
fn units_of(of: &[u32], tokens: &Tokens, units: &[u32]) -> Vec<u32> {
    of.iter().map(|token| units[*token as usize / tokens.positions()]).collect()
}

/// The mean of all rows.
#[derive(Default)]
struct Mean {
    sum: Vec<f64>,
    rows: u64,
}

impl Mean {
    fn add(&mut self, rows: &Tensor) {
        self.sum.resize(rows.columns(), 0.0);
        for row in rows.data().chunks_exact(rows.columns()) {
            self.sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        self.rows += rows.rows() as u64;
    }

    fn vector(&self) -> Vec<f32> {
        self.sum.iter().map(|sum| (sum / self.rows as f64) as f32).collect()
    }
}

/// Rows kept as they come, every so many, so that they are spread over the text.
struct Sample {
    every: usize,
    came: usize,
    input: (Vec<f32>, usize),
    target: Option<(Vec<f32>, usize)>,
    ids: Vec<u32>,
}

impl Sample {
    fn new(text: &Text<'_>) -> Sample {
        let tokens: usize = text.windows.iter().map(|window| window.ids.len()).sum();
        let every = tokens.div_ceil(SAMPLE).max(1);
        Sample { every, came: 0, input: (Vec::new(), 0), target: None, ids: Vec::new() }
    }

    fn add(&mut self, rows: &Rows, of: &[u32], ids: &[u32]) {
        self.input.1 = rows.input.columns();
        if let Some(target) = &rows.target {
            self.target.get_or_insert_with(|| (Vec::new(), target.columns()));
        }
        for (row, token) in of.iter().enumerate() {
            if (self.came + row).is_multiple_of(self.every) {
                let of =
                    |tensor: &Tensor| tensor.data()[row * tensor.columns()..][..tensor.columns()].to_vec();
                self.input.0.extend(of(&rows.input));
                if let (Some(kept), Some(target)) = (&mut self.target, &rows.target) {
                    kept.0.extend(of(target));
                }
                self.ids.push(ids[*token as usize]);
            }
        }
        self.came += of.len();
    }

    fn finish(self) -> Result<(Rows, Vec<u32>), Failure> {
        let tensor = |(data, width): (Vec<f32>, usize)| Tensor::new([data.len() / width.max(1), width], data);
        let target = self.target.map(tensor).transpose()?;
        Ok((Rows { input: tensor(self.input)?, target }, self.ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_summed_by_unit_and_arm() {
        let mut losses = Losses::default();
        losses.add(Arm::Clean, &[1.0, 2.0, 3.0, 4.0], &[0, 2]);
        losses.add(Arm::Zero, &[10.0, 20.0, 30.0, 40.0], &[0, 2]);
        assert_eq!(losses.present(), [0, 2]);
        assert_eq!((losses.sum(Arm::Clean, &[0, 2]), losses.sum(Arm::Zero, &[2, 2])), (10.0, 140.0));
        assert_eq!((losses.sum(Arm::Mean, &[0, 2]), losses.tokens(&[0, 2])), (0.0, 4.0));
    }

    #[test]
    fn the_mean_is_that_of_all_rows() {
        let mut mean = Mean::default();
        mean.add(&Tensor::new([2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
        mean.add(&Tensor::new([1, 2], vec![5.0, 0.0]).unwrap());
        assert_eq!(mean.vector(), [3.0, 2.0]);
    }
}
