//! The passes: clean, corrupted, and with a change that reaches some inputs alone.

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, RouteEdit, Site, Subject, TokenSelection,
    Tokens, ValueEdit,
};

use super::Receiver;
use crate::next_token::{divergences, logits_point, loss_at, predicted};
use crate::recorded::{real, value};
use crate::route_patch::{chosen, of_next_sequence};
use crate::{AnalysisError, Sample};

/// Experts of a layer.
pub(super) fn experts(subject: &dyn Subject, layer: usize) -> usize {
    match subject.shape().feed_forward[layer] {
        FeedForwardShape::Routed { experts, .. } => experts,
        FeedForwardShape::Dense { .. } => 0,
    }
}

/// One batch as it is, ready for changes of one layer's experts.
pub(super) struct Stage<'a> {
    pub(super) sample: &'a Sample,
    /// Layer of the senders.
    layer: usize,
    /// Layers of the receivers, ascending.
    receiving: &'a [usize],
    /// The clean pass.
    clean: Observation,
    /// The corrupted tokens under the clean pass's choices.
    held: Observation,
    /// Edits that hold every choice to that of the clean pass.
    replays: Vec<Edit>,
    /// Tokens with a next token, and their documents.
    rows: Vec<(usize, u32)>,
}

impl<'a> Stage<'a> {
    /// Runs the clean batch and the corrupted one under its choices.
    pub(super) fn observe(
        subject: &mut dyn Subject,
        sample: &'a Sample,
        layer: usize,
        receiving: &'a [usize],
    ) -> Result<Stage<'a>, AnalysisError> {
        let routed = subject.shape().routed_layers();
        let of = |site: Site, layer: usize| HookPoint::block(site, layer);
        let writes: Vec<HookPoint> = (0..experts(subject, layer))
            .map(|expert| HookPoint::expert(Site::ExpertOutWeighted, layer, expert))
            .collect();
        let mut record = vec![logits_point(), of(Site::RoutedOut, layer), of(Site::ResidPost, layer)];
        record.extend(&writes);
        record.extend(routed.iter().map(|layer| of(Site::RouterIndices, *layer)));
        for above in receiving {
            let sites = [Site::ResidPre, Site::ResidMid, Site::RouterIn, Site::RouterLogits];
            record.extend(sites.map(|site| of(site, *above)));
            record.extend(answers(subject, *above));
        }
        let clean = subject.run(&Request { record: &record, ..Request::of(sample.tokens()) })?;
        let replay = |layer: &usize| {
            let choices = chosen(&clean, *layer)?.0;
            Ok(Edit::Route { layer: *layer as u32, change: RouteEdit::Replay { choices } })
        };
        let replays: Vec<Edit> = routed.iter().map(replay).collect::<Result<_, AnalysisError>>()?;
        let corrupted = corrupted(sample.tokens())?;
        let held = subject.run(&Request { record: &writes, edits: &replays, ..Request::of(&corrupted) })?;
        Ok(Stage { sample, layer, receiving, clean, held, replays, rows: predicted(sample) })
    }

    /// What an expert adds at each token, `[token, model]`; nothing where it is not chosen.
    fn write(&self, of: &Observation, expert: usize) -> Result<Vec<f32>, AnalysisError> {
        let point = HookPoint::expert(Site::ExpertOutWeighted, self.layer, expert);
        let writes = value(of, point)?;
        let (width, rows) = (writes.columns(), writes.rows().unwrap_or(&[]));
        let mut dense = vec![0.0; self.sample.tokens().len() * width];
        for (row, vector) in rows.iter().zip(real(of, point)?.chunks_exact(width)) {
            let place = &mut dense[*row as usize * width..][..width];
            place.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        Ok(dense)
    }

    /// Corrupted minus clean write of an expert, `[token, model]`.
    pub(super) fn difference(&self, expert: usize, held: bool) -> Result<Vec<f32>, AnalysisError> {
        let clean = self.write(&self.clean, expert)?;
        let corrupted = match held {
            true => self.write(&self.held, expert)?,
            false => of_next_sequence(&clean, clean.len() / self.sample.tokens().batch()),
        };
        Ok(corrupted.iter().zip(&clean).map(|(new, old)| new - old).collect())
    }

    /// What the corrupted write changes in the residual stream after its layer, `[token, model]`: norms and scales behind the experts
    /// included.
    pub(super) fn change(
        &self,
        subject: &mut dyn Subject,
        expert: usize,
        held: bool,
    ) -> Result<Vec<f32>, AnalysisError> {
        let difference = self.difference(expert, held)?;
        let [routed, after] =
            [Site::RoutedOut, Site::ResidPost].map(|site| HookPoint::block(site, self.layer));
        let edits = [patch(routed, sum(real(&self.clean, routed)?, &difference))];
        let request = Request { record: &[after], edits: &edits, ..Request::of(self.sample.tokens()) };
        let seen = subject.run(&request)?;
        let (new, old) = (real(&seen, after)?, real(&self.clean, after)?);
        Ok(new.iter().zip(old).map(|(new, old)| new - old).collect())
    }

    /// What the receivers read, and what experts answer, when the stream before them has this change and nothing else.
    pub(super) fn reach(
        &self,
        subject: &mut dyn Subject,
        change: &[f32],
    ) -> Result<Observation, AnalysisError> {
        let mut edits = self.replays.clone();
        let mut record = Vec::new();
        for layer in self.receiving {
            for site in [Site::ResidPre, Site::ResidMid] {
                let point = HookPoint::block(site, *layer);
                edits.push(patch(point, sum(real(&self.clean, point)?, change)));
            }
            record.extend([Site::AttnIn, Site::MlpIn].map(|site| HookPoint::block(site, *layer)));
            record.extend(answers(subject, *layer));
        }
        let request = Request { record: &record, edits: &edits, ..Request::of(self.sample.tokens()) };
        Ok(subject.run(&request)?)
    }

    /// Of each token that a receiving expert sees: the token, and the squared length by which its answer changed.
    pub(super) fn answered(
        &self,
        reached: &Observation,
        layer: usize,
        expert: usize,
    ) -> Result<Vec<(usize, f64)>, AnalysisError> {
        let point = HookPoint::expert(Site::ExpertOut, layer, expert);
        let (clean, changed) = (value(&self.clean, point)?, real(reached, point)?);
        let (width, rows) = (clean.columns(), clean.rows().unwrap_or(&[]));
        let pairs = real(&self.clean, point)?.chunks_exact(width).zip(changed.chunks_exact(width));
        let square = |(a, b): (&f32, &f32)| f64::from(b - a).powi(2);
        let squares = pairs.map(|(a, b)| a.iter().zip(b).map(square).sum());
        Ok(rows.iter().map(|row| *row as usize).zip(squares).collect())
    }

    /// Whether a layer's router scores; one that does not reads nothing.
    pub(super) fn scores(&self, layer: usize) -> Result<bool, AnalysisError> {
        let logits = real(&self.clean, HookPoint::block(Site::RouterLogits, layer))?;
        Ok(logits.first().is_some_and(|logit| !logit.is_nan()))
    }

    /// Lets one receiver alone read what `reached` found: document, divergence, change of the loss and whether the layer's experts are
    /// others, for every token with a next one.
    pub(super) fn effect(
        &self,
        subject: &mut dyn Subject,
        reached: &Observation,
        (layer, receiver): (usize, Receiver),
        held: bool,
    ) -> Result<Vec<(u32, [f64; 3])>, AnalysisError> {
        let of = |site: Site| HookPoint::block(site, layer);
        let read = |point: HookPoint, seen: &Observation| -> Result<Edit, AnalysisError> {
            Ok(patch(point, real(seen, point)?.to_vec()))
        };
        let mut edits = if held { self.replays.clone() } else { Vec::new() };
        match receiver {
            Receiver::Router => {
                edits.push(patch(of(Site::RouterIn), real(reached, of(Site::MlpIn))?.to_vec()));
            }
            Receiver::Experts => {
                edits.push(read(of(Site::MlpIn), reached)?);
                if self.scores(layer)? {
                    edits.push(read(of(Site::RouterIn), &self.clean)?);
                }
            }
            Receiver::Heads => edits.push(read(of(Site::AttnIn), reached)?),
            Receiver::Expert(expert) => {
                let at = HookPoint::expert(Site::ExpertOut, layer, expert);
                let rows = value(reached, at)?.rows().unwrap_or(&[]).to_vec();
                let change = ValueEdit::PatchByToken { of: rows, rows: real(reached, at)?.to_vec() };
                edits.push(Edit::Value { at, tokens: TokenSelection::All, change });
            }
        }
        let record = [logits_point(), of(Site::RouterIndices)];
        let request = Request { record: &record, edits: &edits, ..Request::of(self.sample.tokens()) };
        let seen = subject.run(&request)?;
        let divergences = divergences(&self.clean, &seen, &self.rows)?;
        let (own, per_token) = chosen(&self.clean, layer)?;
        let other = chosen(&seen, layer)?.0;
        let set = |of: &[u32], row: usize| {
            let mut set = of[row * per_token..(row + 1) * per_token].to_vec();
            set.sort_unstable();
            set
        };
        let of_row = |((row, document), kl): (&(usize, u32), f64)| {
            let loss = loss_at(self.sample, &seen, *row) - loss_at(self.sample, &self.clean, *row);
            (*document, [kl, loss, f64::from(u8::from(set(&own, *row) != set(&other, *row)))])
        };
        Ok(self.rows.iter().zip(divergences).map(of_row).collect())
    }
}

/// Each sequence is the next of the batch; the last is the first.
fn corrupted(tokens: &Tokens) -> Result<Tokens, AnalysisError> {
    let ids = of_next_sequence(tokens.ids(), tokens.positions());
    Ok(Tokens::new(ids, tokens.batch(), tokens.positions())?)
}

/// Answers of the experts of a layer, before their weights.
fn answers(subject: &dyn Subject, layer: usize) -> Vec<HookPoint> {
    (0..experts(subject, layer)).map(|expert| HookPoint::expert(Site::ExpertOut, layer, expert)).collect()
}

fn patch(at: HookPoint, rows: Vec<f32>) -> Edit {
    Edit::Value { at, tokens: TokenSelection::All, change: ValueEdit::Patch { rows } }
}

fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
