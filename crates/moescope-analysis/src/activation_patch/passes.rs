//! The passes: both texts as they are, and one of them with one activation of each case exchanged.
//!
//! Of each batch both texts are run once with all that can be exchanged on record; everything else is a pass of the one with vectors of the other put in. The two texts are of one length and differ
//! in one token, so that a place in the one is the same place in the other, and a vector is exchanged for that which stands where it stood.

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, RouteEdit, Site, Subject, SubjectShape,
    TokenSelection, Tokens, ValueEdit,
};

use super::cases::{Case, corrupted};
use super::measure::{Apart, Reading};
use super::{Direction, Part, Place, Spot, has_heads};
use crate::next_token::logits_point;
use crate::route_patch::chosen;
use crate::{AnalysisError, Sample, recorded};

/// A pass of a text, with all that can be exchanged.
///
/// # Errors
/// If the subject cannot answer.
pub(super) fn observe(
    subject: &mut dyn Subject,
    tokens: &Tokens,
    layers: &[usize],
) -> Result<Observation, AnalysisError> {
    let record = looked_at(subject.shape(), layers);
    Ok(subject.run(&Request::recording(tokens, &record))?)
}

/// What the pass of one text keeps.
pub(super) fn looked_at(shape: &SubjectShape, layers: &[usize]) -> Vec<HookPoint> {
    let of = |site: Site| move |layer: &usize| HookPoint::block(site, *layer);
    let mut points = vec![logits_point()];
    points.extend(shape.routed_layers().iter().map(of(Site::RouterIndices)));
    for site in [Site::ResidPost, Site::MlpOut, Site::AttnOut] {
        points.extend(layers.iter().map(of(site)));
    }
    points.extend(layers.iter().filter(|_| has_heads(shape)).map(of(Site::AttnZ)));
    for layer in layers {
        if let FeedForwardShape::Routed { experts, .. } = shape.feed_forward[*layer] {
            points.push(HookPoint::block(Site::RoutedOut, *layer));
            points.extend((0..experts).map(|expert| write_of(*layer, expert)));
        }
    }
    points
}

/// What an expert adds.
fn write_of(layer: usize, expert: usize) -> HookPoint {
    HookPoint::expert(Site::ExpertOutWeighted, layer, expert)
}

/// A text that is run, and what it shows without a patch.
struct Run<'a> {
    tokens: Tokens,
    seen: std::borrow::Cow<'a, Observation>,
}

/// The two texts of some cases, at most one case in each sequence.
pub(super) struct Pair<'a> {
    cases: &'a [Case],
    clean: Run<'a>,
    corrupted: Run<'a>,
    heads: usize,
    /// What the two texts of each case predict.
    pub(super) apart: Vec<Apart>,
}

impl<'a> Pair<'a> {
    /// Runs the text with the token of every case exchanged.
    ///
    /// # Errors
    /// If the subject cannot answer.
    pub(super) fn observe(
        subject: &mut dyn Subject,
        sample: &Sample,
        (clean, layers): (&'a Observation, &[usize]),
        cases: &'a [Case],
    ) -> Result<Pair<'a>, AnalysisError> {
        let exchanged: Vec<usize> = cases.iter().map(|case| case.exchanged).collect();
        let tokens = corrupted(sample.tokens(), &exchanged)?;
        let seen = observe(subject, &tokens, layers)?;
        let apart = |case: &Case| {
            Ok(Apart { clean: Reading::of(clean, case)?, corrupted: Reading::of(&seen, case)? })
        };
        let apart = cases.iter().map(apart).collect::<Result<_, AnalysisError>>()?;
        let clean = Run { tokens: sample.tokens().clone(), seen: std::borrow::Cow::Borrowed(clean) };
        let corrupted = Run { tokens, seen: std::borrow::Cow::Owned(seen) };
        Ok(Pair { cases, clean, corrupted, heads: subject.shape().heads, apart })
    }

    /// What is run, and what gives the activation.
    fn runs(&self, direction: Direction) -> (&Run<'a>, &Run<'a>) {
        match direction {
            Direction::Denoise => (&self.corrupted, &self.clean),
            Direction::Noise => (&self.clean, &self.corrupted),
        }
    }

    /// What each case predicts when one activation is that of the other text: its own, or that of an unrelated case.
    ///
    /// One pass patches every case at once, since no two stand in one sequence.
    ///
    /// # Errors
    /// If the subject cannot answer, or a value was not recorded.
    pub(super) fn patched(
        &self,
        subject: &mut dyn Subject,
        spot: Spot,
        direction: Direction,
        foreign: bool,
    ) -> Result<Vec<Reading>, AnalysisError> {
        let (base, source) = self.runs(direction);
        let giver = |case: usize| if foreign { self.unrelated(case) } else { case };
        let edits = match spot.part {
            Part::Routes => self.routes(&subject.shape().routed_layers(), source, giver)?,
            _ => vec![self.vectors(spot, (base, source), giver)?],
        };
        let point = [logits_point()];
        let request = Request { edits: &edits, ..Request::recording(&base.tokens, &point) };
        let seen = subject.run(&request)?;
        self.cases.iter().map(|case| Reading::of(&seen, case)).collect()
    }

    /// The next case, beginning half of the batch away, of another document and of a sequence that did not lend its token; where there is none, of any
    /// other sequence.
    fn unrelated(&self, case: usize) -> usize {
        let (count, positions) = (self.cases.len(), self.clean.tokens.positions());
        let sequence = |case: usize| self.cases[case].exchanged / positions;
        let lender = (sequence(case) + 1) % self.clean.tokens.batch();
        let others =
            || (0..count).map(|step| (case + count / 2 + step) % count).filter(|other| *other != case);
        let apart = |other: &usize| {
            self.cases[*other].document != self.cases[case].document && sequence(*other) != lender
        };
        others().find(apart).or_else(|| others().next()).unwrap_or(case)
    }

    /// Token of a case at which an activation is exchanged.
    fn row(&self, case: usize, place: Place) -> usize {
        let case = &self.cases[case];
        match place {
            Place::Exchanged => case.exchanged,
            Place::First => case.exchanged + 1,
            Place::Second => case.exchanged + 2,
            Place::Reader => case.reader,
        }
    }

    /// The expert that has a rank by its weight at a token of the clean text.
    pub(super) fn expert(&self, layer: usize, token: usize, rank: usize) -> Result<usize, AnalysisError> {
        let (choices, per_token) = chosen(&self.clean.seen, layer)?;
        Ok(choices[token * per_token + rank] as usize)
    }

    /// The edit that gives each case the vector of its giver.
    fn vectors(
        &self,
        spot: Spot,
        (base, source): (&Run<'a>, &Run<'a>),
        giver: impl Fn(usize) -> usize,
    ) -> Result<Edit, AnalysisError> {
        let site = match spot.part {
            Part::Stream => Site::ResidPost,
            Part::Attention => Site::AttnOut,
            Part::Head(_) => Site::AttnZ,
            Part::Ranked(_) | Part::Expert(_) => Site::RoutedOut,
            Part::FeedForward | Part::Routes => Site::MlpOut,
        };
        let at = HookPoint::block(site, spot.layer);
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for case in 0..self.cases.len() {
            let (row, from) = (self.row(case, spot.place), self.row(giver(case), spot.place));
            tokens.push(row as u32);
            let new = match spot.part {
                Part::Head(head) => self.one_head(at, head, (base, row), (source, from))?,
                Part::Ranked(rank) => {
                    // With a foreign giver, too, it is the own expert that goes.
                    let [own, given] = [row, from].map(|token| self.expert(spot.layer, token, rank));
                    let (own, given) = (write_of(spot.layer, own?), write_of(spot.layer, given?));
                    one_expert(at, (base, row, own), (source, from, given))?
                }
                _ => recorded::vector(&source.seen, at, from)?.to_vec(),
            };
            rows.extend(new);
        }
        // At most one case stands in a sequence, so tokens ascend as cases do.
        Ok(Edit::Value { at, tokens: TokenSelection::Rows(tokens), change: ValueEdit::Patch { rows } })
    }

    /// What all heads have gathered, one of them exchanged.
    fn one_head(
        &self,
        at: HookPoint,
        head: usize,
        (base, row): (&Run<'a>, usize),
        (source, from): (&Run<'a>, usize),
    ) -> Result<Vec<f32>, AnalysisError> {
        let mut vector = recorded::vector(&base.seen, at, row)?.to_vec();
        let width = vector.len() / self.heads;
        let own = head * width..(head + 1) * width;
        vector[own.clone()].copy_from_slice(&recorded::vector(&source.seen, at, from)?[own]);
        Ok(vector)
    }

    /// Edits that give the sequence of each case the choices that its giver has in the source; other sequences keep those of the source.
    fn routes(
        &self,
        routed: &[usize],
        source: &Run<'a>,
        giver: impl Fn(usize) -> usize,
    ) -> Result<Vec<Edit>, AnalysisError> {
        let positions = source.tokens.positions();
        let of_layer = |layer: &usize| {
            let (choices, per_token) = chosen(&source.seen, *layer)?;
            let each = positions * per_token;
            let mut given = choices.clone();
            for (case, own) in self.cases.iter().enumerate() {
                let [to, from] =
                    [own, &self.cases[giver(case)]].map(|case| case.exchanged / positions * each);
                given[to..to + each].copy_from_slice(&choices[from..from + each]);
            }
            Ok(Edit::Route { layer: *layer as u32, change: RouteEdit::Replay { choices: given } })
        };
        routed.iter().map(of_layer).collect()
    }
}

/// The sum over the experts that a token chooses in the text that is run, less what one of them adds there, and with what that one adds in the other text.
///
/// An expert that a text does not choose adds nothing to it. Where the corrupted text has chosen others, the expert of the clean one comes to these as one
/// more, or is taken away without one in its place.
fn one_expert(
    at: HookPoint,
    (base, row, own): (&Run<'_>, usize, HookPoint),
    (source, from, given): (&Run<'_>, usize, HookPoint),
) -> Result<Vec<f32>, AnalysisError> {
    let new = recorded::vector_if_here(&source.seen, given, from)?;
    let old = recorded::vector_if_here(&base.seen, own, row)?;
    let of = |vector: Option<&[f32]>, column: usize| vector.map_or(0.0, |vector| vector[column]);
    let sum = recorded::vector(&base.seen, at, row)?;
    Ok(sum.iter().enumerate().map(|(column, sum)| sum + of(new, column) - of(old, column)).collect())
}
