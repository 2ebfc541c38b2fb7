//! A subject in which it is known what each expert is worth.

use std::collections::BTreeMap;

use moescope_base::{
    Edit, FeedForwardShape, HookPoint, Observation, Request, RouteEdit, Seed, Site, Subject, SubjectError,
    SubjectShape, Tokens, Value, ValueData,
};
use rand::RngExt;

use crate::Sample;

const VOCAB: usize = 4;
const EXPERTS: usize = 7;

/// One routed layer above a dense one, in which a token of id `i` goes to expert `i` of the first six; nobody goes to the seventh.
///
/// The logit of the token that comes next is 3 as long as the expert is there. What is lost without it is planted.
pub(super) struct Planted {
    shape: SubjectShape,
    /// What the logit loses without each expert.
    worth: [f32; EXPERTS],
    /// Whether the first two experts do the same, so that nothing is lost as long as one of them is there.
    stand_ins: bool,
}

impl Planted {
    /// The first two stand in for each other and are worth all together, the others a little each.
    pub(super) fn stand_ins() -> Planted {
        let little = 0.5;
        let worth = [3.0, 3.0, little, little, little, little, little];
        Planted { stand_ins: true, ..Planted::worth(worth) }
    }

    /// Expert 2 is worth all of the logit, the others nothing.
    pub(super) fn new() -> Planted {
        Planted::worth([0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 3.0])
    }

    /// All experts are worth the same.
    pub(super) fn equal() -> Planted {
        Planted::worth([1.0; EXPERTS])
    }

    fn worth(worth: [f32; EXPERTS]) -> Planted {
        let routed = FeedForwardShape::Routed { experts: EXPERTS, per_token: 1, expert_width: 4 };
        let shape = SubjectShape {
            d_model: 2,
            vocab: VOCAB,
            heads: 1,
            head_dim: 2,
            feed_forward: vec![FeedForwardShape::Dense { width: 4 }, routed],
            options: Default::default(),
        };
        Planted { shape, worth, stand_ins: false }
    }

    /// Whether the edits take the expert out.
    fn is_out(edits: &[Edit], expert: usize) -> bool {
        edits.iter().any(|edit| match edit {
            Edit::Value { at, .. } => *at == HookPoint::expert(Site::ExpertOut, 1, expert),
            Edit::Route { change: RouteEdit::Ban { experts }, .. } => experts.contains(&(expert as u32)),
            Edit::Route { .. } => false,
        })
    }
}

impl Subject for Planted {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let tokens = request.tokens;
        let (indices, logits) = (HookPoint::block(Site::RouterIndices, 1), HookPoint::global(Site::Logits));
        let out = |expert: usize| match self.stand_ins && expert < 2 {
            true => Planted::is_out(request.edits, 0) && Planted::is_out(request.edits, 1),
            false => Planted::is_out(request.edits, expert),
        };
        let strength = |id: &u32| match out(*id as usize) {
            true => 3.0 - self.worth[*id as usize],
            false => 3.0,
        };
        // The next token is always token 0 of the vocabulary.
        let rows: Vec<f32> = tokens.ids().iter().flat_map(|id| [strength(id), 0.0, 0.0, 0.0]).collect();
        let loss = |row: &[f32]| row.iter().map(|logit| logit.exp()).sum::<f32>().ln() - row[0];
        let followed = |token: &usize| !(token + 1).is_multiple_of(tokens.positions());
        let losses =
            rows.chunks(VOCAB).enumerate().filter(|(token, _)| followed(token)).map(|(_, row)| loss(row));
        let shape = |last: usize| vec![tokens.batch(), tokens.positions(), last];
        let chosen = ValueData::Integer(tokens.ids().iter().map(|id| i64::from(*id)).collect());
        let loss = losses.collect();
        let mut values = BTreeMap::from([
            (indices, Value::new(indices, shape(1), chosen, None).unwrap()),
            (logits, Value::new(logits, shape(VOCAB), ValueData::Real(rows), None).unwrap()),
        ]);
        values.retain(|point, _| request.record.contains(point));
        Ok(Observation { values, gradients: BTreeMap::new(), loss })
    }

    fn unembed(&mut self, _: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Err(SubjectError::Input { reason: "the planted subject has no residual stream".into() })
    }
}

/// Documents of one sequence each, in which all experts but the seventh are about equally often chosen.
pub(super) fn samples(documents: u32) -> Vec<Sample> {
    let one = |document: u32| {
        let mut rng = Seed(7).index(u64::from(document)).rng();
        let ids: Vec<u32> = (0..60).map(|_| rng.random_range(0..6)).collect();
        Sample::one_document_each(Tokens::new(ids, 1, 60).unwrap(), document)
    };
    (0..documents).map(one).collect()
}
