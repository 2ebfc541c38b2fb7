//! A model whose loss depends on the sets it may use, for tests.

use moescope_base::{
    Edit, FeedForwardShape, Observation, Request, RouteEdit, Subject, SubjectError, SubjectShape,
};
use moescope_trace::RoutingTrace;

use crate::routing::planted;

/// Two routed layers of `EXPERTS` experts, two per token; token `t` wants the experts `t` and `t + 1`.
///
/// Each wanted expert that a layer cannot give costs `penalty` nats on top of a loss of 1.
pub(crate) struct PlantedSubject {
    shape: SubjectShape,
    penalty: f32,
}

pub(crate) const EXPERTS: u32 = 6;

impl PlantedSubject {
    pub(crate) fn new(penalty: f32) -> PlantedSubject {
        let routed = FeedForwardShape::Routed { experts: EXPERTS as usize, per_token: 2, expert_width: 1 };
        let feed_forward = vec![FeedForwardShape::Dense { width: 1 }, routed, routed];
        let shape = SubjectShape {
            d_model: 1,
            vocab: EXPERTS as usize,
            heads: 1,
            head_dim: 1,
            feed_forward,
            options: Default::default(),
        };
        PlantedSubject { shape, penalty }
    }

    /// The trace of this model's free routes, in blocks 1 and 2.
    pub(crate) fn trace(ids: Vec<u32>, documents: Vec<u32>) -> RoutingTrace {
        let choices: Vec<u32> = ids.iter().flat_map(|id| wanted(*id)).collect();
        let domains = vec![0; ids.len()];
        let layers = [1, 2].map(|l| planted::layer(l, EXPERTS as usize, 2, choices.clone()));
        RoutingTrace::new(planted::tokens(ids, domains, documents), layers.to_vec()).unwrap()
    }
}

fn wanted(id: u32) -> [u32; 2] {
    [id % EXPERTS, (id + 1) % EXPERTS]
}

/// Wanted experts that the best of the allowed sets lacks.
fn missing(id: u32, sets: &[Vec<u32>]) -> usize {
    let lacks = |set: &Vec<u32>| wanted(id).iter().filter(|e| !set.contains(e)).count();
    sets.iter().map(lacks).min().unwrap_or(2)
}

impl Subject for PlantedSubject {
    fn shape(&self) -> &SubjectShape {
        &self.shape
    }

    fn run(&mut self, request: &Request<'_>) -> Result<Observation, SubjectError> {
        let mut loss = vec![1.0; request.tokens.batch() * (request.tokens.positions() - 1)];
        let predicting = (0..request.tokens.batch())
            .flat_map(|b| &request.tokens.sequence(b)[..request.tokens.positions() - 1])
            .collect::<Vec<_>>();
        for edit in request.edits {
            let Edit::Route { layer: 1 | 2, change: RouteEdit::AllowSets { sets } } = edit else {
                let reason = "only sets of layers 1 and 2 can be restricted".into();
                return Err(SubjectError::Edit { at: format!("{edit:?}"), reason });
            };
            for (loss, id) in loss.iter_mut().zip(&predicting) {
                *loss += self.penalty * missing(**id, sets) as f32;
            }
        }
        Ok(Observation { loss, ..Observation::default() })
    }

    fn unembed(&mut self, residual: &[f32]) -> Result<Vec<f32>, SubjectError> {
        Ok(residual.iter().flat_map(|x| vec![*x; self.shape.vocab]).collect())
    }
}
